//! Leaving the set of admitted clients: by ban, by time, by hand.

use super::scene::*;
use glacis_plan::closed::{BANS4, BANS6};
use glacis_plan::gate_elements::flow_mark;
use std::io::ErrorKind;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

const KEEP: &str = "fast-path #true established=keep";
const DROP: &str = "fast-path #true established=drop";

#[test]
fn b20_a_ban_ends_what_the_kernel_leads_at_once() {
    let mut scene = Scene::new("ban", &gate(KEEP));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    for (set, client, to) in [(BANS4, CLIENT4, GATE4), (BANS6, CLIENT6, GATE6)] {
        scene.admit(client);
        let mut led = scene.talk(client, to);
        led.echo("before", ANSWER_MAX).unwrap();
        let element = format!("{{ {client} timeout 1h }}");
        scene.router.run(["nft", "add", "element", "inet", "glacis", set.as_str(), &element]);
        assert!(is_silence(&led.echo("after", SILENCE).unwrap_err()));
        assert!(scene.is_shut_out(client, to));
    }
}

#[test]
fn b20_a_client_that_leaves_keeps_its_open_connections_where_the_policy_keeps_them() {
    let mut scene = Scene::new("keep", &gate(KEEP));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    for (client, to) in [(CLIENT4, GATE4), (CLIENT6, GATE6)] {
        scene.admit(client);
        let mut led = scene.talk(client, to);
        assert_eq!(led.who, "backend");
        scene.forget(client);
        led.echo("goes on", ANSWER_MAX).unwrap();
        assert_eq!(scene.answerer(client, to), "worker");
        led.echo("still", ANSWER_MAX).unwrap();
    }
}

#[test]
fn b20_a_client_that_leaves_loses_its_open_connections_where_the_policy_drops_them() {
    let mut scene = Scene::new("drop", &gate(DROP));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let backend = serve(&scene.servers, "[::]:8443", "backend");
    for (client, to) in [(CLIENT4, GATE4), (CLIENT6, GATE6)] {
        scene.admit(client);
        let mut led = scene.talk(client, to);
        led.echo("before", ANSWER_MAX).unwrap();
        assert_eq!(backend.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        led.say("later");
        std::thread::sleep(SILENCE / 4);
        scene.forget(client);
        assert_eq!(
            backend.recv_timeout(ANSWER_MAX),
            Ok(Some(ErrorKind::ConnectionReset)),
            "told by its answer"
        );
        let told = led.echo("after", ANSWER_MAX).unwrap_err().kind();
        assert_eq!(told, ErrorKind::ConnectionReset, "told by its next packet");
        assert_eq!(scene.answerer(client, to), "worker");
    }
    let mark = format!("mark={} ", flow_mark(&scene.gate()));
    let table = scene.router.enter(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
    let led: Vec<&str> = table.lines().filter(|line| line.contains(&mark)).collect();
    assert_eq!(led.len(), 2, "one flow of each family: {table}");
    assert!(led.iter().all(|line| line.contains(" CLOSE ")), "their records end soon: {led:#?}");
    let flows = scene.router.stdout(["nft", "list", "chain", "inet", "glacis", "gate_web_flows"]);
    assert!(flows.contains("goto refuse") && !flows.contains("packets 0 bytes 0 goto"), "{flows}");
}

#[test]
fn b20_an_admission_ends_with_its_time() {
    let mut scene = Scene::new("time", &gate(DROP));
    let _worker = serve(&scene.router, "[::]:443", "worker");
    let _backend = serve(&scene.servers, "[::]:8443", "backend");
    scene.admit_for(CLIENT4, Duration::from_secs(2));
    let mut led = scene.talk(CLIENT4, GATE4);
    led.echo("in time", ANSWER_MAX).unwrap();
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(led.echo("too late", ANSWER_MAX).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
    // A longer time replaces a shorter one, and the other way round.
    scene.admit_for(CLIENT4, Duration::from_secs(600));
    scene.admit_for(CLIENT4, Duration::from_millis(1));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(scene.answerer(CLIENT4, GATE4), "worker");
    scene.admit_for(CLIENT4, Duration::from_secs(600));
    assert_eq!(scene.answerer(CLIENT4, GATE4), "backend");
}
