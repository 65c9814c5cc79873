//! New settings, no settings, and feeds that end or err.

use crate::harness::*;
use glacis_control::gate::{Finding, PortOutcome};
use glacis_gate::feed::{FeedWriter, ToWorker};
use glacis_gate::{GateCounter, WorkerError};
use std::time::Duration;
use tokio::net::UnixStream;

#[test]
fn relayed_connections_keep_the_backend_they_began_with() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let _two = echo("two", 9001).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let mut before = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut before, "one", "hello").await;
        let mut plan = gate("web", 8443);
        plan.pools = vec![pool(&[9001])];
        core.configure(&[plan, gate("more", 8444)]).await;
        let status = core.status_with("web", |status| status.backends[0].address.port() == 9001).await;
        assert_eq!((status.relaying, counted(&status, GateCounter::Accepted)), (1, 1));
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "two", "hello").await;
        assert_echoed_by(&mut connect(CLIENT4, 8444).await, "one", "hello").await;
        assert_echoed_by(&mut before, "", "still").await;
        core.end().unwrap();
    });
}

#[test]
fn a_gate_that_is_no_more_closes_what_waits_and_keeps_what_is_relayed() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut slow = gate("slow", 8444);
        silence(4444);
        (slow.ports, slow.timeout) = (vec![4444], Duration::from_secs(10));
        let mut core = Core::start(&[gate("web", 8443), slow.clone()]).await;
        let until = now().plus(Duration::from_secs(60));
        let known = Finding { port: 4444, outcome: PortOutcome::Refused, until };
        core.learn(CLIENT6, &[known]).await;
        let mut relayed = connect(CLIENT6, 8444).await;
        assert_echoed_by(&mut relayed, "one", "hello").await;
        let mut waiting = connect(CLIENT4, 8444).await;
        core.status_with("slow", |status| status.waiting == 1).await;
        core.configure(&[gate("web", 8443)]).await;
        assert_gone(&mut waiting).await;
        assert_echoed_by(&mut relayed, "", "still").await;
        assert!(try_connect(CLIENT4, 8444).await.is_err(), "nobody listens any more");
        core.end().unwrap();
    });
}

#[test]
fn connections_that_come_while_settings_change_are_served() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let connecting = tokio::spawn(async {
            for _ in 0..200 {
                assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
            }
        });
        let mut plan = gate("web", 8443);
        while !connecting.is_finished() {
            plan.idle += Duration::from_secs(1);
            core.configure(&[plan.clone()]).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        connecting.await.unwrap();
        core.end().unwrap();
    });
}

#[test]
fn a_feed_that_ends_at_any_moment_ends_the_worker() {
    alone(|| async {
        Core::unconfigured(2).end().unwrap();
        Core::start(&[]).await.end().unwrap();
        Core::start(&[gate("web", 8443)]).await.end().unwrap();
    });
}

#[test]
fn a_book_that_comes_before_the_settings_is_minded() {
    alone(|| async {
        let mut core = Core::unconfigured(2);
        let until = now().plus(Duration::from_secs(60));
        let finding = Finding { port: 22, outcome: PortOutcome::Open, until };
        core.learn(CLIENT4, &[finding]).await;
        core.configure(&[gate("web", 8443)]).await;
        assert_closed(&mut connect(CLIENT4, 8443).await).await;
        let status = core.count("web", GateCounter::Denied, 1).await;
        assert_eq!(counted(&status, GateCounter::Looks), 0);
        core.end().unwrap();
    });
}

#[test]
fn settings_without_their_sockets_are_an_error_of_the_core() {
    alone(|| async {
        for (threads, gates) in [(2, vec![gate("web", 8443)]), (0, vec![])] {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let worker = std::thread::spawn(move || glacis_gate::serve(theirs));
            let message = ToWorker::Configure { gates, threads, own: vec![], countries: false };
            let ours = UnixStream::from_std(ours).unwrap();
            FeedWriter::new().send(&ours, &message, &[]).await.unwrap();
            let error = tokio::task::spawn_blocking(|| worker.join().unwrap().unwrap_err()).await.unwrap();
            match threads {
                0 => assert!(matches!(error, WorkerError::Threads { threads: 0 }), "{error}"),
                _ => assert!(
                    matches!(error, WorkerError::Descriptors { expected: 2, found: 0, .. }),
                    "{error}"
                ),
            }
        }
    });
}
