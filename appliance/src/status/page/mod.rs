//! The page: one document, rendered on the server, with no script.
//!
//! `maud` escapes every value at the place where it is written; `PreEscaped` is not used.

mod tables;

use super::feed::STALE_AFTER;
use super::records::Recent;
use crate::words;
use glacis_control::report::{FirewallState, PolicySource};
use glacis_control::{StatusReport, UnixMillis};
use maud::{DOCTYPE, Markup, html};
use std::time::Duration;

/// What one rendering shows.
pub struct View<'a> {
    pub report: &'a StatusReport,
    pub recent: &'a Recent,
    /// Of the report.
    pub age: Duration,
    pub now: UnixMillis,
}

impl View<'_> {
    fn is_stale(&self) -> bool {
        self.age > STALE_AFTER
    }
}

/// How a thing stands; also the CSS class that colours it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }
}

/// The whole page.
pub fn render(view: &View<'_>) -> Markup {
    let report = view.report;
    document(
        &report.name,
        &html! {
            (state(view))
            (problems(view))
            (cards(view))
            (tables::bans(view))
            (tables::scans(view))
            div .columns {
                div {
                    (tables::interfaces(report))
                    (tables::sensor(report))
                }
                div {
                    (tables::events(view))
                    (tables::inside(report))
                }
            }
        },
        &html! {
            p { "Glacis " (report.version) " · read-only" }
            p { "Report of " (moment(report.taken, &words::date_time(report.taken))) }
        },
    )
}

/// Before the first report.
pub fn starting() -> Markup {
    let content = html! {
        section .state.warn aria-labelledby="state" {
            h2 #state { (badge(Tone::Warn, "Starting")) }
            p { "The core has not reported yet. What the kernel enforces does not depend on this page." }
        }
    };
    document("starting", &content, &html! { p { "Glacis · read-only" } })
}

fn document(name: &str, content: &Markup, footer: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (name) " · Glacis" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Live without a script.
                meta http-equiv="refresh" content="10";
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
            }
            body {
                header .masthead {
                    img src="/icon.svg" alt="" width="40" height="40";
                    div {
                        p .brand { "Glacis firewall" }
                        h1 { (name) }
                    }
                }
                main { (content) }
                footer { (footer) }
            }
        }
    }
}

/// The first thing to see: what the firewall does now.
fn state(view: &View<'_>) -> Markup {
    let report = view.report;
    let (tone, word, sentence) = match report.firewall {
        FirewallState::Applied => {
            (Tone::Good, "Applied", "The kernel enforces the policy, read back and verified.")
        }
        FirewallState::DropAll => {
            (Tone::Bad, "All traffic dropped", "No policy could be applied. Nothing but loopback passes.")
        }
        FirewallState::Tampered => (
            Tone::Bad,
            "Tampered",
            "The kernel's ruleset is not the one that was loaded: something else changed it.",
        ),
    };
    let tone = if view.is_stale() { Tone::Warn } else { tone };
    html! {
        section .state.(tone.class()) aria-labelledby="state" {
            h2 #state { span .hidden { "Firewall: " } (badge(tone, word)) }
            @if view.is_stale() {
                p {
                    strong { "No report for " (words::span(view.age)) "." }
                    " This page shows the last one; the kernel goes on with what it had."
                }
            } @else {
                p { (sentence) }
            }
            p .policy { (policy(view)) }
        }
    }
}

fn policy(view: &View<'_>) -> Markup {
    let policy = &view.report.policy;
    let source = match policy.source {
        PolicySource::None => return html! { "No policy has been applied yet." },
        PolicySource::File => "from the policy file",
        PolicySource::LastGood => "the last good one",
        PolicySource::Command => "sent by glacis apply",
    };
    html! {
        "Policy revision " strong { (policy.revision) }
        ", " (words::counted(policy.rules.into(), "rule", "rules"))
        ", " (source)
        @if let Some(applied) = policy.applied { ", applied " (moment(applied, &words::ago(applied, view.now))) }
        "."
    }
}

fn problems(view: &View<'_>) -> Markup {
    let report = view.report;
    let refused = report.policy.refused.as_deref();
    html! {
        @if !report.problems.is_empty() || refused.is_some() {
            section .problems aria-labelledby="problems" {
                h2 #problems { "To act on" }
                @if !report.problems.is_empty() {
                    ul { @for problem in &report.problems { li { (problem) } } }
                }
                @if let Some(diagnostics) = refused {
                    h3 { "The newest policy was refused" }
                    pre tabindex="0" { (diagnostics) }
                }
            }
        }
    }
}

fn cards(view: &View<'_>) -> Markup {
    let report = view.report;
    let lost = report.scan.lost.saturating_add(report.store.dropped);
    let lost_tone = if lost > 0 { Tone::Warn } else { Tone::Plain };
    let today = view.recent.probes_today.map_or_else(|| "–".into(), words::count);
    html! {
        section aria-labelledby="figures" {
            h2 #figures .hidden { "Figures" }
            dl .cards {
                (card("Uptime", &words::span(view.now.since(report.started)), Tone::Plain))
                (card("Policy revision", &words::count(report.policy.revision), Tone::Plain))
                (card("Blocked now", &words::count(report.bans_active), Tone::Plain))
                (card("Probes today", &today, Tone::Plain))
                (card("Records lost", &words::count(lost), lost_tone))
            }
        }
    }
}

fn card(name: &str, value: &str, tone: Tone) -> Markup {
    html! {
        div .(tone.class()) {
            dt { (name) }
            dd { (value) }
        }
    }
}

fn badge(tone: Tone, word: &str) -> Markup {
    html! { span .badge.(tone.class()) { (word) } }
}

/// A time in words, with the exact one for machines and for a pointer that rests on it.
fn moment(at: UnixMillis, text: &str) -> Markup {
    html! { time datetime=(words::timestamp(at)) title=(words::date_time(at)) { (text) } }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn page(report: &StatusReport, recent: &Recent, age: Duration) -> String {
        render(&View { report, recent, age, now: sample::NOW }).into_string()
    }

    fn fresh(report: &StatusReport) -> String {
        page(report, &sample::recent(), Duration::from_millis(300))
    }

    #[test]
    fn the_page_tells_state_bans_probes_and_interfaces() {
        let text = fresh(&sample::report());
        for part in [
            "edge-1",
            "Applied",
            "203.0.113.9",
            "in 52 min",
            "412 probes",
            "3389/tcp",
            "192.0.2.1/24",
            "Glacis 0.1.0",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("To act on"), "all is well");
    }

    #[test]
    fn every_state_of_the_firewall_has_its_own_words_and_tone() {
        for (firewall, words, class) in [
            (FirewallState::Applied, "Applied", "state good"),
            (FirewallState::DropAll, "All traffic dropped", "state bad"),
            (FirewallState::Tampered, "Tampered", "state bad"),
        ] {
            let text = fresh(&StatusReport { firewall, ..sample::report() });
            assert!(text.contains(words) && text.contains(class), "{words}: {text}");
        }
    }

    #[test]
    fn a_stale_report_is_shown_as_such_from_the_bound_on() {
        let at = |age| page(&sample::report(), &sample::recent(), age);
        assert!(!at(STALE_AFTER).contains("No report for"));
        let text = at(STALE_AFTER + Duration::from_secs(1));
        assert!(text.contains("No report for 6 s") && text.contains("state warn"), "{text}");
    }

    #[test]
    fn foreign_text_is_shown_and_never_obeyed() {
        let evil = "<script>alert(1)</script>\"'&";
        let mut report = sample::report();
        report.name = evil.into();
        report.version = evil.into();
        report.problems = vec![evil.into()];
        report.policy.refused = Some(evil.into());
        report.interfaces[0].name = evil.into();
        report.interfaces[0].addresses = vec![evil.into()];
        report.interfaces[0].zone = Some(evil.into());
        report.scan.devices = vec![evil.into()];
        report.scan.counters = vec![(evil.into(), 1)];
        report.workers[0].name = evil.into();
        let mut recent = sample::recent();
        recent.bans[0].author = evil.into();
        recent.bans[1].reason = glacis_control::BanReason::Manual { note: evil.into() };
        recent.events[0].kind = glacis_control::EventKind::PolicyRefused { message: evil.into() };
        let text = page(&report, &recent, Duration::ZERO);
        assert!(!text.contains("<script") && !text.contains("\"'&\""), "{text}");
        assert!(text.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;").count() >= 12, "{text}");
    }

    #[test]
    fn a_refused_policy_shows_its_diagnostics() {
        let mut report = sample::report();
        report.policy.refused = Some("policy.kdl:12: unknown zone `hom`".into());
        let text = fresh(&report);
        assert!(text.contains("To act on") && text.contains("unknown zone `hom`"));
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let mut recent = sample::recent();
        recent.bans = (0..=tables::BAN_ROWS)
            .map(|n| sample::ban(&format!("10.0.{}.{}/32", n / 256, n % 256)))
            .collect();
        let mut report = sample::report();
        report.bans_active = 5000;
        let text = page(&report, &recent, Duration::ZERO);
        assert_eq!(text.matches("in 52 min").count(), tables::BAN_ROWS);
        assert!(text.contains("4\u{202f}950 more"), "{text}");
    }

    #[test]
    fn a_store_that_cannot_be_read_is_said_and_not_shown_as_empty() {
        let recent = Recent { trouble: Some("the store cannot be opened".into()), ..Recent::default() };
        let text = page(&sample::report(), &recent, Duration::ZERO);
        assert!(
            text.contains("the store cannot be opened") && !text.contains("No source is blocked"),
            "{text}"
        );
    }

    #[test]
    fn the_page_holds_no_script_style_or_foreign_address() {
        let text = fresh(&sample::report());
        for part in ["<script", "style=", "http://", "https://", "javascript:", "onclick"] {
            assert!(!text.contains(part), "{part}");
        }
    }
}
