//! Plain TCP and HTTP: what passes through a gate, and how faithfully.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[test]
fn b11_tcp_passes_both_ways_and_half_closes() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Named("backend: "));
    let daemon = daemon(&scene, &gate("ports 7001"));
    let mut stream = scene.connect(CLIENT, GATE);
    let mut greeting = [0; 9];
    // The backend speaks first, as mail servers do.
    stream.read_exact(&mut greeting).expect("the greeting passes");
    assert_eq!(&greeting, b"backend: ");
    let text: Vec<u8> = (0..4 << 20).map(|n: u32| (n % 251) as u8).collect();
    let said = text.clone();
    let mut back = stream.try_clone().expect("a socket can be duplicated");
    let speaker = std::thread::spawn(move || {
        stream.write_all(&said).expect("the gate takes it");
        stream.shutdown(Shutdown::Write).expect("one side can end");
    });
    let mut heard = Vec::new();
    back.read_to_end(&mut heard).expect("the backend's end passes");
    speaker.join().expect("the speaker does not panic");
    assert!(heard == text, "{} of {} bytes came back, or others", heard.len(), text.len());
    assert!(backend.visits()[0].said == text);
    let told = wait_told(&daemon, "shop", "bytes are counted", |told| {
        told["bytes_to_backends"] == text.len() && told["bytes_to_clients"] == text.len() + 9
    });
    assert_eq!(told["protocol"], "tcp");
}

#[test]
fn b11_a_reset_of_the_backend_reaches_the_client() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Reset);
    let _daemon = daemon(&scene, &gate("ports 7001"));
    let mut stream = scene.connect(CLIENT, GATE);
    stream.write_all(b"hello").expect("the gate takes it");
    let end = stream.read(&mut [0]).expect_err("no clean end");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn b11_a_reset_of_the_client_reaches_the_backend() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001"));
    let mut stream = scene.connect(CLIENT, GATE);
    stream.write_all(b"hello").expect("the gate takes it");
    stream.read_exact(&mut [0; 5]).expect("it is relayed");
    wait_told(&daemon, "shop", "it is relayed", |told| told["relaying"] == 1);
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket option");
    drop(stream);
    wait_told(&daemon, "shop", "its end is seen", |told| told["relaying"] == 0);
    let there = || scene.inside.stdout(["ss", "-Htn", "state", "established", "sport", "=", ":9000"]);
    glacis_tests::daemon::eventually("the backend's side is gone", SOON, || there().trim().is_empty());
}

#[test]
fn b11_relayed_connections_outlive_a_reload_and_the_gates_end() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001"));
    let mut stream = scene.connect(CLIENT, GATE);
    let mut passes = || {
        stream.write_all(b"x").expect("the gate takes it");
        stream.read_exact(&mut [0]).expect("it comes back");
    };
    passes();
    apply(&daemon, &gate("ports 7002; mode detect; protocol http"), "shop");
    passes();
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello");
    assert_eq!(scene.syns(OTHER).into_keys().collect::<Vec<_>>(), [7002], "new settings are for the next");
    apply(&daemon, &gate_at("till", SECOND_GATE, &(plain() + "ports 7001")), "till");
    passes();
    assert!(
        scene.try_connect(OTHER, GATE, Duration::from_secs(2)).is_err(),
        "a gate that is no more lets in"
    );
}

#[test]
fn b11_a_relayed_connection_without_a_byte_ends_in_time() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001; idle \"10s\""));
    let mut stream = scene.connect(CLIENT, GATE);
    let began = Instant::now();
    let end = stream.read(&mut [0]);
    assert!(matches!(&end, Ok(0) | Err(_)) && began.elapsed() >= Duration::from_secs(9), "{end:?}");
    assert_eq!(counter(&wait_accepted(&daemon, "shop", 1), "idle"), 1);
}

#[test]
fn b11_http_passes_and_is_counted() {
    let scene = Scene::new();
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome";
    let backend = Backend::start(&scene, BACKENDS[0], Service::Page(page));
    let daemon = daemon(&scene, &gate("ports 7001; protocol http"));
    let ask = "POST /x HTTP/1.1\r\nHost: shop.example.org\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(scene.talk(CLIENT, GATE, ask), page);
    assert_eq!(backend.visits()[0].said, ask.as_bytes());
    assert_eq!(wait_accepted(&daemon, "shop", 1)["protocol"], "http");
}

#[test]
fn b12_detecting_admits_http_too() {
    let scene = Scene::new();
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome";
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Page(page));
    let daemon = daemon(&scene, &gate("ports 7001; protocol http; mode detect"));
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), page);
    assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
}
