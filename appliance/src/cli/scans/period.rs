//! The days that a question is about.

use clap::Args;
use glacis_control::scan_query::{DAYS_MAX, DayRange};
use glacis_control::{Day, UnixMillis};
use std::time::SystemTime;
use time::{Date, Month};

/// 1970-01-01 as a Julian day.
const EPOCH: i32 = 2_440_588;

#[derive(Args, Debug)]
pub struct Period {
    /// So many days that end today. Days are those of UTC.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX as i64))]
    days: u32,
    /// First day, such as 2026-11-01.
    #[arg(long, value_parser = parse_day, conflicts_with = "days")]
    from: Option<Day>,
    /// Last day, itself included; today if left out.
    #[arg(long, value_parser = parse_day, requires = "from")]
    to: Option<Day>,
}

/// A period that is none.
#[derive(Debug, thiserror::Error)]
pub enum PeriodError {
    #[error("the period ends before it begins; exchange --from and --to")]
    Backwards,
    #[error("a period has at most {DAYS_MAX} days, which is the longest that scans are kept")]
    TooLong,
}

impl Period {
    pub fn range(&self) -> Result<DayRange, PeriodError> {
        self.range_on(Day::of(UnixMillis::from_system(SystemTime::now())))
    }

    fn range_on(&self, today: Day) -> Result<DayRange, PeriodError> {
        let Some(first) = self.from else { return Ok(DayRange::ending(today, self.days)) };
        let last = self.to.unwrap_or(today);
        if last < first {
            return Err(PeriodError::Backwards);
        }
        DayRange::new(first, last).ok_or(PeriodError::TooLong)
    }
}

/// Reads `2026-11-21`.
fn parse_day(text: &str) -> Result<Day, String> {
    let numbers: Vec<u16> = text.split('-').map_while(|part| part.parse().ok()).collect();
    let date = match numbers[..] {
        [year, month, day] if text.len() == 10 => u8::try_from(month)
            .ok()
            .and_then(|month| Month::try_from(month).ok())
            .and_then(|month| Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()),
        _ => None,
    };
    date.and_then(|date| u32::try_from(date.to_julian_day() - EPOCH).ok())
        .map(Day)
        .ok_or_else(|| format!("`{text}` is no day; write it as 2026-11-21"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_iso_8601_writes_them() {
        assert_eq!(parse_day("1970-01-01"), Ok(Day(0)));
        assert_eq!(parse_day("2024-02-29"), Ok(Day(19_782)));
        for bad in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "1969-12-31",
            "2026-11-21Z",
            "21.11.2026",
            "+026-11-2",
        ] {
            assert!(parse_day(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a19_periods_include_both_ends_and_are_bounded() {
        let today = Day(20_778);
        let of = |from, to| Period { days: 7, from, to }.range_on(today);
        assert_eq!(of(None, None).unwrap(), DayRange { first: Day(20_772), last: today });
        assert_eq!(of(Some(Day(20_778)), None).unwrap().days(), 1);
        assert_eq!(of(Some(Day(100)), Some(Day(464))).unwrap().days(), 365);
        assert!(matches!(of(Some(Day(100)), Some(Day(465))), Err(PeriodError::TooLong)));
        assert!(matches!(of(Some(Day(101)), Some(Day(100))), Err(PeriodError::Backwards)));
    }
}
