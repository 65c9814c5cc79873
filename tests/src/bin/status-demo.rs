//! Serves the status page of an appliance that has seen things, for a person or a browser to look at.

use glacis_control::StatusReport;
use glacis_control::report::{FirewallState, PolicySource, PolicyStatus};
use glacis_store::{Bounds, Store};
use glacis_tests::status_worker::{StatusWorker, report, story};
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
    let bans_active = story::fill(&store);
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
