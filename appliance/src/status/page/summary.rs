//! The three cards: probes, sources and ports, each beside the period before (A20).

use super::{period, unavailable};
use crate::status::query::Period;
use crate::status::records::Answer;
use crate::words;
use glacis_control::scan_query::{Change, Distinct, ScanSummary};
use maud::{Markup, html};
use std::cmp::Ordering;

pub fn cards(summary: &Answer<ScanSummary>, days: &Period) -> Markup {
    let summary = match summary {
        Ok(summary) => summary,
        Err(trouble) => return html! { section { (unavailable(&trouble.to_string())) } },
    };
    let exact = |count| Distinct { count, exact: true };
    let hits = Change { current: exact(summary.hits.current), previous: exact(summary.hits.previous) };
    html! {
        section .bare aria-label={ "Totals of " (period::words(days)) } {
            dl .cards.totals {
                (card("Probes", hits, days))
                (card("Sources", summary.sources, days))
                (card("Ports probed", summary.ports, days))
            }
        }
    }
}

fn card(name: &str, change: Change<Distinct>, days: &Period) -> Markup {
    let Difference { arrow, spoken, text } = difference(change);
    html! {
        div {
            dt { (name) }
            dd { (words::distinct(change.current)) }
            dd .change {
                span .difference {
                    span .arrow aria-hidden="true" { (arrow) }
                    span .hidden { (spoken) " " }
                    (text)
                }
                " "
                span .than {
                    @if change.previous.count == 0 { "none" } @else { (words::distinct(change.previous)) }
                    " " (period::before(days))
                }
            }
        }
    }
}

/// From the period before to this one.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    arrow: &'static str,
    /// The arrow, for who cannot see it.
    spoken: &'static str,
    text: String,
}

fn difference(change: Change<Distinct>) -> Difference {
    /// From here on a factor says more than a percentage.
    const FACTOR_MIN: u64 = 10;
    let (now, then) = (change.current.count, change.previous.count);
    let about = if change.current.exact && change.previous.exact { "" } else { "about " };
    let up = |text| Difference { arrow: "▲", spoken: "up", text };
    match now.cmp(&then) {
        Ordering::Equal => Difference { arrow: "=", spoken: "", text: format!("{about}unchanged") },
        Ordering::Greater if then == 0 => up("new".into()),
        Ordering::Greater if now / then >= FACTOR_MIN => {
            up(format!("{about}{}\u{202f}×", words::count(now / then)))
        }
        Ordering::Greater => up(format!("{about}{}", percent(now - then, then))),
        Ordering::Less => {
            let text = format!("{about}{}", percent(then - now, then));
            Difference { arrow: "▼", spoken: "down", text }
        }
    }
}

/// Of the whole, rounded; never shown as nothing.
fn percent(part: u64, whole: u64) -> String {
    match (u128::from(part) * 100 + u128::from(whole) / 2) / u128::from(whole) {
        0 => "less than 1\u{202f}%".into(),
        percent => format!("{percent}\u{202f}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::Day;
    use glacis_control::scan_query::DayRange;
    use std::sync::Arc;

    fn change(current: u64, previous: u64) -> Change<Distinct> {
        let exact = |count| Distinct { count, exact: true };
        Change { current: exact(current), previous: exact(previous) }
    }

    #[test]
    fn a20_the_change_against_the_period_before_is_told() {
        for (current, previous, arrow, text) in [
            (0, 0, "=", "unchanged"),
            (5, 5, "=", "unchanged"),
            (5, 0, "▲", "new"),
            (123, 100, "▲", "23\u{202f}%"),
            (1001, 1000, "▲", "less than 1\u{202f}%"),
            (999, 100, "▲", "899\u{202f}%"),
            (1000, 100, "▲", "10\u{202f}×"),
            (0, 7, "▼", "100\u{202f}%"),
            (50, 100, "▼", "50\u{202f}%"),
            (
                u64::MAX,
                1,
                "▲",
                "18\u{202f}446\u{202f}744\u{202f}073\u{202f}709\u{202f}551\u{202f}615\u{202f}×",
            ),
            (u64::MAX - 1, u64::MAX, "▼", "less than 1\u{202f}%"),
        ] {
            let found = difference(change(current, previous));
            assert_eq!((found.arrow, found.text.as_str()), (arrow, text), "{current} after {previous}");
        }
    }

    #[test]
    fn a20_estimates_are_shown_as_such() {
        let estimate = |count| Distinct { count, exact: false };
        let sources = Change { current: estimate(120_000), previous: estimate(100_000) };
        assert_eq!(difference(sources).text, "about 20\u{202f}%");
        let range = DayRange::ending(Day(20_778), 7);
        let hits = Change { current: 5, previous: 0 };
        let summary = ScanSummary { days: range, hits, ports: change(3, 3), sources };
        let text = cards(&Ok(Arc::new(summary)), &Period { range, last_days: Some(7) }).into_string();
        for part in
            ["about 120\u{202f}000", "about 100\u{202f}000 in the 7 days before", "none in the 7 days before"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
