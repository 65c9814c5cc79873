//! Any bytes are a policy or a report that can be drawn.
#![no_main]

use glacis_policy::{Theme, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(report) = parse("fuzz.kdl", bytes) {
        assert!(report.count() > 0, "an error without a problem");
        let _drawn = report.render(Theme::Plain);
    }
});
