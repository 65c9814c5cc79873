//! No bytes of a refused client make the reader of its request panic, or markup of the page's texts.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = glacis_fuzz::gate::denial(bytes);
});
