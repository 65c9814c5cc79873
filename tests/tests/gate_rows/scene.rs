//! Clients, a firewall and backends, in three namespaces; how clients come, how their ports answer, and what reached them.

use glacis_tests::daemon::{Daemon, eventually};
use glacis_tests::netns::Namespace;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

pub const FIREWALL: &str = "203.0.113.1";
pub const FIREWALL_V6: &str = "2001:db8:1::1";
/// A neighbour of clients with private addresses.
pub const FIREWALL_PRIVATE: &str = "10.9.0.1";
/// Where backends, and who reads the status page, reach the firewall.
pub const FIREWALL_INSIDE: &str = "198.51.100.1";

/// By way of whom the firewall reaches [`CROWD`]. Gateways are never banned without being asked for, so no client is one.
pub const GATEWAY: &str = "203.0.113.254";
pub const CLIENT: &str = "203.0.113.66";
pub const OTHER: &str = "203.0.113.67";
pub const THIRD: &str = "203.0.113.68";
/// A proxy before the firewall, where a test says so.
pub const FRONT: &str = "203.0.113.88";
pub const CLIENT_V6: &str = "2001:db8:1::66";
pub const OTHER_V6: &str = "2001:db8:1::67";
pub const PRIVATE: &str = "10.9.0.66";
/// First addresses of a /18 that the outside has, too.
pub const CROWD: [u8; 2] = [198, 18];

pub const BACKENDS: [&str; 3] = ["198.51.100.10:9000", "198.51.100.11:9000", "198.51.100.12:9000"];
pub const BACKEND_V6: &str = "[2001:db8:2::10]:9000";

/// Where gates listen.
pub const GATE: u16 = 8443;
/// Where a second gate listens.
pub const SECOND_GATE: u16 = 8444;
pub const STATUS_PORT: u16 = 9777;

/// What gates find is on disk within a second.
pub const ON_DISK: Duration = Duration::from_secs(3);

/// What happens here takes well under a second; a busy machine may need many times that.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Scene {
    pub outside: Namespace,
    pub firewall: Namespace,
    pub inside: Namespace,
}

/// Counts the SYNs that reach clients, each at its port, and makes ports answer otherwise than by a reset.
const WATCH: &str = "
table inet watch {
    set syns4 { type ipv4_addr . inet_service; flags dynamic; size 200000; }
    set syns6 { type ipv6_addr . inet_service; flags dynamic; size 1000; }
    set answering4 { type ipv4_addr . inet_service; }
    set answering6 { type ipv6_addr . inet_service; }
    set silent4 { type ipv4_addr; flags interval; }
    set silent6 { type ipv6_addr; }
    set unreachable4 { type ipv4_addr; }
    set unreachable6 { type ipv6_addr; }
    chain arrive {
        type filter hook input priority 0;
        iifname \"c0\" tcp flags & (syn | ack) == syn jump knock
    }
    chain knock {
        add @syns4 { ip daddr . tcp dport counter }
        add @syns6 { ip6 daddr . tcp dport counter }
        ip daddr . tcp dport @answering4 accept
        ip6 daddr . tcp dport @answering6 accept
        ip daddr @silent4 drop
        ip6 daddr @silent6 drop
        ip daddr @unreachable4 reject with icmp host-unreachable
        ip6 daddr @unreachable6 reject with icmpv6 addr-unreachable
    }
}";

impl Scene {
    pub fn new() -> Self {
        let (outside, firewall, inside) = (Namespace::new("out"), Namespace::new("fw"), Namespace::new("in"));
        outside.veth("c0", &firewall, "w0");
        inside.veth("b0", &firewall, "l0");
        for host in [CLIENT, OTHER, THIRD, FRONT, GATEWAY] {
            outside.address("c0", &format!("{host}/24"));
        }
        for host in [CLIENT_V6, OTHER_V6] {
            outside.address("c0", &format!("{host}/64"));
        }
        outside.address("c0", &format!("{PRIVATE}/24"));
        let crowd = format!("{}.{}.0.0/18", CROWD[0], CROWD[1]);
        outside.run(["ip", "route", "add", "local", &crowd, "dev", "lo"]);
        outside.run(["nft", WATCH]);
        // ICMP errors to one destination are limited to one a second by default.
        outside.run(["sysctl", "-qw", "net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0"]);
        for backend in BACKENDS.iter().chain([&BACKEND_V6]) {
            let host = backend.parse::<SocketAddr>().expect("written as an address").ip();
            inside.address("b0", &format!("{host}/{}", if host.is_ipv4() { 24 } else { 64 }));
        }
        inside.run(["ip", "route", "add", "default", "via", FIREWALL_INSIDE]);
        inside.run(["ip", "-6", "route", "add", "default", "via", "2001:db8:2::1"]);
        Self { outside, firewall, inside }
    }

    /// A client's port accepts connections, and nobody ever says a word there.
    pub fn open_port(&self, client: &str, port: u16) -> TcpListener {
        self.answer_at(client, port);
        let to = SocketAddr::new(address(client), port);
        self.outside.enter(|| TcpListener::bind(to)).expect("the client's port is free")
    }

    /// A port that answers as its host does, although the rest of the host is silent.
    pub fn answer_at(&self, client: &str, port: u16) {
        self.element("answering", client, &format!("{client} . {port}"));
    }

    /// SYNs to this client are dropped.
    pub fn silence(&self, client: &str) {
        self.element("silent", client, client);
    }

    /// SYNs to the crowd are dropped.
    pub fn silence_crowd(&self) {
        self.element("silent", CLIENT, &format!("{}.{}.0.0/18", CROWD[0], CROWD[1]));
    }

    /// SYNs to this client are answered by an ICMP error.
    pub fn unreachable(&self, client: &str) {
        self.element("unreachable", client, client);
    }

    fn element(&self, set: &str, client: &str, element: &str) {
        let family = if client.contains(':') { 6 } else { 4 };
        self.outside.run(["nft", &format!("add element inet watch {set}{family} {{ {element} }}")]);
    }

    /// SYNs that reached a client, by port.
    pub fn syns(&self, client: &str) -> BTreeMap<u16, u64> {
        let client = address(client);
        self.all_syns()
            .into_iter()
            .filter(|((host, _), _)| *host == client)
            .map(|((_, p), n)| (p, n))
            .collect()
    }

    /// SYNs that reached anyone outside, by host and port.
    pub fn all_syns(&self) -> BTreeMap<(IpAddr, u16), u64> {
        ["syns4", "syns6"].into_iter().flat_map(|set| self.listed(set)).collect()
    }

    fn listed(&self, set: &str) -> Vec<((IpAddr, u16), u64)> {
        let text = self.outside.stdout(["nft", "-j", "list", "set", "inet", "watch", set]);
        let listing: Value = serde_json::from_str(&text).expect("nft prints JSON");
        let entries = listing["nftables"].as_array().expect("a listing is an array");
        let set = entries.iter().find_map(|entry| entry.get("set")).expect("the set is listed");
        let elements = set["elem"].as_array().cloned().unwrap_or_default();
        elements.iter().map(|element| knocked(&element["elem"])).collect()
    }

    /// A connection of a client to a port of the firewall.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn connect(&self, client: &str, port: u16) -> TcpStream {
        self.try_connect(client, port, SOON)
            .unwrap_or_else(|e| panic!("{client} does not get to {port}: {e}"))
    }

    pub fn try_connect(&self, client: &str, port: u16, within: Duration) -> io::Result<TcpStream> {
        let stream = self.outside.enter(|| connect_from(address(client), firewall(client, port), within))?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }

    /// What comes back to a client that says something and then nothing more; nothing when it is refused.
    pub fn talk(&self, client: &str, port: u16, text: &str) -> String {
        let heard = converse(self.connect(client, port), text.as_bytes());
        String::from_utf8(heard).expect("backends here speak text")
    }

    pub fn pings(&self, client: &str) -> bool {
        let to = firewall(client, 0).ip().to_string();
        let mut ping = self.outside.command(["ping", "-n", "-c", "1", "-W", "1", "-I", client, &to]);
        ping.stdout(Stdio::null()).status().expect("ping starts").success()
    }
}

/// Host and port of an element, and how many SYNs it counted.
fn knocked(element: &Value) -> ((IpAddr, u16), u64) {
    let key = &element["val"]["concat"];
    let host = key[0].as_str().and_then(|host| host.parse().ok()).expect("an address");
    let port = key[1].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
    ((host, port), element["counter"]["packets"].as_u64().expect("each element counts"))
}

/// Says everything, ends its side, and hears the other out. A reset ends what is heard.
pub fn converse(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    // A gate that refuses may do so before everything is said.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    match stream.read_to_end(&mut heard) {
        Ok(_) => heard,
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => heard,
        Err(e) => panic!("neither an answer nor an end: {e}, after {heard:?}"),
    }
}

/// In the namespace of the calling thread.
fn connect_from(from: IpAddr, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = rustix::net::socket(family, SocketType::STREAM, None)?;
    // Bounds `connect` on Linux, socket(7).
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(within))?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|e| panic!("{text} is no address: {e}"))
}

/// The firewall's end that this client reaches.
pub fn firewall(client: &str, port: u16) -> SocketAddr {
    let host = match client {
        _ if client.contains(':') => FIREWALL_V6,
        PRIVATE => FIREWALL_PRIVATE,
        _ => FIREWALL,
    };
    SocketAddr::new(address(host), port)
}

/// One of the crowd's 16,384 addresses.
pub fn of_the_crowd(index: usize) -> IpAddr {
    let [third, fourth] = u16::try_from(index).expect("there are 16,384 of them").to_be_bytes();
    IpAddr::from([CROWD[0], CROWD[1], third, fourth])
}

/// A policy around nodes of a test's own.
pub fn policy(nodes: &str) -> String {
    format!(
        r#"
policy version=1 name="gates"
interface w0 {{
    address "{FIREWALL}/24"; address "{FIREWALL_PRIVATE}/24"; address "{FIREWALL_V6}/64"
    route "{}.{}.0.0/18" via="{GATEWAY}"
}}
interface l0 {{ address "{FIREWALL_INSIDE}/24"; address "2001:db8:2::1/64" }}
zone internet {{ from w0; default drop }}
zone home {{ from l0; default drop }}
rules from=internet to=self {{ allow ping }}
rules from=home to=self {{ allow ping }}
status {{ listen tcp={STATUS_PORT} on=home }}
{nodes}
"#,
        CROWD[0], CROWD[1]
    )
}

/// A gate that leads to the first backend by way of the worker alone.
pub fn gate(more: &str) -> String {
    gate_at("shop", GATE, &format!("{} {more}", plain()))
}

/// A gate with everything but its name and its port still to say.
pub fn gate_at(name: &str, port: u16, nodes: &str) -> String {
    format!("reverse-scan {name} {{ listen tcp={port} on=internet; {nodes} }}\n")
}

/// What most gates here have: the first backend, which hears of nobody but visitors, and no way past the worker.
pub fn plain() -> String {
    format!("backend \"{}\"; health #false; fast-path #false;", BACKENDS[0])
}

/// A daemon that serves gates.
pub fn daemon<'a>(scene: &'a Scene, nodes: &str) -> Daemon<'a> {
    let daemon = Daemon::start(&scene.firewall, &policy(nodes));
    serving(scene, &daemon);
    daemon
}

/// Puts nodes into force in place of those before; `gate` is one of theirs.
pub fn apply(daemon: &Daemon, nodes: &str, gate: &str) {
    daemon.write_policy(&policy(nodes));
    daemon.ask(&["apply"]);
    heard(daemon, gate);
}

/// Waits until the gate worker has done what it was told before: a look by hand comes after that, and at this host there
/// is nothing to look at.
pub fn heard(daemon: &Daemon, gate: &str) {
    daemon.ask(&["gate", "test", "127.0.0.1", "--gate", gate]);
}

/// Waits until the ruleset stands and the gates are served.
pub fn serving(scene: &Scene, daemon: &Daemon) {
    daemon.wait_ready();
    daemon.wait_for("the gates are served", |s| {
        let workers = s["workers"].as_array().is_some_and(|workers| {
            workers.iter().any(|worker| worker["name"] == "gate" && worker["pid"].is_u64())
        });
        workers && s["gates"].as_array().is_some_and(|gates| !gates.is_empty())
    });
    // An IPv6 address is nobody's until the kernel has looked for others that have it.
    let tentative = || scene.firewall.stdout(["ip", "-6", "address", "show", "tentative"]);
    eventually("the firewall's addresses are its own", SOON, || tentative().trim().is_empty());
}
