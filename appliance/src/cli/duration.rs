//! Durations as people type them.

use std::time::Duration;

/// Reads a whole number and one of `s`, `m`, `h`, `d`; at least a second, at most ten years.
pub fn parse(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: u64 = 87_600 * 3_600;
    let wrong = || format!("`{text}` is no duration; write 90s, 30m, 1h or 7d");
    let (unit_at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let number: u64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(scale) {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is out of range: 1s to 3650d")),
    }
}

/// The two largest units that matter: `1d 4h`, `59m 3s`.
pub fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts =
        [(seconds / 86_400, 'd'), (seconds / 3_600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let mut shown = parts.iter().skip_while(|(n, _)| *n == 0).take(2).filter(|(n, _)| *n > 0);
    let mut text = String::new();
    for (n, unit) in shown.by_ref() {
        if !text.is_empty() {
            text.push(' ');
        }
        text += &format!("{n}{unit}");
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_typed() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse("3650d"), Ok(Duration::from_secs(315_360_000)));
        for bad in ["", "h", "1", "0s", "-1h", "1.5h", "3651d", "1w", "99999999999999999999d", "é"] {
            assert!(parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn durations_show_two_units() {
        let shown = |s| human(Duration::from_secs(s));
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(59), "59s");
        assert_eq!(shown(3_600), "1h");
        assert_eq!(shown(3_661), "1h 1m");
        assert_eq!(shown(100_800), "1d 4h");
    }
}
