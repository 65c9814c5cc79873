//! The pages: whole documents, rendered on the server, that need no script.
//!
//! `maud` escapes every value at the place where it is written; `PreEscaped` is not used.

mod bans;
mod clients;
mod gates;
mod health;
mod log;
mod overview;
mod period;
mod records;
mod sources;
mod summary;
mod system;
mod tops;
mod trend;

pub use bans::BansPage;
pub use gates::GatesPage;
pub use log::{LogPage, Topic};
pub use overview::Overview;
pub use records::RecordsPage;

use super::feed::{STALE_AFTER, Snapshot};
use super::query::link;
use crate::words;
use glacis_control::scan_query::PAGE_SIZES;
use glacis_control::{StatusReport, UnixMillis};
use maud::{DOCTYPE, Markup, Render, html};
use std::time::Duration;

/// What every page shows.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub report: &'a StatusReport,
    /// Of the report.
    pub age: Duration,
    pub now: UnixMillis,
}

impl<'a> View<'a> {
    pub fn of(snapshot: &'a Snapshot, now: UnixMillis) -> Self {
        Self { report: &snapshot.report, age: snapshot.age(), now }
    }

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

/// A region of a page that is replaced while someone looks at it.
pub struct Part {
    pub id: &'static str,
    pub content: Markup,
}

impl Render for Part {
    fn render(&self) -> Markup {
        html! { div .part id=(self.id) { (self.content) } }
    }
}

/// Some rows of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    pub skip: usize,
    pub limit: usize,
}

impl Slice {
    fn of<T>(self, rows: &[T]) -> &[T] {
        let start = self.skip.min(rows.len());
        &rows[start..rows.len().min(start + self.limit)]
    }

    fn is_first(self) -> bool {
        self.skip == 0 && self.limit == PAGE_SIZES[0] as usize
    }

    /// Links to the pages before and after this one.
    fn pager(self, path: &str, pairs: &[(&'static str, String)], rows: usize) -> Markup {
        let at = |skip: usize| {
            let mut pairs = pairs.to_vec();
            if self.limit != PAGE_SIZES[0] as usize {
                pairs.push(("limit", self.limit.to_string()));
            }
            if skip > 0 {
                pairs.push(("skip", skip.to_string()));
            }
            link(path, &pairs)
        };
        let (skip, end) = (self.skip.min(rows), (self.skip + self.limit).min(rows));
        html! {
            @if rows > 0 && (skip > 0 || end < rows) {
                nav .pager aria-label="Pages" {
                    @if skip > 0 { a .button href=(at(skip.saturating_sub(self.limit))) rel="prev" { "Newer" } }
                    span { (words::count(skip as u64 + 1)) "–" (words::count(end as u64)) " of " (words::count(rows as u64)) }
                    @if end < rows { a .button href=(at(end)) rel="next" { "Older" } }
                }
            }
        }
    }
}

/// The pages, as the navigation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Overview,
    Scans,
    Bans,
    Gates,
    Log,
}

impl Place {
    const ALL: [Self; 5] = [Self::Overview, Self::Scans, Self::Bans, Self::Gates, Self::Log];

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Scans => "/scans",
            Self::Bans => "/bans",
            Self::Gates => "/gates",
            Self::Log => "/events",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Scans => "Scans",
            Self::Bans => "Blocked",
            Self::Gates => "Gates",
            Self::Log => "Events",
        }
    }
}

/// A document around its content.
struct Document<'a> {
    name: &'a str,
    place: Option<Place>,
    /// Where the event stream of this page is.
    stream: Option<String>,
    content: Markup,
    footer: Markup,
}

impl Document<'_> {
    fn render(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title {
                        @if let Some(place) = self.place.filter(|place| *place != Place::Overview) {
                            (place.name()) " · "
                        }
                        (self.name) " · Glacis"
                    }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" type="image/svg+xml" href="/icon.svg";
                    link rel="stylesheet" href="/style.css";
                    @if self.stream.is_some() {
                        noscript { meta http-equiv="refresh" content="60"; }
                        script src="/live.js" defer {}
                    }
                }
                body data-stream=[self.stream.as_deref()] {
                    a .skip href="#main" { "Skip to content" }
                    header .masthead {
                        img src="/icon.svg" alt="" width="40" height="40";
                        div .name {
                            p .brand { "Glacis firewall" }
                            h1 { (self.name) }
                        }
                        nav aria-label="Pages of this host" { (self.tabs()) }
                        // Filled by the script.
                        @if self.stream.is_some() { p #live .live role="status" hidden {} }
                    }
                    main #main tabindex="-1" { (self.content) }
                    footer { (self.footer) }
                }
            }
        }
    }

    fn tabs(&self) -> Markup {
        html! {
            ul {
                @for place in Place::ALL {
                    li {
                        a href=(place.path()) aria-current=[(self.place == Some(place)).then_some("page")] {
                            (place.name())
                        }
                    }
                }
            }
        }
    }
}

/// The version, and when the report was made: the last part of every page that is kept fresh.
fn footer(view: View<'_>) -> Part {
    let report = view.report;
    let content = html! {
        p { "Glacis " (report.version) " · read-only" }
        p { "Report of " (moment(report.taken, &words::date_time(report.taken))) }
    };
    Part { id: "report", content }
}

/// Before the first report.
pub fn starting() -> Markup {
    let content = html! {
        section .state.warn aria-labelledby="state" {
            h2 #state { (badge(Tone::Warn, "Starting")) }
            p { "The core has not reported yet. What the kernel enforces does not depend on this page." }
        }
    };
    let footer = html! { p { "Glacis · read-only" } };
    Document { name: "starting", place: None, stream: None, content, footer }.render()
}

/// A question that cannot be answered, and why.
pub fn refused(view: View<'_>, why: &str, path: &str) -> Markup {
    let place = Place::ALL.into_iter().find(|place| place.path() == path);
    let content = html! {
        section .problems role="alert" aria-labelledby="refused" {
            h2 #refused { "This cannot be shown" }
            p { "The address asks for something that is not there: " (why) "." }
            p { a .button href=(place.map_or("/", Place::path)) { "Start again" } }
        }
    };
    let footer = footer(view).render();
    Document { name: &view.report.name, place, stream: None, content, footer }.render()
}

fn badge(tone: Tone, word: &str) -> Markup {
    html! { span .badge.(tone.class()) { (word) } }
}

/// A time in words, with the exact one for machines and for a pointer that rests on it.
fn moment(at: UnixMillis, text: &str) -> Markup {
    html! { time datetime=(words::timestamp(at)) title=(words::date_time(at)) { (text) } }
}

/// In place of what could not be read.
fn unavailable(trouble: &str) -> Markup {
    html! { p .empty { span .dot.bad { (trouble) } } }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_list_is_shown_in_pages_that_lead_to_each_other() {
        let rows: Vec<u32> = (0..45).collect();
        let slice = |skip| Slice { skip, limit: 20 };
        assert_eq!(slice(0).of(&rows).len(), 20);
        assert_eq!(slice(40).of(&rows), [40, 41, 42, 43, 44]);
        assert_eq!(slice(1000).of(&rows), [0; 0]);
        let pager = |skip| slice(skip).pager("/bans", &[], rows.len()).into_string();
        assert!(pager(0).contains("1–20 of 45") && !pager(0).contains("Newer"), "{}", pager(0));
        assert!(pager(20).contains("href=\"/bans\"") && pager(20).contains("href=\"/bans?skip=40\""));
        assert!(pager(40).contains("41–45 of 45") && !pager(40).contains("Older"));
        assert_eq!(slice(0).pager("/bans", &[], 20).into_string(), "", "one page needs no pager");
    }

    #[test]
    fn a_refusal_says_why_and_leads_back() {
        let report = sample::report();
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        let text = refused(view, "`port` must be a number", "/scans").into_string();
        assert!(text.contains("`port` must be a number.") && text.contains("href=\"/scans\""), "{text}");
    }
}
