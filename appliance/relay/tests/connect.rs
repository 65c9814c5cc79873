//! Connections to servers.

mod rig;

use glacis_relay::{Settings, Tally, connect, connect_to_speak, relay, take_said};
use rig::{pair, runtime, tokio_stream};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_port_without_a_server_refuses() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    runtime().block_on(async {
        assert_eq!(connect(free).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(connect_to_speak(free).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"220 hello\r\n").unwrap());
    let (mut visitor, client) = pair();
    let relaying = thread::spawn(move || {
        runtime().block_on(async {
            let server = connect(address).await.unwrap();
            relay(tokio_stream(client), server, &Settings::default(), Vec::new(), &Tally::new()).await
        });
    });
    let mut greeting = [0; 11];
    visitor.read_exact(&mut greeting).unwrap();
    drop(visitor);
    server.join().unwrap();
    relaying.join().unwrap();
}

#[test]
fn what_a_client_said_before_travels_with_the_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (mut visitor, client) = pair();
    visitor.write_all(b"ping").unwrap();
    thread::sleep(Duration::from_millis(20));
    let relaying = thread::spawn(move || {
        runtime().block_on(async {
            let client = tokio_stream(client);
            let mut first = b"header ".to_vec();
            take_said(&client, &mut first).unwrap();
            assert_eq!(first, b"header ping");
            let server = connect_to_speak(address).await.unwrap();
            relay(client, server, &Settings::default(), first, &Tally::new()).await
        })
    });
    let start = Instant::now();
    let (mut server, _) = listener.accept().unwrap();
    let mut said = [0; 11];
    server.read_exact(&mut said).unwrap();
    // Below what the kernel waits before it acknowledges without data.
    assert!(start.elapsed() < Duration::from_secs(1));
    server.write_all(b"pong").unwrap();
    drop(server);
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pong");
    drop(visitor);
    assert_eq!(relaying.join().unwrap().to_server, 11);
}

#[test]
fn a_client_that_said_nothing_is_not_waited_for() {
    let (_visitor, client) = pair();
    runtime().block_on(async {
        let mut first = Vec::new();
        take_said(&tokio_stream(client), &mut first).unwrap();
        assert!(first.is_empty());
    });
}

#[test]
fn a_client_that_was_reset_is_told() {
    let (visitor, client) = pair();
    rig::reset(visitor);
    thread::sleep(Duration::from_millis(20));
    runtime().block_on(async {
        let mut first = Vec::new();
        let error = take_said(&tokio_stream(client), &mut first).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}
