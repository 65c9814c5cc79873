//! `glacis scans`, and blocks that ask first: the command line against a real daemon with known records.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::scan_query::Location;
use glacis_control::{Day, ProbeKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{Bounds, Store};
use glacis_tests::daemon::{Daemon, eventually};
use glacis_tests::netns::Namespace;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

const POLICY: &str = r#"
policy version=1 name="asked"
interface g0 { address "192.0.2.1/24" }
zone internet { from g0; default drop }
set friends { entry "192.0.2.77" }
rules from=internet to=self { allow ping }
scan { interfaces g0; auto-block { threshold 20; window "1m"; never friends } }
"#;

fn today() -> Day {
    Day::of(UnixMillis::from_system(SystemTime::now()))
}

fn hit(days_ago: u32, source: &str, port: u16, protocol: Protocol, hits: u64) -> ScanHit {
    let kind = if protocol == Protocol::Tcp { ProbeKind::Syn } else { ProbeKind::Datagram };
    ScanHit {
        source: source.parse().unwrap(),
        port,
        protocol,
        kinds: ProbeKinds::of(kind),
        at: UnixMillis(Day(today().0 - days_ago).start().0 + 3_600_000),
        hits,
    }
}

/// Today and yesterday: 150 hits of 3 sources on 123 ports. The week before: 100 hits of one source on one port.
fn records() -> Vec<ScanHit> {
    let mut hits = vec![
        hit(0, "203.0.113.9", 22, Protocol::Tcp, 12),
        hit(1, "203.0.113.9", 22, Protocol::Tcp, 8),
        hit(0, "2001:db8::9", 53, Protocol::Udp, 9),
        hit(1, "198.51.100.7", 443, Protocol::Tcp, 1),
        hit(10, "203.0.113.9", 22, Protocol::Tcp, 100),
    ];
    hits.extend((1..=120).map(|n| hit(0, "198.51.100.7", 10_000 + n, Protocol::Tcp, 1)));
    hits
}

fn locate(address: IpAddr) -> Location {
    match address.to_string().as_str() {
        "203.0.113.9" => Location {
            country_code: "SE".into(),
            country: "Sweden".into(),
            region: "Östergötland County".into(),
            city: "Linköping".into(),
            isp: "=cmd|'/C calc'!A0".into(),
            asn: 29_518,
        },
        _ => Location::default(),
    }
}

/// A daemon whose store had records before it started.
fn scene(namespace: &Namespace) -> Daemon<'_> {
    let mut daemon = Daemon::prepare(namespace);
    let store = Store::open(&daemon.state_path(), Bounds::default()).unwrap();
    assert_eq!(store.record_located(&records(), &locate).unwrap(), 0);
    drop(store);
    // A process that another test begins at this moment holds a copy of the lock's descriptor until it is executed.
    let lock = File::open(daemon.state_path().join("writer.lock")).unwrap();
    eventually("the store is let go", Duration::from_secs(10), || lock.try_lock().is_ok());
    lock.unlock().unwrap();
    daemon.write_policy(POLICY);
    daemon.run();
    daemon.wait_ready();
    daemon
}

fn namespace() -> Namespace {
    let namespace = Namespace::new("asked");
    namespace.run(["ip", "link", "add", "g0", "type", "veth", "peer", "name", "p0"]);
    namespace
}

fn json(daemon: &Daemon<'_>, words: &[&str]) -> Value {
    serde_json::from_str(&daemon.ask(words)).expect("--json prints one JSON document")
}

/// Lines of a spreadsheet, as cells without a comma or a quote in them can be read.
fn csv(daemon: &Daemon<'_>, words: &[&str]) -> Vec<Vec<String>> {
    let text = daemon.ask(words);
    assert!(text.ends_with("\r\n"), "{text:?}");
    text.split_terminator("\r\n").map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Runs a command with a terminal in front, at which someone types.
fn typed(daemon: &Daemon<'_>, words: &[&str], answer: &str) -> Output {
    let glacis = glacis_tests::bin::glacis();
    let command = std::iter::once(glacis.to_str().unwrap()).chain(words.iter().copied());
    let command: Vec<String> = command.map(|word| format!("'{word}'")).collect();
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command.join(" "), "/dev/null"])
        .env("GLACIS_SOCKET", daemon.socket_path())
        .env_remove("SSH_CONNECTION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux is installed");
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a20_the_summary_stands_beside_the_period_before() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    let summary = json(&daemon, &["scans", "summary", "--json"]);
    assert_eq!(summary["hits"]["current"], 150);
    assert_eq!(summary["hits"]["previous"], 100);
    assert_eq!(summary["ports"]["current"], serde_json::json!({ "count": 123, "exact": true }));
    assert_eq!(summary["sources"]["current"]["count"], 3);
    assert_eq!(summary["sources"]["previous"]["count"], 1);
    assert_eq!(json(&daemon, &["scans", "--json"]), summary, "alone it is the summary");

    let text = daemon.ask(&["scans"]);
    let probes = text.lines().find(|line| line.starts_with("probes")).unwrap();
    assert_eq!(probes.split_whitespace().collect::<Vec<_>>(), ["probes", "150", "+50", "%", "100", "before"]);
    let rows = csv(&daemon, &["scans", "--csv"]);
    assert_eq!(rows[1], ["probes", "150", "true", "100", "true"]);
    assert_eq!(json(&daemon, &["scans", "--days", "30", "--json"])["hits"]["current"], 250);
    assert_eq!(json(&daemon, &["scans", "--days", "365", "--json"])["days"]["last"], today().0);
}

#[test]
fn a19_a21_the_trend_has_every_day_of_the_range() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    let trend = json(&daemon, &["scans", "trend", "--days", "3", "--json"]);
    let days: Vec<_> = trend.as_array().unwrap().iter().map(|d| (&d["hits"], &d["sources"])).collect();
    let expected =
        [(0, 0), (9, 2), (141, 3)].map(|(hits, sources)| (Value::from(hits), Value::from(sources)));
    assert_eq!(days, expected.iter().map(|(hits, sources)| (hits, sources)).collect::<Vec<_>>());

    let rows = csv(&daemon, &["scans", "trend", "--csv"]);
    assert_eq!((rows.len(), rows[0].join(",")), (8, "day,probes,sources".to_owned()));
    let (first, last) = (&rows[6][0], &rows[7][0]);
    let ranged = csv(&daemon, &["scans", "trend", "--from", first, "--to", last, "--csv"]);
    assert_eq!(ranged[1..], rows[6..], "both ends are included");
    assert_eq!(csv(&daemon, &["scans", "trend", "--from", last, "--csv"]).len(), 2, "until today");
    assert_eq!(daemon.ask(&["scans", "trend"]).lines().count(), 8);
}

#[test]
fn a22_the_tops_name_sources_and_ports() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    let sources = json(&daemon, &["scans", "sources", "--json"]);
    let rows = sources["rows"].as_array().unwrap();
    let found: Vec<_> =
        rows.iter().map(|r| (r["source"].as_str().unwrap(), &r["hits"], &r["ports"]["count"])).collect();
    let numbers = [(121, 121), (20, 1), (9, 1)].map(|(hits, ports)| (Value::from(hits), Value::from(ports)));
    let names = ["198.51.100.7", "203.0.113.9", "2001:db8::9"];
    let expected: Vec<_> =
        names.iter().zip(&numbers).map(|(name, (hits, ports))| (*name, hits, ports)).collect();
    assert_eq!(found, expected);
    assert_eq!(rows[1]["location"]["city"], "Linköping");
    assert_eq!(
        json(&daemon, &["scans", "sources", "--limit", "1", "--json"])["rows"].as_array().unwrap().len(),
        1
    );
    let text = daemon.ask(&["scans", "sources"]);
    assert!(text.contains("Linköping, Östergötland County, Sweden;"), "{text}");

    let ports = json(&daemon, &["scans", "ports", "--json"]);
    assert_eq!(ports["rows"].as_array().unwrap().len(), 10);
    assert_eq!((&ports["rows"][0]["port"], &ports["rows"][0]["hits"]), (&22.into(), &20.into()));
    let rows = csv(&daemon, &["scans", "ports", "--limit", "2", "--csv"]);
    assert_eq!(rows[2], ["53", "udp", "9", "1", "true"]);
}

#[test]
fn a23_events_are_filtered_and_paged() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    let count = |words: &[&str]| {
        let page = json(&daemon, &[&["scans", "events", "--json", "--all"], words].concat());
        assert_eq!((&page["next"], &page["complete"]), (&Value::Null, &Value::Bool(true)));
        page["rows"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 124);
    assert_eq!(count(&["--days", "30"]), 125);
    assert_eq!(count(&["--address", "203.0"]), 2, "part of an address");
    assert_eq!(count(&["--address", "2001:DB8"]), 1);
    assert_eq!(count(&["--port", "443"]), 1);
    assert_eq!(count(&["--port", "44"]), 0, "ports are exact");
    assert_eq!(count(&["--protocol", "udp"]), 1);
    assert_eq!(count(&["--location", "ÖSTERGÖT"]), 2, "part of a location, whatever the case");
    assert_eq!(count(&["--location", "sweden", "--port", "22", "--address", ".9", "--protocol", "tcp"]), 2);
    assert_eq!(count(&["--location", "Norway"]), 0);

    for size in ["20", "50", "100"] {
        let page = json(&daemon, &["scans", "events", "--page-size", size, "--json"]);
        assert_eq!(page["rows"].as_array().unwrap().len(), size.parse::<usize>().unwrap());
        assert!(page["next"].is_string());
    }
    assert!(daemon.refused(&["scans", "events", "--page-size", "21"]).contains("20, 50 or 100"));
}

#[test]
fn a23_pages_follow_each_other_without_gap_or_repetition() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    let all = csv(&daemon, &["scans", "events", "--all", "--csv"]);
    let (mut walked, mut after) = (vec![], None::<String>);
    for _ in 0..10 {
        let mut words = vec!["scans", "events", "--json"];
        words.extend(after.iter().flat_map(|cursor| ["--after", cursor]));
        let page = json(&daemon, &words);
        walked.extend(page["rows"].as_array().unwrap().clone());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((after, walked.len(), all.len()), (None, 124, 125));
    for (row, cells) in walked.iter().zip(&all[1..]) {
        assert_eq!(row["source"], cells[1].as_str());
        assert_eq!(row["port"].to_string(), cells[2]);
    }
    let guarded = all.iter().find(|cells| cells[1] == "203.0.113.9").unwrap();
    assert_eq!(guarded[12], "'=cmd|'/C calc'!A0", "a provider's name is no formula");
    let page = daemon.glacis(&["scans", "events"]);
    assert_eq!(String::from_utf8_lossy(&page.stdout).lines().count(), 21, "20 rows below a heading");
    assert!(String::from_utf8_lossy(&page.stderr).contains("--after "));
    assert!(daemon.refused(&["scans", "events", "--after", "nowhere"]).contains("no place in a listing"));
    assert_eq!(daemon.ask(&["scans", "events", "--port", "1"]), "no scan records\n");
}

#[test]
fn a24_clearing_asks_first_and_leaves_blocks_and_happenings() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    daemon.ask(&["block", "198.51.100.1", "--for", "1h"]);
    let total = || json(&daemon, &["scans", "--days", "30", "--json"])["hits"]["current"].clone();
    assert!(daemon.refused(&["scans", "clear"]).contains("--yes"));
    let declined = typed(&daemon, &["scans", "clear"], "no\n");
    assert!(!declined.status.success());
    assert!(shown(&declined).contains("This removes 125 scan records for good. Settings and blocks stay."));
    assert_eq!(total(), 250);

    let agreed = typed(&daemon, &["scans", "clear"], "yes\n");
    assert!(
        agreed.status.success() && shown(&agreed).contains("125 scan records removed"),
        "{}",
        shown(&agreed)
    );
    assert_eq!(total(), 0);
    assert_eq!(daemon.blocks().as_array().unwrap().len(), 1);
    assert!(daemon.ask(&["events"]).contains("125 scan records removed by uid 0"));
    assert_eq!(daemon.ask(&["scans", "clear", "--yes"]), "0 scan records removed\n");
    assert_eq!(daemon.ask(&["scans", "sources"]), "no scans in these days\n");
}

#[test]
fn a18_blocking_oneself_or_a_friend_asks_first() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    for (source, why) in
        [("192.0.2.77", "never blocked by the policy"), ("192.0.2.1", "an address of this host")]
    {
        let refusal = daemon.refused(&["block", source]);
        assert!(refusal.contains(why) && refusal.contains("--force"), "{refusal}");
        let declined = typed(&daemon, &["block", source], "\n");
        assert!(!declined.status.success() && shown(&declined).contains(why), "{}", shown(&declined));
        assert!(shown(&declined).contains("Block it all the same? Type yes:"));
    }
    assert_eq!(daemon.blocks(), Value::Array(vec![]));
    let agreed = typed(&daemon, &["block", "192.0.2.77"], "yes\n");
    assert!(agreed.status.success(), "{}", shown(&agreed));
    assert_eq!(daemon.blocks()[0]["source"], "192.0.2.77/32");

    // In a session over SSH, one's own address is the client's.
    let own = Command::new(glacis_tests::bin::glacis())
        .args(["block", "203.0.113.0/24"])
        .env("GLACIS_SOCKET", daemon.socket_path())
        .env("SSH_CONNECTION", "203.0.113.50 50022 192.0.2.1 22")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!own.status.success());
    assert!(String::from_utf8_lossy(&own.stderr).contains("the address that you are connected from"));
    daemon.ask(&["block", "203.0.113.0/24", "--force"]);
}

#[test]
fn questions_out_of_bounds_are_refused_and_many_at_once_are_all_answered_or_refused() {
    let namespace = namespace();
    let daemon = scene(&namespace);
    for (words, said) in [
        (vec!["scans", "--days", "366"], "1..=365"),
        (vec!["scans", "--days", "0"], "1..=365"),
        (vec!["scans", "sources", "--limit", "101"], "1..=100"),
        (vec!["scans", "--from", "2026-02-30"], "no day"),
        (vec!["scans", "--to", "2026-02-20"], "--from"),
        (vec!["scans", "--from", "2026-02-02", "--to", "2026-02-01"], "exchange --from and --to"),
        (vec!["scans", "--from", "2025-01-01", "--to", "2026-02-01"], "at most 365 days"),
        (vec!["scans", "events", "--protocol", "icmp"], "tcp, udp or sctp"),
        (vec!["scans", "events", "--all", "--page-size", "20"], "--all"),
        (vec!["scans", "--json", "--csv"], "--csv"),
    ] {
        let refusal = daemon.refused(&words);
        assert!(refusal.contains(said), "{words:?}: {refusal}");
    }
    let long = "1".repeat(101);
    assert!(daemon.refused(&["scans", "events", "--address", &long]).contains("at most 100 bytes"));

    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..12).map(|_| scope.spawn(|| daemon.glacis(&["scans", "events", "--all", "--json"]))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for output in &outputs {
        let refusal = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || refusal.contains("ask again in a moment"), "{refusal}");
    }
    assert!(outputs.iter().any(|output| output.status.success()));
}
