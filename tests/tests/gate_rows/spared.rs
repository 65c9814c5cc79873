//! Who is never looked at.

use crate::ask::*;
use crate::backend::{Backend, Service};
use crate::scene::*;
use glacis_tests::daemon::Daemon;
use std::net::{TcpListener, TcpStream};

/// Admitted, never knocked at, and nothing is known.
fn spared(scene: &Scene, daemon: &Daemon, client: &str) {
    assert_eq!(scene.talk(client, GATE, "hello"), "hello", "{client}");
    assert!(scene.syns(client).is_empty(), "{client} is looked at");
    assert!(findings(daemon, client).is_empty(), "{client} is remembered");
}

#[test]
fn b13_ignored_addresses_networks_and_sets_are_never_looked_at() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let nodes = "set friends { entry \"203.0.113.67\"; entry \"2001:db8:1::66\" }\n".to_owned()
        + &gate("ports 7001; ignore friends \"203.0.113.68\" \"198.18.0.0/18\"");
    let daemon = daemon(&scene, &nodes);
    let crowd = of_the_crowd(9_000).to_string();
    for client in [OTHER, THIRD, CLIENT_V6, crowd.as_str()] {
        let _open = scene.open_port(client, 7001);
        spared(&scene, &daemon, client);
    }
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
    assert_eq!(scene.talk(OTHER_V6, GATE, "hello"), "hello");
    assert_eq!(scene.syns(OTHER_V6).len(), 1, "more than the set is spared");
}

#[test]
fn b13_private_addresses_are_not_looked_at_unless_the_policy_says_so() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001"));
    let _open = scene.open_port(PRIVATE, 7001);
    spared(&scene, &daemon, PRIVATE);

    apply(&daemon, &gate("ports 7001; private #true"), "shop");
    assert_eq!(scene.talk(PRIVATE, GATE, "hello"), "");
    assert_eq!(wait_findings(&daemon, PRIVATE)[&7001], "open");
}

#[test]
fn b13_the_appliance_itself_is_never_looked_at() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let daemon = daemon(&scene, &gate("ports 7001; private #true"));
    let _open = scene.firewall.enter(|| TcpListener::bind("0.0.0.0:7001")).expect("the port is free");
    for host in ["127.0.0.1", FIREWALL, FIREWALL_INSIDE] {
        let stream = scene.firewall.enter(|| TcpStream::connect((host, GATE))).expect("loopback is open");
        stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        assert_eq!(converse(stream, b"hello"), b"hello", "{host}");
    }
    assert!(verdicts(&daemon).is_empty(), "{:?}", verdicts(&daemon));
}

#[test]
fn b13_ignored_countries_are_never_looked_at() {
    let scene = Scene::new();
    let _backend = Backend::start(&scene, BACKENDS[0], Service::Echo);
    let mut daemon = Daemon::prepare(&scene.firewall);
    let database = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(COUNTRY_DATABASE);
    let folder = daemon.policy_path();
    let folder = folder.parent().expect("a policy lies in a folder");
    std::fs::copy(database, folder.join("country.mmdb")).expect("the fixture can be copied");
    let nodes = "geoip { country \"country.mmdb\" }\n".to_owned()
        + &gate(&format!("ports 7001; ignore country=\"{COUNTRY}\""));
    daemon.write_policy(&policy(&nodes));
    daemon.run();
    serving(&scene, &daemon);
    // An address that the test database knows, and the outside has for this once.
    scene.outside.run(["ip", "address", "add", &format!("{COUNTRY_CLIENT}/32"), "dev", "c0"]);
    scene.firewall.run(["ip", "route", "add", &format!("{COUNTRY_CLIENT}/32"), "via", CLIENT]);
    let _open = scene.open_port(COUNTRY_CLIENT, 7001);
    spared(&scene, &daemon, COUNTRY_CLIENT);
    let _open = scene.open_port(CLIENT, 7001);
    assert_eq!(scene.talk(CLIENT, GATE, "hello"), "");
}

const COUNTRY_DATABASE: &str = "fixtures/geoip/GeoLite2-Country-Test.mmdb";
const COUNTRY: &str = "GB";
const COUNTRY_CLIENT: &str = "2.125.160.216";
