//! The compiled ruleset in a kernel, against the simulator: the same packets must have the same fate.
//!
//! ```text
//! outside ── wan [router] lan ── inside
//! ```

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_plan::closed::{BANS4, BANS6};
use glacis_plan::nft::{Atom, Element, Elements, Name, Ruleset, text};
use glacis_policy::simulate::{Network, Outcome, Packet, Transport, Verdict, walk};
use glacis_policy::{Compiled, Facts, compile, parse};
use glacis_tests::netns::Namespace;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, connect, recv, send, socket, sockopt};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long silence lasts until it counts as a drop, where the simulator expects one.
const SILENCE: Duration = Duration::from_millis(400);
/// How long an expected answer may take; silence for so long is a drop that the simulator did not expect.
const ANSWER_MAX: Duration = Duration::from_secs(5);

const POLICY: &str = r#"policy version=1 name="t"
interface wan {
    address "192.0.2.1/24"
    address "2001:db8::1/64"
    route default via="192.0.2.2"
}
interface lan {
    address "10.0.1.1/24"
    address "fd00:1::1/64"
}
zone internet {
    from wan
    default drop
}
zone home {
    from lan
    default reject
}
set admins {
    entry "203.0.113.7"
    entry "2001:db8::7"
}
blocklist bad file="bad.txt" {
    apply drop in=internet out=internet
}
rules from=internet to=self {
    allow tcp=22 from=admins id=admin
}
rules from=home to=self {
    deny tcp=22 id=no-ssh
    allow tcp="1-1000" udp=53
}
rules from=home to=internet {
    deny tcp=25
    allow all
}
rules from=self to=internet {
    allow tcp=80
}
nat {
    masquerade home out=wan
    forward tcp=443 udp=500 in=wan to="10.0.1.40" to-port=8443 hairpin=#true
}
status {
    listen tcp=9777 on=home
}
"#;

/// What a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Silence,
}

struct Hosts {
    outside: Namespace,
    router: Namespace,
    inside: Namespace,
    compiled: Compiled,
    network: Network,
}

impl Hosts {
    /// Three hosts with the policy in force on the one between.
    fn new(label: &str) -> Self {
        Self::with_policy(label, POLICY)
    }

    fn with_policy(label: &str, policy: &str) -> Self {
        let (outside, router, inside) = (Namespace::new(label), Namespace::new(label), Namespace::new(label));
        router.veth("wan", &outside, "eth0");
        router.veth("lan", &inside, "eth0");
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            router.address("wan", address);
        }
        for address in ["10.0.1.1/24", "fd00:1::1/64"] {
            router.address("lan", address);
        }
        let foreign = ["203.0.113.7/32", "203.0.113.9/32", "198.51.100.66/32", "198.18.0.1/32"];
        for address in ["192.0.2.2/24", "2001:db8::2/64", "2001:db8::7/64"].iter().chain(&foreign) {
            outside.address("eth0", address);
        }
        for address in ["10.0.1.40/24", "10.0.1.9/24", "fd00:1::9/64"] {
            inside.address("eth0", address);
        }
        router.run(["ip", "route", "add", "default", "via", "192.0.2.2"]);
        outside.run(["ip", "route", "add", "10.0.1.0/24", "via", "192.0.2.1"]);
        inside.run(["ip", "route", "add", "default", "via", "10.0.1.1"]);
        inside.run(["ip", "-6", "route", "add", "default", "via", "fd00:1::1"]);

        let policy = parse("t.kdl", policy.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
        let bad = b"198.18.0.0/15\n".to_vec();
        let facts = Facts { lists: [("bad.txt".to_owned(), Ok(bad))].into(), ..Facts::default() };
        let compiled = compile(&policy, &facts).unwrap();
        for sysctl in &compiled.plan.sysctls {
            let path = format!("/proc/sys/{}", sysctl.path);
            router.enter(|| std::fs::write(&path, &sysctl.value).unwrap_or_else(|e| panic!("{path}: {e}")));
        }
        load(&router, &text::render(&compiled.plan.ruleset));
        let network = Network::new(&compiled.plan.interfaces);
        Self { outside, router, inside, compiled, network }
    }

    /// Bans an address in the kernel, and returns the ruleset that says so.
    fn ban(&self, address: &str) -> Ruleset {
        let (set, atom): (Name, Atom) = match address.parse().unwrap() {
            IpAddr::V4(address) => (BANS4, Atom::Ipv4(address)),
            IpAddr::V6(address) => (BANS6, Atom::Ipv6(address)),
        };
        let element = format!("{{ {address} timeout 1h }}");
        self.router.run(["nft", "add", "element", "inet", "glacis", set.as_str(), &element]);
        let mut banned = self.compiled.plan.ruleset.clone();
        let sets = banned.tables.iter_mut().flat_map(|table| &mut table.sets);
        for set in sets.filter(|banned| banned.name == set) {
            set.elements = Elements::List(vec![Element::atom(atom.clone())]);
        }
        banned
    }

    fn simulated(&self, ruleset: &Ruleset, input: Option<&str>, probe: &Probe) -> Outcome {
        let transport = match probe.protocol {
            SocketType::STREAM => Transport::Tcp { source: 40_000, destination: probe.to.port() },
            _ => Transport::Udp { source: 40_000, destination: probe.to.port() },
        };
        let packet = Packet {
            input: input.map(str::to_owned),
            source: probe.from,
            destination: probe.to.ip(),
            transport,
        };
        walk(ruleset, &self.network, packet).unwrap()
    }

    /// The host whose packets arrive by an interface, or the router itself.
    fn sender(&self, input: Option<&str>) -> &Namespace {
        match input {
            Some("wan") => &self.outside,
            Some(_) => &self.inside,
            None => &self.router,
        }
    }

    /// Sends a probe and asks the simulator; both must agree. Returns what they agree on.
    fn agree(&self, input: Option<&str>, probe: &Probe) -> (Fate, Outcome) {
        let sender = self.sender(input);
        let outcome = self.simulated(&self.compiled.plan.ruleset, input, probe);
        let patience = if outcome.verdict == Verdict::Drop { SILENCE } else { ANSWER_MAX };
        let fate = sender.enter(|| probe.send(patience));
        assert_eq!(fate, fate_of(outcome.verdict), "{probe:?} by {input:?}: simulated {outcome:#?}");
        (fate, outcome)
    }
}

fn fate_of(verdict: Verdict) -> Fate {
    match verdict {
        Verdict::Accept => Fate::Answered,
        Verdict::Reject(_) => Fate::Refused,
        Verdict::Drop => Fate::Silence,
    }
}

fn load(namespace: &Namespace, ruleset: &str) {
    let mut child = namespace.command(["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{ruleset}");
}

#[derive(Debug)]
struct Probe {
    from: IpAddr,
    to: SocketAddr,
    protocol: SocketType,
}

impl Probe {
    fn tcp(from: &str, to: &str) -> Self {
        Self { from: from.parse().unwrap(), to: to.parse().unwrap(), protocol: SocketType::STREAM }
    }

    fn udp(from: &str, to: &str) -> Self {
        Self { protocol: SocketType::DGRAM, ..Self::tcp(from, to) }
    }

    /// Connects, and for UDP waits for an echo, from the namespace of the calling thread.
    fn send(&self, patience: Duration) -> Fate {
        let family = if self.from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = socket(family, self.protocol, None).unwrap();
        for direction in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
            sockopt::set_socket_timeout(&fd, direction, Some(patience)).unwrap();
        }
        bind(&fd, &SocketAddr::new(self.from, 0)).unwrap();
        let sent = connect(&fd, &self.to).and_then(|()| {
            if self.protocol == SocketType::DGRAM {
                send(&fd, b"probe", rustix::net::SendFlags::empty())?;
                recv(&fd, &mut [0_u8; 8][..], rustix::net::RecvFlags::empty())?;
            }
            Ok(())
        });
        match sent {
            Ok(()) => Fate::Answered,
            // A packet that the output hook drops is refused to its sender with `EPERM`.
            Err(Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT | Errno::PERM) => Fate::Silence,
            Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::ACCESS) => Fate::Refused,
            Err(other) => panic!("{self:?}: {other}"),
        }
    }
}

/// Answers on TCP and UDP ports of all addresses for as long as the test runs; tells who came.
fn serve(namespace: &Namespace, ports: &[u16]) -> Receiver<SocketAddr> {
    let (tell, told) = channel();
    for port in ports {
        let any = SocketAddr::from(([0_u16; 8], *port));
        let (tcp, udp) = namespace.enter(|| (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap()));
        let teller = tell.clone();
        std::thread::spawn(move || {
            while let Ok((_, peer)) = tcp.accept() {
                let _ = teller.send(peer);
            }
        });
        let teller = tell.clone();
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 64];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                let _ = teller.send(peer);
                let _ = udp.send_to(&buffer[..length], peer);
            }
        });
    }
    told
}

/// The newest visitor, as the server saw it.
fn visitor(told: &Receiver<SocketAddr>) -> IpAddr {
    let first = told.recv_timeout(ANSWER_MAX).expect("the server was reached");
    told.try_iter().last().unwrap_or(first).ip().to_canonical()
}

#[test]
fn zones_decide_as_the_simulator_says() {
    let hosts = Hosts::new("zones");
    let _router = serve(&hosts.router, &[22, 80, 1001, 9777, 53, 54]);
    let _outside = serve(&hosts.outside, &[25, 80]);
    let cases = [
        (Some("wan"), Probe::tcp("203.0.113.7", "192.0.2.1:22"), Fate::Answered),
        (Some("wan"), Probe::tcp("2001:db8::7", "[2001:db8::1]:22"), Fate::Answered),
        (Some("wan"), Probe::tcp("203.0.113.9", "192.0.2.1:22"), Fate::Silence),
        (Some("wan"), Probe::tcp("2001:db8::2", "[2001:db8::1]:22"), Fate::Silence),
        (Some("wan"), Probe::tcp("203.0.113.7", "192.0.2.1:9777"), Fate::Silence),
        (Some("lan"), Probe::tcp("10.0.1.9", "10.0.1.1:22"), Fate::Refused),
        (Some("lan"), Probe::tcp("fd00:1::9", "[fd00:1::1]:22"), Fate::Refused),
        (Some("lan"), Probe::tcp("10.0.1.9", "10.0.1.1:80"), Fate::Answered),
        (Some("lan"), Probe::tcp("10.0.1.9", "10.0.1.1:1001"), Fate::Refused),
        (Some("lan"), Probe::tcp("10.0.1.9", "10.0.1.1:9777"), Fate::Answered),
        (Some("lan"), Probe::udp("10.0.1.9", "10.0.1.1:53"), Fate::Answered),
        (Some("lan"), Probe::udp("10.0.1.9", "10.0.1.1:54"), Fate::Refused),
        (Some("lan"), Probe::tcp("10.0.1.9", "203.0.113.7:25"), Fate::Refused),
        (None, Probe::tcp("192.0.2.1", "203.0.113.7:80"), Fate::Answered),
        (None, Probe::tcp("192.0.2.1", "203.0.113.7:25"), Fate::Silence),
        (None, Probe::tcp("10.0.1.1", "10.0.1.9:80"), Fate::Silence),
    ];
    for (input, probe, wanted) in &cases {
        assert_eq!(hosts.agree(*input, probe).0, *wanted, "{probe:?}");
    }
}

#[test]
fn masquerade_and_forwards_translate_as_the_simulator_says() {
    let hosts = Hosts::new("nat");
    let outside = serve(&hosts.outside, &[80]);
    let inside = serve(&hosts.inside, &[8443]);
    let (_, out) = hosts.agree(Some("lan"), &Probe::tcp("10.0.1.9", "203.0.113.7:80"));
    assert_eq!(visitor(&outside), out.packet.source);
    assert_eq!(out.packet.source.to_string(), "192.0.2.1");

    for probe in [Probe::tcp("203.0.113.9", "192.0.2.1:443"), Probe::udp("203.0.113.9", "192.0.2.1:500")] {
        let (_, forwarded) = hosts.agree(Some("wan"), &probe);
        assert_eq!(forwarded.packet.destination.to_string(), "10.0.1.40");
        assert_eq!(visitor(&inside), forwarded.packet.source);
        assert_eq!(forwarded.packet.source.to_string(), "203.0.113.9");
    }
    let (_, hairpin) = hosts.agree(Some("lan"), &Probe::tcp("10.0.1.9", "192.0.2.1:443"));
    assert_eq!(visitor(&inside), hairpin.packet.source);
    assert_eq!(hairpin.packet.source.to_string(), "10.0.1.1");

    // Past the forward, the target is as closed as any other.
    assert_eq!(hosts.agree(Some("wan"), &Probe::tcp("203.0.113.9", "10.0.1.40:8443")).0, Fate::Silence);
}

#[test]
fn banned_and_listed_sources_are_dropped_whatever_the_rules_say() {
    let hosts = Hosts::new("bans");
    let _inside = serve(&hosts.inside, &[8443]);
    let probe = Probe::tcp("198.51.100.66", "192.0.2.1:443");
    assert_eq!(hosts.agree(Some("wan"), &probe).0, Fate::Answered);

    let banned = hosts.ban("198.51.100.66");
    assert_eq!(hosts.simulated(&banned, Some("wan"), &probe).verdict, Verdict::Drop);
    assert_eq!(hosts.outside.enter(|| probe.send(SILENCE)), Fate::Silence);
    let counter = hosts.router.stdout(["nft", "list", "counter", "inet", "glacis", "bans_dropped"]);
    assert!(!counter.contains("packets 0 "), "{counter}");

    let listed = Probe::tcp("198.18.0.1", "192.0.2.1:443");
    assert_eq!(hosts.agree(Some("wan"), &listed).0, Fate::Silence);
    let counter = hosts.router.stdout(["nft", "list", "counter", "inet", "glacis", "list.bad.dropped"]);
    assert!(!counter.contains("packets 0 "), "{counter}");
}

#[test]
fn forged_sources_are_dropped_and_counted() {
    let hosts = Hosts::new("forged");
    let _inside = serve(&hosts.inside, &[8443]);
    hosts.outside.address("eth0", "10.0.1.77/32");
    // Strict reverse paths hold for ARP, too: a neighbour whose source is forged is not even answered.
    assert_eq!(hosts.agree(Some("wan"), &Probe::tcp("203.0.113.9", "192.0.2.1:443")).0, Fate::Answered);
    let forged = Probe::tcp("10.0.1.77", "192.0.2.1:443");
    let (fate, outcome) = hosts.agree(Some("wan"), &forged);
    assert_eq!(fate, Fate::Silence);
    assert_eq!(outcome.trail.last().unwrap().comment.as_deref(), Some("forged address"));
    let counter = hosts.router.stdout(["nft", "list", "counter", "inet", "glacis", "forged_dropped"]);
    assert!(!counter.contains("packets 0 "), "{counter}");
}

/// Sends back what comes on a TCP port of all addresses, for as long as the test runs.
fn echo(namespace: &Namespace, port: u16) {
    let listener = namespace.enter(|| TcpListener::bind(SocketAddr::from(([0_u16; 8], port))).unwrap());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
}

/// A connection to an [`echo`], and whose ban is to end or to spare it.
struct Flow {
    stream: TcpStream,
    banned: &'static str,
    /// Where its like begins, and how.
    input: Option<&'static str>,
    probe: Probe,
}

impl Flow {
    fn open(hosts: &Hosts, banned: &'static str, input: Option<&'static str>, probe: Probe) -> Self {
        let family = if probe.from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let stream = hosts.sender(input).enter(|| {
            let fd = socket(family, SocketType::STREAM, None).unwrap();
            bind(&fd, &SocketAddr::new(probe.from, 0)).unwrap();
            connect(&fd, &probe.to).unwrap();
            TcpStream::from(fd)
        });
        let mut flow = Self { stream, banned, input, probe };
        assert!(flow.goes_on(ANSWER_MAX), "{:?} never began", flow.probe);
        flow
    }

    fn goes_on(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        self.stream.write_all(b"x").is_ok() && self.stream.read(&mut [0]).is_ok_and(|length| length == 1)
    }
}

/// What a ban does to flows that were open: of the host, forwarded, and begun by us, of both families.
fn flows_under_a_ban(label: &str, words: &str, survive: bool) {
    let policy = format!("{POLICY}scan {{ auto-block {{ {words} }} }}\n");
    let hosts = Hosts::with_policy(label, &policy);
    echo(&hosts.router, 22);
    echo(&hosts.inside, 8443);
    echo(&hosts.outside, 80);
    let banned = "198.51.100.66";
    let mut flows = [
        Flow::open(&hosts, "203.0.113.7", Some("wan"), Probe::tcp("203.0.113.7", "192.0.2.1:22")),
        Flow::open(&hosts, "2001:db8::7", Some("wan"), Probe::tcp("2001:db8::7", "[2001:db8::1]:22")),
        Flow::open(&hosts, banned, Some("wan"), Probe::tcp(banned, "192.0.2.1:443")),
        Flow::open(&hosts, banned, Some("lan"), Probe::tcp("10.0.1.9", "198.51.100.66:80")),
        Flow::open(&hosts, "203.0.113.7", None, Probe::tcp("192.0.2.1", "203.0.113.7:80")),
    ];
    for flow in &mut flows {
        let ruleset = hosts.ban(flow.banned);
        // The flow of a neighbour must not end for want of its link address.
        hosts.router.run(["ip", "-6", "neigh", "flush", "dev", "wan"]);
        let patience = if survive { ANSWER_MAX } else { SILENCE };
        assert_eq!(flow.goes_on(patience), survive, "{:?}", flow.probe);
        let again = hosts.sender(flow.input).enter(|| flow.probe.send(SILENCE));
        assert_eq!(again, Fate::Silence, "{:?} began anew", flow.probe);
        if survive || flow.input == Some("wan") {
            let outcome = hosts.simulated(&ruleset, flow.input, &flow.probe);
            assert_eq!(outcome.verdict, Verdict::Drop, "{:?}: {outcome:#?}", flow.probe);
        }
    }
    let counter = hosts.router.stdout(["nft", "list", "counter", "inet", "glacis", "bans_dropped"]);
    assert!(!counter.contains("packets 0 "), "{counter}");
}

#[test]
fn a17_open_flows_of_a_banned_source_go_on_unless_the_policy_ends_them() {
    flows_under_a_ban("keep", "drop-established #false", true);
}

#[test]
fn a17_open_flows_of_a_banned_source_end_on_request() {
    flows_under_a_ban("drop", "drop-established #true", false);
}
