//! PROXY headers, on the way in and on the way out; backends that come and go.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A gate whose backend wants a PROXY header.
fn headed(version: u8, backend: &str) -> String {
    let nodes = format!("backend \"{backend}\" proxy-protocol={version}; health #false; ports 7001");
    gate_at("shop", GATE, &nodes)
}

/// A header of version 2 for a TCP connection.
fn version_2(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let addresses: Vec<u8> = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("a connection is of one family"),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let family = if from.is_ipv4() { 0x11 } else { 0x21 };
    let length = u16::try_from(addresses.len() + ports.len()).expect("36 at the most").to_be_bytes();
    [&SIGNATURE[..], &[0x21, family], &length, &addresses, &ports].concat()
}

#[test]
fn b21_version_1_tells_the_backend_who_the_client_is() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let _daemon = daemon(&scene, &headed(1, BACKENDS[0]));
    for (client, family) in [(CLIENT, "TCP4"), (CLIENT_V6, "TCP6")] {
        let stream = scene.connect(client, GATE);
        let port = stream.local_addr().expect("it is connected").port();
        let to = firewall(client, GATE).ip();
        converse(stream, b"hello");
        let said = backend.visits().pop().expect("it came").said;
        let expected = format!("PROXY {family} {client} {to} {port} {GATE}\r\nhello");
        assert_eq!(String::from_utf8_lossy(&said), expected);
    }
}

#[test]
fn b21_version_2_tells_the_backend_who_the_client_is() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let _daemon = daemon(&scene, &headed(2, BACKENDS[0]));
    for client in [CLIENT, CLIENT_V6] {
        let stream = scene.connect(client, GATE);
        let from = stream.local_addr().expect("it is connected");
        converse(stream, b"hello");
        let said = backend.visits().pop().expect("it came").said;
        assert_eq!(said, [version_2(from, firewall(client, GATE)), b"hello".to_vec()].concat());
    }
}

/// A gate behind [`FRONT`].
fn fronted(more: &str) -> String {
    gate(&format!("ports 7001; accept-proxy from=\"{FRONT}\"; {more}"))
}

fn headers(client: &str) -> [Vec<u8>; 2] {
    let (from, to) = (SocketAddr::new(address(client), 40_000), firewall(client, 443));
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let first = format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
    [first.into_bytes(), version_2(from, to)]
}

#[test]
fn b21_the_client_that_a_front_names_is_the_one_judged() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fronted(""));
    // The front has open ports, as proxies do; so has one of its clients.
    let _front = scene.open_port(FRONT, 7001);
    let _open = [scene.open_port(CLIENT, 7001), scene.open_port(CLIENT_V6, 7001)];
    for (client, answer) in [(CLIENT, &b""[..]), (CLIENT_V6, b""), (OTHER, b"hello"), (OTHER_V6, b"hello")] {
        for header in headers(client) {
            let heard = converse(scene.connect(FRONT, GATE), &[header, b"hello".to_vec()].concat());
            assert_eq!(heard, answer, "{client}");
        }
    }
    assert!(scene.syns(FRONT).is_empty(), "the front is looked at");
    let known: Vec<_> = verdicts(&daemon).into_keys().collect();
    assert_eq!(known, [CLIENT_V6, OTHER_V6, CLIENT, OTHER]);
    let visits = backend.visits();
    assert!(visits.len() == 4 && visits.iter().all(|visit| visit.said == b"hello"), "{visits:?}");
}

#[test]
fn b21_a_header_in_pieces_is_one_header() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let _daemon = daemon(&scene, &fronted(""));
    for header in headers(OTHER) {
        let mut stream = scene.connect(FRONT, GATE);
        stream.set_nodelay(true).expect("a socket option");
        for byte in header {
            stream.write_all(&[byte]).expect("the gate reads");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(converse(stream, b"hello"), b"hello");
    }
}

#[test]
fn b21_nobody_but_a_front_gets_in_whatever_he_says() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fronted(""));
    let error = scene.try_connect(CLIENT, GATE, Duration::from_secs(2)).expect_err("a stranger gets in");
    assert_ne!(error.kind(), std::io::ErrorKind::ConnectionRefused, "the zone's default is to drop");
    assert_eq!(backend.count(), 0);
    assert!(verdicts(&daemon).is_empty());
}

#[test]
fn load_what_a_front_says_wrongly_is_refused_and_disturbs_nobody() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fronted(""));
    let pid = worker_pid(&daemon);
    let [first, second] = headers(OTHER);
    let mut wrong: Vec<Vec<u8>> = vec![
        b"hello\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PROXY TCP4 999.0.113.67 203.0.113.1 40000 443\r\nhello".to_vec(),
        b"PROXY TCP4 203.0.113.67 203.0.113.1 40000\r\nhello".to_vec(),
        b"PROXY TCP6 203.0.113.67 203.0.113.1 40000 443\r\nhello".to_vec(),
        vec![b'P'; 4096],
        [&b"PROXY TCP4 "[..], &[b' '; 200]].concat(),
    ];
    wrong.extend((0..SIGNATURE.len()).map(|at| second[..at].to_vec()));
    wrong.push([&second[..14], &[0xff, 0xff], &second[16..]].concat());
    wrong.push([&first[..first.len() - 2], b"hello"].concat());
    for bytes in &wrong {
        let heard = converse(scene.connect(FRONT, GATE), bytes);
        assert_eq!(heard, b"", "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(backend.count(), 0, "{:?}", backend.visits());
    assert_eq!(converse(scene.connect(FRONT, GATE), &[first, b"hello".to_vec()].concat()), b"hello");
    assert_eq!(worker_pid(&daemon), pid, "the worker died of it");
    wait_accepted(&daemon, "shop", wrong.len() as u64 + 1);
}

#[test]
fn load_a_front_that_says_nothing_is_not_waited_for_without_end() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fronted(""));
    let mut silent = scene.connect(FRONT, GATE);
    let mut halting = scene.connect(FRONT, GATE);
    halting.write_all(b"PROXY TCP4 203.0.113.67 ").expect("the gate reads");
    for stream in [&mut silent, &mut halting] {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it is led on");
    }
    assert_eq!(counter(&wait_accepted(&daemon, "shop", 2), "header-silent"), 2);
    assert_eq!(backend.count(), 0);
}

#[test]
fn load_a_forged_header_to_a_gate_without_fronts_is_nothing_but_payload() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001"));
    let _open = scene.open_port(CLIENT, 7001);
    let forged = headers(OTHER);
    for header in &forged {
        assert_eq!(converse(scene.connect(CLIENT, GATE), header), b"", "the header is believed");
        assert_eq!(&converse(scene.connect(THIRD, GATE), header), header);
    }
    assert!(scene.syns(OTHER).is_empty() && findings(&daemon, OTHER).is_empty());
    assert_eq!(backend.visits().into_iter().map(|visit| visit.said).collect::<Vec<_>>(), forged);
}

/// A connection that stays, and which of the named backends has it.
fn guest(scene: &Scene) -> (TcpStream, String) {
    let mut stream = scene.connect(CLIENT, GATE);
    let mut name = [0; 5];
    let answer = match stream.read_exact(&mut name) {
        Ok(()) => String::from_utf8_lossy(&name).into_owned(),
        Err(_) => String::new(),
    };
    (stream, answer)
}

fn answered(scene: &Scene) -> String {
    guest(scene).1
}

const HEALTH: &str = "health every=\"500ms\" timeout=\"400ms\" fall=2 rise=2;";

#[test]
fn b21_connections_are_balanced_by_weight() {
    let scene = Scene::new();
    let [first, second, _] = BACKENDS;
    let _backends = [
        Backend::start(&scene, first, Service::Named("first")),
        Backend::start(&scene, second, Service::Named("secnd")),
    ];
    let nodes = format!(
        "backend \"{first}\" weight=3; backend \"{second}\"; health #false; fast-path #false; ports 7001"
    );
    let daemon = daemon(&scene, &gate_at("shop", GATE, &nodes));
    // Who leaves may still count as busy when the next one comes, so all stay.
    let guests: Vec<_> = (0..80).map(|_| guest(&scene)).collect();
    let of = |name: &str| guests.iter().filter(|(_, answer)| answer == name).count();
    assert_eq!((of("first"), of("secnd")), (60, 20));
    let told = wait_told(&daemon, "shop", "all are relayed", |told| told["relaying"] == 80);
    let backends = told["backends"].as_array().expect("a list").iter();
    let busy: Vec<_> = backends.map(|b| (b["relaying"].as_u64(), b["connections"].as_u64())).collect();
    assert_eq!(busy, [(Some(60), Some(60)), (Some(20), Some(20))]);
    drop(guests);
    wait_accepted(&daemon, "shop", 80);
}

#[test]
fn b21_a_backend_that_is_down_is_left_out_until_it_is_up_again() {
    let scene = Scene::new();
    let [first, second, _] = BACKENDS;
    let down = Backend::start(&scene, first, Service::Named("first"));
    let _second = Backend::start(&scene, second, Service::Named("secnd"));
    let nodes = format!("backend \"{first}\"; backend \"{second}\"; {HEALTH} fast-path #false; ports 7001");
    let daemon = daemon(&scene, &gate_at("shop", GATE, &nodes));
    let state = |told: &serde_json::Value| told["backends"][0]["down"].clone();
    wait_told(&daemon, "shop", "both serve", |told| state(told).is_null());
    drop(down);
    wait_told(&daemon, "shop", "one is down", |told| state(told).is_string());
    wait_event(&daemon, &["shop", first, "out of service"]);
    for _ in 0..10 {
        assert_eq!(answered(&scene), "secnd");
    }
    let _again = Backend::start(&scene, first, Service::Named("first"));
    wait_told(&daemon, "shop", "both serve again", |told| state(told).is_null());
    wait_event(&daemon, &["shop", first, "serves again"]);
    let answers: Vec<_> = (0..10).map(|_| answered(&scene)).collect();
    assert!(answers.iter().any(|answer| answer == "first"), "{answers:?}");
}

#[test]
fn b21_a_backend_that_fails_before_anyone_noticed_costs_no_connection() {
    let scene = Scene::new();
    let [first, second, _] = BACKENDS;
    let _second = Backend::start(&scene, second, Service::Named("secnd"));
    // Nobody listens at the first, and nobody checks.
    let nodes =
        format!("backend \"{first}\"; backend \"{second}\"; health #false; fast-path #false; ports 7001");
    let _daemon = daemon(&scene, &gate_at("shop", GATE, &nodes));
    for _ in 0..10 {
        assert_eq!(answered(&scene), "secnd");
    }
}
