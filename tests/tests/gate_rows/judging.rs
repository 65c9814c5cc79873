//! When a verdict comes and what it is, by how a client's ports answer.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::descriptors::Descriptors;
use crate::scene::*;
use std::time::{Duration, Instant};

/// Longer than anything but silence takes here, so who is served before it has not waited for silence.
const PATIENT: &str = "timeout \"10s\";";
const TEN_SECONDS: Duration = Duration::from_secs(10);

#[test]
fn b05_the_first_open_port_decides_while_others_are_silent() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    scene.silence(CLIENT);
    let _open = scene.open_port(CLIENT, 7003);
    let daemon = daemon(&scene, &gate(&format!("ports 7001 7002 7003 7004; {PATIENT}")));
    let began = Instant::now();
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert!(began.elapsed() < TEN_SECONDS, "the verdict waited for silence: {:?}", began.elapsed());
    assert_eq!(wait_findings(&daemon, CLIENT)[&7003], "open");
    assert_eq!(backend.count(), 0);
}

#[test]
fn b05_silent_ports_are_waited_for_together() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    scene.silence(CLIENT);
    let ports = (7001..7061).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(" ");
    let daemon = daemon(&scene, &gate(&format!("ports {ports}; timeout \"1s\"")));
    let began = Instant::now();
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    let took = began.elapsed();
    // One after the other they would take a minute.
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(30), "{took:?}");
    let findings = wait_findings(&daemon, CLIENT);
    assert!(findings.len() == 60 && findings.values().all(|outcome| outcome == "silent"), "{findings:?}");
}

#[test]
fn b06_a_client_that_refuses_everywhere_is_admitted_at_once() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate(PATIENT));
    let began = Instant::now();
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert!(began.elapsed() < TEN_SECONDS, "the verdict waited for the timeout: {:?}", began.elapsed());
    let findings = wait_findings(&daemon, CLIENT);
    assert!(findings.len() == 6 && findings.values().all(|outcome| outcome == "refused"), "{findings:?}");
    assert_eq!(backend.visits()[0].said, b"hello");
}

#[test]
fn b06_icmp_errors_are_told_from_resets_and_silence() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    scene.unreachable(CLIENT);
    scene.silence(OTHER);
    let daemon = daemon(&scene, &gate("ports 7001 7002; timeout \"3s\""));
    let began = Instant::now();
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    let unreachable = began.elapsed();
    for (client, outcome) in [(OTHER, "silent"), (THIRD, "refused"), (CLIENT, "unreachable")] {
        assert_eq!(scene.talk(client, GATE, "hello"), "hello");
        let findings = wait_findings(&daemon, client);
        assert!(findings.len() == 2 && findings.values().all(|o| o == outcome), "{client}: {findings:?}");
    }
    assert!(unreachable < Duration::from_secs(3), "an error was taken for silence: {unreachable:?}");
}

#[test]
fn b07_any_open_port_denies() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let ports: Vec<u16> = vec![7001, 7002, 7003];
    let daemon = daemon(&scene, &gate("ports 7001 7002 7003"));
    for (client, port) in [CLIENT, OTHER, THIRD].into_iter().zip(ports) {
        let _open = scene.open_port(client, port);
        assert_eq!(scene.talk(client, GATE, "hello"), "");
        assert_eq!(wait_findings(&daemon, client)[&port], "open");
    }
    // Open, but at a port that the gate does not look at.
    let _elsewhere = scene.open_port(FRONT, 7004);
    assert_eq!(scene.talk(FRONT, GATE, "hello"), "hello");
    assert_eq!(backend.count(), 1, "a refused client reached the backend");
    let told = wait_accepted(&daemon, "shop", 4);
    assert_eq!(told["relaying"], 0, "{told:#}");
}

#[test]
fn b12_detecting_records_and_admits() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001; mode detect; on-open block=\"1h\""));
    let _open = scene.open_port(CLIENT, 7001);
    for _ in 0..2 {
        assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    }
    assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
    wait_event(&daemon, &[CLIENT, "7001", "admitted all the same"]);
    assert_eq!(daemon.blocks(), serde_json::json!([]), "who only detects blocks nobody");
    assert_eq!(told(&daemon, "shop")["mode"], "detect");
}

#[test]
fn b17_ipv6_clients_are_looked_at() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002"));
    let _open = scene.open_port(CLIENT_V6, 7002);
    assert_eq!(scene.talk(CLIENT_V6, GATE, "hello"), "");
    assert_eq!(scene.talk(OTHER_V6, GATE, "hello"), "hello");
    assert_eq!(wait_findings(&daemon, CLIENT_V6)[&7002], "open");
    let clean = wait_findings(&daemon, OTHER_V6);
    assert!(clean.len() == 2 && clean.values().all(|outcome| outcome == "refused"), "{clean:?}");
    assert_eq!(scene.syns(OTHER_V6).into_keys().collect::<Vec<_>>(), [7001, 7002]);
    assert_eq!(backend.count(), 1);
}

#[test]
fn b17_ipv6_backends_are_led_to() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKEND_V6, Service::Echo);
    let nodes = format!("backend \"{BACKEND_V6}\"; health #false; fast-path #false; ports 7001");
    let _daemon = daemon(&scene, &gate_at("shop", GATE, &nodes));
    for client in [CLIENT_V6, OTHER] {
        assert_eq!(scene.talk(client, GATE, "hello"), "hello");
    }
    assert_eq!(backend.count(), 2);
}

/// The worker's own connections to clients find no way, everybody else's do.
fn cut_off(scene: &Scene, verb: &str) {
    scene.firewall.run([
        "ip",
        "rule",
        verb,
        "uidrange",
        "65531-65531",
        "to",
        "203.0.113.0/24",
        "unreachable",
    ]);
}

#[test]
fn b18_no_way_to_the_client_is_nothing_that_is_known_of_it() {
    for (then, served) in [("admit", "hello"), ("refuse", "")] {
        let scene = Scene::new();
        let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
        let daemon = daemon(&scene, &gate(&format!("ports 7001 7002; budget then={then}")));
        let _open = scene.open_port(CLIENT, 7001);
        cut_off(&scene, "add");
        assert_eq!(scene.talk(CLIENT, GATE, "hello"), served, "then={then}");
        assert!(scene.syns(CLIENT).is_empty(), "there was a way after all");
        wait_accepted(&daemon, "shop", 1);
        assert!(verdicts(&daemon).is_empty(), "an error of ours is remembered: {:?}", verdicts(&daemon));

        cut_off(&scene, "del");
        assert_eq!(scene.talk(CLIENT, GATE, "hello"), "", "the client is not looked at again");
        assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
    }
}

#[test]
fn b18_being_out_of_descriptors_is_nothing_that_is_known_of_a_client() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002 7003; budget then=refuse"));
    let _open = scene.open_port(CLIENT, 7001);
    let worker = worker_pid(&daemon);
    let limit = Descriptors::of(worker);
    // Room for the client's connection and none for the look.
    limit.leave(1);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert!(verdicts(&daemon).is_empty(), "an error of ours is remembered: {:?}", verdicts(&daemon));
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "");
    limit.restore();
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello", "it does not recover");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
    assert_eq!(worker_pid(&daemon), worker, "the worker died of it");
    assert_eq!(backend.count(), 1);
}
