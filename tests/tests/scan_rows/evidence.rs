//! Who may be blocked: those that receive our packets, and nobody whose name a stranger uses.

use crate::scene::*;
use glacis_tests::daemon::Daemon;
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Flood, Probes, Sent, Sources};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SPOOF_PROOF: &str =
    r#"scan { interfaces g0; auto-block { threshold 20; window "5m"; duration "1h" } }"#;
/// Distinct addresses that a flood bears besides the named ones.
const FORGED: u32 = 100_000;
/// A named one that is nobody's: no gateway, no resolver, only not there.
const ABSENT: &str = "198.51.100.53";

/// Many times the threshold for each source that it names.
fn flood(named: &[&str]) -> Flood {
    let named: Vec<IpAddr> =
        named.iter().map(|address| address.parse().expect("written as an address")).collect();
    let first = IpAddr::from([100, 64, 0, 0]);
    Flood {
        packets_max: 3_000_000,
        packets_per_second: Some(20_000),
        time_max: Duration::from_secs(120),
        ports: 7001..=7999,
        ..Flood::syn(Sources::forged(first, FORGED).with(&named), firewall(FIREWALL, 0).ip())
    }
}

/// Sends a flood from behind the scanners for as long as `meanwhile` takes, and for one pass over all sources at least.
fn amid(scene: &Scene, flood: &Flood, meanwhile: impl FnOnce()) -> Sent {
    let stop = AtomicBool::new(false);
    let first_pass = Flood { packets_max: u64::from(FORGED) * 8 / 7 + 8, ..flood.clone() };
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let first = scene.wire.flood(&first_pass);
            let rest = scene.wire.flood_until(flood, &stop);
            Sent { packets: first.packets + rest.packets, refused: first.refused + rest.refused, ..rest }
        });
        meanwhile();
        stop.store(true, Ordering::Relaxed);
        sent.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn sources(daemon: &Daemon) -> Vec<String> {
    let blocks = daemon.blocks();
    let blocks = blocks.as_array().expect("blocks are a list");
    blocks.iter().map(|ban| ban["source"].as_str().expect("a prefix").to_owned()).collect()
}

#[test]
fn a28_a_forged_flood_blocks_nobody_and_hides_no_real_scanner() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    let honest = [("192.0.2.11", "-sS"), ("192.0.2.12", "-sT"), ("192.0.2.13", "masscan")];
    for (source, _) in honest {
        scene.outside.address("s0", &format!("{source}/24"));
    }
    let router = scene.firewall.stdout(["cat", "/sys/class/net/g0/address"]);
    let resolver = "192.0.2.253";
    let sent = amid(&scene, &flood(&[GATEWAY, resolver, ABSENT]), || {
        for (source, scan) in honest {
            match scan {
                "masscan" => {
                    let argv =
                        ["masscan", "-p7001-7060", "--rate", "100", "--wait", "1", "--interface", "s0"];
                    let ends = ["--adapter-ip", source, "--router-mac", router.trim(), FIREWALL];
                    scene.outside.run([&argv[..], &ends].concat());
                }
                _ => scene.nmap(source, &[scan, "-p", "7001-7060"]),
            }
        }
        for (source, _) in honest {
            let ban = wait_ban(&daemon, &format!("{source}/32"));
            assert!(ban["reason"]["echoes"].as_u64() > Some(0), "{ban:#?}");
        }
    });
    assert!(sent.packets > u64::from(FORGED), "{sent:?}");
    let mut blocked = sources(&daemon);
    blocked.sort();
    assert_eq!(blocked, ["192.0.2.11/32", "192.0.2.12/32", "192.0.2.13/32"]);
    wait_records(&daemon, ABSENT, "the forged source is recorded all the same", |rows| !rows.is_empty());
}

#[test]
fn a28_hping3_with_random_sources_blocks_nobody() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    let argv =
        ["timeout", "60", "hping3", "-q", "-S", "--rand-source", "-p", "7001", "-c", "50000", "-i", "u20"];
    // It fails when nobody answers, which is as it should be.
    let hping3 = scene.outside.command([&argv[..], &[FIREWALL]].concat()).output().expect("hping3 starts");
    let sent = String::from_utf8_lossy(&hping3.stderr).into_owned();
    assert!(sent.contains("50000 packets transmitted") || hping3.status.code() == Some(124), "{sent}");
    scene.nmap(SCANNER, &["-sS", "-p", "7001-7060"]);
    wait_ban(&daemon, &format!("{SCANNER}/32"));
    assert_eq!(sources(&daemon), [format!("{SCANNER}/32")]);
}

#[test]
fn a28_an_honest_scanner_proves_itself_over_ipv6_too() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    scene.nmap(SCANNER_V6, &["-6", "-sS", "-p", "7001-7060"]);
    let ban = wait_ban(&daemon, "2001:db8:1::/64");
    assert!(ban["reason"]["echoes"].as_u64() > Some(0), "{ban:#?}");
}

#[test]
fn a28_a_scanner_behind_a_stateful_nat_proves_itself_in_the_name_of_its_nat() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    let lan = Namespace::new("lan");
    lan.veth("l0", &scene.outside, "s1");
    lan.address("l0", "10.8.0.2/24");
    scene.outside.address("s1", "10.8.0.1/24");
    lan.run(["ip", "route", "add", "default", "via", "10.8.0.1"]);
    scene.outside.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    let masquerade = format!(
        "add table ip nat
         add chain ip nat out {{ type nat hook postrouting priority srcnat; }}
         add rule ip nat out oifname s0 snat to {SCANNER}"
    );
    scene.outside.run(["nft", &masquerade]);
    lan.run([
        "timeout",
        "60",
        "nmap",
        "-n",
        "-Pn",
        "-T4",
        "-sS",
        "-p",
        "7001-7060",
        "--max-retries",
        "0",
        FIREWALL,
    ]);
    let ban = wait_ban(&daemon, &format!("{SCANNER}/32"));
    assert!(ban["reason"]["echoes"].as_u64() > Some(0), "{ban:#?}");
}

#[test]
fn a28_no_port_looks_open_to_who_is_challenged() {
    let scene = Scene::new();
    let _daemon = daemon(&scene, SPOOF_PROOF);
    for scan in ["-sS", "-sT"] {
        let argv = ["nmap", "-n", "-Pn", scan, "-p", "7001-7010", "--max-retries", "1", "-oG", "-", FIREWALL];
        let told = scene.outside.stdout(argv);
        assert!(!told.contains("/open/"), "nmap {scan}: {told}");
    }
}

#[test]
fn a28_datagrams_prove_nothing_and_block_nobody() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    scene.nmap(SCANNER, &["-sU", "-p", "7001-7060"]);
    wait_records(&daemon, SCANNER, "all sixty", |rows| rows.len() == 60);
    assert_eq!(sources(&daemon), Vec::<String>::new());
}

#[test]
fn a30_a_flood_costs_a_bounded_memory_and_what_it_pushes_out_is_counted() {
    let scene = Scene::new();
    let daemon = daemon(&scene, SPOOF_PROOF);
    let udp = Flood { probes: Probes::Udp, ..flood(&[]) };
    let resident_after = |first: &str| {
        let sources = Sources::forged(first.parse().unwrap(), 300_000);
        let flood = Flood { packets_max: 300_000, packets_per_second: Some(40_000), sources, ..udp.clone() };
        let seen = |s: &serde_json::Value| s["scan"]["sources"].as_u64();
        let sent = scene.wire.flood(&flood);
        assert_eq!(sent.packets + sent.refused, 300_000, "{sent:?}");
        daemon.wait_for("sources are watched", |s| seen(s) > Some(0));
        resident_kib(daemon.pid())
    };
    let (first, second) = (resident_after("100.64.0.0"), resident_after("100.80.0.0"));
    assert!(second <= first + 32 * 1024, "{first} KiB after the first flood, {second} KiB after the second");
    // A real source is seen in spite of it, and what was lost is told.
    scene.syns(SCANNER, [7001]);
    wait_port(&daemon, SCANNER, 7001);
    let scan = &daemon.status()["scan"];
    let told = scan["lost"].as_u64().unwrap() + scan["sources_forgotten"].as_u64().unwrap();
    assert!(told > 0, "600 000 sources in a bounded memory, and nothing was lost? {scan:#?}");
}

/// Memory of the process alone; pages of the store's file are the kernel's to keep or to drop.
fn resident_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("every process has one");
    line.trim().trim_end_matches(" kB").parse().expect("the kernel prints a number")
}
