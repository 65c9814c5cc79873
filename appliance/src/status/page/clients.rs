//! What gates know of clients, with filters and pages.

use super::{Slice, Tone, View, moment, unavailable};
use crate::status::query::{VERDICTS, link};
use crate::status::records::{Answer, CLIENTS_MAX, ClientQuestion, ClientRow};
use crate::words::{self, ClientVerdict};
use glacis_control::scan_query::PAGE_SIZES;
use maud::{Markup, html};

const PATH: &str = "/gates";

/// All clients, or those with one verdict.
pub fn presets(question: &ClientQuestion) -> Markup {
    let choices = std::iter::once(("All", None))
        .chain(ClientVerdict::ALL.into_iter().map(|verdict| (title(verdict), Some(verdict))));
    html! {
        nav aria-label="Verdicts" {
            ul .presets {
                @for (name, verdict) in choices {
                    @let other = ClientQuestion { verdict, ..question.clone() };
                    li {
                        a href=(link(PATH, &other.pairs()))
                            aria-current=[(question.verdict == verdict).then_some("true")] { (name) }
                    }
                }
            }
        }
    }
}

const fn title(verdict: ClientVerdict) -> &'static str {
    match verdict {
        ClientVerdict::Open => "Open",
        ClientVerdict::NoProxy => "No proxy",
        ClientVerdict::Clean => "Clean",
    }
}

pub fn form(question: &ClientQuestion, slice: Slice) -> Markup {
    let word = VERDICTS.into_iter().find(|(_, verdict)| Some(*verdict) == question.verdict);
    html! {
        form .filters method="get" action=(PATH) role="search" aria-label="Filter" {
            div .field {
                label for="address" { "Address contains" }
                input #address name="address" value=(question.address) maxlength="45" pattern="[0-9A-Fa-f.:]*"
                    autocomplete="off" spellcheck="false" autocapitalize="none"
                    title="A part of an address: digits, a to f, dots and colons";
            }
            div .field.short {
                label for="limit" { "Rows" }
                select #limit name="limit" {
                    @for size in PAGE_SIZES {
                        option value=(size) selected[slice.limit == size as usize] { (size) }
                    }
                }
            }
            @if let Some((word, _)) = word { input type="hidden" name="verdict" value=(word); }
            div .actions {
                button { "Show" }
                a .button.quiet href=(PATH) { "Clear" }
            }
        }
    }
}

pub fn listing(
    view: View<'_>,
    question: &ClientQuestion,
    slice: Slice,
    clients: &Answer<Vec<ClientRow>>,
) -> Markup {
    html! {
        @match clients {
            Err(trouble) => (unavailable(&trouble.to_string())),
            Ok(clients) if clients.is_empty() => p .empty {
                @if *question == ClientQuestion::default() { "No client is known." }
                @else { "No client is known with this filter." }
            },
            Ok(clients) => {
                (table(slice.of(clients), view))
                (slice.pager(PATH, &question.pairs(), clients.len()))
                @if clients.len() == CLIENTS_MAX {
                    p .more {
                        "Of " (words::counted(view.report.gate_clients, "client", "clients")) ", the "
                        (words::count(CLIENTS_MAX as u64)) " looked at last are listed; "
                        code { "glacis gate verdicts" } " lists more."
                    }
                }
            }
        }
    }
}

fn table(clients: &[ClientRow], view: View<'_>) -> Markup {
    html! {
        table {
            caption .hidden { "What gates found at clients, looked at last first" }
            thead {
                tr {
                    th scope="col" { "Client" }
                    th scope="col" { "Verdict" }
                    th scope="col" .wide { "Evidence" }
                    th scope="col" .end.wide { "Looked at" }
                    th scope="col" .end { "Holds for" }
                }
            }
            tbody { @for client in clients { (row(client, view)) } }
        }
    }
}

fn row(client: &ClientRow, view: View<'_>) -> Markup {
    let known = &client.known;
    let tone = match known.verdict {
        ClientVerdict::Open => Tone::Bad,
        ClientVerdict::NoProxy => Tone::Warn,
        ClientVerdict::Clean => Tone::Good,
    };
    let seen = || moment(client.seen, &words::ago(client.seen, view.now));
    html! {
        tr {
            th scope="row" {
                span .address { (client.client) }
                span .narrow { (known.evidence()) " · " (seen()) }
            }
            td { span .dot.(tone.class()) { (known.verdict.name()) } }
            td .wide { (known.evidence()) }
            td .end.wide { (seen()) }
            td .end { (moment(known.until, &words::span(known.until.since(view.now)))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn shown(question: &ClientQuestion, rows: Vec<ClientRow>) -> String {
        let report = sample::report();
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        listing(view, question, Slice { skip: 0, limit: 20 }, &Ok(Arc::new(rows))).into_string()
    }

    #[test]
    fn b15_every_verdict_shows_its_evidence_and_its_end() {
        let rows = sample::clients().iter().map(ClientRow::of).collect();
        let text = shown(&ClientQuestion::default(), rows);
        for part in [
            "203.0.113.9",
            "dot bad\">open<",
            "port 3128 is an open HTTP proxy",
            "dot warn\">no proxy<",
            "port 80 is open, but no proxy",
            "dot good\">clean<",
            "2 ports, none open",
            ">8 min ago<",
            ">23 h 52 min<",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_pages_of_a_filter_keep_it() {
        let question = ClientQuestion { address: "2001:db8".into(), verdict: Some(ClientVerdict::NoProxy) };
        let row = ClientRow::of(&sample::clients()[0]);
        let text = shown(&question, vec![row; 45]);
        let next = "href=\"/gates?address=2001%3Adb8&amp;verdict=no-proxy&amp;skip=20\"";
        assert!(text.contains(next), "{text}");
        assert!(shown(&question, vec![]).contains("No client is known with this filter."));
        assert!(shown(&ClientQuestion::default(), vec![]).contains("No client is known."));
        let text = presets(&question).into_string();
        assert!(text.contains("href=\"/gates?address=2001%3Adb8&amp;verdict=open\""), "{text}");
        assert!(text.contains("verdict=no-proxy\" aria-current=\"true\""), "{text}");
        let text = form(&question, Slice { skip: 0, limit: 50 }).into_string();
        assert!(text.contains("type=\"hidden\" name=\"verdict\" value=\"no-proxy\""), "{text}");
    }

    #[test]
    fn a_list_that_is_cut_off_says_so() {
        let row = ClientRow::of(&sample::clients()[0]);
        assert!(
            !shown(&ClientQuestion::default(), vec![row; CLIENTS_MAX - 1])
                .contains("looked at last are listed")
        );
        let text = shown(&ClientQuestion::default(), vec![row; CLIENTS_MAX]);
        assert!(text.contains("looked at last are listed"), "{text}");
    }
}
