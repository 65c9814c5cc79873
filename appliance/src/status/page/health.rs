//! What the firewall does now, and what to act on.

use super::{Part, Tone, View, badge, moment};
use crate::words;
use glacis_control::report::{FirewallState, PolicySource};
use maud::{Markup, html};

/// State, problems and the figures of the appliance.
pub fn parts(view: View<'_>) -> [Part; 2] {
    let now = html! { (state(view)) (problems(view)) };
    [Part { id: "part-now", content: now }, Part { id: "part-figures", content: cards(view) }]
}

/// The first thing to see.
fn state(view: View<'_>) -> Markup {
    let (tone, word, sentence) = match view.report.firewall {
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

fn policy(view: View<'_>) -> Markup {
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

fn problems(view: View<'_>) -> Markup {
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
                    pre tabindex="0" aria-label="Diagnostics of the refused policy" { (diagnostics) }
                }
            }
        }
    }
}

fn cards(view: View<'_>) -> Markup {
    let report = view.report;
    let lost = report.scan.lost.saturating_add(report.store.dropped);
    let lost_tone = if lost > 0 { Tone::Warn } else { Tone::Plain };
    html! {
        section .bare aria-labelledby="figures" {
            h2 #figures .hidden { "Figures" }
            dl .cards {
                (card("Uptime", &words::span(view.now.since(report.started)), Tone::Plain))
                (card("Blocked now", &words::count(report.bans_active), Tone::Plain))
                (card("Sources watched", &words::count(report.scan.sources), Tone::Plain))
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
