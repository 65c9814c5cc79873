//! What a refused client gets, and what becomes of it.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::eventually;
use std::io::Read;
use std::time::Duration;

const ASK: &str = "GET /shop?q=1 HTTP/1.1\r\nHost: shop.example.org\r\n\r\n";
const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwelcome";

#[test]
fn b10_a_denied_http_client_is_told_why_and_whom_to_ask() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Page(PAGE));
    let deny = "deny status=403 notice=\"https://www.example.org/why\" contact=\"noc@example.org\"";
    let _daemon = daemon(&scene, &gate(&format!("ports 7001; protocol http; {deny}")));
    let _open = scene.open_port(CLIENT, 7001);
    let answer = scene.talk(CLIENT, GATE, ASK);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    for told in ["7001", "https://www.example.org/why", "noc@example.org", CLIENT] {
        assert!(answer.contains(told), "{told}: {answer}");
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let length = format!("content-length: {}", body.len());
    assert!(head.to_ascii_lowercase().contains(&length), "{head}");
    assert_eq!(scene.talk(OTHER, GATE, ASK), PAGE);
    assert_eq!(backend.count(), 1);
}

#[test]
fn b10_without_a_word_of_the_policy_http_gets_403() {
    let scene = Scene::new();
    let _daemon = daemon(&scene, &gate("ports 7001; protocol http"));
    let _open = scene.open_port(CLIENT, 7001);
    let answer = scene.talk(CLIENT, GATE, ASK);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("7001"), "{answer}");
    // Who speaks something else, or nothing, is closed within a bound all the same.
    assert!(!scene.talk(CLIENT, GATE, "\x16\x03\x01\x02").contains("200"));
}

#[test]
fn b10_http_is_closed_in_silence_where_the_policy_says_so() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Page(PAGE));
    let _daemon = daemon(&scene, &gate("ports 7001; protocol http; deny close"));
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, ASK), "");
    assert_eq!(backend.count(), 0);
}

#[test]
fn b10_other_protocols_get_a_clean_close() {
    let scene = Scene::new();
    let _daemon = daemon(&scene, &gate("ports 7001"));
    let _open = scene.open_port(CLIENT, 7001);
    let mut stream = scene.connect(CLIENT, GATE);
    // An end, not a reset: nothing was said that nobody heard.
    assert_eq!(stream.read(&mut [0]).expect("a clean end"), 0);
}

#[test]
fn b19_who_has_an_open_port_is_banned_for_a_time() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001; on-open block=\"1h\""));
    let open = scene.open_port(CLIENT, 7001);
    assert!(scene.pings(CLIENT));
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    eventually("the client is banned", SOON, || set_elements(&daemon, "bans4").contains_key(CLIENT));
    assert_eq!(set_elements(&daemon, "bans4")[CLIENT], Some(3600));
    assert!(!scene.pings(CLIENT) && scene.pings(OTHER));
    assert!(scene.try_connect(CLIENT, GATE, Duration::from_secs(2)).is_err(), "it still gets in");
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello");
    let blocks = daemon.blocks();
    let reason = &blocks[0]["reason"];
    assert_eq!(
        (&reason["kind"], &reason["gate"], &reason["port"]),
        (&"gate".into(), &"shop".into(), &7001.into())
    );

    // Whoever lifts it by hand also says that the client be looked at again.
    drop(open);
    daemon.ask(&["unblock", CLIENT]);
    daemon.ask(&["gate", "forget", CLIENT]);
    heard(&daemon, "shop");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
}

#[test]
fn b18_a_ban_leaves_no_silence_behind_that_passes_for_clean() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon =
        daemon(&scene, &gate("ports 7001; timeout \"2s\"; budget in-flight=64 per-second=50 then=refuse"));
    scene.silence(CLIENT);
    let waiting = scene.connect(CLIENT, GATE);
    wait_told(&daemon, "shop", "the client is looked at", |told| told["waiting"] == 1);
    // Its answers would be dropped from here on, as those of an open port would be.
    daemon.ask(&["block", CLIENT, "--for", "1h"]);
    daemon.ask(&["unblock", CLIENT]);
    drop(waiting);
    wait_told(&daemon, "shop", "the look has ended", |told| {
        counter(told, "banned") == 1 && told["waiting"] == 0
    });
    heard(&daemon, "shop");
    assert!(!verdicts(&daemon).contains_key(CLIENT), "{:?}", verdicts(&daemon));
    assert!(backend.visits().is_empty());
}

#[test]
fn b19_bans_are_off_unless_the_policy_asks() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &gate("ports 7001"));
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    wait_findings(&daemon, CLIENT);
    assert_eq!(daemon.blocks(), serde_json::json!([]));
    assert!(scene.pings(CLIENT));
}

#[test]
fn b19_ipv6_clients_are_banned_too() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &gate("ports 7001; on-open block=\"2h\""));
    let _open = scene.open_port(CLIENT_V6, 7001);
    assert_eq!(scene.talk(CLIENT_V6, GATE, "hello"), "");
    eventually("the client is banned", SOON, || daemon.blocks().to_string().contains("2001:db8:1::"));
    assert!(!scene.pings(CLIENT_V6));
}
