//! The days that a question is about.

use clap::Args;
use glacis_control::scan_query::{DAYS_MAX, DayRange};
use glacis_control::{Day, UnixMillis};
use std::time::SystemTime;

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

fn parse_day(text: &str) -> Result<Day, String> {
    crate::days::parse(text).ok_or_else(|| format!("`{text}` is no day; write it as 2026-11-21"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_day_is_said_with_how_one_is_written() {
        assert_eq!(parse_day("1970-01-02"), Ok(Day(1)));
        assert!(parse_day("21.11.2026").unwrap_err().contains("2026-11-21"));
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
