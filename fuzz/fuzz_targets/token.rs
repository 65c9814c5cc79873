//! No connection is taken for one that carries a token but those that do.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = glacis_fuzz::gate::token(bytes);
});
