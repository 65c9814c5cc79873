//! Times, spans, sizes and counts as a person reads them.

use glacis_control::UnixMillis;
use ipnet::IpNet;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The largest one or two units: `52 s`, `14 min`, `3 h 20 min`, `12 d 4 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let pair = |unit, unit_name, small, small_name| match (seconds / unit, seconds % unit / small) {
        (large, 0) => format!("{large} {unit_name}"),
        (large, rest) => format!("{large} {unit_name} {rest} {small_name}"),
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => pair(HOUR, "h", MINUTE, "min"),
        _ => pair(DAY, "d", HOUR, "h"),
    }
}

/// How long before `now`: `just now`, `14 min ago`.
pub fn ago(at: UnixMillis, now: UnixMillis) -> String {
    let passed = now.since(at);
    if passed < Duration::from_secs(5) { "just now".into() } else { format!("{} ago", span(passed)) }
}

/// RFC 3339 in UTC, to the second.
pub fn timestamp(at: UnixMillis) -> String {
    in_utc(at, format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
}

/// `2026-11-21 12:00:05 UTC`.
pub fn date_time(at: UnixMillis) -> String {
    in_utc(at, format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC"))
}

fn in_utc(at: UnixMillis, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
    i64::try_from(at.0 / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(format).ok())
        // Past the year 9999.
        .unwrap_or_else(|| "out of range".into())
}

/// Thousands apart: `1 204 311`, with spaces that do not break.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 port`, `27 ports`.
pub fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number), if number == 1 { singular } else { plural })
}

/// `512 KiB`, `1.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let tenths = |unit: u64, name| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        MIB..GIB => tenths(MIB, "MiB"),
        _ => tenths(GIB, "GiB"),
    }
}

/// A single address without its prefix length.
pub fn source(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (86_400 * 12 + 4 * 3600 + 59, "12 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_are_utc_and_never_panic() {
        assert_eq!(date_time(UnixMillis(1_763_726_405_999)), "2025-11-21 12:00:05 UTC");
        assert_eq!(timestamp(UnixMillis(0)), "1970-01-01T00:00:00Z");
        assert_eq!(date_time(UnixMillis(u64::MAX)), "out of range");
        assert_eq!(ago(UnixMillis(10_000), UnixMillis(9_000)), "just now");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_rounded_down() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_204_311), "1\u{202f}204\u{202f}311");
        assert_eq!(counted(1, "port", "ports"), "1 port");
        assert_eq!(counted(0, "port", "ports"), "0 ports");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn single_addresses_lose_their_prefix_length() {
        assert_eq!(source("203.0.113.9/32".parse().unwrap()), "203.0.113.9");
        assert_eq!(source("2001:db8::/64".parse().unwrap()), "2001:db8::/64");
    }
}
