//! The sources and the ports with the most probes (A22).

use super::{moment, period, sources, unavailable};
use crate::status::query::{Period, link};
use crate::status::records::Answer;
use crate::words;
use glacis_control::UnixMillis;
use glacis_control::scan_query::{Distinct, PortTotal, SourceTotal, Top};
use maud::{Markup, html};

pub fn sources(top: &Answer<Top<SourceTotal>>, days: &Period, now: UnixMillis) -> Markup {
    let most = most(top, |row| row.hits);
    let head = html! {
        th scope="col" { "Source" }
        th scope="col" .number.wide { "Ports" }
        th scope="col" .number { "Probes" }
        th scope="col" .end.wide { "Last seen" }
    };
    section("part-top-sources", "Busiest sources", top, days, &head, |row| {
        let mut pairs = days.pairs();
        pairs.push(("address", row.source.to_string()));
        let (place, seen) = (sources::location(&row.location), moment(row.last, &words::ago(row.last, now)));
        html! {
            th scope="row" {
                a .address href=(link("/scans", &pairs)) { (row.source) }
                " " (sources::kinds(row.kinds))
                @if !place.is_empty() { span .second { (place) } }
                span .narrow { (distinct(row.ports)) @if row.ports.count == 1 { " port · " } @else { " ports · " } (seen) }
            }
            td .number.wide { (distinct(row.ports)) }
            td .number { (words::count(row.hits)) (bar(row.hits, most)) }
            td .end.wide { (seen) }
        }
    })
}

pub fn ports(top: &Answer<Top<PortTotal>>, days: &Period) -> Markup {
    let most = most(top, |row| row.hits);
    let head = html! {
        th scope="col" { "Port" }
        th scope="col" .number { "Sources" }
        th scope="col" .number { "Probes" }
    };
    section("part-top-ports", "Busiest ports", top, days, &head, |row| {
        let mut pairs = days.pairs();
        pairs.push(("port", row.port.to_string()));
        pairs.push(("protocol", row.protocol.to_string()));
        html! {
            th scope="row" { a .address href=(link("/scans", &pairs)) { (row.port) "/" (row.protocol) } }
            td .number { (distinct(row.sources)) }
            td .number { (words::count(row.hits)) (bar(row.hits, most)) }
        }
    })
}

fn most<T>(top: &Answer<Top<T>>, hits: fn(&T) -> u64) -> u64 {
    top.as_ref().map_or(0, |top| top.rows.iter().map(hits).max().unwrap_or(0))
}

fn section<T>(
    id: &str,
    name: &str,
    top: &Answer<Top<T>>,
    days: &Period,
    head: &Markup,
    row: impl Fn(&T) -> Markup,
) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (name) }
            @match top {
                Err(trouble) => (unavailable(&trouble.to_string())),
                Ok(top) if top.rows.is_empty() => p .empty { "No probe: " (period::words(days)) "." },
                Ok(top) => {
                    table .top {
                        caption .hidden { (name) ", most probes first: " (period::words(days)) }
                        thead { tr { (head) } }
                        tbody { @for entry in &top.rows { tr { (row(entry)) } } }
                    }
                    @if !top.exact {
                        p .more { "So many were seen that one with more probes may be missing." }
                    }
                }
            }
        }
    }
}

fn distinct(number: Distinct) -> String {
    if number.exact {
        words::count(number.count)
    } else {
        format!("about\u{a0}{}", words::count(number.count))
    }
}

/// How much that is beside the largest.
fn bar(hits: u64, most: u64) -> Markup {
    let per_cent = (u128::from(hits) * 100 / u128::from(most.max(1))).max(1);
    html! {
        svg .share width="100%" height="4" aria-hidden="true" {
            rect x={ (100_u128.saturating_sub(per_cent)) "%" } width={ (per_cent) "%" } height="4" rx="2" {}
        }
    }
}
