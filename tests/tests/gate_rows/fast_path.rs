//! Admitted clients take the kernel's path: their next connections are not the worker's.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::{Daemon, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const CLIENTS4: &str = "gate_shop_clients4";
const CLIENTS6: &str = "gate_shop_clients6";

fn fast(more: &str) -> String {
    let nodes = format!("backend \"{}\"; ports 7001; health #false; {more}", BACKENDS[0]);
    gate_at("shop", GATE, &nodes)
}

/// A first connection by way of the worker; the kernel knows the client after it.
fn introduced(scene: &Scene, daemon: &Daemon, client: &str) {
    assert_eq!(scene.talk(client, GATE, "hello"), "hello");
    let set = if client.contains(':') { CLIENTS6 } else { CLIENTS4 };
    eventually("the kernel admits the client", SOON, || set_elements(daemon, set).contains_key(client));
}

/// Connections that came to the worker, and those that the kernel led.
fn ways(told: &serde_json::Value) -> (u64, u64) {
    (counter(told, "accepted"), told["fast_path"]["connections"].as_u64().expect("it is counted"))
}

fn wait_ways(daemon: &Daemon, worker: u64, kernel: u64) -> serde_json::Value {
    let what = format!("{worker} connections by the worker and {kernel} by the kernel");
    wait_told(daemon, "shop", &what, |told| ways(told) == (worker, kernel))
}

/// An open connection through which a byte passes both ways.
fn open_connection(scene: &Scene, client: &str) -> TcpStream {
    let mut stream = scene.connect(client, GATE);
    assert!(passes(&mut stream), "{client} is not served");
    stream
}

fn passes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout can be set");
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn b20_the_second_connection_goes_by_the_kernel() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fast(""));
    introduced(&scene, &daemon, CLIENT);
    let timeout = set_elements(&daemon, CLIENTS4)[CLIENT].expect("it ends with the verdict");
    assert!((86_000..=86_400).contains(&timeout), "{timeout} s");
    for _ in 0..3 {
        assert_eq!(scene.talk(CLIENT, GATE, "hello again"), "hello again");
    }
    let told = wait_ways(&daemon, 1, 3);
    assert_eq!(told["fast_path"]["clients"], 1);
    assert!(told["fast_path"]["bytes"].as_u64() > Some(3 * 22), "{told:#}");
    // By way of the worker or of the kernel, the backend sees us.
    let peers: Vec<_> = backend.visits().iter().map(|visit| visit.peer.ip().to_string()).collect();
    assert_eq!(peers, [FIREWALL_INSIDE; 4]);
}

#[test]
fn b20_ipv6_clients_go_by_the_kernel_too() {
    let scene = Scene::new();
    let _backends = [
        Backend::start(&scene, BACKENDS[0], Service::Echo),
        Backend::start(&scene, BACKEND_V6, Service::Echo),
    ];
    let policy = fast("").replace("ports", &format!("backend \"{BACKEND_V6}\"; ports"));
    let daemon = daemon(&scene, &policy);
    for client in [CLIENT, CLIENT_V6] {
        introduced(&scene, &daemon, client);
    }
    for client in [CLIENT, CLIENT_V6] {
        assert_eq!(scene.talk(client, GATE, "hello again"), "hello again");
    }
    wait_ways(&daemon, 2, 2);
}

#[test]
fn b20_the_backend_sees_the_client_where_the_policy_says_so() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fast("fast-path #true source=client"));
    introduced(&scene, &daemon, CLIENT);
    assert_eq!(scene.talk(CLIENT, GATE, "hello again"), "hello again");
    wait_ways(&daemon, 1, 1);
    assert_eq!(backend.visits()[1].peer.ip().to_string(), CLIENT);
}

#[test]
fn b20_refused_clients_and_those_who_were_not_looked_at_never_go_by_the_kernel() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fast("ignore \"203.0.113.68\""));
    let _open = scene.open_port(CLIENT, 7001);
    for _ in 0..3 {
        assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    }
    introduced(&scene, &daemon, OTHER);
    assert!(!set_elements(&daemon, CLIENTS4).contains_key(CLIENT));
    assert_eq!(backend.count(), 1);
}

#[test]
fn b20_a_ban_ends_it() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fast(""));
    introduced(&scene, &daemon, CLIENT);
    introduced(&scene, &daemon, OTHER);
    daemon.ask(&["block", CLIENT, "--for", "1h"]);
    assert!(scene.try_connect(CLIENT, GATE, Duration::from_secs(2)).is_err(), "a banned client gets in");
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello");
    assert_eq!(backend.count(), 3);

    // When it is over, the client gets its way back.
    assert!(!set_elements(&daemon, CLIENTS4).contains_key(CLIENT));
    daemon.ask(&["unblock", CLIENT]);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    eventually("the kernel leads it again", SOON, || set_elements(&daemon, CLIENTS4).contains_key(CLIENT));
}

#[test]
fn b20_who_is_forgotten_goes_by_the_worker_again_and_is_looked_at() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &fast(""));
    introduced(&scene, &daemon, CLIENT);
    daemon.ask(&["gate", "forget", CLIENT]);
    heard(&daemon, "shop");
    eventually("the kernel forgets", SOON, || set_elements(&daemon, CLIENTS4).is_empty());
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    wait_ways(&daemon, 2, 0);
}

#[test]
fn b20_established_connections_keep_their_path_or_lose_it_as_the_policy_says() {
    for (established, goes_on) in [("keep", true), ("drop", false)] {
        let scene = Scene::new();
        let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
        let daemon = daemon(&scene, &fast(&format!("fast-path #true established={established}")));
        introduced(&scene, &daemon, CLIENT);
        let mut stream = open_connection(&scene, CLIENT);
        wait_ways(&daemon, 1, 1);
        daemon.ask(&["gate", "forget", CLIENT]);
        heard(&daemon, "shop");
        eventually("the kernel forgets", SOON, || set_elements(&daemon, CLIENTS4).is_empty());
        assert_eq!(passes(&mut stream), goes_on, "{established}");
    }
}

#[test]
fn b20_reload_and_restart_keep_clients_and_connections() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let mut daemon = daemon(&scene, &fast(""));
    introduced(&scene, &daemon, CLIENT);
    let mut stream = open_connection(&scene, CLIENT);

    apply(&daemon, &(fast("") + "set unused { entry \"192.0.2.1\" }\n"), "shop");
    assert!(passes(&mut stream), "a reload cuts connections");
    assert!(set_elements(&daemon, CLIENTS4).contains_key(CLIENT), "a reload forgets clients");

    std::thread::sleep(ON_DISK);
    daemon.kill();
    assert!(passes(&mut stream), "connections need the daemon");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello", "admitted clients need the daemon");
    daemon.run();
    serving(&scene, &daemon);
    assert!(passes(&mut stream), "a restart cuts connections");
    eventually("the kernel admits it", SOON, || set_elements(&daemon, CLIENTS4).contains_key(CLIENT));
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    // Workers tell once a second.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(counter(&told(&daemon, "shop"), "accepted"), 0, "it came to the new worker");
}

#[test]
fn b20_while_a_backend_is_down_connections_come_back_to_the_worker() {
    let scene = Scene::new();
    let [first, second, _] = BACKENDS;
    let down = Backend::start(&scene, first, Service::Named("first"));
    let nodes =
        format!("backend \"{first}\"; ports 7001; health every=\"500ms\" timeout=\"400ms\" fall=2 rise=2");
    let daemon = daemon(&scene, &gate_at("shop", GATE, &nodes));
    introduced_by(&scene, &daemon, "firsthello");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "firsthello");
    wait_ways(&daemon, 1, 1);
    drop(down);
    wait_told(&daemon, "shop", "it is down", |told| told["backends"][0]["down"].is_string());
    eventually("the kernel leads nobody", SOON, || {
        !daemon.nft(&["list", "map", "inet", "glacis", "gate_shop_backends4"]).contains("198.51.100.10")
    });
    // Nobody else is there to lead to: the worker takes it, and lets it go.
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    wait_ways(&daemon, 2, 1);

    // With another one in service, all go there, and by the kernel.
    let _second = Backend::start(&scene, second, Service::Named("secnd"));
    apply(&daemon, &gate_at("shop", GATE, &format!("backend \"{second}\"; {nodes}")), "shop");
    wait_told(&daemon, "shop", "one of two serves", |told| {
        let backends = told["backends"].as_array().cloned().unwrap_or_default();
        backends.iter().filter(|backend| backend["down"].is_null()).count() == 1
    });
    eventually("all are led to the second", SOON, || scene.talk(CLIENT, GATE, "hello") == "secndhello");
}

fn introduced_by(scene: &Scene, daemon: &Daemon, answer: &str) {
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), answer);
    eventually("the kernel admits the client", SOON, || set_elements(daemon, CLIENTS4).contains_key(CLIENT));
}
