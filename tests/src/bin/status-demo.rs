//! Serves the status page of an appliance that has seen things, for a person or a browser to look at.

use glacis_control::Protocol::{Tcp, Udp};
use glacis_control::report::{FirewallState, PolicySource, PolicyStatus};
use glacis_control::{
    Ban, BanReason, EventKind, Evidence, ProbeKinds, ScanHit, ScanShape, StatusReport, UnixMillis,
};
use glacis_store::{Bounds, Store};
use glacis_tests::status_worker::{StatusWorker, now, report};
use std::process::ExitCode;
use std::time::Duration;

/// What the page is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Healthy,
    Refused,
}

/// `status-demo ADDRESS healthy|refused`, for tests/browser/screenshot: serves until it is killed.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [address, "healthy"] => serve(address, State::Healthy),
        [address, "refused"] => serve(address, State::Refused),
        _ => eprintln!("usage: status-demo ADDRESS:PORT healthy|refused"),
    }
    ExitCode::FAILURE
}

/// Returns when the worker ends.
fn serve(address: &str, state: State) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let store = Store::open(dir.path(), Bounds::default()).expect("a new store opens");
    let bans_active = fill(&store);
    let mut worker = StatusWorker::listen_on(address, Some(dir.path()));
    while worker.ended().is_none() {
        let healthy = StatusReport { bans_active, ..report() };
        worker.tell_only(&match state {
            State::Healthy => healthy,
            State::Refused => refused(healthy),
        });
        std::thread::sleep(Duration::from_secs(1));
    }
    eprintln!("the status worker ended");
}

fn refused(report: StatusReport) -> StatusReport {
    StatusReport {
        firewall: FirewallState::DropAll,
        problems: vec![
            "policy.kdl was refused and no earlier policy is known: all traffic is dropped".into(),
            "interface `guests` (eth2) has no carrier".into(),
        ],
        policy: PolicyStatus {
            refused: Some(REFUSED.into()),
            revision: 0,
            rules: 0,
            applied: None,
            source: PolicySource::None,
        },
        ..report
    }
}

const REFUSED: &str = "  × unknown zone `hom`
    ╭─[policy.kdl:53:15]
 52 │ }
 53 │ rules from=hom to=self {
    ·            ─┬─
    ·             ╰── no zone has this name
 54 │     allow ping dns ntp
    ╰────
  help: did you mean `home`?";

/// An afternoon on the edge of a network. Returns how many sources are blocked.
fn fill(store: &Store) -> u64 {
    let now = now();
    let ago = |minutes: u64| UnixMillis(now.0 - minutes * 60_000);
    let probe = |source: &str, port, protocol, hits: u64, minutes| ScanHit {
        source: source.parse().expect("written as an address"),
        port,
        protocol,
        kinds: ProbeKinds::default(),
        at: ago(minutes),
        hits,
    };
    let probes = [
        probe("203.0.113.41", 3389, Tcp, 1, 118),
        probe("203.0.113.41", 3389, Tcp, 213, 1),
        probe("198.51.100.23", 5060, Udp, 46, 2),
        probe("203.0.113.41", 445, Tcp, 198, 3),
        probe("2001:db8:bad:7::51", 22, Tcp, 68, 6),
        probe("198.51.100.200", 23, Tcp, 1204, 9),
        probe("198.51.100.23", 8080, Tcp, 12, 14),
        probe("192.0.2.177", 1900, Udp, 2, 21),
        probe("203.0.113.9", 6379, Tcp, 5, 34),
        probe("192.0.2.14", 161, Udp, 1, 52),
        probe("203.0.113.9", 9200, Tcp, 4, 71),
    ];
    store.record(&probes).expect("a new store takes records");
    store
        .append_event(&EventKind::CoreStarted { version: report().version }, ago(18_075))
        .expect("a new store takes records");
    store
        .append_event(&EventKind::PolicyApplied { revision: 12, changes: 3 }, ago(207))
        .expect("a new store takes records");
    let scan = |hits, ports| BanReason::Scan {
        shape: ScanShape::Volume,
        hits,
        window_seconds: 300,
        evidence: Evidence { ports, ..Evidence::default() },
    };
    let bans = [
        ("203.0.113.41/32", 18, Some(42), scan(412, 27), "auto"),
        ("198.51.100.200/32", 9, Some(51), scan(1204, 1), "auto"),
        ("2001:db8:bad:7::/64", 6, Some(54), scan(131, 64), "auto"),
        ("192.0.2.128/25", 4320, None, BanReason::Manual { note: "abuse report 4711".into() }, "root"),
    ];
    for (source, since, until, reason, author) in bans.clone() {
        let until = until.map(|minutes: u64| now.plus(Duration::from_mins(minutes)));
        let ban = Ban {
            source: source.parse().expect("written as an address"),
            since: ago(since),
            until,
            reason,
            author: author.into(),
        };
        store.put_ban(ban.clone()).expect("a new store takes records");
        if author == "auto" {
            store
                .append_event(&EventKind::SourceBlocked { ban }, ago(since))
                .expect("a new store takes records");
        }
    }
    let source = "203.0.113.9/32".parse().expect("written as an address");
    store.append_event(&EventKind::BanExpired { source }, ago(3)).expect("a new store takes records");
    store
        .append_event(&EventKind::LinkChanged { device: "eth2".into(), up: false }, ago(2))
        .expect("a new store takes records");
    bans.len() as u64
}
