//! Where connections are led.

use crate::harness::*;
use glacis_gate::GateCounter;
use glacis_gate::feed::FromWorker;
use glacis_plan::GatePlan;
use glacis_plan::gate::{Backend, GateProtocol, HealthCheck, ProxyVersion};
use glacis_wire::proxy_protocol::{self, Header, Parsed};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn led_to(ports: &[u16]) -> GatePlan {
    let mut plan = gate("web", 8443);
    plan.pools = vec![pool(ports)];
    plan
}

const CHECK: HealthCheck =
    HealthCheck { every: Duration::from_millis(500), timeout: Duration::from_millis(300), fall: 2, rise: 2 };

fn backend(port: u16) -> SocketAddr {
    (address(BACKEND), port).into()
}

/// The next message about a backend.
async fn turned(core: &mut Core) -> (SocketAddr, Option<String>) {
    core.wait_for(|message| match message {
        FromWorker::Backend { address, down, .. } => Some((*address, down.clone())),
        _ => None,
    })
    .await
}

#[test]
fn b21_connections_are_balanced() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let _two = echo("two", 9001).await;
        let mut core = Core::start(&[led_to(&[9000, 9001])]).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = connect(CLIENT4, 8443).await;
            client.write_all(b"who").await.unwrap();
            let mut answer = [0; 7];
            client.read_exact(&mut answer).await.unwrap();
            clients.push(client);
        }
        let status = core.status_with("web", |status| status.relaying == 10).await;
        let shares: Vec<_> = status.backends.iter().map(|b| (b.address, b.relaying, b.connections)).collect();
        assert_eq!(shares, [(backend(9000), 5, 5), (backend(9001), 5, 5)]);
        core.end().unwrap();
    });
}

#[test]
fn b21_a_backend_that_refuses_and_one_that_is_slow_are_passed_over() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[led_to(&[9001, 9000])]).await;
        for _ in 0..2 {
            assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        }
        silence(9002);
        core.configure(&[led_to(&[9002, 9000])]).await;
        core.status_with("web", |status| status.backends[1].address == backend(9002)).await;
        let begin = Instant::now();
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        let waited = begin.elapsed();
        assert!(waited > Duration::from_millis(2_900) && waited < Duration::from_millis(4_500), "{waited:?}");
        core.end().unwrap();
    });
}

#[test]
fn b21_a_backend_goes_out_of_service_and_comes_in_again() {
    alone(|| async {
        let mut plan = led_to(&[9000]);
        plan.health = Some(CHECK);
        plan.protocol = GateProtocol::Http;
        let mut core = Core::start(&[plan]).await;
        let (address, down) = turned(&mut core).await;
        assert_eq!(address, backend(9000));
        assert!(down.is_some_and(|why| why.contains("refused")));

        let mut client = connect(CLIENT4, 8443).await;
        // In two pieces, of which the first one may be taken before it shows that there is no backend.
        client.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write_all(b"example.org\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("Try again later."), "{answer}");
        let status = core.count("web", GateCounter::NoBackend, 1).await;
        assert!(status.backends[0].down.is_some());
        assert_all_accounted_for(&status);

        let _one = echo("one", 9000).await;
        assert_eq!(turned(&mut core).await, (backend(9000), None));
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        core.end().unwrap();
    });
}

#[test]
fn b21_connections_that_fail_count_as_failed_checks() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut plan = led_to(&[9001, 9000]);
        plan.health = Some(HealthCheck { every: Duration::from_secs(300), ..CHECK });
        let mut core = Core::start(&[plan]).await;
        let begin = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = connect(CLIENT4, 8443).await;
            assert_echoed_by(&mut client, "one", "hello").await;
            clients.push(client);
        }
        let (address, down) = turned(&mut core).await;
        assert_eq!((address, down.is_some()), (backend(9001), true));
        assert!(begin.elapsed() < Duration::from_secs(5));
        core.end().unwrap();
    });
}

#[test]
fn b21_a_backend_that_resets_resets_its_client() {
    alone(|| async {
        let listener = listen_at(BACKEND, 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let mut client = connect(CLIENT4, 8443).await;
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"welcome").await.unwrap();
        client.read_exact(&mut [0; 7]).await.unwrap();
        server.set_zero_linger().unwrap();
        drop(server);
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_all_accounted_for(&core.count("web", GateCounter::BackendBroke, 1).await);
        core.end().unwrap();
    });
}

#[test]
fn b21_backends_are_told_whose_connection_it_is() {
    alone(|| async {
        for (version, from, to) in [
            (ProxyVersion::V1, CLIENT4, GATE4),
            (ProxyVersion::V2, CLIENT4, GATE4),
            (ProxyVersion::V2, CLIENT6, GATE6),
        ] {
            let listener = listen_at(BACKEND, 9000).await;
            let mut plan = gate("web", 8443);
            plan.pools[0].backends =
                vec![Backend { address: backend(9000), weight: 1, proxy_protocol: Some(version) }];
            let core = Core::start(&[plan]).await;
            let mut client = connect(from, 8443).await;
            let source = client.local_addr().unwrap();
            client.write_all(b"hello").await.unwrap();
            client.shutdown().await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            let destination = (address(to), 8443).into();
            let Ok(Parsed::Complete { header, bytes }) = proxy_protocol::parse(&all) else {
                panic!("no header: {all:?}");
            };
            assert_eq!(header, Some(Header { source, destination }));
            assert_eq!(&all[bytes..], b"hello");
            core.end().unwrap();
        }
    });
}

#[test]
fn an_idle_connection_ends() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut plan = gate("web", 8443);
        plan.idle = Duration::from_millis(200);
        let mut core = Core::start(&[plan]).await;
        let mut client = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut client, "one", "hello").await;
        assert_closed(&mut client).await;
        assert_all_accounted_for(&core.count("web", GateCounter::Idle, 1).await);
        core.end().unwrap();
    });
}
