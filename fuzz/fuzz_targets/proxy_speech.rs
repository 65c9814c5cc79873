//! No answer of a port makes a conversation with it panic, go on after its end, or tell the token twice.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = glacis_fuzz::gate::proxy_speech(bytes);
});
