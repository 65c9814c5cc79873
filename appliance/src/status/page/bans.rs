//! Who is blocked, why, on what evidence and until when; and who would be, if the policy did not only observe.

use super::{Document, Part, Place, Slice, View, footer, moment, sources, unavailable};
use crate::status::query::link;
use crate::status::records::{Answer, BANS_MAX, Recent};
use crate::words;
use glacis_control::{Ban, BanReason, EventKind, UnixMillis};
use ipnet::IpNet;
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Shown on the overview.
const OVERVIEW_ROWS: usize = 10;
/// Sources that would be blocked, shown at most.
const OBSERVED_ROWS: usize = 20;

pub struct BansPage<'a> {
    pub view: View<'a>,
    pub slice: Slice,
    pub recent: Answer<Recent>,
}

impl BansPage<'_> {
    pub fn render(&self) -> Markup {
        let [blocked, observed, report] = self.parts();
        Document {
            name: &self.view.report.name,
            place: Some(Place::Bans),
            stream: self
                .slice
                .is_first()
                .then(|| link("/api/v1/events/stream", &[("parts", "bans".to_owned())])),
            content: html! { (blocked) (observed) },
            footer: html! { (report) },
        }
        .render()
    }

    pub fn parts(&self) -> [Part; 3] {
        [
            Part { id: "part-bans", content: self.blocked() },
            Part { id: "part-observed", content: observed(self.view, &self.recent) },
            footer(self.view),
        ]
    }

    fn blocked(&self) -> Markup {
        html! {
            section aria-labelledby="bans" {
                h2 #bans { "Blocked sources" }
                @match &self.recent {
                    Err(trouble) => (unavailable(&trouble.to_string())),
                    Ok(recent) if recent.bans.is_empty() => p .empty { "No source is blocked." },
                    Ok(recent) => {
                        (table(self.slice.of(&recent.bans), self.view.now))
                        (self.slice.pager("/bans", &[], recent.bans.len()))
                        @if recent.bans.len() == BANS_MAX {
                            p .more {
                                "Of " (words::count(self.view.report.bans_active)) " blocked sources, the first "
                                (words::count(BANS_MAX as u64)) " to be free again are listed; "
                                code { "glacis blocks" } " lists all."
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A few on the overview.
pub fn newest(view: View<'_>, recent: &Answer<Recent>) -> Markup {
    let observed = observed_bans(view, recent).len();
    html! {
        section aria-labelledby="bans" {
            h2 #bans { "Blocked sources" }
            @match recent {
                Err(trouble) => (unavailable(&trouble.to_string())),
                Ok(recent) if recent.bans.is_empty() => p .empty { "No source is blocked." },
                Ok(recent) => {
                    @let shown = &recent.bans[..recent.bans.len().min(OVERVIEW_ROWS)];
                    (table(shown, view.now))
                    @let hidden = view.report.bans_active.max(recent.bans.len() as u64) - shown.len() as u64;
                    @if hidden > 0 {
                        p .more { a href="/bans" { "and " (words::count(hidden)) " more" } }
                    }
                }
            }
            @if observed > 0 {
                p .more {
                    a href="/bans" { (words::counted(observed as u64, "source", "sources")) " would be blocked" }
                    ": the policy only observes."
                }
            }
        }
    }
}

fn table(bans: &[Ban], now: UnixMillis) -> Markup {
    html! {
        table {
            caption .hidden { "Sources that are blocked now, soonest to end first" }
            thead {
                tr {
                    th scope="col" { "Source" }
                    th scope="col" .wide { "Why" }
                    th scope="col" .wide { "Since" }
                    th scope="col" .end { "Ends" }
                }
            }
            tbody { @for ban in bans { (row(ban, now)) } }
        }
    }
}

fn row(ban: &Ban, now: UnixMillis) -> Markup {
    let why = html! { (words::reason(&ban.reason)) (evidence(ban)) };
    html! {
        tr {
            th scope="row" {
                span .address { (words::source(ban.source)) }
                span .narrow { (why) }
            }
            td .wide { (why) }
            td .wide {
                (moment(ban.since, &words::ago(ban.since, now)))
                span .second { (minute(ban.since)) }
            }
            td .end {
                @match (ban.until, ban.remaining(now)) {
                    (Some(until), Some(left)) => {
                        (moment(until, &format!("in {}", words::span(left))))
                        span .second { (minute(until)) }
                    },
                    _ => "never",
                }
            }
        }
    }
}

/// `2026-11-21 12:52`.
fn minute(at: UnixMillis) -> String {
    words::date_time(at).chars().take(16).collect()
}

/// What a block rests on besides its hits and ports, and whose it is.
fn evidence(ban: &Ban) -> Markup {
    let mut said = vec![];
    let (mut shape, mut kinds) = (None, None);
    if let BanReason::Scan { shape: found, evidence, .. } = &ban.reason {
        (shape, kinds) = (Some(found.name()), Some(evidence.kinds));
        if evidence.hosts > 1 {
            said.push(words::counted(evidence.hosts.into(), "address", "addresses") + " of ours");
        }
        if evidence.echoes > 0 {
            said.push(words::counted(evidence.echoes.into(), "challenge", "challenges") + " answered");
        }
        if evidence.earlier_blocks > 0 {
            said.push(format!(
                "blocked {} before",
                words::counted(evidence.earlier_blocks.into(), "time", "times")
            ));
        }
    }
    said.push(match ban.author.as_str() {
        "auto" => "by the auto-block".into(),
        author => format!("by {author}"),
    });
    html! {
        span .second {
            @if let Some(shape) = shape { span .kind.shape { (shape) } " " }
            @if let Some(kinds) = kinds { (sources::kinds(kinds)) }
            (said.join(" · "))
        }
    }
}

/// The newest entry of every source that would be blocked; none unless the policy observes.
fn observed_bans<'a>(view: View<'_>, recent: &'a Answer<Recent>) -> Vec<&'a Ban> {
    let observes = view.report.scan.auto_block.as_ref().is_some_and(|auto| auto.mode == "observe");
    let (true, Ok(recent)) = (observes, recent) else { return vec![] };
    let mut seen: BTreeSet<IpNet> = BTreeSet::new();
    let bans = recent.events.iter().filter_map(|event| match &event.kind {
        EventKind::WouldBlock { ban } => Some(ban),
        _ => None,
    });
    bans.filter(|ban| !ban.is_over(view.now) && seen.insert(ban.source)).collect()
}

fn observed(view: View<'_>, recent: &Answer<Recent>) -> Markup {
    let bans = observed_bans(view, recent);
    html! {
        @if !bans.is_empty() {
            section aria-labelledby="observed" {
                h2 #observed { "Would be blocked" }
                p .note { "The policy only observes: these sources are not blocked." }
                table {
                    caption .hidden { "Sources that the policy would block if it did not only observe, newest first" }
                    thead {
                        tr {
                            th scope="col" { "Source" }
                            th scope="col" .wide { "Why" }
                            th scope="col" .end { "Since" }
                        }
                    }
                    tbody { @for ban in bans.iter().take(OBSERVED_ROWS) { (observed_row(ban, view.now)) } }
                }
                @if bans.len() > OBSERVED_ROWS {
                    p .more {
                        a href="/events?show=blocks" { "and " (words::count((bans.len() - OBSERVED_ROWS) as u64)) " more" }
                    }
                }
            }
        }
    }
}

fn observed_row(ban: &Ban, now: UnixMillis) -> Markup {
    let why = html! { (words::reason(&ban.reason)) (evidence(ban)) };
    html! {
        tr {
            th scope="row" {
                span .address { (words::source(ban.source)) }
                span .narrow { (why) }
            }
            td .wide { (why) }
            td .end { (moment(ban.since, &words::ago(ban.since, now))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use glacis_control::report::AutoBlockStatus;
    use glacis_control::{Event, StatusReport};
    use std::sync::Arc;
    use std::time::Duration;

    fn page(report: &StatusReport, recent: Recent, skip: usize) -> String {
        let view = View { report, age: Duration::ZERO, now: sample::NOW };
        BansPage { view, slice: Slice { skip, limit: 20 }, recent: Ok(Arc::new(recent)) }
            .render()
            .into_string()
    }

    #[test]
    fn a_ban_shows_its_reason_shape_evidence_author_and_end() {
        let text = page(&sample::report(), sample::recent(), 0);
        for part in [
            "412 probes",
            "vertical",
            ">syn<",
            ">xmas<",
            "3 addresses of ours",
            "12 challenges answered",
            "blocked 2 times before",
            "by the auto-block",
            "in 52 min",
            "title=\"2026-11-21 12:52:00 UTC\"",
            "2001:db8:bad::/64",
            "by hand: abuse report 77",
            "by root",
            "never",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn long_lists_are_paged_and_say_what_they_leave_out() {
        let mut recent = sample::recent();
        recent.bans =
            (0..BANS_MAX).map(|n| sample::ban(&format!("10.0.{}.{}/32", n / 256, n % 256))).collect();
        let mut report = sample::report();
        report.bans_active = 5000;
        let text = page(&report, recent.clone(), 0);
        assert_eq!(text.matches("in 52 min").count(), 20);
        assert!(text.contains("Of 5\u{202f}000 blocked sources, the first 1\u{202f}000"), "{text}");
        assert!(text.contains("data-stream"), "the first page is live");
        assert!(!page(&report, recent.clone(), 20).contains("data-stream"), "the others stay");
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        let overview = newest(view, &Ok(Arc::new(recent))).into_string();
        assert!(overview.contains("and 4\u{202f}990 more"), "{overview}");
    }

    #[test]
    fn a32_what_would_be_blocked_is_shown_only_while_the_policy_observes() {
        let mut report = sample::report();
        let mut recent = sample::recent();
        let would = |id, source| Event {
            id,
            at: sample::before(60),
            kind: EventKind::WouldBlock { ban: sample::ban(source) },
        };
        recent.events.insert(0, would(11, "198.51.100.7/32"));
        recent.events.insert(0, would(12, "198.51.100.7/32"));
        assert!(!page(&report, recent.clone(), 0).contains("Would be blocked"));
        report.scan.auto_block =
            Some(AutoBlockStatus { mode: "observe".into(), evidence: "spoof-proof".into(), suspended: None });
        let text = page(&report, recent.clone(), 0);
        assert!(
            text.contains("Would be blocked") && text.contains("these sources are not blocked"),
            "{text}"
        );
        assert_eq!(text.matches("198.51.100.7").count(), 1, "each source once: {text}");
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        assert!(newest(view, &Ok(Arc::new(recent))).into_string().contains("1 source would be blocked"));
    }
}
