//! A report and records for tests, with every kind of thing in them.

use super::records::Recent;
use glacis_control::report::{
    FirewallState, InterfaceStatus, PolicySource, PolicyStatus, ScanStatus, StoreStatus, WorkerStatus,
};
use glacis_control::{
    Ban, BanReason, Day, Event, EventKind, Evidence, ProbeKind, ProbeKinds, Protocol, ScanRecord, ScanShape,
    StatusReport, UnixMillis,
};

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
        scan: ScanStatus {
            enabled: true,
            devices: vec!["eth0".into()],
            attachment: "tcx".into(),
            counters: vec![("packets".into(), 1_204_311), ("dropped".into(), 9120)],
            lost: 3,
            ..ScanStatus::default()
        },
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

pub fn ban(source: &str) -> Ban {
    Ban {
        source: source.parse().unwrap(),
        since: before(480),
        until: Some(NOW.plus(std::time::Duration::from_mins(52))),
        reason: BanReason::Scan {
            shape: ScanShape::Volume,
            hits: 412,
            window_seconds: 300,
            evidence: Evidence { ports: 27, ..Evidence::default() },
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
    Recent {
        events: vec![
            Event { id: 9, at: before(480), kind: EventKind::SourceBlocked { ban: ban("203.0.113.9/32") } },
            Event { id: 8, at: before(7200), kind: EventKind::PolicyApplied { revision: 7, changes: 3 } },
        ],
        bans: vec![ban("203.0.113.9/32"), manual],
        scans: vec![ScanRecord {
            day: Day::of(NOW),
            source: "203.0.113.9".parse().unwrap(),
            port: 3389,
            protocol: Protocol::Tcp,
            kinds: ProbeKinds::of(ProbeKind::Syn),
            hits: 18,
            first: before(700),
            last: before(480),
        }],
        probes_today: Some(1893),
        trouble: None,
    }
}
