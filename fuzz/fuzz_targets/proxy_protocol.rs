//! No bytes before a relayed connection make the reader of PROXY headers panic or change its mind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = glacis_fuzz::gate::proxy_protocol(bytes);
});
