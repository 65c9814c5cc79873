//! Any packet is refused or a datagram within its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::udp4(bytes);
});
