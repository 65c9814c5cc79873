//! No frame makes the core, a worker or the command line panic, and what is understood is understood again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::control(bytes);
});
