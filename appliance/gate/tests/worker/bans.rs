//! Clients whom the kernel keeps out.

use crate::fronts::{for_client, fronted};
use crate::harness::*;
use glacis_control::gate::{Finding, PortOutcome, Verdict};
use glacis_gate::GateCounter;
use glacis_gate::feed::{FromWorker, ToWorker};
use glacis_plan::gate::GateMode;
use glacis_wire::proxy_protocol::Version;
use std::time::{Duration, Instant};

#[test]
fn a_banned_client_is_let_go_without_a_look_also_behind_a_front() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut ignoring = gate("ignoring", 8444);
        ignoring.ignore = vec!["203.0.113.0/24".parse().unwrap()];
        ignoring.mode = GateMode::Detect;
        let mut core = Core::start(&[fronted(), ignoring]).await;
        core.learn("203.0.113.8", &[22, 8080].map(refused)).await;
        core.ban(&["203.0.113.7/32", "203.0.113.8/31", "2001:db8:7::/48"], &[]).await;
        for client in [CLIENT4, "203.0.113.8", "203.0.113.9", CLIENT6] {
            assert_gone(&mut for_client(client, Version::V2).await).await;
        }
        for client in [CLIENT4, "203.0.113.9"] {
            assert_gone(&mut connect(client, 8444).await).await;
        }
        let status = core.count("web", GateCounter::Banned, 4).await;
        assert_eq!(counted(&status, GateCounter::Looks), 0);
        assert_all_accounted_for(&status);
        core.count("ignoring", GateCounter::Banned, 2).await;
        assert_echoed_by(&mut for_client("203.0.113.6", Version::V2).await, "one", "hello").await;

        core.ban(&[], &["203.0.113.7/32", "2001:db8:7::/48"]).await;
        for client in [CLIENT4, CLIENT6] {
            assert_echoed_by(&mut for_client(client, Version::V2).await, "one", "hello").await;
        }
        assert_gone(&mut for_client("203.0.113.9", Version::V2).await).await;
        core.end().unwrap();
    });
}

fn refused(port: u16) -> Finding {
    Finding { port, outcome: PortOutcome::Refused, until: now().plus(Duration::from_secs(60)) }
}

#[test]
fn a_look_during_which_a_ban_came_is_forgotten_even_if_the_ban_has_gone() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        silence(22);
        for lifted in [false, true] {
            let mut plan = gate("web", 8443);
            plan.timeout = Duration::from_secs(3);
            let mut core = Core::start(&[plan]).await;
            let begin = Instant::now();
            let mut waiting = [connect(CLIENT4, 8443).await, connect(CLIENT4, 8443).await];
            core.status_with("web", |status| status.waiting == 2).await;
            let network = ["203.0.113.0/24"];
            core.ban(&network, if lifted { &network } else { &[] }).await;
            for client in &mut waiting {
                assert_gone(client).await;
            }
            assert!(begin.elapsed() < Duration::from_secs(3), "they are let go at once");
            let status = core.count("web", GateCounter::Banned, 2).await;
            assert!(status.ports.is_empty() && status.latency.count() == 0);
            // Longer than the look would have taken.
            tokio::time::sleep(Duration::from_millis(3_200)).await;
            core.tell(&ToWorker::Bans { added: vec![], lifted: vec![network[0].parse().unwrap()] }).await;
            core.heard_without_a_verdict().await;
            assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
            let (_, findings, verdict) = core.judged().await;
            assert_eq!((findings.len(), verdict), (2, Verdict::Clean), "nothing was known");
            let status = core.count("web", GateCounter::Looks, 2).await;
            assert_all_accounted_for(&status);
            core.end().unwrap();
        }
    });
}

#[test]
fn a_ban_casts_doubt_on_what_was_just_found_and_on_no_open_port() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        core.learn(CLIENT4, &[22, 8080].map(refused)).await;
        let open = Finding { outcome: PortOutcome::Open, ..refused(22) };
        core.learn("203.0.113.8", &[open, refused(8080)]).await;
        core.ban(&["203.0.113.0/24"], &["203.0.113.0/24"]).await;
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        assert_closed(&mut connect("203.0.113.8", 8443).await).await;
        let status = core.count("web", GateCounter::Denied, 1).await;
        let [looks, known] = [GateCounter::Looks, GateCounter::Known].map(|c| counted(&status, c));
        assert_eq!((looks, known), (1, 1));
        core.end().unwrap();
    });
}

#[test]
fn a_look_by_hand_at_a_banned_client_says_that_it_would_see_nothing() {
    alone(|| async {
        let mut core = Core::start(&[gate("web", 8443)]).await;
        core.ban(&["203.0.113.7/32"], &[]).await;
        core.tell(&ToWorker::Test { id: 1, gate: "web".to_owned(), client: address(CLIENT4) }).await;
        let result = core.wait_for(|message| match message {
            FromWorker::Tested { id: 1, result } => Some(result.clone()),
            _ => None,
        });
        assert_eq!(result.await.unwrap_err(), "203.0.113.7 is blocked; a look would see nothing");
        core.end().unwrap();
    });
}
