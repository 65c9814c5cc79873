//! A report and records for tests, with every kind of thing in them.

use super::guard::HostNames;
use super::page::{Overview, View};
use super::query::Period;
use super::records::{BansByReason, Recent, Records};
use super::routes::Shared;
use glacis_control::gate::{
    BackendStatus, ClientRecord, FastPathStatus, Finding, GateStatus, Histogram, PortOutcome, PortTally,
};
use glacis_control::report::{
    AutoBlockStatus, FirewallState, GeoipStatus, InterfaceStatus, PolicySource, PolicyStatus, ScanStatus,
    StoreStatus, WorkerStatus,
};
use glacis_control::scan_query::{
    Change, Distinct, Location, PortTotal, ScanRow, ScanSummary, SourceTotal, Top, TrendDay,
};
use glacis_control::{
    Ban, BanReason, Day, Event, EventKind, Evidence, ProbeKind, ProbeKinds, Protocol, ScanRecord, ScanShape,
    StatusReport, UnixMillis,
};
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-21 12:00:00 UTC.
pub const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

/// `seconds` before [`NOW`].
pub fn before(seconds: u64) -> UnixMillis {
    UnixMillis(NOW.0 - seconds * 1000)
}

pub fn report() -> StatusReport {
    StatusReport {
        name: "edge-1".into(),
        version: "0.1.0".into(),
        taken: NOW,
        started: before(93_600),
        firewall: FirewallState::Applied,
        policy: PolicyStatus {
            revision: 7,
            applied: Some(before(7200)),
            source: PolicySource::File,
            rules: 14,
            refused: None,
        },
        interfaces: vec![InterfaceStatus {
            name: "wan".into(),
            device: "eth0".into(),
            present: true,
            carrier: true,
            addresses: vec!["192.0.2.1/24".into()],
            zone: Some("internet".into()),
        }],
        scan: scan(),
        gates: gates(),
        gate_clients: 1_300,
        bans_active: 2,
        store: StoreStatus {
            bytes_used: 1 << 20,
            bytes_max: 64 << 20,
            scan_records: 512,
            events: 40,
            dropped: 1,
        },
        workers: vec![WorkerStatus { name: "status".into(), pid: Some(77), restarts: 2 }],
        status_listen: vec![],
        problems: vec![],
    }
}

fn gates() -> Vec<GateStatus> {
    let backend = |address: &str, down: Option<&str>| BackendStatus {
        address: address.parse().unwrap(),
        down: down.map(str::to_owned),
        relaying: 6,
        connections: 1_150,
    };
    let tally = |port, outcomes| PortTally { port, outcomes };
    let mut latency = Histogram::default();
    latency.observe(900);
    latency.observe(400_000);
    let web = GateStatus {
        name: "web".into(),
        port: 443,
        protocol: "tls".into(),
        mode: "enforce".into(),
        relaying: 12,
        waiting: 3,
        counters: vec![
            ("accepted".into(), 2_345),
            ("relayed".into(), 2_300),
            ("denied".into(), 45),
            ("looks".into(), 90),
        ],
        bytes_to_backends: 5 << 20,
        bytes_to_clients: 70 << 20,
        ports: vec![tally(80, [44, 0, 1, 0, 0, 0, 0, 0]), tally(3128, [40, 0, 3, 0, 0, 2, 0, 0])],
        latency,
        backends: vec![backend("10.0.0.2:443", None), backend("10.0.0.3:443", Some("connection refused"))],
        fast_path: Some(FastPathStatus { clients: 8, connections: 90, packets: 5_000, bytes: 2 << 20 }),
    };
    let mail = GateStatus {
        name: "mail".into(),
        port: 25,
        protocol: "tcp".into(),
        mode: "detect".into(),
        backends: vec![backend("[fd00::25]:25", None)],
        ..GateStatus::default()
    };
    vec![web, mail]
}

/// Looked at last first.
pub fn clients() -> Vec<ClientRecord> {
    let until = before(480).plus(Duration::from_hours(24));
    let finding = |(port, outcome): &(u16, PortOutcome)| Finding { port: *port, outcome: *outcome, until };
    let record = |client: &str, seen, findings: &[(u16, PortOutcome)]| ClientRecord {
        client: client.parse().unwrap(),
        seen,
        findings: findings.iter().map(finding).collect(),
    };
    vec![
        record("203.0.113.9", before(480), &[(80, PortOutcome::Refused), (3128, PortOutcome::HttpProxy)]),
        record("198.51.100.7", before(500), &[(80, PortOutcome::Service), (3128, PortOutcome::Silent)]),
        record("2001:db8::7", before(7200), &[(80, PortOutcome::Refused), (3128, PortOutcome::Unreachable)]),
    ]
}

fn scan() -> ScanStatus {
    ScanStatus {
        enabled: true,
        devices: vec!["eth0".into()],
        attachment: "tcx".into(),
        counters: vec![("packets".into(), 1_204_311), ("ban_drops".into(), 9120)],
        lost: 3,
        sources: 17,
        sources_forgotten: 4,
        auto_block: Some(AutoBlockStatus {
            mode: "enforce".into(),
            evidence: "spoof-proof".into(),
            suspended: None,
        }),
        geoip: vec![
            GeoipStatus {
                file: "city.mmdb".into(),
                kind: "city".into(),
                // 2026-11-03.
                built: Some(UnixMillis(1_793_664_000_000)),
                error: None,
            },
            GeoipStatus {
                file: "asn.mmdb".into(),
                kind: "asn".into(),
                built: None,
                error: Some("not a MaxMind database".into()),
            },
        ],
    }
}

pub fn ban(source: &str) -> Ban {
    Ban {
        source: source.parse().unwrap(),
        since: before(480),
        until: Some(NOW.plus(Duration::from_mins(52))),
        reason: BanReason::Scan {
            shape: ScanShape::Vertical,
            hits: 412,
            window_seconds: 300,
            evidence: Evidence {
                ports: 27,
                hosts: 3,
                echoes: 12,
                kinds: [ProbeKind::Syn, ProbeKind::Xmas].into_iter().collect(),
                earlier_blocks: 2,
            },
        },
        author: "auto".into(),
    }
}

pub fn recent() -> Recent {
    let manual = Ban {
        until: None,
        reason: BanReason::Manual { note: "abuse report 77".into() },
        author: "root".into(),
        ..ban("2001:db8:bad::/64")
    };
    let mut bans_by_reason = BansByReason::default();
    bans_by_reason.0[1].1 = 1;
    bans_by_reason.0[5].1 = 1;
    Recent {
        events: vec![
            Event { id: 9, at: before(480), kind: EventKind::SourceBlocked { ban: ban("203.0.113.9/32") } },
            Event { id: 8, at: before(7200), kind: EventKind::PolicyApplied { revision: 7, changes: 3 } },
            Event {
                id: 7,
                at: before(7300),
                kind: EventKind::BackendDown {
                    gate: "web".into(),
                    backend: "10.0.0.3:443".parse().unwrap(),
                    cause: "connection refused".into(),
                },
            },
        ],
        bans: vec![ban("203.0.113.9/32"), manual],
        bans_by_reason,
    }
}

fn berlin() -> Location {
    Location {
        country_code: "DE".into(),
        country: "Germany".into(),
        region: "Berlin".into(),
        city: "Berlin".into(),
        isp: "Example Net".into(),
        asn: 64_500,
    }
}

pub fn row() -> ScanRow {
    let record = ScanRecord {
        day: Day::of(NOW),
        source: "203.0.113.9".parse().unwrap(),
        port: 3389,
        protocol: Protocol::Tcp,
        kinds: ProbeKinds::of(ProbeKind::Syn),
        hits: 18,
        first: before(700),
        last: before(480),
    };
    ScanRow { record, location: berlin() }
}

/// The first page with something in every part.
pub fn overview(view: View<'_>) -> Overview<'_> {
    let period = Period::last(7, Day::of(NOW));
    let exact = |current, previous| {
        let exact = |count| Distinct { count, exact: true };
        Change { current: exact(current), previous: exact(previous) }
    };
    let hits = Change { current: 1893, previous: 1500 };
    let source = SourceTotal {
        source: "203.0.113.9".parse().unwrap(),
        location: berlin(),
        hits: 18,
        ports: Distinct { count: 3, exact: true },
        kinds: ProbeKinds::of(ProbeKind::Syn),
        first: before(90_000),
        last: before(480),
    };
    let port = PortTotal {
        port: 3389,
        protocol: Protocol::Tcp,
        hits: 18,
        sources: Distinct { count: 1, exact: true },
    };
    let trend = period.range.iter().map(|day| TrendDay { day, hits: u64::from(day.0 % 5), sources: 1 });
    Overview {
        view,
        period,
        summary: Ok(Arc::new(ScanSummary {
            days: period.range,
            hits,
            ports: exact(31, 31),
            sources: exact(9, 12),
        })),
        trend: Ok(Arc::new(trend.collect())),
        sources: Ok(Arc::new(Top { rows: vec![source], exact: true })),
        ports: Ok(Arc::new(Top { rows: vec![port], exact: true })),
        recent: Ok(Arc::new(recent())),
    }
}

/// A report in which every foreign text is this one.
pub fn evil_report(evil: &str) -> StatusReport {
    let mut report = report();
    report.name = evil.into();
    report.version = evil.into();
    report.problems = vec![evil.into()];
    report.policy.refused = Some(evil.into());
    report.interfaces[0].name = evil.into();
    report.interfaces[0].addresses = vec![evil.into()];
    report.interfaces[0].zone = Some(evil.into());
    report.scan.devices = vec![evil.into()];
    report.scan.counters = vec![(evil.into(), 1)];
    report.scan.geoip[0].file = evil.into();
    report.scan.geoip[1].error = Some(evil.into());
    if let Some(auto) = &mut report.scan.auto_block {
        auto.suspended = Some(evil.into());
    }
    report.workers[0].name = evil.into();
    for gate in &mut report.gates {
        gate.name = evil.into();
        gate.protocol = evil.into();
        gate.mode = evil.into();
        gate.counters.push((evil.into(), 1));
        gate.backends[0].down = Some(evil.into());
    }
    report
}

/// Makes every foreign text of the records this one.
pub fn make_evil(overview: &mut Overview<'_>, evil: &str) {
    let mut recent = recent();
    recent.bans[0].author = evil.into();
    recent.bans[1].reason = BanReason::Manual { note: evil.into() };
    recent.events[0].kind = EventKind::PolicyRefused { message: evil.into() };
    overview.recent = Ok(Arc::new(recent));
    if let Ok(top) = &overview.sources {
        let mut top = Top::clone(top);
        top.rows[0].location = Location { city: evil.into(), isp: evil.into(), ..berlin() };
        overview.sources = Ok(Arc::new(top));
    }
}

/// Endpoints that have nothing to tell yet.
pub fn shared() -> Shared {
    let records = Records::of(Err("no store in this test".into()));
    Shared::new(super::feed::Latest::default(), records, HostNames::of_this_host(), Arc::default())
}
