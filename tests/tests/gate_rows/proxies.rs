//! `prove proxy`: real proxies are told from servers that are none, by what they carry.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::programs::{PORT, Program, Running};
use crate::scene::*;

/// A gate where only proxies are refused.
fn proving(port: u16, more: &str) -> String {
    gate_at("shop", port, &format!("{} ports {PORT}; prove proxy; timeout \"5s\"; {more}", plain()))
}

/// Refused because of what it carries.
fn denied(program: Program, port: u16, outcomes: &[&str]) {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &proving(port, ""));
    let _program = Running::start(&scene, program, CLIENT);
    assert_eq!(scene.talk(CLIENT, port, "hello"), "", "{program:?} is not taken for a proxy");
    let found = &wait_findings(&daemon, CLIENT)[&PORT];
    assert!(outcomes.contains(&found.as_str()), "{program:?}: {found}");
    // Whom the proxy serves is no worse for it, and nobody at the backend heard of the proof.
    assert_eq!(scene.talk(OTHER, port, "hello"), "hello");
    let visits = backend.visits();
    assert!(visits.len() == 1 && visits[0].said == b"hello", "{visits:?}");
}

/// Admitted although something listens.
fn admitted(program: Program) {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &proving(GATE, ""));
    let _program = Running::start(&scene, program, CLIENT);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello", "{program:?} is taken for a proxy");
    assert_eq!(wait_findings(&daemon, CLIENT)[&PORT], "service");

    // Where any open port counts, it is refused, and what was found before is enough for that.
    let before = scene.syns(CLIENT);
    apply(&daemon, &proving(GATE, "").replace("prove proxy", "prove open"), "shop");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(scene.syns(CLIENT), before);
}

#[test]
fn b07_tinyproxy_is_a_proxy() {
    denied(Program::Tinyproxy, GATE, &["http-proxy"]);
}

#[test]
fn b07_squid_is_a_proxy_by_the_method_that_its_rules_allow() {
    // Shipped rules: `CONNECT` to 443 alone, other methods to ports above 1024.
    denied(Program::Squid, 443, &["http-proxy"]);
    denied(Program::Squid, GATE, &["http-proxy"]);
}

#[test]
fn b07_danted_is_a_proxy() {
    denied(Program::Danted, GATE, &["socks4-proxy", "socks5-proxy"]);
}

#[test]
fn b07_danted_with_socks_4_alone_is_a_proxy() {
    denied(Program::DantedFour, GATE, &["socks4-proxy"]);
}

#[test]
fn b07_microsocks_is_a_proxy() {
    denied(Program::Microsocks, GATE, &["socks5-proxy"]);
}

#[test]
fn b07_nginx_is_no_proxy() {
    admitted(Program::Nginx);
}

#[test]
fn b07_sshd_is_no_proxy() {
    admitted(Program::Sshd);
}

#[test]
fn b07_a_port_that_accepts_and_says_nothing_is_no_proxy() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &proving(GATE, "").replace("5s", "1s"));
    let _open = scene.open_port(CLIENT, PORT);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert_eq!(wait_findings(&daemon, CLIENT)[&PORT], "service");
}

#[test]
fn b07_a_proxy_elsewhere_on_the_way_out_proves_as_much() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &proving(GATE, ""));
    // It listens at one address, and its connections leave from the first one of the device.
    let _program = Running::start(&scene, Program::Microsocks, OTHER);
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "");
    assert_eq!(wait_findings(&daemon, OTHER)[&PORT], "socks5-proxy");
    // Who carried the proof is a client like any other, and has no proxy at the port.
    assert!(findings(&daemon, CLIENT).values().all(|outcome| outcome == "refused"));
}
