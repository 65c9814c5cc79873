//! No server and no order of events makes the DHCP client panic, hang or hold an unsafe lease.
#![no_main]

mod dhcp_script;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dhcp_script::play(bytes);
});
