//! No bytes in a store's file make a reader panic, and what is understood is written back the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    glacis_fuzz::store::record(bytes);
});
