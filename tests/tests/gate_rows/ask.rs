//! What daemon, kernel and status worker tell of gates.

use crate::scene::*;
use glacis_tests::daemon::{Daemon, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Counters of which each connection ends under exactly one.
const ENDS: [&str; 22] = [
    "relayed",
    "idle",
    "client-broke",
    "backend-broke",
    "denied",
    "refused-budget",
    "refused-trouble",
    "proof",
    "left",
    "full",
    "waiting-full",
    "stranger",
    "front-check",
    "header-silent",
    "header-wrong",
    "hello-silent",
    "hello-wrong",
    "no-route",
    "no-backend",
    "backend-failed",
    "gate-removed",
    "trouble",
];

/// What gates know of clients, by address; of all of them as far as one answer goes.
pub fn verdicts(daemon: &Daemon) -> BTreeMap<String, Value> {
    let text = daemon.ask(&["gate", "verdicts", "--json", "--limit", "10000"]);
    let listing: Value = serde_json::from_str(&text).expect("verdicts are JSON");
    let records = listing["records"].as_array().expect("verdicts are a list");
    let client = |record: &Value| record["client"].as_str().expect("a record names its client").to_owned();
    records.iter().map(|record| (client(record), record.clone())).collect()
}

/// What was found at a client's ports.
pub fn findings(daemon: &Daemon, client: &str) -> BTreeMap<u16, String> {
    let records = verdicts(daemon);
    let Some(record) = records.get(client) else { return BTreeMap::new() };
    let findings = record["findings"].as_array().expect("a record has findings").iter();
    let port = |f: &Value| f["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
    findings.map(|f| (port(f), f["outcome"].as_str().expect("an outcome").to_owned())).collect()
}

/// Waits until something is known of a client, and says what was found.
pub fn wait_findings(daemon: &Daemon, client: &str) -> BTreeMap<u16, String> {
    eventually(&format!("a record of {client}"), SOON, || !findings(daemon, client).is_empty());
    findings(daemon, client)
}

/// What a gate tells of itself.
pub fn told(daemon: &Daemon, gate: &str) -> Value {
    of_gate(&daemon.status(), gate).unwrap_or_else(|| panic!("the status has no gate {gate}"))
}

fn of_gate(status: &Value, gate: &str) -> Option<Value> {
    status["gates"].as_array()?.iter().find(|entry| entry["name"] == gate).cloned()
}

/// Waits until a gate tells something of itself.
pub fn wait_told(daemon: &Daemon, gate: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let status = daemon.wait_for(what, |status| of_gate(status, gate).is_some_and(|told| holds(&told)));
    of_gate(&status, gate).expect("it was there a moment ago")
}

/// Counters of a gate by name.
pub fn counters(told: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value::<Vec<(String, u64)>>(told["counters"].clone())
        .expect("counters are pairs of a name and a number")
        .into_iter()
        .collect()
}

pub fn counter(told: &Value, name: &str) -> u64 {
    let counters = counters(told);
    *counters.get(name).unwrap_or_else(|| panic!("no counter {name} among {counters:?}"))
}

/// Every connection that was accepted has ended, and counts once.
pub fn adds_up(told: &Value) -> bool {
    counter(told, "accepted") == ENDS.iter().map(|end| counter(told, end)).sum::<u64>()
}

/// Waits until a gate has counted so many connections, and the end of each.
pub fn wait_accepted(daemon: &Daemon, gate: &str, connections: u64) -> Value {
    wait_told(daemon, gate, &format!("{connections} connections are counted, and their ends"), |told| {
        counter(told, "accepted") == connections && adds_up(told)
    })
}

/// Several counters together.
pub fn counted(told: &Value, names: &[&str]) -> usize {
    usize::try_from(names.iter().map(|name| counter(told, name)).sum::<u64>()).expect("few enough")
}

/// Waits until something happened that is told in all these words; what happens is on disk a moment later.
pub fn wait_event(daemon: &Daemon, words: &[&str]) {
    let told = || {
        let events = daemon.ask(&["events"]);
        events.lines().any(|line| words.iter().all(|word| line.contains(word)))
    };
    eventually(&format!("an event with {words:?}"), SOON, told);
}

/// Elements of one of the table's sets, each with its timeout in seconds.
pub fn set_elements(daemon: &Daemon, set: &str) -> BTreeMap<String, Option<u64>> {
    let text = daemon.nft(&["-j", "list", "set", "inet", "glacis", set]);
    let listing: Value = serde_json::from_str(&text).expect("nft prints JSON");
    let entries = listing["nftables"].as_array().expect("a listing is an array");
    let set = entries.iter().find_map(|entry| entry.get("set")).expect("the set is listed");
    let elements = set["elem"].as_array().cloned().unwrap_or_default();
    let element = |e: &Value| match e.get("elem") {
        Some(inner) => (inner["val"].clone(), inner["timeout"].as_u64()),
        None => (e.clone(), None),
    };
    elements
        .iter()
        .map(element)
        .map(|(value, timeout)| (value.as_str().expect("an address").to_owned(), timeout))
        .collect()
}

/// A page of the status worker, as someone inside gets it.
pub fn page(scene: &Scene, path: &str) -> String {
    let to = format!("{FIREWALL_INSIDE}:{STATUS_PORT}");
    let mut stream = scene.inside.enter(|| TcpStream::connect(&to)).expect("the status page listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the status worker reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the status worker answers in UTF-8");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// One sample of the metrics.
pub fn metric(metrics: &str, name_and_labels: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' ')?.parse().ok())
}

/// Process of the gate worker.
pub fn worker_pid(daemon: &Daemon) -> u32 {
    let status = daemon.status();
    let workers = status["workers"].as_array().expect("workers are a list").clone();
    let gate = workers.iter().find(|worker| worker["name"] == "gate").expect("there is a gate worker");
    gate["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("it runs")
}
