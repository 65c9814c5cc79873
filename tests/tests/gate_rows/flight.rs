//! One look for many connections, and a bound on all looks together.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::crowd::{Fate, all_at_once};
use crate::scene::*;
use std::iter::repeat_n;

#[test]
fn b09_a_thousand_connections_of_one_new_client_cost_one_look() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    // Connections come while it lasts.
    let daemon = daemon(&scene, &gate("ports 7001 7002 7003; timeout \"500ms\""));
    scene.silence(CLIENT);
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), 1000), GATE, b"hello");
    assert_eq!(fates, [(Fate::Served, 1000)].into());
    assert_eq!(backend.count(), 1000);
    let told = wait_accepted(&daemon, "shop", 1000);
    assert_eq!(counter(&told, "looks"), 1, "{told:#}");
    let looks = told["latency"]["counts"].as_array().expect("a histogram has counts").iter();
    assert_eq!(looks.filter_map(serde_json::Value::as_u64).sum::<u64>(), 1, "{told:#}");
    // A machine that is late lets the kernel knock again at a silent port: SYNs are counted where ports answer, below.
    assert_eq!(scene.syns(CLIENT).into_keys().collect::<Vec<_>>(), [7001, 7002, 7003]);
}

#[test]
fn b09_a_thousand_connections_of_a_client_that_answers_cost_one_syn_a_port() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002 7003"));
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), 1000), GATE, b"hello");
    assert_eq!(fates, [(Fate::Served, 1000)].into());
    assert_eq!(scene.syns(CLIENT).into_iter().collect::<Vec<_>>(), [(7001, 1), (7002, 1), (7003, 1)]);
    assert_eq!(backend.count(), 1000);
    wait_accepted(&daemon, "shop", 1000);
}

#[test]
fn b09_a_thousand_connections_of_a_client_to_refuse_cost_one_look_and_reach_nobody() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002 7003"));
    let _open = scene.open_port(CLIENT, 7002);
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), 1000), GATE, b"hello");
    assert_eq!(fates, [(Fate::Closed, 1000)].into());
    let syns = scene.syns(CLIENT);
    assert!(syns.contains_key(&7002) && syns.values().all(|&syns| syns == 1), "{syns:?}");
    assert_eq!(backend.count(), 0);
    let told = wait_accepted(&daemon, "shop", 1000);
    assert_eq!(counter(&told, "looks"), 1, "{told:#}");
}

/// Clients that come together, more than the budget has looks for.
const TOGETHER: usize = 30;

/// Everybody comes at once; how many were looked at, and what became of all.
fn spent(budget: &str) -> (usize, std::collections::BTreeMap<Fate, usize>) {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let ports = (7001..7065).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(" ");
    let daemon = daemon(&scene, &gate(&format!("ports {ports}; timeout \"900ms\"; {budget}")));
    scene.silence_crowd();
    let fates = all_at_once(&scene, (0..TOGETHER).map(of_the_crowd), GATE, b"hello");
    wait_accepted(&daemon, "shop", TOGETHER as u64);
    let mut looked_at: Vec<_> = scene.all_syns().into_keys().map(|(client, _)| client.to_string()).collect();
    looked_at.dedup();
    let remembered: Vec<_> = verdicts(&daemon).into_keys().collect();
    looked_at.sort_unstable();
    assert_eq!(remembered, looked_at, "who was not looked at is remembered, or the other way round");
    assert_eq!(backend.count(), fates.get(&Fate::Served).copied().unwrap_or_default());
    (looked_at.len(), fates)
}

#[test]
fn b09_clients_beyond_the_looks_of_a_second_are_refused_where_the_policy_says_so() {
    let (looked_at, fates) = spent("budget in-flight=10000 per-second=1 then=refuse");
    assert!((1..TOGETHER).contains(&looked_at), "{looked_at} were looked at");
    assert_eq!(fates, [(Fate::Served, looked_at), (Fate::Closed, TOGETHER - looked_at)].into());
}

#[test]
fn b09_clients_beyond_the_looks_of_a_second_are_admitted_where_the_policy_says_so() {
    let (looked_at, fates) = spent("budget in-flight=10000 per-second=1 then=admit");
    assert!((1..TOGETHER).contains(&looked_at), "{looked_at} were looked at");
    assert_eq!(fates, [(Fate::Served, TOGETHER)].into());
}

#[test]
fn b09_clients_beyond_the_ports_in_flight_are_refused_where_the_policy_says_so() {
    let (looked_at, fates) = spent("budget in-flight=64 per-second=10000 then=refuse");
    assert!((1..TOGETHER).contains(&looked_at), "{looked_at} were looked at");
    assert_eq!(fates, [(Fate::Served, looked_at), (Fate::Closed, TOGETHER - looked_at)].into());
}

#[test]
fn b09_clients_beyond_the_ports_in_flight_are_admitted_where_the_policy_says_so() {
    let (looked_at, fates) = spent("budget in-flight=64 per-second=10000 then=admit");
    assert!((1..TOGETHER).contains(&looked_at), "{looked_at} were looked at");
    assert_eq!(fates, [(Fate::Served, TOGETHER)].into());
}
