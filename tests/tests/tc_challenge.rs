//! The TC program against scanners as they are: every tool is told by its probes' kind and proves itself by its own
//! kernel's answers, and none sees a port open that is not.

mod tc_support;

use glacis_loader::{Counter, Detection, Event, Options, ProbeEvent, ProbeKind, Settings, TcProgram};
use glacis_tests::netns::Namespace;
use std::collections::BTreeMap;
use std::net::IpAddr;
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
            eprintln!(
                "{arguments:?} {host}: {seen:?} challenges {} unsent {} over {} wrong {}",
                range.counter(Counter::Challenges),
                range.counter(Counter::ChallengesUnsent),
                range.counter(Counter::ChallengesOverBudget),
                range.counter(Counter::EchoesWrong)
            );
            assert!(seen.kinds.get(&kind) >= Some(&20), "{arguments:?} {host}: {seen:?}");
            assert!(!shown.lines().any(|line| line.contains(" open ")), "{arguments:?} {host}: {shown}");
            if proves {
                assert!(seen.echoes >= 20, "{arguments:?} {host}: {seen:?}");
            } else {
                assert_eq!(seen.echoes, 0, "{arguments:?} {host}");
            }
            let _ = &range.host;
        }
    }
}
