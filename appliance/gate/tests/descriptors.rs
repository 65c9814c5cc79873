//! A worker that runs out of descriptors. In a process of its own, because the limit is the process's.

#[path = "worker/harness.rs"]
#[expect(dead_code, reason = "this file needs a part of it")]
mod harness;

use glacis_control::gate::GateStatus;
use glacis_gate::GateCounter;
use harness::*;
use rustix::process::{Resource, Rlimit};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

/// The limit is the process's, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Leaves the process so many descriptors: the worker, and the clients and backends of this test. The limit is one of
/// numbers, and the lowest free one is taken.
fn leave(files: usize) {
    let open = || File::open("/dev/null").expect("the limit before was higher");
    let free: Vec<File> = (0..files).map(|_| open()).collect();
    let above = free.iter().map(|file| file.as_raw_fd() as u64 + 1).max();
    limit(above.expect("at least one is left"));
}

fn limit(files: u64) {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(files), maximum };
    rustix::process::setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
}

#[test]
fn b18_without_descriptors_nobody_is_remembered_and_the_gate_recovers() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let mut first = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut first, "one", "hello").await;
        core.judged().await;

        // Enough for a client's own socket and for the gate to accept it; a look needs more.
        leave(2);
        let mut second = connect("203.0.113.8", 8443).await;
        assert_gone(&mut second).await;
        drop(second);
        let status = core.count("web", GateCounter::RefusedTrouble, 1).await;
        assert_eq!(counted(&status, GateCounter::LooksFailed), 1);
        let outcomes: u64 = status.ports.iter().flat_map(|port| port.outcomes).sum();
        assert_eq!(outcomes, 2, "none but the first client's");

        // Not even enough to accept.
        limit(1_000);
        leave(1);
        let mut third = connect("203.0.113.9", 8443).await;
        let paused = |status: &GateStatus| counted(status, GateCounter::AcceptPaused);
        let status = core.status_with("web", |status| paused(status) > 5).await;
        assert_eq!(counted(&status, GateCounter::Accepted), 2);
        let later = core.status_with("web", |later| paused(later) > paused(&status)).await;
        let tries = paused(&later) - paused(&status);
        assert!(tries <= 60, "{tries} within a second or two");

        limit(1_000);
        assert_echoed_by(&mut third, "one", "hello").await;
        assert_echoed_by(&mut connect("203.0.113.8", 8443).await, "one", "hello").await;
        assert_echoed_by(&mut first, "", "still").await;
        let status = core.count("web", GateCounter::Looks, 4).await;
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn no_more_connections_are_taken_than_descriptors_allow() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    alone(|| async {
        let _one = echo("one", 9000).await;
        // As the worker sees it when it begins: three quarters of them for connections, two for each.
        limit(400);
        let mut core = Core::start(&[gate("web", 8443)]).await;
        limit(4_000);
        let mut clients = Vec::new();
        for _ in 0..150 {
            let mut client = connect(CLIENT4, 8443).await;
            assert_echoed_by(&mut client, "one", "hello").await;
            clients.push(client);
        }
        for _ in 0..20 {
            assert_gone(&mut connect(CLIENT4, 8443).await).await;
        }
        let status = core.count("web", GateCounter::Full, 20).await;
        assert_eq!(status.relaying, 150);
        assert_all_accounted_for(&status);
        drop(clients);
        core.count("web", GateCounter::Relayed, 150).await;
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        core.end().unwrap();
    });
}
