//! Clients that leave, wait, or are sent away.

use crate::harness::*;
use glacis_control::gate::{Finding, PortOutcome};
use glacis_gate::GateCounter;
use glacis_plan::GatePlan;
use glacis_plan::gate::{Deny, GateProtocol};
use std::fs::File;
use std::net::SocketAddrV6;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

fn with_page() -> GatePlan {
    let mut plan = gate("web", 8443);
    plan.protocol = GateProtocol::Http;
    plan.deny = Deny::Page {
        status: 403,
        notice: Some("https://example.org/why".to_owned()),
        contact: Some("noc@example.org".to_owned()),
    };
    plan
}

async fn deny(core: &mut Core, client: &str) {
    let until = now().plus(Duration::from_secs(60));
    core.learn(client, &[Finding { port: 8080, outcome: PortOutcome::Socks5Proxy, until }]).await;
}

#[test]
fn b10_a_denied_http_client_is_told_why_and_whom_to_ask() {
    alone(|| async {
        let mut core = Core::start(&[with_page()]).await;
        deny(&mut core, CLIENT4).await;
        let mut client = connect(CLIENT4, 8443).await;
        client
            .write_all(b"POST /form HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\r\nhello")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        for wanted in ["8080", "SOCKS 5", "https://example.org/why", "noc@example.org", CLIENT4] {
            assert!(answer.contains(wanted), "{wanted} is not in {answer}");
        }
        let mut head = connect(CLIENT4, 8443).await;
        head.write_all(b"HEAD / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        head.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_all_accounted_for(&core.count("web", GateCounter::Denied, 2).await);
        core.end().unwrap();
    });
}

#[test]
fn b10_who_speaks_no_http_or_nothing_is_closed_without_a_page() {
    alone(|| async {
        let mut core = Core::start(&[with_page()]).await;
        deny(&mut core, CLIENT4).await;
        let mut other = connect(CLIENT4, 8443).await;
        other.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
        assert_closed(&mut other).await;
        let mut silent = connect(CLIENT4, 8443).await;
        assert_closed(&mut silent).await;
        core.count("web", GateCounter::Denied, 2).await;
        core.end().unwrap();
    });
}

#[test]
fn a_client_that_leaves_while_it_waits_is_noticed() {
    alone(|| async {
        silence(22);
        let mut plan = gate("web", 8443);
        plan.timeout = Duration::from_secs(10);
        let mut core = Core::start(&[plan]).await;
        let ended = connect(CLIENT4, 8443).await;
        let mut reset = connect(CLIENT4, 8443).await;
        // With bytes before it, an end is none: such a client waits for an answer.
        reset.write_all(b"request").await.unwrap();
        reset.set_zero_linger().unwrap();
        let mut half = connect(CLIENT4, 8443).await;
        half.write_all(b"request").await.unwrap();
        half.shutdown().await.unwrap();
        core.status_with("web", |status| status.waiting == 3).await;
        drop((ended, reset));
        let status = core.count("web", GateCounter::Left, 2).await;
        assert_eq!(status.waiting, 1);
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn b13_clients_of_an_ignored_country_are_admitted_without_a_look() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        // In the test database 2.125.160.216 is British and 89.160.20.112 Swedish.
        for client in ["2.125.160.216", "89.160.20.112"] {
            run(&format!("ip addr add {client}/32 dev lo"));
        }
        let _open = [open_port("2.125.160.216", 22).await, open_port("89.160.20.112", 22).await];
        let mut plan = gate("web", 8443);
        plan.ignore_countries = vec!["GB".to_owned()];
        let mut core = Core::unconfigured(2);
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/geoip/GeoLite2-Country-Test.mmdb");
        core.configure_with(&[plan], Some(File::open(path).unwrap().into())).await;
        assert_echoed_by(&mut connect("2.125.160.216", 8443).await, "one", "hello").await;
        assert_closed(&mut connect("89.160.20.112", 8443).await).await;
        let status = core.count("web", GateCounter::Denied, 1).await;
        assert_eq!(counted(&status, GateCounter::Exempt), 1);
        core.end().unwrap();
    });
}

#[test]
fn a_link_local_client_is_looked_at_and_not_remembered() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        run("ip addr add fe80::7/64 dev lo nodad");
        let mut plan = gate("web", 8443);
        plan.private = true;
        let mut core = Core::start(&[plan]).await;
        for _ in 0..2 {
            let socket = TcpSocket::new_v6().unwrap();
            // The loopback device is always the first one.
            socket.bind(SocketAddrV6::new("fe80::7".parse().unwrap(), 0, 0, 1).into()).unwrap();
            let mut client = socket.connect((address(GATE6), 8443).into()).await.unwrap();
            assert_echoed_by(&mut client, "one", "hello").await;
        }
        core.heard_without_a_verdict().await;
        let status = core.count("web", GateCounter::Looks, 2).await;
        assert_eq!(counted(&status, GateCounter::Known), 0);
        core.end().unwrap();
    });
}
