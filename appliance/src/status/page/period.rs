//! The days that are shown, and the way to others (A19).

use crate::status::query::{PRESETS, Period, link};
use glacis_control::{Day, UnixMillis};
use maud::{Markup, html};

/// `in the 7 days before`.
pub fn before(period: &Period) -> String {
    match period.range.days() {
        1 => "on the day before".into(),
        days => format!("in the {days} days before"),
    }
}

/// `the last 7 days`, `today`, `2026-11-01 to 2026-11-21`.
pub fn words(period: &Period) -> String {
    match (period.last_days, period.range.days()) {
        (Some(1), _) => "today".into(),
        (Some(days), _) => format!("the last {days} days"),
        (None, 1) => crate::words::day(period.range.first),
        (None, _) => {
            format!("{} to {}", crate::words::day(period.range.first), crate::words::day(period.range.last))
        }
    }
}

fn preset_name(days: u32) -> String {
    match days {
        1 => "Today".into(),
        365 => "1 year".into(),
        days => format!("{days} days"),
    }
}

/// Links to the usual ranges.
pub fn presets(path: &str, period: &Period, others: &[(&'static str, String)]) -> Markup {
    let href = |preset| {
        let mut pairs = Period::last(preset, period.range.last).pairs();
        pairs.extend_from_slice(others);
        link(path, &pairs)
    };
    html! {
        ul .presets {
            @for preset in PRESETS {
                li {
                    a href=(href(preset)) aria-current=[(period.last_days == Some(preset)).then_some("true")] {
                        (preset_name(preset))
                    }
                }
            }
        }
    }
}

/// Two fields for any other range.
pub fn fields(period: &Period, now: UnixMillis) -> Markup {
    let today = crate::words::day(Day::of(now));
    html! {
        div .field {
            label for="from" { "From" }
            input #from type="date" name="from" value=(crate::words::day(period.range.first)) max=(today);
        }
        div .field {
            label for="to" { "To" }
            input #to type="date" name="to" value=(crate::words::day(period.range.last)) max=(today);
        }
    }
}

/// Links and fields in one row.
pub fn control(path: &str, period: &Period, others: &[(&'static str, String)], now: UnixMillis) -> Markup {
    html! {
        div .period {
            nav aria-label="Period" { (presets(path, period, others)) }
            form method="get" action=(path) aria-label="Other days" {
                (fields(period, now))
                button { "Show" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use glacis_control::scan_query::DayRange;

    #[test]
    fn a19_periods_are_named_and_lead_to_each_other() {
        let today = Day::of(sample::NOW);
        assert_eq!(words(&Period::last(7, today)), "the last 7 days");
        assert_eq!(words(&Period::last(1, today)), "today");
        let range = DayRange::new(Day(today.0 - 20), today).unwrap();
        let chosen = Period { range, last_days: None };
        assert_eq!(words(&chosen), "2026-11-01 to 2026-11-21");
        assert_eq!(before(&chosen), "in the 21 days before");
        let text =
            control("/scans", &Period::last(30, today), &[("port", "22".into())], sample::NOW).into_string();
        assert!(text.contains("href=\"/scans?days=1&amp;port=22\""), "{text}");
        assert!(text.contains("href=\"/scans?days=30&amp;port=22\" aria-current=\"true\""), "{text}");
        assert!(text.contains("name=\"to\" value=\"2026-11-21\" max=\"2026-11-21\""), "{text}");
        assert_eq!(text.matches("aria-current").count(), 1);
    }
}
