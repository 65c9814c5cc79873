//! TLS passed through, led by the name that the client asks for.

use crate::harness::*;
use glacis_gate::GateCounter;
use glacis_plan::GatePlan;
use glacis_plan::gate::{GateProtocol, NameRoute};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn routed() -> GatePlan {
    let mut plan = gate("web", 8443);
    plan.protocol = GateProtocol::Tls;
    plan.pools = vec![pool(&[9000]), pool(&[9001])];
    plan.routes = vec![NameRoute { names: vec!["*.example.org".to_owned()], pool: 1 }];
    plan
}

/// The first message of a client (RFC 8446 section 4.1.2) that asks for a name.
fn hello(name: &str) -> Vec<u8> {
    let block = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let entry = [&[0][..], &block(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &block(&block(&entry))].concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&block(&[0x13, 1]));
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&block(&extension));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &block(&message)].concat()
}

async fn assert_led(client: &mut TcpStream, backend: &str, sent: &[u8]) {
    let mut answer = vec![0; backend.len() + 1 + sent.len()];
    let read = tokio::time::timeout(SOON, client.read_exact(&mut answer)).await.expect("an answer comes");
    read.expect("an answer comes whole");
    assert!(answer.starts_with(backend.as_bytes()) && answer.ends_with(sent), "{answer:?}");
}

#[test]
fn b11_the_name_in_the_hello_leads_to_a_pool() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let _two = echo("two", 9001).await;
        let mut only = routed();
        (only.name, only.port, only.routes_only) = ("only".to_owned(), 8444, true);
        let mut core = Core::start(&[routed(), only]).await;
        for (name, port, backend) in [
            ("www.example.org", 8443, "two"),
            ("WWW.Example.ORG", 8443, "two"),
            ("example.org", 8443, "one"),
            ("www.example.org", 8444, "two"),
        ] {
            let mut client = connect(CLIENT4, port).await;
            client.write_all(&hello(name)).await.unwrap();
            assert_led(&mut client, backend, &hello(name)).await;
        }
        let mut nowhere = connect(CLIENT4, 8444).await;
        nowhere.write_all(&hello("example.org")).await.unwrap();
        assert_closed(&mut nowhere).await;
        assert_all_accounted_for(&core.count("only", GateCounter::NoRoute, 1).await);
        core.end().unwrap();
    });
}

#[test]
fn b11_a_hello_in_twenty_segments_is_understood_and_passed_on_whole() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let _two = echo("two", 9001).await;
        let core = Core::start(&[routed()]).await;
        let sent = hello("deep.down.example.org");
        let mut client = connect(CLIENT4, 8443).await;
        client.set_nodelay(true).unwrap();
        for piece in sent.chunks(sent.len().div_ceil(20)) {
            client.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert_led(&mut client, "two", &sent).await;
        core.end().unwrap();
    });
}

#[test]
fn b11_what_is_no_hello_leads_nowhere() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let mut core = Core::start(&[routed()]).await;
        let mut cut = hello("www.example.org");
        cut.truncate(40);
        let mut twice = hello("www.example.org");
        twice[5] = 2;
        for forged in
            [b"GET / HTTP/1.1\r\n\r\n".to_vec(), twice, cut, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n".to_vec()]
        {
            let mut client = connect(CLIENT4, 8443).await;
            client.write_all(&forged).await.unwrap();
            client.shutdown().await.unwrap();
            assert_gone(&mut client).await;
        }
        let status = core.count("web", GateCounter::HelloWrong, 4).await;
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    alone(|| async {
        let mut core = Core::start(&[routed()]).await;
        let begin = Instant::now();
        let mut silent = connect(CLIENT4, 8443).await;
        let mut slow = connect(CLIENT4, 8443).await;
        slow.write_all(&hello("www.example.org")[..30]).await.unwrap();
        assert_gone(&mut silent).await;
        assert_gone(&mut slow).await;
        assert!(begin.elapsed() >= Duration::from_secs(10));
        assert_all_accounted_for(&core.count("web", GateCounter::HelloSilent, 2).await);
        core.end().unwrap();
    });
}
