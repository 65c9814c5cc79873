//! What counts as a probe, and what does not.

use crate::scene::*;
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Packet, flags};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

const WATCH: &str = "scan { interfaces g0 }";

#[test]
fn a01_off_stops_collecting_and_keeps_what_there_is() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    scene.syns(SCANNER, [7001]);
    wait_port(&daemon, SCANNER, 7001);

    daemon.write_policy(&policy(""));
    daemon.ask(&["apply"]);
    daemon.wait_for("nothing is watched", |s| {
        s["scan"]["enabled"] == false && s["scan"]["devices"] == serde_json::json!([])
    });
    scene.syns(SCANNER, [7002]);
    assert!(has_port(&records(&daemon, SCANNER), 7001), "what was recorded before is gone");

    daemon.write_policy(&policy(WATCH));
    daemon.ask(&["apply"]);
    daemon.wait_for("g0 is watched again", |s| s["scan"]["devices"] == serde_json::json!(["g0"]));
    scene.syns(SCANNER, [7003]);
    let rows = wait_port(&daemon, SCANNER, 7003);
    assert!(has_port(&rows, 7001) && !has_port(&rows, 7002), "{rows:#?}");
}

#[test]
fn a03_an_interface_that_appears_later_is_watched() {
    let scene = Scene::new();
    let policy = policy("scan { interfaces g0 g1 }")
        .replace("interface g0", "interface g1 { address \"198.51.100.1/24\" }\ninterface g0")
        .replace("from g0;", "from g0 g1;");
    let daemon = glacis_tests::daemon::Daemon::start(&scene.firewall, &policy);
    daemon.wait_for("g0 is watched", |s| s["scan"]["devices"] == serde_json::json!(["g0"]));
    scene.outside.veth("s1", &scene.firewall, "g1");
    scene.outside.address("s1", "198.51.100.66/24");
    daemon.wait_for("g1 is watched", |s| s["scan"]["devices"] == serde_json::json!(["g0", "g1"]));
    daemon.wait_ready();
    let argv = ["nmap", "-n", "-Pn", "-sS", "-p", "7001", "--max-retries", "1", "198.51.100.1"];
    scene.outside.run(argv);
    wait_port(&daemon, "198.51.100.66", 7001);
}

#[test]
fn a04_every_outward_interface_is_watched_and_no_inward_one() {
    let scene = Scene::new();
    scene.outside.veth("s1", &scene.firewall, "g1");
    scene.outside.veth("s2", &scene.firewall, "g2");
    let inner = r#"
interface g1 { address "8.8.4.1/24" }
interface g2 { address "10.9.0.1/24" }
interface g0"#;
    let policy = policy("scan")
        .replacen("interface g0", inner, 1)
        .replace("zone internet", "zone home { from g2 }\nzone internet")
        .replace("from g0;", "from g0 g1;");
    let daemon = glacis_tests::daemon::Daemon::start(&scene.firewall, &policy);
    daemon.wait_ready();
    // g0 has the default route, g1 a public address, g2 neither.
    daemon.wait_for("both outward ones", |s| s["scan"]["devices"] == serde_json::json!(["g0", "g1"]));
}

#[test]
fn a06_a_syn_is_an_attempt_whatever_its_congestion_bits_and_a_syn_ack_is_none() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    let source: SocketAddr = format!("{SCANNER}:40000").parse().unwrap();
    let send = |port, flags| scene.wire.send(&Packet::tcp(source, firewall(SCANNER, port), flags));
    send(7001, flags::SYN | flags::ECE | flags::CWR);
    send(7002, flags::SYN | flags::ACK);
    send(7003, flags::SYN);
    let rows = wait_port(&daemon, SCANNER, 7003);
    let attempts: Vec<_> = rows.iter().filter(|row| row["kinds"] == serde_json::json!(["syn"])).collect();
    assert_eq!(attempts.len(), 2, "{rows:#?}");
    assert!(has_port(&rows, 7001), "{rows:#?}");
}

#[test]
fn a07_answers_to_flows_behind_masquerade_are_no_probes_whatever_their_port() {
    let scene = Scene::new();
    let home = Namespace::new("home");
    home.veth("h0", &scene.firewall, "g1");
    home.address("h0", "10.9.0.2/24");
    let policy = policy(WATCH)
        .replacen("interface g0", "interface g1 { address \"10.9.0.1/24\" }\ninterface g0", 1)
        .replace("zone internet", "zone home { from g1 }\nzone internet")
        + "rules from=home to=internet { allow all }\nnat { masquerade home out=g0 }\n";
    let daemon = glacis_tests::daemon::Daemon::start(&scene.firewall, &policy);
    daemon.wait_ready();
    home.run(["ip", "route", "add", "default", "via", "10.9.0.1"]);

    let server = scene.outside.enter(|| UdpSocket::bind((SCANNER, 9000))).unwrap();
    let client = home.enter(|| UdpSocket::bind("10.9.0.2:5000")).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(SOON)).unwrap();
    }
    let mut buffer = [0; 16];
    client.send_to(b"question", (SCANNER, 9000)).unwrap();
    let (_, seen_as) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(seen_as.ip().to_string(), FIREWALL, "it is not masqueraded");
    for _ in 0..50 {
        server.send_to(b"answer", seen_as).unwrap();
        client.recv_from(&mut buffer).unwrap();
    }
    // The same server, to a port that no flow of ours came from.
    server.send_to(b"probe", (FIREWALL, 7777)).unwrap();
    let rows = wait_port(&daemon, SCANNER, 7777);
    assert_eq!(rows.len(), 1, "answers are taken for probes: {rows:#?}");
}

#[test]
fn a08_a_port_is_open_from_the_moment_that_something_listens_and_no_longer() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    for (source, address) in [(SCANNER, FIREWALL), (SCANNER_V6, FIREWALL_V6)] {
        let bind = |port| {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            scene.firewall.enter(move || (TcpListener::bind(to).unwrap(), UdpSocket::bind(to).unwrap()))
        };
        let datagram = |port| {
            let from = SocketAddr::new(source.parse().unwrap(), 40_000);
            scene.wire.send(&Packet::udp(from, firewall(source, port), b"?"));
        };
        let sockets = bind(7001);
        scene.syns(source, [7001]);
        datagram(7001);
        drop(sockets);
        scene.syns(source, [7002]);
        datagram(7003);
        let rows = wait_records(&daemon, source, "both markers", |rows| {
            has_port(rows, 7002) && has_port(rows, 7003)
        });
        assert!(!has_port(&rows, 7001), "{source}: an open port is taken for a closed one: {rows:#?}");
        scene.syns(source, [7001]);
        datagram(7001);
        let both = |rows: &[serde_json::Value]| rows.iter().filter(|row| row["port"] == 7001).count() == 2;
        wait_records(&daemon, source, "the port is closed again, for TCP and UDP", both);
    }
}

#[test]
fn a08_what_listens_on_another_address_is_no_open_port() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    let elsewhere = |address: &str| {
        let to: SocketAddr = format!("{address}:7001").parse().unwrap();
        scene.firewall.enter(move || TcpListener::bind(to).unwrap())
    };
    let _sockets = [elsewhere("127.0.0.1"), elsewhere("192.0.2.100")];
    scene.syns(SCANNER, [7001]);
    wait_port(&daemon, SCANNER, 7001);
}

#[test]
fn a09_a_port_that_the_policy_forwards_counts_as_open() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    let forward = "nat { forward tcp=7001 in=g0 to=\"10.9.0.2\" }\n";
    let home = "interface g1 { address \"10.9.0.1/24\" }\nzone home { from g1 }\n";
    daemon.write_policy(&(policy(WATCH) + home + forward));
    daemon.ask(&["apply"]);
    scene.syns(SCANNER, [7001, 7002]);
    let rows = wait_port(&daemon, SCANNER, 7002);
    assert_eq!(rows.len(), 1, "a forwarded port is taken for a closed one: {rows:#?}");
    // The forward is gone, and so is the port.
    daemon.write_policy(&(policy(WATCH) + home));
    daemon.ask(&["apply"]);
    scene.syns(SCANNER, [7001]);
    wait_port(&daemon, SCANNER, 7001);
}

#[test]
fn a10_repeated_probes_are_one_record_with_a_count() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    for _ in 0..13 {
        scene.syns(SCANNER, [7001]);
    }
    let rows = wait_records(&daemon, SCANNER, "all thirteen", |rows| {
        rows.first().is_some_and(|row| row["hits"] == 13)
    });
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert!(rows[0]["first"].as_u64() <= rows[0]["last"].as_u64(), "{rows:#?}");
}

#[test]
fn a24_clearing_takes_records_and_leaves_settings_and_blocks() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    daemon.ask(&["block", "198.51.100.9", "--for", "1h"]);
    scene.syns(SCANNER, 7001..7011);
    wait_records(&daemon, SCANNER, "ten records", |rows| rows.len() == 10);
    daemon.refused(&["scans", "clear"]);
    assert_eq!(records(&daemon, SCANNER).len(), 10, "it did not ask");
    daemon.ask(&["scans", "clear", "--yes"]);
    assert_eq!(records(&daemon, SCANNER).len(), 0);
    assert!(ban_of(&daemon, "198.51.100.9/32").is_some());
    let status = daemon.status();
    assert_eq!(status["scan"]["enabled"], true);
    assert_eq!(status["policy"]["revision"], 1);
    // What was counted before does not come back by the sweep of every ten seconds, and what comes now is counted from
    // one.
    std::thread::sleep(Duration::from_secs(12));
    scene.syns(SCANNER, [7001]);
    let rows = wait_port(&daemon, SCANNER, 7001);
    assert_eq!((rows.len(), rows[0]["hits"].as_u64()), (1, Some(1)), "{rows:#?}");
}

#[test]
fn a26_every_kind_of_stealth_scan_is_named() {
    let scene = Scene::new();
    let daemon = daemon(&scene, WATCH);
    let scans = [
        ("-sS", "syn", "192.0.2.11"),
        ("-sF", "fin", "192.0.2.12"),
        ("-sN", "null", "192.0.2.13"),
        ("-sX", "xmas", "192.0.2.14"),
        ("-sM", "maimon", "192.0.2.15"),
        ("-sA", "ack", "192.0.2.16"),
        ("-sW", "ack", "192.0.2.17"),
        ("-sU", "datagram", "192.0.2.18"),
        ("-sY", "init", "192.0.2.19"),
    ];
    for (scan, kind, source) in scans {
        scene.outside.address("s0", &format!("{source}/24"));
        scene.nmap(source, &[scan, "-p", "7001-7003"]);
        let rows = wait_records(&daemon, source, scan, |rows| rows.len() == 3);
        for row in rows {
            assert_eq!(row["kinds"], serde_json::json!([kind]), "nmap {scan}: {row:#?}");
        }
    }
}

#[test]
fn a26_stealth_kinds_are_not_looked_at_where_the_policy_says_so() {
    let scene = Scene::new();
    let daemon = daemon(&scene, "scan { interfaces g0; stealth #false }");
    let source: SocketAddr = format!("{SCANNER}:40000").parse().unwrap();
    for (port, flags) in [(7001, flags::FIN), (7002, flags::NONE), (7004, flags::ACK)] {
        scene.wire.send(&Packet::tcp(source, firewall(SCANNER, port), flags));
    }
    scene.syns(SCANNER, [7003]);
    let rows = wait_port(&daemon, SCANNER, 7003);
    assert_eq!(rows.len(), 1, "{rows:#?}");
}
