//! Scan awareness, interfaces, the store and the workers.

use super::{Tone, View, moment};
use crate::words;
use glacis_control::report::{AutoBlockStatus, GeoipStatus, InterfaceStatus};
use glacis_control::{Day, StatusReport};
use maud::{Markup, html};

/// What is watched, whether scanners are blocked, what was lost, and where locations come from.
pub fn scan(view: View<'_>) -> Markup {
    let scan = &view.report.scan;
    html! {
        section aria-labelledby="sensor" {
            h2 #sensor { "Scan awareness" }
            @if scan.enabled {
                dl .facts {
                    dt { "Watches" }
                    dd {
                        @if scan.devices.is_empty() { span .dot.warn { "no device" } }
                        @else { (scan.devices.join(", ")) " by " (scan.attachment) }
                    }
                    dt { "Auto-block" }
                    dd { (auto_block(scan.auto_block.as_ref())) }
                    dt { "Sources watched" }
                    dd { (words::count(scan.sources)) }
                    dt { "Sources forgotten" }
                    dd { (words::count(scan.sources_forgotten)) }
                    dt { "Probes lost" }
                    dd { (words::count(scan.lost)) }
                    @for file in &scan.geoip { (geoip(file)) }
                }
                @if !scan.counters.is_empty() { (counters(&scan.counters)) }
            } @else {
                p .empty { "Scan awareness is off: the policy has no scan node." }
            }
        }
    }
}

fn auto_block(auto: Option<&AutoBlockStatus>) -> Markup {
    let Some(auto) = auto else { return html! { "off" } };
    let (tone, mode) = match (auto.mode.as_str(), &auto.suspended) {
        (_, Some(_)) => (Tone::Warn, "suspended"),
        ("enforce", None) => (Tone::Good, "on"),
        ("observe", None) => (Tone::Plain, "observes only"),
        (other, None) => (Tone::Plain, other),
    };
    html! {
        span .dot.(tone.class()) { (mode) }
        @if let Some(why) = &auto.suspended { span .second { (why) } }
        span .second {
            @match auto.evidence.as_str() {
                "spoof-proof" => "only on spoof-proof evidence",
                "any" => "on any evidence, forged sources included",
                other => (other),
            }
        }
    }
}

fn geoip(file: &GeoipStatus) -> Markup {
    html! {
        dt { "Locations: " (file.kind) span .second { (file.file) } }
        dd {
            @match (&file.error, file.built) {
                (Some(error), _) => span .dot.bad { (error) },
                (None, Some(built)) => {
                    span .dot.good { "of " (moment(built, &words::day(Day::of(built)))) }
                }
                (None, None) => span .dot.good { "in use" },
            }
            @if let (Some(_), Some(built)) = (&file.error, file.built) {
                span .second { "still in use: the one of " (moment(built, &words::day(Day::of(built)))) }
            }
        }
    }
}

fn counters(counters: &[(String, u64)]) -> Markup {
    html! {
        details {
            summary { "Counters of the kernel's program" }
            dl .facts {
                @for (name, value) in counters {
                    dt { (name.replace(['_', '-'], " ")) }
                    dd { (words::count(*value)) }
                }
            }
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

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use std::time::Duration;

    fn shown(report: &StatusReport) -> String {
        scan(View { report, age: Duration::ZERO, now: sample::NOW }).into_string()
    }

    #[test]
    fn a12_a_suspended_auto_block_says_why() {
        let mut report = sample::report();
        assert!(shown(&report).contains("only on spoof-proof evidence"));
        let auto = report.scan.auto_block.as_mut().unwrap();
        auto.suspended = Some("the firewall is not applied".into());
        let text = shown(&report);
        assert!(text.contains("dot warn") && text.contains("the firewall is not applied"), "{text}");
        report.scan.auto_block = None;
        assert!(shown(&report).contains("<dd>off</dd>"));
    }

    #[test]
    fn a11_every_database_shows_its_date_or_its_error() {
        let text = shown(&sample::report());
        for part in ["city.mmdb", "of <time datetime=\"2026-11-03", "asn.mmdb", "not a MaxMind database"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a30_what_was_lost_and_forgotten_is_told() {
        let text = shown(&sample::report());
        for part in [
            "<dt>Sources watched</dt><dd>17</dd>",
            "<dt>Sources forgotten</dt><dd>4</dd>",
            "<dt>Probes lost</dt><dd>3</dd>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
