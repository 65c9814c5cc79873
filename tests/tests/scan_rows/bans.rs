//! Blocks: when they begin, whom they spare, what they cut off, and what they survive.

use crate::scene::*;
use glacis_tests::daemon::{Daemon, eventually};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

/// Every hit counts, so that a test may count packets.
fn any(more: &str) -> String {
    format!("scan {{ interfaces g0; auto-block {{ evidence any; threshold 20; window \"5m\"; {more} }} }}")
}

fn blocks(daemon: &Daemon) -> Vec<Value> {
    daemon.blocks().as_array().expect("blocks are a list").clone()
}

/// Takes our table away and holds one of its name, which nobody else may change, until it is dropped.
struct Usurper(std::process::Child);

impl Usurper {
    fn rise(scene: &Scene) -> Self {
        let mut command = scene.firewall.command(["nft", "-i"]);
        let nft = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("nft starts");
        let mut orders = nft.stdin.as_ref().expect("stdin is a pipe");
        orders.write_all(b"delete table inet glacis\n").expect("nft reads");
        orders.write_all(b"add table inet glacis { flags owner; }\n").expect("nft reads");
        Self(nft)
    }
}

impl Drop for Usurper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a12_nobody_is_blocked_while_the_firewall_is_not_applied_and_the_status_says_so() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\""));
    let usurper = Usurper::rise(&scene);
    let status = daemon.wait_for("it is noticed", |s| s["firewall"] == "tampered");
    let why = status["scan"]["auto_block"]["suspended"].as_str().expect("a reason");
    let problems = status["problems"].to_string();
    assert!(problems.contains(why), "{problems}");
    scene.syns(SCANNER, 7001..7041);
    wait_records(&daemon, SCANNER, "forty records", |rows| rows.len() == 40);
    assert_eq!(blocks(&daemon), Vec::<Value>::new());

    drop(usurper);
    daemon.wait_ready();
    assert_eq!(daemon.status()["scan"]["auto_block"]["suspended"], Value::Null);
    scene.syns(SCANNER, 7041..7081);
    wait_ban(&daemon, "192.0.2.66/32");
}

#[test]
fn a13_the_hit_that_reaches_the_threshold_blocks_and_none_before_it() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\""));
    scene.syns(SCANNER, 7001..7020);
    wait_records(&daemon, SCANNER, "nineteen records", |rows| rows.len() == 19);
    assert_eq!(blocks(&daemon), Vec::<Value>::new(), "blocked before the threshold");
    scene.syns(SCANNER, [7020]);
    let ban = wait_ban(&daemon, "192.0.2.66/32");
    assert_eq!((&ban["reason"]["kind"], &ban["reason"]["hits"]), (&"scan".into(), &20.into()), "{ban:#?}");
    assert_eq!(ban["until"].as_u64().unwrap() - ban["since"].as_u64().unwrap(), 3_600_000, "{ban:#?}");
}

#[test]
fn a15_a_block_keeps_its_end_through_kill_restart_and_loss_of_the_ruleset() {
    let scene = Scene::new();
    let mut daemon = daemon(&scene, &any("duration \"0\""));
    daemon.ask(&["block", SCANNER, "--for", "1h", "--note", "rowdy"]);
    scene.syns(FRIEND, 7001..7030);
    let permanent = wait_ban(&daemon, "192.0.2.77/32");
    assert_eq!(permanent["until"], Value::Null);
    let before = wait_ban(&daemon, "192.0.2.66/32");

    daemon.kill();
    assert!(!scene.pings(SCANNER), "the kernel does not hold the block while nobody runs");
    scene.firewall.run(["nft", "flush", "ruleset"]);
    daemon.run();
    daemon.wait_ready();
    assert_eq!(ban_of(&daemon, "192.0.2.66/32"), Some(before));
    assert_eq!(ban_of(&daemon, "192.0.2.77/32"), Some(permanent));
    assert!(!scene.pings(SCANNER) && !scene.pings(FRIEND) && scene.pings(ADMIN));
    let set = daemon.nft(&["list", "set", "inet", "glacis", "bans4"]);
    let left = set.split("192.0.2.66 timeout ").nth(1).and_then(|rest| rest.split("expires ").nth(1));
    assert!(left.is_some_and(|left| left.starts_with("59m")), "{set}");
}

#[test]
fn a16_gateway_resolvers_administrators_and_friends_are_never_auto_blocked() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\"; never friends"));
    let spared = [GATEWAY, ADMIN, FRIEND];
    for source in spared {
        scene.syns(source, 7001..7041);
    }
    if let Some(resolver) = resolver() {
        scene.syns(&resolver, 7001..7041);
        wait_records(&daemon, &resolver, "the resolver's hits", |rows| rows.len() == 40);
    }
    for source in spared {
        wait_records(&daemon, source, "all hits of one who is spared", |rows| rows.len() == 40);
    }
    scene.syns(SCANNER, 7001..7041);
    wait_ban(&daemon, "192.0.2.66/32");
    assert_eq!(blocks(&daemon).len(), 1, "{:#?}", blocks(&daemon));
}

/// An IPv4 resolver of the machine that the test runs on; the daemon reads the same file.
fn resolver() -> Option<String> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
    servers.map(str::trim).find(|s| s.contains('.') && !s.starts_with("127.")).map(str::to_owned)
}

/// A connection from the scanner to a service of the firewall, and the service's end of it.
fn connection(scene: &Scene) -> (TcpStream, TcpStream) {
    let to = firewall(FIREWALL, SERVED);
    let listener = scene.firewall.enter(|| TcpListener::bind(to)).expect("the port is free");
    let client =
        scene.outside.enter(|| TcpStream::connect_timeout(&to, SOON)).expect("the policy lets it in");
    let (server, _) = listener.accept().expect("it is connected");
    server.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout can be set");
    (client, server)
}

fn passes(client: &mut TcpStream, server: &mut TcpStream) -> bool {
    client.write_all(b"x").expect("the socket takes a byte, whether or not it arrives");
    server.read_exact(&mut [0]).is_ok()
}

#[test]
fn a17_a_block_ends_open_connections_where_the_policy_says_so() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\"; drop-established #true"));
    let (mut client, mut server) = connection(&scene);
    assert!(passes(&mut client, &mut server));
    let source = client.local_addr().unwrap().ip().to_string();
    daemon.ask(&["block", &source, "--for", "1h"]);
    assert!(!passes(&mut client, &mut server), "an open connection goes on");
    assert!(!scene.pings(&source));
    daemon.ask(&["unblock", &source]);
    assert!(scene.pings(&source));
}

#[test]
fn a17_a_block_leaves_open_connections_where_the_policy_does_not_and_begins_none() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\"; drop-established #false"));
    let (mut client, mut server) = connection(&scene);
    assert!(passes(&mut client, &mut server));
    let source = client.local_addr().unwrap().ip().to_string();
    daemon.ask(&["block", &source, "--for", "1h"]);
    assert!(passes(&mut client, &mut server), "the open connection is cut");
    assert!(!scene.pings(&source), "something new begins");
}

#[test]
fn a18_blocks_by_hand_ask_before_they_hit_the_host_or_its_friends() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\"; never friends"));
    for source in [FIREWALL, GATEWAY, FRIEND, "192.0.2.0/24", "127.0.0.1"] {
        daemon.refused(&["block", source, "--for", "1h"]);
    }
    assert_eq!(blocks(&daemon), Vec::<Value>::new());
    daemon.ask(&["block", FRIEND, "--for", "1h", "--force", "--note", "on purpose"]);
    let ban = ban_of(&daemon, "192.0.2.77/32").unwrap();
    assert_eq!(ban["reason"]["note"], "on purpose");
    assert_ne!(ban["author"], "auto");
    assert!(!scene.pings(FRIEND));
    daemon.ask(&["unblock", FRIEND]);
    assert!(scene.pings(FRIEND));
}

#[test]
fn a25_what_a_blocked_source_sends_is_still_counted() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\""));
    daemon.ask(&["block", SCANNER, "--for", "1h"]);
    assert!(!scene.pings(SCANNER));
    scene.syns(SCANNER, 7001..7006);
    wait_records(&daemon, SCANNER, "five records", |rows| rows.len() == 5);
}

#[test]
fn a29_addresses_of_one_64_are_counted_and_blocked_as_one() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("duration \"1h\""));
    scene.syns(SCANNER_V6, 7001..7013);
    scene.syns(NEIGHBOUR_V6, 7013..7025);
    let ban = wait_ban(&daemon, "2001:db8:1::/64");
    assert!(ban["reason"]["hits"].as_u64() >= Some(20), "{ban:#?}");
    assert!(!scene.pings(SCANNER_V6) && !scene.pings(NEIGHBOUR_V6) && scene.pings("2001:db8::66"));
    // Records keep the address.
    wait_records(&daemon, NEIGHBOUR_V6, "twelve records", |rows| rows.len() == 12);
}

#[test]
fn a31_who_comes_back_is_blocked_for_longer() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("ladder \"3s\" \"1h\" forgive=\"30d\""));
    scene.syns(SCANNER, 7001..7031);
    eventually("the first block is over", SOON, || {
        daemon.ask(&["events"]).contains("its time is up") && blocks(&daemon).is_empty()
    });
    scene.syns(SCANNER, 7101..7141);
    let again = wait_ban(&daemon, "192.0.2.66/32");
    assert_eq!(again["until"].as_u64().unwrap() - again["since"].as_u64().unwrap(), 3_600_000, "{again:#?}");
    assert_eq!(again["reason"]["earlier_blocks"], 1, "{again:#?}");
}

#[test]
fn a32_observing_tells_whom_it_would_have_blocked_and_blocks_nobody() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &any("mode observe; duration \"1h\""));
    scene.syns(SCANNER, 7001..7031);
    let events = || -> Value { serde_json::from_str(&daemon.ask(&["events", "--json"])).expect("JSON") };
    let told = |events: &Value| {
        let events = events.as_array().expect("events are a list");
        events.iter().any(|e| e["event"] == "would-block" && e["ban"]["source"] == "192.0.2.66/32")
    };
    eventually("it is told", SOON, || told(&events()));
    assert_eq!(blocks(&daemon), Vec::<Value>::new());
    assert!(scene.pings(SCANNER));
    assert_eq!(daemon.status()["scan"]["auto_block"]["mode"], "observe");
}
