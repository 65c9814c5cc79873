//! The scan records, with filters and pages (A23).

use super::{Document, Place, View, footer, moment, period, sources, unavailable};
use crate::status::query::{PROTOCOLS, Period, link};
use crate::status::records::{Answer, PageQuestion};
use crate::words;
use glacis_control::UnixMillis;
use glacis_control::scan_query::{PAGE_SIZES, ScanPage, ScanRow};
use maud::{Markup, html};

const PATH: &str = "/scans";

pub struct RecordsPage<'a> {
    pub view: View<'a>,
    pub period: Period,
    pub question: PageQuestion,
    pub page: Answer<ScanPage>,
}

impl RecordsPage<'_> {
    pub fn render(&self) -> Markup {
        let content = html! {
            section aria-labelledby="records" {
                div .heading {
                    h2 #records { "Probes of closed ports" }
                    nav aria-label="Period" { (period::presets(PATH, &self.period, &self.filter_pairs())) }
                }
                (self.form())
                @match &self.page {
                    Err(trouble) => (unavailable(&trouble.to_string())),
                    Ok(page) => (self.listing(page)),
                }
            }
        };
        Document {
            name: &self.view.report.name,
            place: Some(Place::Scans),
            stream: None,
            content,
            footer: html! { (footer(self.view)) },
        }
        .render()
    }

    fn form(&self) -> Markup {
        let filter = &self.question.filter;
        html! {
            form .filters method="get" action=(PATH) role="search" aria-label="Filter" {
                div .field {
                    label for="address" { "Address contains" }
                    input #address name="address" value=(filter.address) maxlength="45" pattern="[0-9A-Fa-f.:]*"
                        autocomplete="off" spellcheck="false" autocapitalize="none"
                        title="A part of an address: digits, a to f, dots and colons";
                }
                div .field.short {
                    label for="port" { "Port" }
                    input #port type="number" name="port" min="0" max="65535" inputmode="numeric"
                        value=(filter.port.map_or_else(String::new, |port| port.to_string()));
                }
                div .field.short {
                    label for="protocol" { "Protocol" }
                    select #protocol name="protocol" {
                        option value="" { "any" }
                        @for (name, protocol) in PROTOCOLS {
                            option value=(name) selected[filter.protocol == Some(protocol)] { (name) }
                        }
                    }
                }
                div .field {
                    label for="location" { "Location contains" }
                    input #location name="location" value=(filter.location) maxlength="64" autocomplete="off";
                }
                (period::fields(&self.period, self.view.now))
                div .field.short {
                    label for="limit" { "Rows" }
                    select #limit name="limit" {
                        @for size in PAGE_SIZES {
                            option value=(size) selected[self.question.limit == size] { (size) }
                        }
                    }
                }
                div .actions {
                    button { "Show" }
                    a .button.quiet href=(PATH) { "Clear" }
                }
            }
        }
    }

    fn listing(&self, page: &ScanPage) -> Markup {
        html! {
            @if page.rows.is_empty() && page.complete {
                p .empty {
                    @if self.view.report.scan.enabled || self.is_filtered() {
                        "No probe of a closed port: " (period::words(&self.period))
                        @if self.is_filtered() { ", with this filter" } "."
                    } @else {
                        "Scan awareness is off."
                    }
                }
            }
            @if !page.rows.is_empty() { (table(&page.rows, self.view.now)) }
            @if !page.complete {
                p .note {
                    "The search stopped after as many records as one page may look at. There may be more."
                }
            }
            (self.pager(page))
        }
    }

    fn pager(&self, page: &ScanPage) -> Markup {
        let mut pairs = self.period.pairs();
        pairs.extend(self.filter_pairs());
        let first = link(PATH, &pairs);
        let next = page.next.as_ref().map(|next| {
            pairs.push(("after", next.clone()));
            link(PATH, &pairs)
        });
        html! {
            @if self.question.after.is_some() || next.is_some() {
                nav .pager aria-label="Pages" {
                    @if self.question.after.is_some() { a .button href=(first) rel="first" { "First page" } }
                    @if let Some(next) = next {
                        a .button href=(next) rel="next" { @if page.complete { "Next page" } @else { "Search on" } }
                    }
                }
            }
        }
    }

    fn is_filtered(&self) -> bool {
        !self.filter_pairs().iter().all(|(name, _)| *name == "limit")
    }

    /// Everything but the period and the page.
    fn filter_pairs(&self) -> Vec<(&'static str, String)> {
        let filter = &self.question.filter;
        let limit = self.question.limit;
        [
            ("address", filter.address.clone()),
            ("port", filter.port.map_or_else(String::new, |port| port.to_string())),
            ("protocol", filter.protocol.map_or_else(String::new, |protocol| protocol.to_string())),
            ("location", filter.location.clone()),
            ("limit", if limit == PAGE_SIZES[0] { String::new() } else { limit.to_string() }),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
    }
}

fn table(rows: &[ScanRow], now: UnixMillis) -> Markup {
    html! {
        table {
            caption .hidden { "Probes of closed ports, newest day first" }
            thead {
                tr {
                    th scope="col" { "Source" }
                    th scope="col" .wide { "Port" }
                    th scope="col" .wide { "Kinds" }
                    th scope="col" .number.wide { "Probes" }
                    th scope="col" .end.wide { "First seen" }
                    th scope="col" .end { "Last seen" }
                }
            }
            tbody { @for row in rows { (record(row, now)) } }
        }
    }
}

fn record(row: &ScanRow, now: UnixMillis) -> Markup {
    let record = &row.record;
    let place = sources::location(&row.location);
    html! {
        tr {
            th scope="row" {
                span .address { (record.source) }
                @if !place.is_empty() { span .second { (place) } }
                span .narrow {
                    (record.port) "/" (record.protocol) ", " (words::counted(record.hits, "probe", "probes"))
                    " " (sources::kinds(record.kinds))
                }
            }
            td .wide { (record.port) "/" (record.protocol) }
            td .wide { (sources::kinds(record.kinds)) }
            td .number.wide { (words::count(record.hits)) }
            td .end.wide { (moment(record.first, &words::ago(record.first, now))) }
            td .end {
                (moment(record.last, &words::ago(record.last, now)))
                span .second { (words::day(record.day)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use glacis_control::scan_query::ScanFilter;
    use glacis_control::{Day, Protocol};
    use std::sync::Arc;
    use std::time::Duration;

    fn shown(change: impl FnOnce(&mut PageQuestion), page: ScanPage) -> String {
        let report = sample::report();
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        let period = Period::last(7, Day::of(sample::NOW));
        let mut question = PageQuestion { filter: ScanFilter::all(period.range), after: None, limit: 20 };
        change(&mut question);
        RecordsPage { view, period, question, page: Ok(Arc::new(page)) }.render().into_string()
    }

    fn page() -> ScanPage {
        ScanPage { rows: vec![sample::row()], next: Some("c/1".into()), complete: true }
    }

    #[test]
    fn a23_the_next_page_keeps_the_filter() {
        let text = shown(
            |question| {
                question.filter.address = "203.0".into();
                question.filter.port = Some(3389);
                question.filter.protocol = Some(Protocol::Tcp);
                question.filter.location = "new york".into();
                question.limit = 50;
            },
            page(),
        );
        let filter = "address=203.0&amp;port=3389&amp;protocol=tcp&amp;location=new%20york&amp;limit=50";
        for part in [
            format!("href=\"/scans?{filter}&amp;after=c%2F1\" rel=\"next\">Next page<"),
            format!("href=\"/scans?days=30&amp;{filter}\""),
            "name=\"address\" value=\"203.0\"".into(),
            "value=\"3389\"".into(),
            "<option value=\"tcp\" selected>".into(),
            "<option value=\"50\" selected>".into(),
        ] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        assert!(!text.contains("First page"));
    }

    #[test]
    fn a23_a_search_that_stopped_early_says_so_and_goes_on() {
        let text = shown(|_| (), ScanPage { rows: vec![], complete: false, ..page() });
        assert!(text.contains("Search on") && text.contains("There may be more."), "{text}");
        assert!(!text.contains("No probe"), "{text}");
    }

    #[test]
    fn a23_the_last_page_leads_to_the_first_and_an_empty_one_says_why() {
        let text = shown(|question| question.after = Some("x".into()), ScanPage { next: None, ..page() });
        assert!(text.contains("href=\"/scans\" rel=\"first\"") && !text.contains("Next page"), "{text}");
        let empty = || ScanPage { rows: vec![], next: None, complete: true };
        assert!(shown(|_| (), empty()).contains("No probe of a closed port: the last 7 days."));
        let text = shown(|question| question.filter.port = Some(1), empty());
        assert!(text.contains("the last 7 days, with this filter."), "{text}");
    }

    #[test]
    fn a11_a_record_tells_where_its_source_is() {
        let text = shown(|_| (), page());
        for part in ["203.0.113.9", "3389/tcp", "Berlin, Germany", "AS64500", ">syn<", "2026-11-21"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
