//! The network that every peer meets: a victim, the router before it, and everyone else behind that.
//!
//! ```text
//! victim v0 198.18.0.10–33 ── r0 198.18.0.1 router r1 203.0.113.1 ── o0 203.0.113.2 … outside
//!           2001:db8::10        2001:db8::1        2001:db8:66::1       2001:db8:66::2, 2001:db8:1NN::66
//! ```

use glacis_tests::netns::{Namespace, run};
use glacis_tests::traffic::Wire;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub const VICTIM: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
pub const VICTIM_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Addresses of the victim, from [`VICTIM`] on.
pub const VICTIM_ADDRESSES: u8 = 24;
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// It has a live stack; nothing stands before it.
pub const BYSTANDER: IpAddr = outside(201);
/// They have a live stack behind a stateful firewall, as clients behind NAT do.
pub const SHELTERED: [IpAddr; 2] = [outside(202), outside(212)];
pub const OPEN_PORT: u16 = 80;

/// An answer over two veth pairs takes well under a millisecond; a busy machine may need more.
const ANSWER: Duration = Duration::from_millis(400);

/// The resolver of the machine that this runs on, which Glacis reads where the machine has it; another address where
/// it has none.
pub fn resolver() -> IpAddr {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
    let mut servers = servers.filter(|server: &IpAddr| server.is_ipv4() && !server.is_loopback());
    servers.next().unwrap_or(outside(53))
}

/// An IPv4 address of the outside, by its last octet.
pub const fn outside(octet: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, octet))
}

/// An IPv6 address of the outside, each in a /64 of its own.
pub const fn outside_v6(network: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x100 + network as u16, 0, 0, 0, 0, 0x66))
}

/// The namespaces, wired up; gone when dropped.
pub struct Network {
    pub victim: Namespace,
    router: Namespace,
    pub outside: Namespace,
    /// Where a forger's packets enter the victim's link, as all packets from afar do.
    pub before_victim: Wire,
    /// Hardware address that outside hosts send to.
    pub router_mac: String,
    service: Option<Service>,
}

impl Network {
    pub fn new() -> Self {
        let (victim, router, outside) =
            (Namespace::new("victim"), Namespace::new("router"), Namespace::new("out"));
        router.veth("r0", &victim, "v0");
        router.veth("r1", &outside, "o0");
        address_outside(&router, &outside);
        let mut network = Self {
            before_victim: Wire::open(&router, "r0", &victim, "v0"),
            router_mac: hardware_address(&router, "r1"),
            victim,
            router,
            outside,
            service: None,
        };
        network.address_victim();
        network.service = Some(Service::start(&network.victim));
        network
    }

    /// Gives the victim its addresses and its way out; harmless where they are already there.
    pub fn address_victim(&self) {
        let ip = |words: &[&str]| drop(self.victim.run([&["ip"], words].concat()));
        for n in 0..VICTIM_ADDRESSES {
            ip(&["address", "replace", &format!("198.18.0.{}/24", VICTIM.octets()[3] + n), "dev", "v0"]);
        }
        ip(&["address", "replace", &format!("{VICTIM_V6}/64"), "dev", "v0", "nodad"]);
        ip(&["route", "replace", "default", "via", &GATEWAY.to_string()]);
        ip(&["route", "replace", "default", "via", &GATEWAY_V6.to_string()]);
    }

    /// Whether the victim's open port answers this address.
    pub fn reachable(&self, from: IpAddr) -> bool {
        (0..2).any(|_| self.answers(from, ANSWER))
    }

    /// Begins a connection from this outside address to each of the ports, all at once, and waits for no answer.
    pub fn knock(&self, from: IpAddr, ports: RangeInclusive<u16>) {
        self.outside.enter(|| {
            let knock = |port| {
                let socket = rustix::net::socket_with(
                    AddressFamily::INET,
                    SocketType::STREAM,
                    SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                    None,
                )
                .expect("a socket can be made");
                rustix::net::bind(&socket, &SocketAddr::new(from, 0)).expect("outside has the address");
                // In progress, or refused already: either way its SYN has left.
                let _ = rustix::net::connect(&socket, &SocketAddr::new(VICTIM.into(), port));
                socket
            };
            // Closed only when all have knocked, so that those that are let in are let in.
            drop(ports.map(knock).collect::<Vec<_>>());
        });
    }

    /// One connection to the victim's open port from this address.
    pub fn answers(&self, from: IpAddr, patience: Duration) -> bool {
        let to = match from {
            IpAddr::V4(_) => SocketAddr::new(VICTIM.into(), OPEN_PORT),
            IpAddr::V6(_) => SocketAddr::new(VICTIM_V6.into(), OPEN_PORT),
        };
        let home = if from == GATEWAY { &self.router } else { &self.outside };
        home.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let socket = if from.is_ipv4() {
                    tokio::net::TcpSocket::new_v4()
                } else {
                    tokio::net::TcpSocket::new_v6()
                }
                .expect("a socket can be made");
                socket.bind(SocketAddr::new(from, 0)).expect("outside has the address");
                let connected = tokio::time::timeout(patience, socket.connect(to)).await;
                matches!(connected, Ok(Ok(_)))
            })
        })
    }
}

fn address_outside(router: &Namespace, outside_hosts: &Namespace) {
    router.address("r0", &format!("{GATEWAY}/24"));
    router.address("r0", &format!("{GATEWAY_V6}/64"));
    router.address("r1", "203.0.113.1/24");
    router.address("r1", "2001:db8:66::1/64");
    for octet in 2..=254 {
        outside_hosts.address("o0", &format!("{}/24", outside(octet)));
    }
    outside_hosts.run(["ip", "address", "replace", &format!("{}/32", resolver()), "dev", "o0"]);
    outside_hosts.address("o0", "2001:db8:66::2/64");
    for network in 0..8 {
        outside_hosts.address("o0", &format!("{}/128", outside_v6(network)));
    }
    // Answers to forged sources leave for the outside and end there.
    router.run(["ip", "route", "add", "default", "via", "203.0.113.2"]);
    router.run(["ip", "route", "add", "2001:db8:100::/40", "via", "2001:db8:66::2"]);
    outside_hosts.run(["ip", "route", "add", "default", "via", "203.0.113.1"]);
    outside_hosts.run(["ip", "route", "add", "default", "via", "2001:db8:66::1"]);
    for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        router.run(["sysctl", "-qw", &format!("{name}=1")]);
    }
    // Scanners send with a raw socket, so what answers them has no state there: only the sheltered one has a firewall.
    let [one, other] = SHELTERED;
    let shelter = format!(
        "add table ip shelter
         add chain ip shelter in {{ type filter hook prerouting priority filter; }}
         add rule ip shelter in ip daddr {{ {one}, {other} }} ct state != established drop"
    );
    outside_hosts.run(["nft", &shelter]);
}

fn hardware_address(namespace: &Namespace, device: &str) -> String {
    let text = namespace.stdout(["ip", "-json", "link", "show", "dev", device]);
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
    links[0]["address"].as_str().expect("a veth has a hardware address").to_owned()
}

/// The victim's one open port: connections are taken and closed.
struct Service {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(victim: &Namespace) -> Self {
        let listener = victim.enter(|| TcpListener::bind(("::", OPEN_PORT))).expect("the port is free");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                while listener.accept().is_ok() {}
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a tool of the outside for at most so long; how it ends does not matter, only what it sent.
pub fn tool(network: &Network, seconds_max: u32, argv: &[&str]) {
    let mut command = network.outside.command(["timeout", &seconds_max.to_string()].iter().chain(argv));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
}

/// The ruleset of a host as the documents of log readers want it: what is served passes, the rest is logged and dropped.
pub fn load_logging_firewall(victim: &Namespace, prefix: &str) {
    for tool in ["iptables", "ip6tables"] {
        let append = |rule: &[&str]| {
            run(&mut victim.command([&[tool, "-w", "-A", "INPUT"], rule].concat()));
        };
        append(&["-i", "lo", "-j", "ACCEPT"]);
        append(&["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"]);
        append(&["-p", "tcp", "--dport", &OPEN_PORT.to_string(), "-j", "ACCEPT"]);
        append(&["-p", if tool == "iptables" { "icmp" } else { "icmpv6" }, "-j", "ACCEPT"]);
        append(&["-j", "LOG", "--log-prefix", prefix]);
        append(&["-j", "DROP"]);
    }
}
