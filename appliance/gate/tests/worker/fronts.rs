//! Gates behind proxies that say whose connection it is.

use crate::harness::*;
use glacis_control::gate::Verdict;
use glacis_gate::GateCounter;
use glacis_plan::GatePlan;
use glacis_plan::gate::Exhausted;
use glacis_wire::proxy_protocol::{self, Version};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FRONT: &str = "192.0.2.50";

pub fn fronted() -> GatePlan {
    let mut plan = gate("web", 8443);
    plan.fronts = Some(vec!["192.0.2.50/32".parse().expect("it is a network")]);
    plan
}

/// A connection of a front for a client.
pub async fn for_client(client: &str, version: Version) -> TcpStream {
    let mut stream = connect(FRONT, 8443).await;
    let destination = (address(GATE4), 443).into();
    let header = proxy_protocol::encode(version, (address(client), 4711).into(), destination);
    stream.write_all(&header).await.expect("the gate takes bytes");
    stream
}

#[test]
fn the_client_that_a_front_names_is_the_one_judged() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let _open = open_port("203.0.113.66", 22).await;
        let mut core = Core::start(&[fronted()]).await;
        for (client, version) in [(CLIENT4, Version::V1), (CLIENT6, Version::V2)] {
            let mut stream = for_client(client, version).await;
            assert_echoed_by(&mut stream, "one", "hello").await;
            assert!(matches!(core.judged().await, (who, _, Verdict::Clean) if who == address(client)));
        }
        assert_closed(&mut for_client("203.0.113.66", Version::V2).await).await;
        assert!(
            matches!(core.judged().await, (who, _, Verdict::Open { .. }) if who == address("203.0.113.66"))
        );
        // Written as IPv6, it is the same client.
        let mut mapped = connect(FRONT, 8443).await;
        mapped.write_all(b"PROXY TCP6 ::ffff:203.0.113.66 ::ffff:192.0.2.1 1 443\r\n").await.unwrap();
        assert_closed(&mut mapped).await;
        let status = core.count("web", GateCounter::Denied, 2).await;
        assert_eq!(counted(&status, GateCounter::Looks), 3);
        core.end().unwrap();
    });
}

#[test]
fn a_header_from_a_stranger_opens_nothing() {
    alone(|| async {
        let backend = listen_at(BACKEND, 9000).await;
        let mut core = Core::start(&[fronted()]).await;
        let mut stranger = connect(CLIENT4, 8443).await;
        stranger.write_all(b"PROXY TCP4 192.0.2.50 192.0.2.1 1 443\r\n").await.ok();
        assert_gone(&mut stranger).await;
        let status = core.count("web", GateCounter::Stranger, 1).await;
        assert_all_accounted_for(&status);
        let nobody = tokio::time::timeout(Duration::from_millis(50), backend.accept()).await;
        assert!(nobody.is_err());
        core.end().unwrap();
    });
}

#[test]
fn a_front_that_checks_or_errs_is_told_apart_and_costs_little() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[fronted()]).await;
        let mut local = connect(FRONT, 8443).await;
        local.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await.unwrap();
        assert_closed(&mut local).await;
        drop(connect(FRONT, 8443).await);
        core.count("web", GateCounter::FrontCheck, 2).await;

        let mut wrong = connect(FRONT, 8443).await;
        wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_gone(&mut wrong).await;
        core.count("web", GateCounter::HeaderWrong, 1).await;

        for nobody in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert_gone(&mut for_client(nobody, Version::V2).await).await;
        }
        core.count("web", GateCounter::HeaderWrong, 6).await;

        let begin = Instant::now();
        let mut silent = connect(FRONT, 8443).await;
        silent.write_all(b"PROXY TCP4 ").await.unwrap();
        assert_gone(&mut silent).await;
        assert!(begin.elapsed() >= Duration::from_secs(3));
        let status = core.count("web", GateCounter::HeaderSilent, 1).await;
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn what_follows_a_header_in_its_segment_reaches_the_backend() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let core = Core::start(&[fronted()]).await;
        let mut stream = connect(FRONT, 8443).await;
        let destination = (address(GATE4), 443).into();
        let mut bytes = proxy_protocol::encode(Version::V2, (address(CLIENT4), 4711).into(), destination);
        bytes.extend_from_slice(b"first ");
        stream.write_all(&bytes).await.unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"one:first ");
        assert_echoed_by(&mut stream, "", "and then").await;
        core.end().unwrap();
    });
}

#[test]
fn b18_a_client_without_a_route_is_not_remembered_and_the_policy_decides() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[fronted()]).await;
        for _ in 0..2 {
            assert_closed(&mut for_client("8.8.8.8", Version::V2).await).await;
        }
        let status = core.count("web", GateCounter::RefusedTrouble, 2).await;
        assert_eq!(counted(&status, GateCounter::LooksFailed), 2);
        let mut plan = fronted();
        plan.budget.then = Exhausted::Admit;
        core.configure(&[plan]).await;
        core.heard().await;
        assert_echoed_by(&mut for_client("8.8.8.8", Version::V2).await, "one", "hello").await;
        let status = core.count("web", GateCounter::LooksFailed, 3).await;
        assert!(status.ports.is_empty());
        core.end().unwrap();
    });
}
