//! A firewall and the outside, joined by a veth pair, and how to ask what the firewall saw.

use glacis_tests::daemon::{Daemon, eventually};
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Packet, Wire, flags};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

pub const FIREWALL: &str = "192.0.2.1";
pub const FIREWALL_V6: &str = "2001:db8::1";
pub const GATEWAY: &str = "192.0.2.254";
pub const SCANNER: &str = "192.0.2.66";
pub const SCANNER_V6: &str = "2001:db8:1::66";
/// Of the same /64 as the scanner.
pub const NEIGHBOUR_V6: &str = "2001:db8:1::67";
pub const FRIEND: &str = "192.0.2.77";
pub const ADMIN: &str = "192.0.2.88";
/// Addresses of the firewall besides [`FIREWALL`], for scans over many.
pub const MORE_ADDRESSES: &str = "192.0.2.100-123";
/// A port that rules open and that listens only where a test says so.
pub const SERVED: u16 = 2222;

/// What happens here takes well under a second; a busy machine may need many times that.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Scene {
    pub firewall: Namespace,
    pub outside: Namespace,
    pub wire: Wire,
}

impl Scene {
    pub fn new() -> Self {
        let (firewall, outside) = (Namespace::new("fw"), Namespace::new("out"));
        outside.veth("s0", &firewall, "g0");
        for address in [SCANNER, FRIEND, ADMIN, GATEWAY] {
            outside.address("s0", &format!("{address}/24"));
        }
        for address in [SCANNER_V6, NEIGHBOUR_V6] {
            outside.address("s0", &format!("{address}/64"));
        }
        outside.address("s0", "2001:db8::66/64");
        let wire = Wire::open(&outside, "s0", &firewall, "g0");
        Self { firewall, outside, wire }
    }

    /// Runs nmap against the firewall from one of the outside's addresses.
    pub fn nmap(&self, from: &str, words: &[&str]) {
        let target = if from.contains(':') { FIREWALL_V6 } else { FIREWALL };
        self.nmap_at(from, target, words);
    }

    pub fn nmap_at(&self, from: &str, target: &str, words: &[&str]) {
        let ends = ["-S", from, "-e", "s0", "--max-retries", "0", target];
        self.outside.run([&["timeout", "60", "nmap", "-n", "-Pn", "-T4"], words, &ends].concat());
    }

    /// One SYN from each source port to each of the ports, as a host with a real stack sends them.
    pub fn syns(&self, from: &str, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            let source =
                SocketAddr::new(from.parse().expect("written as an address"), 20_000 + port % 40_000);
            self.wire.send(&Packet::tcp(source, firewall(from, port), flags::SYN));
        }
    }

    pub fn pings(&self, from: &str) -> bool {
        let to = if from.contains(':') { FIREWALL_V6 } else { FIREWALL };
        let mut ping = self.outside.command(["ping", "-n", "-c", "1", "-W", "1", "-I", from, to]);
        ping.stdout(Stdio::null()).status().expect("ping starts").success()
    }
}

/// An end of the firewall, of the family of `like`.
pub fn firewall(like: &str, port: u16) -> SocketAddr {
    let address = if like.contains(':') { FIREWALL_V6 } else { FIREWALL };
    SocketAddr::new(address.parse().expect("written as an address"), port)
}

/// A policy around a `scan` node.
pub fn policy(scan: &str) -> String {
    let more: Vec<_> = (100..124).map(|octet| format!("address \"192.0.2.{octet}/24\"")).collect();
    let more = more.join("; ");
    format!(
        r#"
policy version=1 name="rows"
interface g0 {{
    address "{FIREWALL}/24"; address "{FIREWALL_V6}/64"; {more}
    route default via="{GATEWAY}"; route "2001:db8:1::/64"
}}
zone internet {{ from g0; default drop }}
set friends {{ entry "{FRIEND}" }}
set admins {{ entry "{ADMIN}" }}
rules from=internet to=self {{ allow ping; allow tcp={SERVED} udp={SERVED} id=served; allow ssh from=admins }}
rules from=self to=internet {{ allow all }}
{scan}
"#
    )
}

/// A daemon that is ready, with a policy around a `scan` node.
pub fn daemon<'a>(scene: &'a Scene, scan: &str) -> Daemon<'a> {
    let daemon = Daemon::start(&scene.firewall, &policy(scan));
    daemon.wait_ready();
    daemon.wait_for("the TC program on g0", |s| names(&s["scan"]["devices"], "g0"));
    // An IPv6 address is nobody's until the kernel has looked for others that have it.
    let tentative = || scene.firewall.stdout(["ip", "-6", "address", "show", "dev", "g0", "tentative"]);
    eventually("g0's addresses are its own", SOON, || tentative().trim().is_empty());
    daemon
}

fn names(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|entry| entry == word))
}

/// The records of one source, newest day first.
pub fn records(daemon: &Daemon, source: &str) -> Vec<Value> {
    let text = daemon.ask(&["scans", "events", "--json", "--address", source, "--page-size", "100"]);
    let page: Value = serde_json::from_str(&text).expect("the answer is JSON");
    let rows = page["rows"].as_array().expect("a page has rows").clone();
    rows.into_iter().filter(|row| row["source"] == source).collect()
}

/// Waits until the records of one source have something, and returns them.
pub fn wait_records(
    daemon: &Daemon,
    source: &str,
    what: &str,
    holds: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    eventually(what, SOON, || holds(&records(daemon, source)));
    records(daemon, source)
}

/// Waits until a port is recorded: whatever was sent before it has been looked at too.
pub fn wait_port(daemon: &Daemon, source: &str, port: u16) -> Vec<Value> {
    wait_records(daemon, source, &format!("a record of {source} at port {port}"), |rows| has_port(rows, port))
}

pub fn has_port(rows: &[Value], port: u16) -> bool {
    rows.iter().any(|row| row["port"] == port)
}

pub fn ban_of(daemon: &Daemon, source: &str) -> Option<Value> {
    let blocks = daemon.blocks();
    blocks.as_array().expect("blocks are a list").iter().find(|ban| ban["source"] == source).cloned()
}

/// Waits until a source is blocked, and returns the block.
pub fn wait_ban(daemon: &Daemon, source: &str) -> Value {
    eventually(&format!("a block of {source}"), SOON, || ban_of(daemon, source).is_some());
    ban_of(daemon, source).expect("it was there a moment ago, and lasts")
}
