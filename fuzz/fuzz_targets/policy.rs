//! Any bytes are a policy or a report that can be drawn.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::policy(bytes);
});
