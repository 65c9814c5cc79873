//! What an idle relayed connection costs. In a process of its own, so that nothing else is measured.

#[path = "worker/harness.rs"]
#[expect(dead_code, reason = "this file needs a part of it")]
mod harness;

use harness::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Fewer where the limit of open files is lower.
const CONNECTIONS_MAX: usize = 10_000;
/// Of one connection: the client's, the gate's two and the backend's.
const DESCRIPTORS: usize = 4;
/// Of everything else.
const DESCRIPTORS_OTHER: usize = 200;
/// Of ours, for each connection.
const BYTES_MAX: usize = 8 << 10;

/// Resident memory of this process, in bytes. Its own part in the connections are their descriptors, in vectors that
/// are there before.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("it is a number");
    kibibytes << 10
}

fn connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let possible = files.map_or(usize::MAX, |files| files as usize - DESCRIPTORS_OTHER) / DESCRIPTORS;
    possible.min(CONNECTIONS_MAX)
}

/// Greets everybody and listens to nobody.
fn greeter(connections: usize) -> std::thread::JoinHandle<Vec<TcpStream>> {
    let listener = TcpListener::bind((address(BACKEND), 9000)).expect("the port is free");
    let mut taken = vec![];
    taken.reserve_exact(connections);
    std::thread::spawn(move || {
        while taken.len() < connections {
            let (mut stream, _) = listener.accept().expect("a backend can accept");
            stream.write_all(b"welcome").expect("there is room");
            taken.push(stream);
        }
        taken
    })
}

#[test]
fn an_idle_connection_costs_at_most_eight_kibibytes() {
    alone(|| async {
        let connections = connections();
        let backend = greeter(connections);
        let mut plan = gate("web", 8443);
        plan.ignore = vec!["203.0.113.0/24".parse().unwrap()];
        let mut core = Core::start(&[plan]).await;
        let mut clients = Vec::with_capacity(connections);
        core.status_with("web", |_| true).await;
        let before = resident();
        let clients = std::thread::spawn(move || {
            let gate = SocketAddr::from((address(CLIENT4), 8443));
            for _ in 0..connections {
                let mut client = TcpStream::connect(gate).expect("the gate is there");
                client.write_all(b"hello").expect("there is room");
                client.read_exact(&mut [0; 7]).expect("the backend greets");
                clients.push(client);
            }
            clients
        });
        let relaying = connections as u64;
        core.status_with("web", |status| status.relaying == relaying).await;
        let each = (resident() - before) / connections;
        println!("{each} bytes for each of {connections} idle connections");
        assert!(each <= BYTES_MAX, "{each} bytes");
        drop((clients.join(), backend.join()));
        core.status_with("web", |status| status.relaying == 0).await;
        core.end().unwrap();
    });
}
