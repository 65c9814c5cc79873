//! No bytes of a TLS client make the reader of its hello panic or change its mind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = glacis_fuzz::gate::client_hello(bytes);
});
