//! What a gate is asked to do: whether it is there at all, at which ports it looks, and for how long.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::Daemon;
use std::time::{Duration, Instant};

/// Ports of a client that were looked at.
fn looked_at(scene: &Scene, client: &str) -> Vec<u16> {
    scene.syns(client).into_keys().collect()
}

#[test]
fn b01_without_a_node_there_is_no_gate_and_with_one_there_is() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = Daemon::start(&scene.firewall, &policy(""));
    daemon.wait_ready();
    assert_eq!(daemon.status()["gates"], serde_json::json!([]));
    assert!(scene.try_connect(CLIENT, GATE, Duration::from_secs(2)).is_err(), "someone listens");
    assert!(looked_at(&scene, CLIENT).is_empty());

    daemon.write_policy(&policy(&gate("")));
    daemon.ask(&["apply"]);
    serving(&scene, &daemon);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert!(!looked_at(&scene, CLIENT).is_empty());

    daemon.write_policy(&policy(""));
    daemon.ask(&["apply"]);
    assert!(scene.try_connect(OTHER, GATE, Duration::from_secs(2)).is_err(), "someone still listens");
    assert!(looked_at(&scene, OTHER).is_empty());
}

#[test]
fn b01_each_gate_has_a_switch_of_its_own() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let both = |more: &str| {
        gate(&format!("ports 7001; {more}")) + &gate_at("till", SECOND_GATE, &(plain() + "ports 7002"))
    };
    let daemon = daemon(&scene, &both("ignore \"203.0.113.0/24\""));
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert!(looked_at(&scene, CLIENT).is_empty(), "a gate looks that is to let everybody be");
    assert_eq!(scene.talk(CLIENT, SECOND_GATE, "hello"), "hello");
    assert_eq!(looked_at(&scene, CLIENT), [7002]);
    wait_accepted(&daemon, "shop", 1);
}

#[test]
fn b02_the_default_list_is_looked_at_all_of_it() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let _daemon = daemon(&scene, &gate(""));
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert_eq!(looked_at(&scene, CLIENT), [22, 80, 443, 3128, 8000, 8080]);
}

#[test]
fn b02_sixty_four_ports_from_one_end_to_the_other_are_looked_at() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let ports: Vec<u16> = [1].into_iter().chain(7002..7064).chain([65_535]).collect();
    let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let daemon = daemon(&scene, &gate(&format!("ports {list}")));
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "hello");
    assert_eq!(looked_at(&scene, CLIENT), ports);
    assert_eq!(wait_findings(&daemon, CLIENT).len(), 64);
}

#[test]
fn b02_more_than_sixty_four_ports_or_ones_that_do_not_exist_are_refused() {
    let scene = Scene::new();
    let daemon = Daemon::prepare(&scene.firewall);
    let path = daemon.policy_path();
    let path = path.to_str().expect("a temporary folder has a plain name");
    let many = (1..=65).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(" ");
    for (ports, why) in [(many.as_str(), "64"), ("0", "port"), ("65536", "port"), ("80 80", "twice")] {
        daemon.write_policy(&policy(&gate(&format!("ports {ports}"))));
        let told = daemon.refused(&["check", path]);
        assert!(told.contains(why), "{ports}: {told}");
    }
}

#[test]
fn b03_presets_name_ports_and_how_long_to_wait_for_each() {
    let presets: [(&str, u64, &[u16]); 4] = [
        ("basic", 500, &[80, 443, 8080]),
        ("comprehensive", 1000, &[22, 80, 443, 1080, 3128, 3333, 8000, 8080, 8081, 8888]),
        ("fast", 250, &[80, 443, 8080]),
        (
            "high",
            1500,
            &[
                22, 25, 80, 443, 1080, 3128, 3333, 4444, 5555, 6588, 6666, 7777, 8000, 8080, 8081, 8800,
                8888, 9999,
            ],
        ),
    ];
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    scene.silence_crowd();
    let gates: String = (0..)
        .zip(presets)
        .map(|(n, (preset, _, _))| gate_at(preset, GATE + n, &format!("{} preset {preset}", plain())))
        .collect();
    let _daemon = daemon(&scene, &gates);
    for (n, (preset, milliseconds, ports)) in (0..).zip(presets) {
        let client = of_the_crowd(usize::from(n)).to_string();
        let began = Instant::now();
        assert_eq!(scene.talk(&client, GATE + n, "hello"), "hello", "{preset}");
        assert_eq!(looked_at(&scene, &client), ports, "{preset}");
        // Silence is waited for, all of it.
        assert!(began.elapsed() >= Duration::from_millis(milliseconds), "{preset}: {:?}", began.elapsed());
    }
}

#[test]
fn b04_a_silent_port_is_waited_for_as_long_as_the_policy_says() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    scene.silence_crowd();
    let gates = gate("ports 7001")
        + &gate_at("brief", GATE + 1, &(plain() + "ports 7001; timeout \"10ms\""))
        + &gate_at("long", GATE + 2, &(plain() + "ports 7001; timeout \"3s\""));
    let daemon = daemon(&scene, &gates);
    for (n, milliseconds) in [(0_u16, 500), (1, 10), (2, 3000)] {
        let client = of_the_crowd(usize::from(n)).to_string();
        let began = Instant::now();
        assert_eq!(scene.talk(&client, GATE + n, "hello"), "hello");
        assert!(began.elapsed() >= Duration::from_millis(milliseconds), "{n}: {:?}", began.elapsed());
        assert_eq!(wait_findings(&daemon, &client)[&7001], "silent");
    }
}

#[test]
fn b04_timeouts_out_of_range_are_refused() {
    let scene = Scene::new();
    let daemon = Daemon::prepare(&scene.firewall);
    let path = daemon.policy_path();
    let path = path.to_str().expect("a temporary folder has a plain name");
    for timeout in ["9ms", "11s", "0s"] {
        daemon.write_policy(&policy(&gate(&format!("timeout \"{timeout}\""))));
        let told = daemon.refused(&["check", path]);
        assert!(told.contains(timeout), "{told}");
    }
}
