//! Durations as people type them.

use std::time::Duration;

/// Reads a whole number and one of `s`, `m`, `h`, `d`, `w`, as in a policy; at least a second, at most ten years.
pub fn parse(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: u64 = 87_600 * 3_600;
    let wrong = || format!("`{text}` is no duration; write 90s, 30m, 1h, 7d or 2w");
    let (unit_at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    match number.checked_mul(scale) {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is out of range: 1s to 3650d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_typed() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse("2w"), Ok(Duration::from_secs(1_209_600)));
        assert_eq!(parse("3650d"), Ok(Duration::from_secs(315_360_000)));
        for bad in ["", "h", "1", "0s", "-1h", "1.5h", "3651d", "522w", "1y", "99999999999999999999d", "é"] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
