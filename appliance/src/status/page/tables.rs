//! The tables of the page. Columns that a phone has no room for are repeated as a second line of the first one.

use super::{Tone, View, moment};
use crate::words;
use glacis_control::report::InterfaceStatus;
use glacis_control::{Ban, Event, EventKind, ScanRecord, StatusReport, UnixMillis};
use maud::{Markup, html};

/// Rows shown; the JSON lists more.
pub const BAN_ROWS: usize = 50;
const SCAN_ROWS: usize = 20;
const EVENT_ROWS: usize = 12;

pub fn bans(view: &View<'_>) -> Markup {
    let shown = &view.recent.bans[..view.recent.bans.len().min(BAN_ROWS)];
    let hidden = view.report.bans_active.saturating_sub(shown.len() as u64);
    html! {
        section aria-labelledby="bans" {
            h2 #bans { "Blocked sources" }
            @if let Some(trouble) = &view.recent.trouble {
                (unavailable(trouble))
            } @else if shown.is_empty() {
                p .empty { "No source is blocked." }
            } @else {
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
                    tbody { @for ban in shown { (ban_row(ban, view.now)) } }
                }
                @if hidden > 0 { p .more { "and " (words::count(hidden)) " more" } }
            }
        }
    }
}

fn ban_row(ban: &Ban, now: UnixMillis) -> Markup {
    let why = html! { (words::reason(&ban.reason)) @if ban.author != "auto" { " · " (ban.author) } };
    html! {
        tr {
            th scope="row" {
                span .address { (words::source(ban.source)) }
                span .narrow { (why) }
            }
            td .wide { (why) }
            td .wide { (moment(ban.since, &words::ago(ban.since, now))) }
            td .end {
                @match (ban.until, ban.remaining(now)) {
                    (Some(until), Some(left)) => (moment(until, &format!("in {}", words::span(left)))),
                    _ => "never",
                }
            }
        }
    }
}

pub fn scans(view: &View<'_>) -> Markup {
    let shown = &view.recent.scans[..view.recent.scans.len().min(SCAN_ROWS)];
    html! {
        section aria-labelledby="scans" {
            h2 #scans { "Recent probes" }
            @if let Some(trouble) = &view.recent.trouble {
                (unavailable(trouble))
            } @else if shown.is_empty() {
                p .empty {
                    @if view.report.scan.enabled { "No closed port has been probed." }
                    @else { "Scan awareness is off." }
                }
            } @else {
                table {
                    caption .hidden { "Probes of closed ports, last seen first" }
                    thead {
                        tr {
                            th scope="col" { "Source" }
                            th scope="col" .wide { "Port" }
                            th scope="col" .number.wide { "Hits" }
                            th scope="col" .wide { "First seen" }
                            th scope="col" .end { "Last seen" }
                        }
                    }
                    tbody { @for record in shown { (scan_row(record, view.now)) } }
                }
            }
        }
    }
}

fn scan_row(record: &ScanRecord, now: UnixMillis) -> Markup {
    html! {
        tr {
            th scope="row" {
                span .address { (record.source) }
                span .narrow {
                    (record.port) "/" (record.protocol) " · " (words::counted(record.hits, "hit", "hits"))
                }
            }
            td .wide { (record.port) "/" (record.protocol) }
            td .number.wide { (words::count(record.hits)) }
            td .wide { (moment(record.first, &words::ago(record.first, now))) }
            td .end { (moment(record.last, &words::ago(record.last, now))) }
        }
    }
}

pub fn interfaces(report: &StatusReport) -> Markup {
    html! {
        section aria-labelledby="interfaces" {
            h2 #interfaces { "Interfaces" }
            @if report.interfaces.is_empty() {
                p .empty { "The policy names no interface." }
            } @else {
                table {
                    caption .hidden { "Interfaces of the policy" }
                    thead {
                        tr {
                            th scope="col" { "Interface" }
                            th scope="col" { "Addresses" }
                            th scope="col" .end { "Link" }
                        }
                    }
                    tbody { @for interface in &report.interfaces { (interface_row(interface)) } }
                }
            }
        }
    }
}

fn interface_row(interface: &InterfaceStatus) -> Markup {
    let (tone, link) = match (interface.present, interface.carrier) {
        (true, true) => (Tone::Good, "up"),
        (true, false) => (Tone::Warn, "no carrier"),
        (false, _) => (Tone::Bad, "missing"),
    };
    html! {
        tr {
            th scope="row" {
                span { (interface.name) }
                span .second {
                    (interface.device)
                    @if let Some(zone) = &interface.zone { " · " (zone) }
                }
            }
            td {
                @if interface.addresses.is_empty() { "–" }
                @for address in &interface.addresses { span .address { (address) } }
            }
            td .end { span .dot.(tone.class()) { (link) } }
        }
    }
}

pub fn events(view: &View<'_>) -> Markup {
    let shown = &view.recent.events[..view.recent.events.len().min(EVENT_ROWS)];
    html! {
        section aria-labelledby="events" {
            h2 #events { "Recent events" }
            @if let Some(trouble) = &view.recent.trouble {
                (unavailable(trouble))
            } @else if shown.is_empty() {
                p .empty { "Nothing has happened yet." }
            } @else {
                ol .events { @for event in shown { (event_row(event, view.now)) } }
            }
        }
    }
}

fn event_row(event: &Event, now: UnixMillis) -> Markup {
    html! {
        li {
            span .dot.(tone(&event.kind).class()) { (words::happening(&event.kind)) }
            (moment(event.at, &words::ago(event.at, now)))
        }
    }
}

/// Whether someone should look.
fn tone(kind: &EventKind) -> Tone {
    match kind {
        EventKind::PolicyRefused { .. } => Tone::Bad,
        EventKind::SourceBlocked { .. }
        | EventKind::WorkerRestarted { .. }
        | EventKind::LinkChanged { up: false, .. } => Tone::Warn,
        EventKind::PolicyApplied { .. } | EventKind::LinkChanged { up: true, .. } => Tone::Good,
        EventKind::CoreStarted { .. }
        | EventKind::WouldBlock { .. }
        | EventKind::ScansCleared { .. }
        | EventKind::ClockStepped { .. }
        | EventKind::SourceUnblocked { .. }
        | EventKind::BanExpired { .. } => Tone::Plain,
    }
}

/// What the TC program watches and has counted.
pub fn sensor(report: &StatusReport) -> Markup {
    let scan = &report.scan;
    html! {
        section aria-labelledby="sensor" {
            h2 #sensor { "Scan sensor" }
            @if scan.enabled {
                dl .facts {
                    dt { "Watches" }
                    dd {
                        @if scan.devices.is_empty() { span .dot.warn { "no device" } }
                        @else { (scan.devices.join(", ")) " by " (scan.attachment) }
                    }
                    @for (name, value) in &scan.counters {
                        dt { (name.replace(['_', '-'], " ")) }
                        dd { (words::count(*value)) }
                    }
                    dt { "hits lost" }
                    dd { (words::count(scan.lost)) }
                }
            } @else {
                p .empty { "Scan awareness is off: the policy has no scan node." }
            }
        }
    }
}

/// Store and workers.
pub fn inside(report: &StatusReport) -> Markup {
    let store = &report.store;
    html! {
        section aria-labelledby="inside" {
            h2 #inside { "Inside" }
            dl .facts {
                dt { "Store" }
                dd {
                    (words::bytes(store.bytes_used)) " of " (words::bytes(store.bytes_max)) " "
                    meter min="0" max=(store.bytes_max) high=(store.bytes_max / 10 * 9) value=(store.bytes_used)
                        aria-label="Part of the store in use" {}
                }
                dt { "Scan records" }
                dd { (words::count(store.scan_records)) }
                dt { "Events" }
                dd { (words::count(store.events)) }
                dt { "Writes dropped" }
                dd { (words::count(store.dropped)) }
                @for worker in &report.workers {
                    dt { "Worker " (worker.name) }
                    dd {
                        @if worker.pid.is_some() { span .dot.good { "runs" } } @else { span .dot.bad { "down" } }
                        @if worker.restarts > 0 {
                            ", " (words::counted(worker.restarts.into(), "restart", "restarts"))
                        }
                    }
                }
            }
        }
    }
}

fn unavailable(trouble: &str) -> Markup {
    html! { p .empty { span .dot.bad { (trouble) } } }
}
