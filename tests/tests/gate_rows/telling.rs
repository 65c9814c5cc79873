//! What metrics, the status page and the command line tell of gates.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::{Daemon, eventually};

/// A gate that has refused one client for port 7001 and admitted two.
fn story(scene: &Scene) -> (Daemon<'_>, Backend, std::net::TcpListener) {
    let backend = Backend::start(scene, BACKENDS[0], Service::Echo);
    let open = scene.open_port(CLIENT, 7001);
    scene.silence(THIRD);
    let daemon = daemon(scene, &gate("ports 7001 7002"));
    for (client, answer) in [(CLIENT, ""), (OTHER, "hello"), (THIRD, "hello"), (CLIENT, "")] {
        assert_eq!(scene.talk(client, GATE, "hello"), answer, "{client}");
    }
    wait_accepted(&daemon, "shop", 4);
    (daemon, backend, open)
}

#[test]
fn b14_each_port_and_outcome_has_a_metric_and_verdicts_a_histogram() {
    let scene = Scene::new();
    let (_daemon, _backend, _open) = story(&scene);
    let port = |port: u16, outcome: &str| {
        format!("glacis_gate_probes_total{{gate=\"shop\",port=\"{port}\",outcome=\"{outcome}\"}}")
    };
    let expected = [
        (port(7001, "open"), 1.0),
        (port(7001, "refused"), 1.0),
        (port(7001, "silent"), 1.0),
        (port(7002, "silent"), 1.0),
        ("glacis_gate_verdict_seconds_count{gate=\"shop\"}".to_owned(), 3.0),
        ("glacis_gate_verdict_seconds_bucket{gate=\"shop\",le=\"+Inf\"}".to_owned(), 3.0),
    ];
    let holds = |metrics: &str| expected.iter().all(|(name, value)| metric(metrics, name) == Some(*value));
    eventually("the metrics tell the story", SOON, || holds(&page(&scene, "/metrics")));
    let metrics = page(&scene, "/metrics");
    // Silence took half a second, the others less.
    let within = |le: &str| {
        metric(&metrics, &format!("glacis_gate_verdict_seconds_bucket{{gate=\"shop\",le=\"{le}\"}}"))
    };
    assert!(within("0.25") <= Some(2.0), "{metrics}");
    assert!(!metrics.contains(CLIENT), "labels that strangers choose");
}

#[test]
fn b15_the_page_shows_whom_a_gate_refused_and_for_what() {
    let scene = Scene::new();
    let (_daemon, _backend, _open) = story(&scene);
    let told = [CLIENT, OTHER, "shop", "7001"];
    let holds = |page: &str| told.iter().all(|word| page.contains(word));
    eventually("the page tells the story", SOON, || holds(&page(&scene, "/gates")));
    let overview = page(&scene, "/");
    assert!(overview.contains("/gates"), "nothing leads to the gates");
}

#[test]
fn b15_the_command_line_tells_what_the_page_tells() {
    let scene = Scene::new();
    let (daemon, _backend, _open) = story(&scene);
    let status = daemon.ask(&["gate", "status"]);
    assert!(status.contains("shop") && status.contains("1 of 1 up"), "{status}");
    let verdicts = daemon.ask(&["gate", "verdicts"]);
    let line = verdicts.lines().find(|line| line.contains(CLIENT)).expect("the refused client is listed");
    assert!(line.contains("7001") && line.contains("open"), "{line}");
    wait_event(&daemon, &["shop", CLIENT, "7001", "refused"]);
    let one = daemon.ask(&["gate", "verdicts", "--json", "--within", CLIENT]);
    assert!(one.contains(CLIENT) && !one.contains(OTHER), "{one}");
    assert_eq!(daemon.status()["gate_clients"], 3);
}
