//! Any bytes are a blocklist or errors that can be shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::blocklist(bytes);
});
