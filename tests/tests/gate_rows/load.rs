//! Many at once, and what is out of order: nothing that the policy refuses gets through, everything is counted, memory
//! is bounded.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::crowd::{Fate, all_at_once, turn, wordless};
use crate::descriptors::{Descriptors, open_of};
use crate::scene::*;
use glacis_tests::daemon::eventually;
use std::iter::repeat_n;
use std::time::Duration;

const MANY: usize = 10_000;

/// Of a connection that the worker holds, relayed or waiting: bookkeeping, not what the kernel buffers.
const BYTES_PER_CONNECTION_MAX: u64 = 32 << 10;

/// Memory of the process alone, in bytes.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("every process has one");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("the kernel prints a number");
    kib << 10
}

fn of(fates: &std::collections::BTreeMap<Fate, usize>, fate: Fate) -> usize {
    fates.get(&fate).copied().unwrap_or_default()
}

#[test]
fn load_ten_thousand_connections_of_one_client_to_refuse() {
    let _turn = turn();
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002"));
    let _open = scene.open_port(CLIENT, 7002);
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), MANY), GATE, b"hello");
    assert_eq!(fates, [(Fate::Closed, MANY)].into());
    assert_eq!(backend.count(), 0);
    let told = wait_accepted(&daemon, "shop", MANY as u64);
    assert_eq!(counter(&told, "looks"), 1, "{told:#}");
}

/// Ends of connections for which there was no room.
const NO_ROOM: [&str; 2] = ["full", "waiting-full"];

#[test]
fn load_ten_thousand_connections_of_one_client_to_admit() {
    let _turn = turn();
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001 7002"));
    let worker = worker_pid(&daemon);
    let before = resident(worker);
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), MANY), GATE, b"hello");
    let (served, closed) = (of(&fates, Fate::Served), of(&fates, Fate::Closed));
    assert_eq!(served + closed, MANY, "{fates:?}");
    assert_eq!(backend.count(), served);
    let told = wait_accepted(&daemon, "shop", MANY as u64);
    // Nobody is let go but for want of room, and nobody without being counted.
    assert_eq!((counted(&told, &["relayed"]), counted(&told, &NO_ROOM)), (served, closed), "{told:#}");
    assert_eq!(told["bytes_to_backends"], 5 * served);
    assert!(served >= 1000, "room for {served} only");
    assert_eq!(worker_pid(&daemon), worker, "the worker died of it");
    assert_eq!(counter(&told, "looks"), 1, "{told:#}");
    let grown = resident(worker).saturating_sub(before);
    assert!(grown < MANY as u64 * BYTES_PER_CONNECTION_MAX, "{} KiB more", grown >> 10);
}

#[test]
fn load_ten_thousand_clients_with_one_connection_each() {
    let _turn = turn();
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let budget = "budget in-flight=10000 per-second=10000 then=refuse";
    let daemon = daemon(&scene, &gate(&format!("ports 7001; timeout \"10s\"; {budget}")));
    let worker = worker_pid(&daemon);
    let before = resident(worker);
    // One in a hundred has an open port.
    let _open: Vec<_> =
        (0..MANY).step_by(100).map(|n| scene.open_port(&of_the_crowd(n).to_string(), 7001)).collect();
    let fates = all_at_once(&scene, (0..MANY).map(of_the_crowd), GATE, b"hello");
    assert_eq!(of(&fates, Fate::Served) + of(&fates, Fate::Closed), MANY, "{fates:?}");
    assert!(of(&fates, Fate::Closed) >= MANY / 100, "{fates:?}");
    assert_eq!(backend.count(), of(&fates, Fate::Served));
    let told = wait_accepted(&daemon, "shop", MANY as u64);
    // Nobody was looked at twice, everybody who was is known, and who is open was refused.
    let syns = scene.all_syns();
    assert_eq!(counted(&told, &["looks"]), syns.len(), "{told:#}");
    let known = daemon.wait_for("all that were looked at are known", |s| s["gate_clients"] == syns.len());
    assert!(known["gate_clients"].as_u64() > Some(MANY as u64 / 100), "{told:#}");
    let open = verdicts(&daemon).values().filter(|r| r["findings"][0]["outcome"] == "open").count();
    assert!(open <= of(&fates, Fate::Closed), "{open} open, {fates:?}");
    assert_eq!(worker_pid(&daemon), worker, "the worker died of it");
    let grown = resident(worker).saturating_sub(before);
    assert!(grown < MANY as u64 * BYTES_PER_CONNECTION_MAX, "{} KiB more", grown >> 10);
}

#[test]
fn load_clients_that_say_nothing_cost_little_and_end() {
    let _turn = turn();
    let scene = Scene::new();
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::start(&scene, BACKENDS[0], Service::Page(page));
    let daemon = daemon(&scene, &gate("ports 7001; protocol http"));
    let worker = worker_pid(&daemon);
    let before = resident(worker);
    let count = 2000;
    let _open = scene.open_port(CLIENT, 7001);
    let refused = wordless(&scene, CLIENT, GATE, count);
    let admitted = wordless(&scene, OTHER, GATE, count);
    wait_told(&daemon, "shop", "all came", |told| {
        counter(told, "accepted") == 2 * count as u64 && told["relaying"] == count
    });
    let grown = resident(worker).saturating_sub(before);
    assert!(grown < 2 * count as u64 * BYTES_PER_CONNECTION_MAX, "{} KiB more", grown >> 10);
    assert_eq!(scene.talk(THIRD, GATE, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), page);
    // Who is refused is not waited for without end, even if a page was to be shown.
    wait_told(&daemon, "shop", "refused ones end", |told| counter(told, "denied") == count as u64);
    drop((refused, admitted));
    wait_told(&daemon, "shop", "all have ended", |told| told["relaying"] == 0 && adds_up(told));
    let left = || open_of(worker).len() < 200;
    eventually("their descriptors are closed", SOON, left);
    assert!(backend.visits().iter().filter(|visit| !visit.said.is_empty()).count() == 1);
}

#[test]
fn load_out_of_descriptors_it_waits_and_recovers() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001; budget then=refuse"));
    let worker = worker_pid(&daemon);
    let limit = Descriptors::of(worker);
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello");
    let _open = scene.open_port(CLIENT, 7001);
    limit.leave(40);
    // All descriptors are taken by those who came first and stay.
    let first = wordless(&scene, OTHER, GATE, 60);
    std::thread::scope(|scope| {
        let later = scope.spawn(|| all_at_once(&scene, repeat_n(address(CLIENT), 100), GATE, b"hello"));
        std::thread::sleep(Duration::from_secs(2));
        drop(first);
        limit.restore();
        let fates = later.join().expect("visitors do not panic");
        assert_eq!(of(&fates, Fate::Served) + of(&fates, Fate::Cut), 0, "{fates:?}");
        assert_eq!(of(&fates, Fate::Closed), 100, "{fates:?}");
    });
    eventually("it recovers", SOON, || scene.talk(OTHER, GATE, "hello") == "hello");
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(worker_pid(&daemon), worker, "the worker died of it");
    let from_client = backend.visits().iter().filter(|visit| !visit.said.is_empty()).count();
    assert!(from_client >= 2, "{from_client}");
    wait_told(&daemon, "shop", "all add up", adds_up);
    assert_eq!(wait_findings(&daemon, CLIENT)[&7001], "open");
}

#[test]
fn load_a_backend_that_is_down_is_a_close_and_is_counted() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &gate("ports 7001"));
    let fates = all_at_once(&scene, repeat_n(address(CLIENT), 500), GATE, b"hello");
    assert_eq!(fates, [(Fate::Closed, 500)].into());
    wait_accepted(&daemon, "shop", 500);
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    eventually("it serves once there is one", SOON, || scene.talk(CLIENT, GATE, "hello") == "hello");
}

#[test]
fn load_slow_and_resetting_backends_hold_up_nobody_else() {
    let _turn = turn();
    let scene = Scene::new();
    let [first, second, third] = BACKENDS;
    let _backends = [
        Backend::start(&scene, first, Service::Slow(Duration::from_secs(2))),
        Backend::start(&scene, second, Service::Reset),
        Backend::start(&scene, third, Service::Echo),
    ];
    let leads = |backend: &str| format!("backend \"{backend}\"; health #false; fast-path #false; ports 7001");
    let gates = gate_at("slow", GATE, &leads(first))
        + &gate_at("resets", GATE + 1, &leads(second))
        + &gate_at("shop", GATE + 2, &leads(third));
    let daemon = daemon(&scene, &gates);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| all_at_once(&scene, repeat_n(address(CLIENT), 1000), GATE, b"hello"));
        let resets = all_at_once(&scene, repeat_n(address(OTHER), 1000), GATE + 1, b"hello");
        assert_eq!(resets, [(Fate::Closed, 1000)].into());
        let served = all_at_once(&scene, repeat_n(address(THIRD), 1000), GATE + 2, b"hello");
        assert_eq!(served, [(Fate::Served, 1000)].into());
        assert_eq!(slow.join().expect("visitors do not panic"), [(Fate::Served, 1000)].into());
    });
    for name in ["slow", "resets", "shop"] {
        wait_accepted(&daemon, name, 1000);
    }
}

#[test]
fn load_sixty_four_ports_of_many_clients_stay_within_the_budget() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let ports = (7001..7065).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(" ");
    let budget = "budget in-flight=640 per-second=10000 then=refuse";
    let daemon = daemon(&scene, &gate(&format!("ports {ports}; timeout \"500ms\"; {budget}")));
    scene.silence_crowd();
    let worker = worker_pid(&daemon);
    let most = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    let fates = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(order) {
                most.fetch_max(knocking(&scene), order);
            }
        });
        let fates = all_at_once(&scene, (0..300).map(of_the_crowd), GATE, b"hello");
        done.store(true, order);
        fates
    });
    assert!(most.into_inner() <= 640, "more ports than the budget has were looked at together");
    assert_eq!(of(&fates, Fate::Served) + of(&fates, Fate::Closed), 300, "{fates:?}");
    assert_eq!(backend.count(), of(&fates, Fate::Served));
    assert_eq!(worker_pid(&daemon), worker);
    wait_accepted(&daemon, "shop", 300);
}

/// Connections to the outside that have not come about yet.
fn knocking(scene: &Scene) -> usize {
    scene.firewall.stdout(["ss", "-Htn", "state", "syn-sent", "dst", "198.18.0.0/18"]).lines().count()
}

#[test]
fn load_clients_wait_while_the_worker_is_killed_and_are_served_then() {
    let scene = Scene::new();
    let backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001"));
    let open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(scene.talk(OTHER, GATE, "hello"), "hello");
    let (worker, book) = (worker_pid(&daemon), verdicts(&daemon));
    kill(worker);
    let fates = all_at_once(&scene, repeat_n(address(OTHER), 200), GATE, b"hello");
    assert_eq!(fates, [(Fate::Served, 200)].into(), "someone was not waited for");
    // What the first worker knew, the second knows.
    drop(open);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(verdicts(&daemon), book);
    assert_ne!(worker_pid(&daemon), worker);
    assert_eq!(backend.count(), 201);
    let status = daemon.status();
    let gate = status["workers"].as_array().expect("a list").iter().find(|w| w["name"] == "gate");
    assert_eq!(gate.expect("there is one")["restarts"], 1);
    // Counters of the first worker are not lost with it: one of each client, before it died.
    wait_told(&daemon, "shop", "counters go on", |told| counter(told, "accepted") >= 201);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("no process has number 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the worker runs");
}
