//! What happened.

use super::{Document, Part, Place, Slice, Tone, View, footer, moment, unavailable};
use crate::status::query::link;
use crate::status::records::{Answer, EVENTS_MAX, Recent};
use crate::words;
use glacis_control::{Event, EventKind};
use maud::{Markup, html};

/// Shown on the overview.
const OVERVIEW_ROWS: usize = 10;

/// Which happenings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topic {
    #[default]
    All,
    Blocks,
    Gates,
    Policy,
    System,
}

impl Topic {
    /// As in addresses.
    pub const WORDS: [(&str, Self); 5] = [
        ("all", Self::All),
        ("blocks", Self::Blocks),
        ("gates", Self::Gates),
        ("policy", Self::Policy),
        ("system", Self::System),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Blocks => "Blocks",
            Self::Gates => "Gates",
            Self::Policy => "Policy",
            Self::System => "System",
        }
    }

    const fn of(kind: &EventKind) -> Self {
        match kind {
            EventKind::SourceBlocked { .. }
            | EventKind::WouldBlock { .. }
            | EventKind::SourceUnblocked { .. }
            | EventKind::BanExpired { .. } => Self::Blocks,
            EventKind::ClientFound { .. }
            | EventKind::ClientsForgotten { .. }
            | EventKind::BackendDown { .. }
            | EventKind::BackendUp { .. } => Self::Gates,
            EventKind::PolicyApplied { .. } | EventKind::PolicyRefused { .. } => Self::Policy,
            EventKind::CoreStarted { .. }
            | EventKind::WorkerRestarted { .. }
            | EventKind::ScansCleared { .. }
            | EventKind::ClockStepped { .. }
            | EventKind::LinkChanged { .. } => Self::System,
        }
    }

    fn pairs(self) -> Vec<(&'static str, String)> {
        let word = Self::WORDS.into_iter().find(|(_, topic)| *topic == self && self != Self::All);
        word.map(|(word, _)| ("show", word.to_owned())).into_iter().collect()
    }
}

pub struct LogPage<'a> {
    pub view: View<'a>,
    pub topic: Topic,
    pub slice: Slice,
    pub recent: Answer<Recent>,
}

impl LogPage<'_> {
    pub fn render(&self) -> Markup {
        let [log, report] = self.parts();
        let is_live = self.slice.is_first() && self.topic == Topic::All;
        Document {
            name: &self.view.report.name,
            place: Some(Place::Log),
            stream: is_live.then(|| link("/api/v1/events/stream", &[("parts", "events".to_owned())])),
            content: html! { (log) },
            footer: html! { (report) },
        }
        .render()
    }

    pub fn parts(&self) -> [Part; 2] {
        let content = html! {
            section aria-labelledby="events" {
                div .heading {
                    h2 #events { "Events" }
                    nav aria-label="Kinds of events" { (self.topics()) }
                }
                @match &self.recent {
                    Err(trouble) => (unavailable(&trouble.to_string())),
                    Ok(recent) => (self.list(recent)),
                }
            }
        };
        [Part { id: "part-events", content }, footer(self.view)]
    }

    fn topics(&self) -> Markup {
        html! {
            ul .presets {
                @for (_, topic) in Topic::WORDS {
                    li {
                        a href=(link("/events", &topic.pairs()))
                            aria-current=[(topic == self.topic).then_some("true")] { (topic.name()) }
                    }
                }
            }
        }
    }

    fn list(&self, recent: &Recent) -> Markup {
        let is_shown = |event: &&Event| self.topic == Topic::All || Topic::of(&event.kind) == self.topic;
        let events: Vec<&Event> = recent.events.iter().filter(is_shown).collect();
        html! {
            @if events.is_empty() {
                p .empty { "Nothing of this has happened." }
            } @else {
                (ordered(self.slice.of(&events), self.view))
                (self.slice.pager("/events", &self.topic.pairs(), events.len()))
            }
            @if recent.events.len() == EVENTS_MAX {
                p .more { "The newest " (words::count(EVENTS_MAX as u64)) " events are searched; " code { "glacis events" } " lists more." }
            }
        }
    }
}

/// A few on the overview.
pub fn newest(view: View<'_>, recent: &Answer<Recent>) -> Markup {
    html! {
        section aria-labelledby="events" {
            h2 #events { "Recent events" }
            @match recent {
                Err(trouble) => (unavailable(&trouble.to_string())),
                Ok(recent) if recent.events.is_empty() => p .empty { "Nothing has happened yet." },
                Ok(recent) => {
                    @let shown: Vec<&Event> = recent.events.iter().take(OVERVIEW_ROWS).collect();
                    (ordered(&shown, view))
                    @if recent.events.len() > OVERVIEW_ROWS { p .more { a href="/events" { "All events" } } }
                }
            }
        }
    }
}

fn ordered(events: &[&Event], view: View<'_>) -> Markup {
    html! {
        ol .events {
            @for event in events {
                li {
                    span .dot.(tone(&event.kind).class()) { (words::happening(&event.kind)) }
                    (moment(event.at, &words::ago(event.at, view.now)))
                }
            }
        }
    }
}

/// Whether someone should look.
fn tone(kind: &EventKind) -> Tone {
    match kind {
        EventKind::PolicyRefused { .. } => Tone::Bad,
        EventKind::SourceBlocked { .. }
        | EventKind::ClientFound { .. }
        | EventKind::BackendDown { .. }
        | EventKind::WorkerRestarted { .. }
        | EventKind::ClockStepped { .. }
        | EventKind::LinkChanged { up: false, .. } => Tone::Warn,
        EventKind::PolicyApplied { .. }
        | EventKind::BackendUp { .. }
        | EventKind::LinkChanged { up: true, .. } => Tone::Good,
        EventKind::CoreStarted { .. }
        | EventKind::WouldBlock { .. }
        | EventKind::ScansCleared { .. }
        | EventKind::ClientsForgotten { .. }
        | EventKind::SourceUnblocked { .. }
        | EventKind::BanExpired { .. } => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn events_are_shown_by_topic() {
        let report = sample::report();
        let page = |topic, recent: Recent| {
            let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
            let slice = Slice { skip: 0, limit: 20 };
            LogPage { view, topic, slice, recent: Ok(Arc::new(recent)) }.render().into_string()
        };
        let parts =
            ["203.0.113.9 blocked", "Policy revision 7 applied", "backend 10.0.0.3:443 is out of service"];
        for (topic, expected) in [
            (Topic::All, [true, true, true]),
            (Topic::Blocks, [true, false, false]),
            (Topic::Policy, [false, true, false]),
            (Topic::Gates, [false, false, true]),
            (Topic::System, [false, false, false]),
        ] {
            let text = page(topic, sample::recent());
            assert_eq!(parts.map(|part| text.contains(part)), expected, "{topic:?}");
            assert_eq!(text.contains("data-stream"), topic == Topic::All, "{topic:?}");
        }
        assert!(page(Topic::System, sample::recent()).contains("Nothing of this has happened."));
    }
}
