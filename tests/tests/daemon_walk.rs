//! The daemon on a host: a scanner in a namespace, the firewall in another, real packets between them.

use glacis_tests::daemon::{Daemon, eventually};
use glacis_tests::netns::Namespace;
use glacis_tests::vm::http_get;
use serde_json::Value;
use std::fs;
use std::time::Duration;

const POLICY: &str = r#"
policy version=1 name="walk"
interface g0 { address "192.0.2.1/24"; address "2001:db8::1/64"; route "2001:db8:1::/64" }
zone internet { from g0; default drop }
set friends { entry "192.0.2.77" }
rules from=internet to=self { allow ping; allow tcp=2222 id=echo }
rules from=self to=internet { allow all }
scan {
    interfaces g0
    auto-block { threshold 20; window "1m"; duration "20s"; never friends }
}
status { listen tcp=9777 on=internet }
"#;

struct Scene {
    firewall: Namespace,
    scanner: Namespace,
}

fn scene() -> Scene {
    let (firewall, scanner) = (Namespace::new("fw"), Namespace::new("scan"));
    scanner.veth("s0", &firewall, "g0");
    scanner.address("s0", "192.0.2.66/24");
    scanner.address("s0", "192.0.2.77/24");
    scanner.address("s0", "2001:db8::66/64");
    scanner.address("s0", "2001:db8:1::66/64");
    Scene { firewall, scanner }
}

impl Scene {
    fn pings(&self, from: &str) -> bool {
        let to = if from.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
        self.scanner
            .command(["ping", "-n", "-c", "1", "-W", "1", "-I", from, to])
            .output()
            .expect("ping runs and the blocks are a list")
            .status
            .success()
    }

    fn scan(&self, from: &str, ports: &str) {
        self.scanner.run([
            "nmap",
            "-n",
            "-Pn",
            "-sS",
            "-S",
            from,
            "-e",
            "s0",
            "-p",
            ports,
            "--max-retries",
            "0",
            "-T4",
            "192.0.2.1",
        ]);
    }
}

fn source_blocked(blocks: &Value, source: &str) -> bool {
    blocks.as_array().expect("ping runs and the blocks are a list").iter().any(|ban| ban["source"] == source)
}

#[test]
fn a12_a_scan_is_recorded_and_its_source_blocked_until_its_time_is_up() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    assert!(scene.pings("192.0.2.66"), "the policy allows ping\n{}", daemon.log());

    scene.scan("192.0.2.66", "1-60");
    daemon.wait_for("the block", |s| s["bans_active"] == 1);
    assert!(source_blocked(&daemon.blocks(), "192.0.2.66/32"));
    let set = daemon.nft(&["list", "set", "inet", "glacis", "bans4"]);
    assert!(set.contains("192.0.2.66 timeout") && set.contains("expires"), "{set}");
    assert!(!scene.pings("192.0.2.66"), "a blocked source is answered");
    assert!(scene.pings("192.0.2.77"), "another source is not");
    daemon.wait_for("the records", |s| s["store"]["scan_records"].as_u64().unwrap() >= 20);

    eventually("the block ends", Duration::from_secs(40), || scene.pings("192.0.2.66"));
    daemon.wait_for("the end of the block is noticed", |s| s["bans_active"] == 0);
    let events = daemon.ask(&["events"]);
    assert!(events.contains("192.0.2.66 blocked by auto") && events.contains("its time is up"), "{events}");
}

#[test]
fn a16_whitelisted_sources_are_recorded_and_never_auto_blocked() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    scene.scan("192.0.2.77", "1-60");
    daemon.wait_for("the records", |s| s["store"]["scan_records"].as_u64().unwrap() >= 20);
    assert_eq!(daemon.status()["bans_active"], 0);
    let refusal = daemon.refused(&["block", "192.0.2.77"]);
    assert!(refusal.contains("never blocked by the policy") && refusal.contains("--force"), "{refusal}");
    daemon.ask(&["block", "192.0.2.77", "--force"]);
    assert!(!scene.pings("192.0.2.77"));
}

#[test]
fn a18_blocks_by_hand_work_at_once_and_can_be_lifted() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    eventually("the address is no longer tentative", Duration::from_secs(10), || {
        scene.pings("2001:db8:1::66")
    });
    daemon.ask(&["block", "2001:db8:1::/64", "--for", "1h", "--note", "by hand"]);
    assert!(!scene.pings("2001:db8:1::66"));
    assert!(daemon.ask(&["blocks"]).contains("2001:db8:1::/64"));
    let refusal = daemon.refused(&["unblock", "2001:db8:1::66"]);
    assert!(refusal.contains("2001:db8:1::/64"), "{refusal}");
    daemon.ask(&["unblock", "2001:db8:1::/64"]);
    assert!(scene.pings("2001:db8:1::66"));
    let own = daemon.refused(&["block", "192.0.2.1"]);
    assert!(own.contains("address of this host"), "{own}");
}

#[test]
fn a_killed_core_leaves_the_firewall_and_its_successor_takes_over() {
    let scene = scene();
    let mut daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    daemon.ask(&["block", "192.0.2.66", "--for", "1h"]);
    daemon.ask(&["block", "192.0.2.128/25", "--for", "1h"]);
    let rules = daemon.nft(&["-s", "list", "table", "inet", "glacis"]);
    daemon.kill();

    assert!(!scene.pings("192.0.2.66"), "the block died with the core");
    assert!(scene.pings("192.0.2.77"), "the rules died with the core");
    daemon.run();
    let status = daemon.wait_ready();
    assert_eq!(status["bans_active"], 2);
    assert_eq!(status["scan"]["devices"][0], "g0");
    assert!(!scene.pings("192.0.2.66"));
    assert_eq!(daemon.nft(&["-s", "list", "table", "inet", "glacis"]), rules);
    let set = daemon.nft(&["list", "set", "inet", "glacis", "bans4"]);
    assert!(set.contains("expires 59m"), "the remaining time was not restored: {set}");
    daemon.ask(&["unblock", "192.0.2.66"]);
    assert!(scene.pings("192.0.2.66"), "the TC program kept a lifted block");
}

#[test]
fn p06_a_broken_policy_changes_nothing_and_says_why() {
    let scene = scene();
    let mut daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    let rules = daemon.nft(&["-s", "list", "table", "inet", "glacis"]);
    let unchanged = |daemon: &Daemon<'_>| {
        assert_eq!(daemon.nft(&["-s", "list", "table", "inet", "glacis"]), rules);
        assert!(scene.pings("192.0.2.66"));
    };

    let broken: [(&str, Vec<u8>, &str); 7] = [
        ("broken KDL", b"interface g0 {".to_vec(), "policy.kdl"),
        ("an unknown interface", POLICY.replace("from g0", "from g9").into_bytes(), "g9"),
        (
            "an address clash",
            POLICY.replace("address \"2001:db8::1/64\"", "address \"192.0.2.1/24\"").into_bytes(),
            "192.0.2.1",
        ),
        ("a zone without interface", POLICY.replace("from g0; ", "").into_bytes(), "internet"),
        ("port 70000", POLICY.replace("2222", "70000").into_bytes(), "70000"),
        ("no UTF-8", [POLICY.as_bytes(), b"// \xff"].concat(), "UTF-8"),
        ("10 MB", [POLICY.as_bytes(), &b"// filler\n".repeat(1 << 20)].concat(), "are the most"),
    ];
    for (what, text, said) in broken {
        fs::write(daemon.policy_path(), text).unwrap();
        let refusal = daemon.refused(&["apply"]);
        assert!(refusal.contains(said), "{what}: {refusal}");
        let status = daemon.status();
        assert!(!status["problems"].as_array().unwrap().is_empty(), "{what} is no problem in the status");
        unchanged(&daemon);
    }
    fs::remove_file(daemon.policy_path()).unwrap();
    assert!(daemon.refused(&["apply"]).contains("cannot read the policy"));
    unchanged(&daemon);

    daemon.kill();
    daemon.run();
    let status = daemon.wait_ready();
    assert_eq!(status["policy"]["source"], "last-good");
    unchanged(&daemon);
    daemon.write_policy(POLICY);
    daemon.ask(&["apply"]);
    let status = daemon.status();
    assert_eq!(status["policy"]["source"], "file");
    assert_eq!(status["problems"], Value::Array(vec![]), "{}", daemon.log());
}

#[test]
fn p06_before_any_policy_all_is_dropped() {
    let scene = scene();
    let mut daemon = Daemon::prepare(&scene.firewall);
    scene.firewall.address("g0", "192.0.2.1/24");
    assert!(scene.pings("192.0.2.66"));
    daemon.run();
    daemon.wait_for("drop all", |s| s["firewall"] == "drop-all" && s["workers"][0]["pid"].is_u64());
    let page = scene.firewall.enter(|| http_get("127.0.0.1:9777".parse().unwrap(), "/")).unwrap();
    assert!(page.1.contains("cannot read the policy"), "{}", page.1);
    assert!(!scene.pings("192.0.2.66"));
    scene.firewall.run(["nft", "flush", "ruleset"]);
    eventually("the door is closed again", Duration::from_secs(30), || !scene.pings("192.0.2.66"));
    daemon.write_policy(POLICY);
    daemon.ask(&["apply"]);
    eventually("the policy's door is open", Duration::from_secs(30), || scene.pings("192.0.2.66"));
}

#[test]
fn a_ban_does_not_hide_that_someone_else_changed_the_ruleset() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    scene.firewall.run(["nft", "flush", "chain", "inet", "glacis", "internet.self"]);
    daemon.ask(&["block", "198.51.100.1", "--for", "1h"]);
    assert!(!scene.pings("192.0.2.77"));
    eventually("the rule is back", Duration::from_secs(30), || scene.pings("192.0.2.77"));
    assert!(daemon.nft(&["list", "set", "inet", "glacis", "bans4"]).contains("198.51.100.1"));
}

fn hits_recorded(daemon: &Daemon) -> u64 {
    let summary: Value =
        serde_json::from_str(&daemon.ask(&["scans", "summary", "--json"])).expect("the command prints JSON");
    summary["hits"]["current"].as_u64().expect("a number of hits")
}

#[test]
fn a14_the_window_outlives_a_restart_and_nothing_is_recorded_twice() {
    let scene = scene();
    let mut daemon = Daemon::start(
        &scene.firewall,
        &POLICY.replace("threshold 20; window \"1m\"", "threshold 40; window \"5m\""),
    );
    daemon.wait_ready();
    scene.scan("192.0.2.66", "1-15");
    daemon.wait_for("the records", |s| s["store"]["scan_records"].as_u64().unwrap() >= 15);
    // A sweep of the kernel's table comes every ten seconds.
    std::thread::sleep(Duration::from_secs(12));
    let before = hits_recorded(&daemon);
    assert!((15..40).contains(&before), "{before} hits of 15 ports");
    daemon.kill();
    daemon.run();
    daemon.wait_ready();
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(hits_recorded(&daemon), before, "hits of before the restart are recorded again");
    scene.scan("192.0.2.66", "101-125");
    daemon.wait_for("the block, for what was done before and after", |s| s["bans_active"] == 1);
}

#[test]
fn p05_a_reload_keeps_bans_and_what_someone_else_broke_is_mended() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    daemon.ask(&["block", "192.0.2.66", "--for", "1h"]);
    daemon.write_policy(&POLICY.replace("allow ping; ", ""));
    let changes = daemon.ask(&["apply"]);
    assert!(changes.contains("revision 2"), "{changes}");
    assert!(!scene.pings("192.0.2.77"), "the new policy is not in force");
    assert!(daemon.nft(&["list", "set", "inet", "glacis", "bans4"]).contains("192.0.2.66"));
    assert!(daemon.ask(&["apply"]).contains("nothing to change"));

    scene.firewall.run(["nft", "flush", "chain", "inet", "glacis", "input"]);
    scene.firewall.run(["ip", "address", "flush", "dev", "g0"]);
    let mended = || {
        let input = daemon.nft(&["list", "chain", "inet", "glacis", "input"]);
        input.lines().count() > 5
            && scene.firewall.stdout(["ip", "address", "show", "g0"]).contains("192.0.2.1/24")
    };
    eventually("the ruleset and the addresses are back", Duration::from_secs(30), mended);
    daemon.wait_ready();
}

#[test]
fn plan_shows_what_apply_would_change() {
    let scene = scene();
    let daemon = Daemon::start(&scene.firewall, POLICY);
    daemon.wait_ready();
    let other = daemon.state_path().join("other.kdl");
    fs::write(&other, POLICY.replace("tcp=2222", "tcp=2223")).unwrap();
    let plan = daemon.ask(&["plan", other.to_str().unwrap()]);
    assert!(plan.contains("2223") && plan.contains("2222"), "{plan}");
    assert!(daemon.nft(&["list", "table", "inet", "glacis"]).contains("2222"), "plan changed something");
    let nft = daemon.ask(&["plan", other.to_str().unwrap(), "--nft"]);
    assert!(nft.contains("table inet glacis"));
}
