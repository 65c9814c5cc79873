//! What is known of clients outlives everything, and is shared.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::Daemon;
use std::io::Write;
use std::process::{Command, Stdio};

/// Two clients that the gate has looked at: one with an open port, one without.
struct Known {
    scene: Scene,
    _backend: Backend,
    open: std::net::TcpListener,
}

impl Known {
    fn new() -> Self {
        let scene = Scene::new();
        let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
        let open = scene.open_port(CLIENT, 7001);
        Self { scene, _backend: backend, open }
    }

    fn meet(&self, daemon: &Daemon) {
        assert_eq!(self.scene.talk(CLIENT, GATE, "hello"), "");
        assert_eq!(self.scene.talk(OTHER, GATE, "hello"), "hello");
        wait_findings(daemon, CLIENT);
        wait_findings(daemon, OTHER);
    }

    /// Both are judged as before, at a gate, and nobody has looked again.
    fn still_known(&self, port: u16) {
        let before = self.scene.all_syns();
        assert_eq!(self.scene.talk(CLIENT, port, "hello"), "");
        assert_eq!(self.scene.talk(OTHER, port, "hello"), "hello");
        assert_eq!(self.scene.all_syns(), before, "someone was looked at again");
    }
}

#[test]
fn b08_verdicts_outlive_reload_kill_and_loss_of_the_kernels_state() {
    let known = Known::new();
    let mut daemon = daemon(&known.scene, &gate("ports 7001"));
    known.meet(&daemon);
    known.still_known(GATE);
    let book = verdicts(&daemon);

    apply(&daemon, &gate("ports 7001; timeout \"400ms\""), "shop");
    known.still_known(GATE);

    std::thread::sleep(ON_DISK);
    daemon.kill();
    daemon.run();
    serving(&known.scene, &daemon);
    known.still_known(GATE);

    // As after a reboot, all that is left is the store.
    daemon.kill();
    known.scene.firewall.run(["nft", "flush", "ruleset"]);
    daemon.run();
    serving(&known.scene, &daemon);
    known.still_known(GATE);
    assert_eq!(verdicts(&daemon), book);
}

#[test]
fn b08_gates_share_what_they_know() {
    let known = Known::new();
    let gates = gate("ports 7001") + &gate_at("till", SECOND_GATE, &(plain() + "ports 7001"));
    let daemon = daemon(&known.scene, &gates);
    known.meet(&daemon);
    known.still_known(SECOND_GATE);
}

#[test]
fn b08_a_gate_with_more_ports_looks_at_the_missing_ones_only() {
    let known = Known::new();
    let gates = gate("ports 7001") + &gate_at("till", SECOND_GATE, &(plain() + "ports 7001 7002"));
    let daemon = daemon(&known.scene, &gates);
    known.meet(&daemon);
    assert_eq!(known.scene.talk(OTHER, SECOND_GATE, "hello"), "hello");
    let syns: Vec<_> = known.scene.syns(OTHER).into_iter().collect();
    assert_eq!(syns, [(7001, 1), (7002, 1)]);
    assert_eq!(wait_findings(&daemon, OTHER).len(), 2);
}

#[test]
fn b08_findings_end_a_day_later_or_when_the_policy_says() {
    let known = Known::new();
    let gates = gate("ports 7001")
        + &gate_at("till", SECOND_GATE, &(plain() + "ports 7002; remember clean=\"1m\" open=\"30d\""));
    let daemon = daemon(&known.scene, &gates);
    let _second = known.scene.open_port(THIRD, 7002);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = u64::try_from(now.expect("it is later than 1970").as_millis()).expect("it is not that late");
    known.meet(&daemon);
    assert_eq!(known.scene.talk(OTHER, SECOND_GATE, "hello"), "hello");
    assert_eq!(known.scene.talk(THIRD, SECOND_GATE, "hello"), "");
    wait_findings(&daemon, THIRD);
    glacis_tests::daemon::eventually("both looks are told", SOON, || findings(&daemon, OTHER).len() == 2);
    let book = verdicts(&daemon);
    let lasts = |client: &str, port: u16| {
        let findings = book[client]["findings"].as_array().expect("a list").iter();
        let finding = findings.clone().find(|f| f["port"] == port).expect("it was looked at");
        finding["until"].as_u64().expect("milliseconds") - now
    };
    let minute = 60_000;
    for (client, port, remembered) in [
        (CLIENT, 7001, 1440 * minute),
        (OTHER, 7001, 1440 * minute),
        (OTHER, 7002, minute),
        (THIRD, 7002, 30 * 1440 * minute),
    ] {
        let left = lasts(client, port);
        assert!((remembered..remembered + 2 * minute).contains(&left), "{client} {port}: {left} ms");
    }
}

#[test]
fn b08_who_is_forgotten_is_looked_at_again() {
    let known = Known::new();
    let daemon = daemon(&known.scene, &gate("ports 7001"));
    known.meet(&daemon);
    drop(known.open);
    assert_eq!(known.scene.talk(CLIENT, GATE, "hello"), "", "judged anew without being forgotten");
    daemon.ask(&["gate", "forget", CLIENT]);
    heard(&daemon, "shop");
    assert!(findings(&daemon, CLIENT).is_empty() && !findings(&daemon, OTHER).is_empty());
    assert_eq!(known.scene.talk(CLIENT, GATE, "hello"), "hello");
    assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "refused");
}

#[test]
fn b08_a_look_by_hand_tells_and_keeps_nothing() {
    let known = Known::new();
    let daemon = daemon(&known.scene, &gate("ports 7001 7002; ignore \"203.0.113.68\""));
    let tested = |client: &str| -> (Option<i32>, serde_json::Value) {
        let output = daemon.glacis(&["gate", "test", client, "--json"]);
        (output.status.code(), serde_json::from_slice(&output.stdout).expect("it is JSON"))
    };
    let (code, open) = tested(CLIENT);
    assert_eq!(code, Some(3), "{open:#}");
    assert_eq!(
        (&open["verdict"]["verdict"], &open["verdict"]["port"]),
        (&"open".into(), &7001.into()),
        "{open:#}"
    );
    let (code, clean) = tested(OTHER);
    assert_eq!((code, &clean["verdict"]["verdict"]), (Some(0), &"clean".into()), "{clean:#}");
    assert_eq!(clean["ports"].as_array().map(Vec::len), Some(2), "{clean:#}");
    assert!(tested(THIRD).1["ignored"].is_string());
    assert!(verdicts(&daemon).is_empty());
}

#[test]
fn b16_verdicts_of_one_appliance_serve_another() {
    let known = Known::new();
    let daemon = daemon(&known.scene, &gate("ports 7001"));
    known.meet(&daemon);
    let text = daemon.ask(&["gate", "verdicts", "--json"]);

    let elsewhere = Known::new();
    let second = crate::scene::daemon(&elsewhere.scene, &gate("ports 7001"));
    learn(&second, &text);
    assert_eq!(verdicts(&second), verdicts(&daemon));
    elsewhere.still_known(GATE);
    assert!(elsewhere.scene.all_syns().is_empty());
    // What is known already is no news, and what is no verdict is refused whole.
    learn(&second, &text);
    assert_eq!(verdicts(&second), verdicts(&daemon));
    let mut refused = learning(&second);
    give(&mut refused, "{\"client\": \"203.0.113.9\"}");
    assert!(!refused.wait().expect("glacis ends").success(), "half a record is taken for one");
    assert_eq!(verdicts(&second).len(), 2);
}

fn learn(daemon: &Daemon, text: &str) {
    let mut child = learning(daemon);
    give(&mut child, text);
    let status = child.wait().expect("glacis ends");
    assert!(status.success(), "verdicts are not taken over: {text}\n{}", daemon.log());
    heard(daemon, "shop");
}

fn learning(daemon: &Daemon) -> std::process::Child {
    let mut command = Command::new(glacis_tests::bin::glacis());
    command.args(["gate", "learn", "-"]).env("GLACIS_SOCKET", daemon.socket_path());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("glacis starts")
}

fn give(child: &mut std::process::Child, text: &str) {
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(text.as_bytes()).expect("glacis reads");
}
