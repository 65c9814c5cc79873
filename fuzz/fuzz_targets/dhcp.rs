//! No server and no order of events makes the DHCP client panic, hang or hold an unsafe lease.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::dhcp_script::play(bytes);
});
