//! The TC program against scanners as they are: every tool is told by its probes' kind and proves itself by its own
//! kernel's answers, and none sees a port open that is not.

mod tc_support;

use glacis_loader::{Counter, Detection, Event, Options, ProbeEvent, ProbeKind, Settings, TcProgram};
use glacis_tests::netns::Namespace;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tc_support::*;

const HOST: &str = "192.0.2.2";
const HOST6: &str = "2001:db8::2";
const SCANNER: &str = "192.0.2.1";
const SCANNER6: &str = "2001:db8::1";

/// A scanner, and a host that challenges, on one wire.
struct Range {
    scanner: Namespace,
    host: Namespace,
    program: TcProgram,
    _bpffs: Bpffs,
}

impl Range {
    fn new() -> Self {
        let (scanner, host) = (Namespace::new("scan"), Namespace::new("host"));
        scanner.veth("wan0", &host, "eth0");
        for (address, other) in [("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")] {
            scanner.address("wan0", address);
            host.address("eth0", other);
        }
        // Scanners send at once what they have, and a queue of unresolved packets is short.
        let mac = |namespace: &Namespace, device: &str| {
            let path = format!("/sys/class/net/{device}/address");
            namespace.stdout(["cat", &path]).trim().to_owned()
        };
        let (scanner_mac, host_mac) = (mac(&scanner, "wan0"), mac(&host, "eth0"));
        for (namespace, device, neighbours, mac) in
            [(&scanner, "wan0", [HOST, HOST6], &host_mac), (&host, "eth0", [SCANNER, SCANNER6], &scanner_mac)]
        {
            for neighbour in neighbours {
                let entry =
                    ["ip", "neigh", "replace", neighbour, "lladdr", mac, "dev", device, "nud", "permanent"];
                namespace.run(entry);
            }
        }
        let bpffs = Bpffs::mount();
        let options = Options { stealth: true, challenge: true, keep_established: false };
        let settings = Settings { detection: Detection::On, options, hook: None };
        let program = host.enter(|| {
            let mut program = TcProgram::load(&bpffs.pins(), settings).expect("the program loads");
            program.attach("eth0").expect("the program attaches");
            program
        });
        Self { scanner, host, program, _bpffs: bpffs }
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.program.counter(counter).expect("counters can be read")
    }

    /// Waits until every challenge that was sent was answered, or a second has passed.
    fn settle(&self) {
        let end = Instant::now() + Duration::from_secs(1);
        while self.counter(Counter::Echoes) < self.counter(Counter::Challenges) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What one scan was seen as.
#[derive(Debug, Default)]
struct Sight {
    kinds: BTreeMap<ProbeKind, usize>,
    echoes: u64,
    challenged: usize,
}

fn sight(events: &mut glacis_loader::EventStream, from: &str) -> Sight {
    let from: IpAddr = from.parse().expect("an address");
    let mut sight = Sight::default();
    events.drain(usize::MAX, |event| match event {
        Event::Probe(probe) if probe.key.source() == from => {
            *sight.kinds.entry(probe.kind().expect("a kind that is known")).or_default() += 1;
            sight.challenged += usize::from(probe.has(ProbeEvent::CHALLENGED));
        }
        Event::Echo { source, echoes, .. } if source == from => sight.echoes = echoes,
        _ => {}
    });
    sight
}

/// Twenty closed ports at a pace that every one of them can be challenged.
fn nmap(range: &Range, arguments: &[&str], host: &str) -> String {
    let mut argv =
        vec!["nmap", "-Pn", "-n", "--max-retries", "0", "--host-timeout", "20s", "-p", "2001-2020"];
    argv.extend(arguments);
    argv.push(host);
    range.scanner.stdout(argv)
}

#[test]
fn a26_a28_every_scan_of_nmap_is_named_and_proves_itself() {
    for (arguments, kind, proves) in [
        (&["-sS"][..], ProbeKind::Syn, true),
        (&["-sT"], ProbeKind::Syn, true),
        (&["-sF"], ProbeKind::Fin, true),
        (&["-sN"], ProbeKind::Null, true),
        (&["-sX"], ProbeKind::Xmas, true),
        (&["-sM"], ProbeKind::Maimon, true),
        (&["-sA"], ProbeKind::Ack, true),
        (&["-sW"], ProbeKind::Ack, true),
        (&["--scanflags", "PSH"], ProbeKind::OddFlags, true),
        (&["-sY"], ProbeKind::Init, false),
        (&["-sS", "-f"], ProbeKind::Fragment, true),
        (&["-sU"], ProbeKind::Datagram, false),
        (&["-sS", "--data-length", "300"], ProbeKind::Syn, true),
    ] {
        for (host, from, family) in [(HOST, SCANNER, &[][..]), (HOST6, SCANNER6, &["-6"])] {
            // nmap does not fragment IPv6.
            if kind == ProbeKind::Fragment && host == HOST6 {
                continue;
            }
            let mut range = Range::new();
            let mut events = range.program.take_events().expect("nobody has taken them");
            let shown = nmap(&range, &[arguments, family].concat(), host);
            range.settle();
            let seen = sight(&mut events, from);
            assert!(seen.kinds.get(&kind) >= Some(&20), "{arguments:?} {host}: {seen:?}");
            assert!(!shown.lines().any(|line| line.contains(" open ")), "{arguments:?} {host}: {shown}");
            if proves {
                assert!(seen.echoes >= 20, "{arguments:?} {host}: {seen:?}");
            } else {
                assert_eq!(seen.echoes, 0, "{arguments:?} {host}");
            }
        }
    }
}

#[test]
fn a28_masscan_zmap_and_hping_prove_themselves() {
    for argv in [
        &["masscan", "192.0.2.2", "-p2001-2020", "--rate", "50", "--wait", "1", "--interface", "wan0"][..],
        &["zmap", "-q", "-B", "100K", "-i", "wan0", "-p", "2001", "-b", "/dev/null", "-c", "1", HOST],
        &["hping3", "-q", "-S", "-c", "20", "-i", "u20000", "-p", "++2001", HOST],
        &["hping3", "-q", "-F", "-P", "-U", "-c", "20", "-i", "u20000", "-p", "++2001", HOST],
    ] {
        let mut range = Range::new();
        let mut events = range.program.take_events().expect("nobody has taken them");
        let mac = range.host.stdout(["cat", "/sys/class/net/eth0/address"]);
        let mut argv: Vec<&str> = argv.to_vec();
        match argv[0] {
            "masscan" => argv.extend(["--router-mac", mac.trim(), "--source-ip", SCANNER]),
            "zmap" => argv.extend(["-G", mac.trim(), "-S", SCANNER]),
            _ => {}
        }
        // hping3 fails when nothing answers, which is none of its business here.
        let output = range.scanner.command(&argv).output().expect("the tool starts");
        range.settle();
        let seen = sight(&mut events, SCANNER);
        // hping3 takes some of its own packets for answers and stops the sooner.
        let wanted = match argv[0] {
            "zmap" => 1,
            "hping3" => 10,
            _ => 20,
        };
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(seen.echoes >= wanted, "{argv:?}: {seen:?} {shown}");
        assert!(!shown.contains("open"), "{argv:?}: {shown}");
    }
}

#[test]
fn a28_the_probe_goes_on_as_it_was() {
    let mut range = Range::new();
    let mut events = range.program.take_events().expect("nobody has taken them");
    let rule = "table inet t { chain c { type filter hook input priority 0; \
        ip saddr 192.0.2.1 tcp dport 2001-2020 tcp flags == syn counter reject with tcp reset; }; }";
    range.host.run(["nft", rule]);
    for arguments in [&["-sS"][..], &["-sS", "--data-length", "300"], &["-sS", "-f"]] {
        let shown = nmap(&range, arguments, HOST);
        let rejected = shown.matches(" closed ").count();
        assert_eq!(rejected, 20, "{arguments:?}: every probe is rejected: {shown}");
        assert_eq!(sight(&mut events, SCANNER).challenged, 20, "{arguments:?}");
        // A source has 32 challenges a second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let counted = range.host.stdout(["nft", "list", "ruleset"]);
    assert!(counted.contains("counter packets 60 "), "nothing but the 60 probes: {counted}");
}

#[test]
fn a28_a_forged_source_proves_nothing() {
    let mut range = Range::new();
    let mut events = range.program.take_events().expect("nobody has taken them");
    // 192.0.2.77 exists nowhere; the host sends what it has for it to the scanner, which drops it.
    let mac = range.scanner.stdout(["cat", "/sys/class/net/wan0/address"]);
    range.host.run(["ip", "neigh", "add", "192.0.2.77", "lladdr", mac.trim(), "dev", "eth0"]);
    let argv = ["hping3", "-q", "-S", "-a", "192.0.2.77", "-c", "20", "-i", "u10000", "-p", "++2001", HOST];
    range.scanner.command(argv).output().expect("the tool starts");
    range.settle();
    let seen = sight(&mut events, "192.0.2.77");
    assert!(seen.challenged >= 10, "{seen:?}");
    assert_eq!((seen.echoes, range.counter(Counter::Echoes)), (0, 0), "{seen:?}");
}

#[test]
fn a05_a_challenge_leaves_with_the_tag_that_the_probe_came_with() {
    let range = Range::new();
    let mac = |namespace: &Namespace, device: &str| -> Vec<u8> {
        let text = namespace.stdout(["cat", &format!("/sys/class/net/{device}/address")]);
        text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16).expect("two digits")).collect()
    };
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (SCANNER.parse().unwrap(), HOST.parse().unwrap());
    let syn = ipv4(source, destination, TCP, 0, &tcp(1000, 2001, SYN));
    let mut frame = ethernet(0x8100, &tagged(5, ETH_IPV4, &syn));
    frame[..6].copy_from_slice(&mac(&range.host, "eth0"));
    frame[6..12].copy_from_slice(&mac(&range.scanner, "wan0"));
    // The kernel takes the tag off before the program sees the frame, and off the answer before a socket does.
    let argv = ["timeout", "10", "tcpdump", "-lenc1", "-i", "wan0", "vlan 5 and src host 192.0.2.2"];
    let tcpdump = range.scanner.command(argv).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut tcpdump = tcpdump.expect("tcpdump starts");
    let mut said = BufReader::new(tcpdump.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(said.read_line(&mut line).expect("tcpdump speaks") > 0, "tcpdump listens");
    }
    range.scanner.enter(|| send_frame("wan0", &frame));
    let shown = tcpdump.wait_with_output().expect("tcpdump ends by itself");
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.contains("vlan 5") && shown.contains("192.0.2.2.2001 > 192.0.2.1.1000: Flags [.]"),
        "{shown}"
    );
}

#[test]
fn a07_what_answers_a_flow_is_no_probe_whatever_its_port() {
    let mut range = Range::new();
    let mut events = range.program.take_events().expect("nobody has taken them");
    let peer = range.scanner.enter(|| UdpSocket::bind((SCANNER, 7777))).unwrap();
    let other = range.scanner.enter(|| UdpSocket::bind((SCANNER, 7778))).unwrap();
    let asking = range.host.enter(|| UdpSocket::bind((HOST, 0))).unwrap();
    let asked_from = asking.local_addr().unwrap();
    asking.send_to(b"?", (SCANNER, 7777)).unwrap();
    // From here on, no socket explains an answer.
    drop(asking);
    peer.send_to(b"!", asked_from).unwrap();
    peer.send_to(b"!", asked_from).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(range.counter(Counter::FlowReplies), 2);
    assert_eq!(sight(&mut events, SCANNER).kinds.len(), 0);
    other.send_to(b"!", asked_from).unwrap();
    peer.send_to(b"!", (HOST, asked_from.port() ^ 1)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(sight(&mut events, SCANNER).kinds.get(&ProbeKind::Datagram), Some(&2), "of no flow of ours");
}
