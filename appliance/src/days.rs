//! UTC days as people write them.

use glacis_control::Day;
use time::macros::format_description;
use time::{Date, Month};

/// 1970-01-01 as a Julian day.
const EPOCH: i32 = 2_440_588;

/// `21 Nov`.
pub fn short(day: Day) -> String {
    let format = format_description!("[day padding:none] [month repr:short]");
    i32::try_from(day.0)
        .ok()
        .and_then(|days| Date::from_julian_day(EPOCH.checked_add(days)?).ok())
        .and_then(|date| date.format(format).ok())
        // Past the year 9999.
        .unwrap_or_else(|| "out of range".into())
}

/// Reads `2026-11-21`; `None` when it is no date since 1970.
pub fn parse(text: &str) -> Option<Day> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2)
        || !text.bytes().all(|b| b == b'-' || b.is_ascii_digit())
    {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    u32::try_from(date.to_julian_day() - EPOCH).ok().map(Day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_they_are_written() {
        for (day, text) in [(0, "1970-01-01"), (20_778, "2026-11-21"), (19_782, "2024-02-29")] {
            assert_eq!(parse(text), Some(Day(day)));
            assert_eq!(crate::words::day(Day(day)), text);
        }
        assert_eq!(short(Day(20_778)), "21 Nov");
        assert_eq!(short(Day(u32::MAX)), "out of range");
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "today",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "26-01-01",
            "1969-12-31",
            "2026-01-01-",
            "+026-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
