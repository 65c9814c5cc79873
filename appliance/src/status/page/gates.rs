//! What the gates do: a few words on the overview, everything on a page of its own.

use super::{Document, Part, Place, Slice, Tone, View, clients, footer};
use crate::status::query::link;
use crate::status::records::{Answer, ClientQuestion, ClientRow};
use crate::words;
use glacis_control::gate::{BackendStatus, FastPathStatus, GateStatus, PortOutcome, PortTally};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Ports of one gate that are shown at once; more are folded away.
const PORTS_SHOWN: usize = 20;
/// Rows of the top of open ports.
const TOP_ROWS: usize = 10;

pub struct GatesPage<'a> {
    pub view: View<'a>,
    pub slice: Slice,
    pub question: ClientQuestion,
    pub clients: Answer<Vec<ClientRow>>,
}

impl GatesPage<'_> {
    pub fn render(&self) -> Markup {
        let [gates, top, clients, report] = self.parts();
        let is_live = self.slice.is_first() && self.question == ClientQuestion::default();
        let content = html! {
            (gates)
            (top)
            @if !self.view.report.gates.is_empty() {
                section aria-labelledby="clients" {
                    div .heading {
                        h2 #clients { "Clients" }
                        (clients::presets(&self.question))
                    }
                    (clients::form(&self.question, self.slice))
                    (clients)
                }
            }
        };
        Document {
            name: &self.view.report.name,
            place: Some(Place::Gates),
            stream: is_live.then(|| link("/api/v1/events/stream", &[("parts", "gates".to_owned())])),
            content,
            footer: html! { (report) },
        }
        .render()
    }

    pub fn parts(&self) -> [Part; 4] {
        let gates = &self.view.report.gates;
        let all = html! {
            @if gates.is_empty() {
                section aria-labelledby="gates" {
                    h2 #gates { "Gates" }
                    p .empty { "The policy has no gate." }
                }
            }
            @for (index, gate) in gates.iter().enumerate() { (section(index, gate)) }
        };
        let known = html! {
            @if !gates.is_empty() { (clients::listing(self.view, &self.question, self.slice, &self.clients)) }
        };
        [
            Part { id: "part-gates", content: all },
            Part { id: "part-open", content: top(gates) },
            Part { id: "part-clients", content: known },
            footer(self.view),
        ]
    }
}

/// All gates in a few words, on the overview; nothing without a gate.
pub fn overview(view: View<'_>) -> Markup {
    let gates = &view.report.gates;
    html! {
        @if !gates.is_empty() {
            section aria-labelledby="gates" {
                h2 #gates { "Gates" }
                table {
                    caption .hidden { "Reverse-scan gates of the policy" }
                    thead {
                        tr {
                            th scope="col" { "Gate" }
                            th scope="col" .wide { "Mode" }
                            th scope="col" .number.wide { "Relaying" }
                            th scope="col" .number.wide { "Waiting" }
                            th scope="col" .number { "Denied" }
                            th scope="col" .end { "Backends" }
                        }
                    }
                    tbody { @for gate in gates { (row(gate)) } }
                }
                p .more {
                    a href="/gates" {
                        (words::counted(view.report.gate_clients, "client is known", "clients are known"))
                    }
                }
            }
        }
    }
}

fn row(gate: &GateStatus) -> Markup {
    html! {
        tr {
            th scope="row" {
                span { (gate.name) }
                span .second { "port " (gate.port) " · " (gate.protocol) }
                span .narrow {
                    (mode(gate)) " · " (words::count(gate.relaying)) " relaying · " (words::count(gate.waiting)) " waiting"
                }
            }
            td .wide { (mode(gate)) }
            td .number.wide { (words::count(gate.relaying)) }
            td .number.wide { (words::count(gate.waiting)) }
            td .number { (words::count(words::gate_count(gate, "denied"))) }
            td .end { (health(&gate.backends)) }
        }
    }
}

fn mode(gate: &GateStatus) -> &str {
    match gate.mode.as_str() {
        "enforce" => "enforces",
        "detect" => "only detects",
        other => other,
    }
}

/// How many backends serve.
fn health(backends: &[BackendStatus]) -> Markup {
    let up = backends.iter().filter(|backend| backend.down.is_none()).count();
    let tone = match up {
        0 => Tone::Bad,
        up if up < backends.len() => Tone::Warn,
        _ => Tone::Good,
    };
    html! { span .dot.(tone.class()) { (up) " of " (backends.len()) " up" } }
}

/// One gate, whole. `index` keeps the ids of several apart.
fn section(index: usize, gate: &GateStatus) -> Markup {
    let heading = format!("gate-{index}");
    html! {
        section .gate aria-labelledby=(heading) {
            h2 id=(heading) {
                "Gate " (gate.name)
                span .second { "port " (gate.port) " · " (gate.protocol) " · " (mode(gate)) }
            }
            div .columns {
                div {
                    dl .facts { (figures(gate)) }
                    (counters(gate))
                }
                div {
                    (backends(gate))
                    @if let Some(fast) = gate.fast_path { (fast_path(fast)) }
                }
            }
            (ports(gate))
        }
    }
}

fn figures(gate: &GateStatus) -> Markup {
    html! {
        dt { "Relaying" }
        dd { (words::count(gate.relaying)) }
        dt { "Waiting for a verdict" }
        dd { (words::count(gate.waiting)) }
        dt { "Connections accepted" }
        dd { (words::count(words::gate_count(gate, "accepted"))) }
        dt { "Connections denied" }
        dd { (words::count(words::gate_count(gate, "denied"))) }
        dt { "To backends" }
        dd { (words::bytes(gate.bytes_to_backends)) }
        dt { "To clients" }
        dd { (words::bytes(gate.bytes_to_clients)) }
        dt { "Clients looked at" }
        dd { (words::count(gate.latency.count())) }
        @if let (Some(median), Some(last)) = (words::quantile(&gate.latency, 50), words::quantile(&gate.latency, 99)) {
            dt { "Verdict after (median)" }
            dd { (median) }
            dt { "Verdict after (99 %)" }
            dd { (last) }
        }
    }
}

/// What became of connections, and what led to it.
fn counters(gate: &GateStatus) -> Markup {
    html! {
        @if !gate.counters.is_empty() {
            details {
                summary { "All counters" }
                dl .facts {
                    @for (name, count) in &gate.counters {
                        dt { (name.replace(['_', '-'], " ")) }
                        dd { (words::count(*count)) }
                    }
                }
            }
        }
    }
}

fn fast_path(fast: FastPathStatus) -> Markup {
    html! {
        div {
        h3 { "Fast path" }
        dl .facts {
            dt { "Clients that the kernel admits" }
            dd { (words::count(fast.clients)) }
            dt { "Connections" }
            dd { (words::count(fast.connections)) }
            dt { "Packets" }
            dd { (words::count(fast.packets)) }
            dt { "Bytes" }
            dd { (words::bytes(fast.bytes)) }
        }
        }
    }
}

fn backends(gate: &GateStatus) -> Markup {
    html! {
        table {
            caption .hidden { "Backends of gate " (gate.name) }
            thead {
                tr {
                    th scope="col" { "Backend" }
                    th scope="col" .number { "Relaying" }
                    th scope="col" .number.wide { "Connections" }
                }
            }
            tbody {
                @for backend in &gate.backends {
                    tr {
                        th scope="row" {
                            span .address { (backend.address) }
                            @match &backend.down {
                                None => span .second { span .dot.good { "serves" } },
                                Some(why) => span .second.why { span .dot.bad { "down: " (why) } },
                            }
                        }
                        td .number { (words::count(backend.relaying)) }
                        td .number.wide { (words::count(backend.connections)) }
                    }
                }
            }
        }
    }
}

/// Probed ports, with what became of each look.
fn ports(gate: &GateStatus) -> Markup {
    html! {
        @if gate.ports.len() > PORTS_SHOWN {
            details .outcomes {
                summary { "What was found at " (gate.ports.len()) " ports" }
                (outcomes(gate))
            }
        } @else if !gate.ports.is_empty() {
            div .outcomes { (outcomes(gate)) }
        }
    }
}

fn outcomes(gate: &GateStatus) -> Markup {
    html! {
        table {
            caption .hidden { "What gate " (gate.name) " found at the ports of its clients" }
            thead {
                tr {
                    th scope="col" { "Port" }
                    @for outcome in PortOutcome::ALL { th scope="col" .number.wide { (outcome_name(outcome)) } }
                }
            }
            tbody { @for tally in &gate.ports { (tally_row(tally)) } }
        }
    }
}

const fn outcome_name(outcome: PortOutcome) -> &'static str {
    match outcome {
        PortOutcome::Refused => "Refused",
        PortOutcome::Unreachable => "Unreachable",
        PortOutcome::Silent => "Silent",
        PortOutcome::Open => "Open",
        PortOutcome::Service => "Service",
        PortOutcome::HttpProxy => "HTTP proxy",
        PortOutcome::Socks4Proxy => "SOCKS4",
        PortOutcome::Socks5Proxy => "SOCKS5",
    }
}

fn tally_row(tally: &PortTally) -> Markup {
    let counts = || PortOutcome::ALL.into_iter().zip(tally.outcomes);
    let some: Vec<String> = counts()
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{} {}", outcome.name(), words::count(count)))
        .collect();
    html! {
        tr {
            th scope="row" {
                (tally.port)
                span .narrow { @if some.is_empty() { "not looked at yet" } @else { (some.join(" · ")) } }
            }
            @for (outcome, count) in counts() {
                td .number.wide.found[speaks_against(outcome) && count > 0] { (words::count(count)) }
            }
        }
    }
}

/// A gate that asks what is behind a port admits a client for what is no proxy.
const fn speaks_against(outcome: PortOutcome) -> bool {
    outcome.is_proxy() || matches!(outcome, PortOutcome::Open)
}

/// The ports that were open at most clients, over all gates.
fn top(gates: &[GateStatus]) -> Markup {
    let mut open: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for tally in gates.iter().flat_map(|gate| &gate.ports) {
        let (all, proxies) = open.entry(tally.port).or_default();
        for (outcome, count) in PortOutcome::ALL.into_iter().zip(tally.outcomes) {
            *all += if outcome.is_open() { count } else { 0 };
            *proxies += if outcome.is_proxy() { count } else { 0 };
        }
    }
    let mut rows: Vec<_> = open.into_iter().filter(|(_, (all, _))| *all > 0).collect();
    rows.sort_by_key(|(port, (all, proxies))| (u64::MAX - all, u64::MAX - proxies, *port));
    rows.truncate(TOP_ROWS);
    html! {
        @if !gates.is_empty() {
            section aria-labelledby="open" {
                h2 #open { "Top open ports" }
                @if rows.is_empty() {
                    p .empty { "No client had an open port." }
                } @else {
                    table {
                        caption .hidden { "Ports that were open at most clients, over all gates" }
                        thead {
                            tr {
                                th scope="col" { "Port" }
                                th scope="col" .number { "Found open" }
                                th scope="col" .number { "Proven a proxy" }
                            }
                        }
                        tbody {
                            @for (port, (all, proxies)) in &rows {
                                tr {
                                    th scope="row" { (port) }
                                    td .number { (words::count(*all)) }
                                    td .number { (words::count(*proxies)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::Unavailable;
    use super::super::super::sample;
    use super::*;
    use glacis_control::StatusReport;
    use std::sync::Arc;
    use std::time::Duration;

    fn page(report: &StatusReport, change: impl FnOnce(&mut GatesPage<'_>)) -> String {
        let view = View { report, age: Duration::ZERO, now: sample::NOW };
        let clients = Ok(Arc::new(sample::clients().iter().map(ClientRow::of).collect()));
        let slice = Slice { skip: 0, limit: 20 };
        let mut page = GatesPage { view, slice, question: ClientQuestion::default(), clients };
        change(&mut page);
        page.render().into_string()
    }

    #[test]
    fn b15_the_page_tells_gates_backends_ports_and_clients() {
        let text = page(&sample::report(), |_| ());
        for part in [
            "Gate web",
            "port 443 · tls · enforces",
            "<dt>Connections denied</dt><dd>45</dd>",
            "<dt>looks</dt><dd>90</dd>",
            "<dt>Verdict after (median)</dt><dd>≤ 1 ms</dd>",
            "<dt>Verdict after (99 %)</dt><dd>≤ 500 ms</dd>",
            "down: connection refused",
            "10.0.0.2:443",
            "refused 40 · silent 3 · http-proxy 2",
            "Top open ports",
            "Clients that the kernel admits",
            "port 3128 is an open HTTP proxy",
            "data-stream=\"/api/v1/events/stream?parts=gates\"",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn b15_ports_are_ranked_by_what_was_open_and_long_lists_are_folded() {
        let mut report = sample::report();
        let tally = |port: u16, open: u64, proxies: u64| PortTally {
            port,
            outcomes: [9, 9, 9, open, 0, proxies, 0, 0],
        };
        report.gates[0].ports = (1..=30).map(|port| tally(port, u64::from(port % 15), 0)).collect();
        report.gates[1].ports = vec![tally(7, 100, 3)];
        let text = top(&report.gates).into_string();
        let ports: Vec<&str> =
            text.split("<th scope=\"row\">").skip(1).map(|r| r.split('<').next().unwrap()).collect();
        assert_eq!(ports, ["7", "14", "29", "13", "28", "12", "27", "11", "26", "10"]);
        assert!(text.contains("<td class=\"number\">110</td><td class=\"number\">3</td>"), "{text}");
        assert!(page(&report, |_| ()).contains("<summary>What was found at 30 ports</summary>"));
        assert!(top(&[GateStatus::default()]).into_string().contains("No client had an open port."));
    }

    #[test]
    fn a_policy_without_gates_shows_none() {
        let mut report = sample::report();
        report.gates = vec![];
        let text = page(&report, |_| ());
        assert!(text.contains("The policy has no gate.") && !text.contains("Top open ports"), "{text}");
        let view = View { report: &report, age: Duration::ZERO, now: sample::NOW };
        assert_eq!(overview(view).into_string(), "");
    }

    #[test]
    fn clients_that_cannot_be_read_are_said_and_not_shown_as_none() {
        let text = page(&sample::report(), |page| page.clients = Err(Unavailable::Closed("no store".into())));
        assert!(text.contains("no store") && !text.contains("No client is known"), "{text}");
    }

    #[test]
    fn foreign_text_on_the_page_is_shown_and_never_obeyed() {
        let evil = "<script>alert(1)</script>\"'&";
        let text = page(&sample::evil_report(evil), |page| page.question.address = evil.into());
        assert!(!text.contains("<script>") && !text.contains("\"'&\""), "{text}");
        assert!(text.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;").count() >= 6, "{text}");
    }

    #[test]
    fn no_two_things_on_the_page_share_an_id() {
        let text = page(&sample::report(), |_| ());
        let mut ids: Vec<&str> =
            text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{ids:?}");
    }
}
