//! Every kind of probe and of challenge, one packet each, by `BPF_PROG_TEST_RUN`. A challenge leaves by the loopback
//! device of the test's namespace, where a packet socket reads it byte by byte.

mod tc_support;

use glacis_loader::{
    Counter, Detection, Event, EventStream, MonotonicTime, Options, ProbeEvent, ProbeKind, Settings,
    TcProgram, Verdict,
};
use glacis_tests::netns::Namespace;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;
use tc_support::*;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LOCAL6: Ipv6Addr = Ipv6Addr::LOCALHOST;
const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66);
const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 7];
const FORGER: [u8; 6] = [2, 0, 0, 0, 0, 8];
const STEALTH: Options = Options { stealth: true, challenge: false, keep_established: false };
const CHALLENGE: Options = Options { stealth: true, challenge: true, keep_established: false };
const MORE_FRAGMENTS: u16 = 0x2000;

fn with_program(options: Options, test: impl FnOnce(&mut TcProgram) + Send) {
    let bpffs = Bpffs::mount();
    let namespace = Namespace::new("tc");
    namespace.enter(|| {
        let settings = Settings { detection: Detection::On, options, hook: None };
        let mut program = TcProgram::load(&bpffs.pins(), settings).expect("the program loads");
        test(&mut program);
    });
}

fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    from(NEIGHBOUR, ethernet(ETH_IPV4, &ipv4(SOURCE, LOCAL, protocol, fragment, payload)))
}

fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    from(NEIGHBOUR, ethernet(ETH_IPV6, &ipv6(SOURCE6, LOCAL6, next_header, payload)))
}

/// The frame as that neighbour sends it.
fn from(neighbour: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&neighbour);
    frame
}

/// What a frame is told as, if at all. Paced, because events are rationed.
fn told(program: &TcProgram, events: &mut EventStream, frame: &[u8]) -> Option<ProbeEvent> {
    std::thread::sleep(Duration::from_micros(200));
    assert_eq!(program.try_frame(frame, 1).expect("the program runs").verdict, Verdict::Next);
    let mut probes = probes(events, usize::MAX);
    assert!(probes.len() <= 1, "one packet was told as {probes:?}");
    probes.pop()
}

fn kind(program: &TcProgram, events: &mut EventStream, frame: &[u8]) -> Option<ProbeKind> {
    told(program, events, frame).map(|probe| probe.kind().expect("a kind that is known"))
}

const SCTP: u8 = 132;

fn sctp(destination: u16, chunk: u8) -> Vec<u8> {
    let mut packet = [1000_u16.to_be_bytes(), destination.to_be_bytes()].concat();
    packet.extend([0; 8]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend([0; 16]);
    packet
}

const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;

#[test]
fn a26_every_combination_of_flags_has_its_name() {
    with_program(STEALTH, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        for flags in 0..=u8::MAX {
            let named = match flags & 0x3f {
                f if f & (SYN | ACK | RST) == SYN => Some(ProbeKind::Syn),
                f if f & (SYN | RST) != 0 => None,
                FIN => Some(ProbeKind::Fin),
                0 => Some(ProbeKind::Null),
                f if f == FIN | PSH | URG => Some(ProbeKind::Xmas),
                f if f & ACK == 0 => Some(ProbeKind::OddFlags),
                f if f & FIN != 0 => Some(ProbeKind::Maimon),
                _ => Some(ProbeKind::Ack),
            };
            let segment = tcp(1000, 2000 + u16::from(flags), flags);
            for frame in [v4(TCP, 0, &segment), v6(TCP, &segment)] {
                let backscatter = program.counter(Counter::Backscatter).unwrap();
                assert_eq!(kind(program, &mut events, &frame), named, "{flags:#x}");
                let more = program.counter(Counter::Backscatter).unwrap() - backscatter;
                assert_eq!(more, u64::from(named.is_none()), "{flags:#x}: all others are answers");
            }
        }
    });
}

#[test]
fn a26_fragments_init_and_datagrams_have_their_names() {
    with_program(STEALTH, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        let syn = |port| tcp(1000, port, SYN);
        // What an Ethernet frame is padded with is none of a fragment.
        let mut padded = v4(TCP, MORE_FRAGMENTS, &syn(2003)[..8]);
        padded.extend([0; 18]);
        let cases = [
            ("first 8 bytes of TCP", v4(TCP, MORE_FRAGMENTS, &syn(2001)[..8]), Some(ProbeKind::Fragment)),
            ("first 16 bytes of TCP", v4(TCP, MORE_FRAGMENTS, &syn(2002)[..16]), Some(ProbeKind::Syn)),
            ("8 bytes and padding", padded, Some(ProbeKind::Fragment)),
            ("IPv6, 8 bytes", v6(44, &fragment(TCP, 0, &syn(2004)[..8])), Some(ProbeKind::Fragment)),
            ("IPv6, whole header", v6(44, &fragment(TCP, 0, &syn(2005))), Some(ProbeKind::Syn)),
            ("INIT", v4(SCTP, 0, &sctp(2006, 1)), Some(ProbeKind::Init)),
            ("INIT, IPv6", v6(SCTP, &sctp(2006, 1)), Some(ProbeKind::Init)),
            ("INIT ACK", v4(SCTP, 0, &sctp(2007, 2)), None),
            ("ABORT", v4(SCTP, 0, &sctp(2007, 6)), None),
            ("UDP", v4(UDP, 0, &udp(1000, 2008)), Some(ProbeKind::Datagram)),
        ];
        for (what, frame, expected) in cases {
            assert_eq!(kind(program, &mut events, &frame), expected, "{what}");
        }
    });
}

#[test]
fn a26_stealth_probes_of_a_port_in_use_are_none_and_unasked_nobody_looks() {
    with_program(STEALTH, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        program.set_exposed([8080], []).unwrap();
        for flags in [SYN, FIN, 0, FIN | PSH | URG, FIN | ACK, ACK, PSH, RST, SYN | ACK] {
            for port in [open, 8080] {
                assert_eq!(
                    kind(program, &mut events, &v4(TCP, 0, &tcp(1000, port, flags))),
                    None,
                    "{flags:#x}"
                );
            }
        }
        assert_eq!(program.counter(Counter::Backscatter).unwrap(), 0, "a socket waits for anything");
        program.set_options(Options::default()).unwrap();
        for flags in [FIN, 0, FIN | PSH | URG, FIN | ACK, ACK, PSH, RST, SYN | ACK] {
            assert_eq!(kind(program, &mut events, &v4(TCP, 0, &tcp(1000, 81, flags))), None, "{flags:#x}");
        }
        assert_eq!(kind(program, &mut events, &v4(SCTP, 0, &sctp(81, 1))), None, "INIT");
        assert_eq!(kind(program, &mut events, &v4(TCP, 0, &tcp(1000, 81, SYN))), Some(ProbeKind::Syn));
    });
}

#[test]
fn a27_a_new_kind_or_another_of_our_addresses_is_told_at_once() {
    with_program(STEALTH, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        let to = |last: u8, flags| {
            let local = Ipv4Addr::new(127, 0, 0, last);
            from(NEIGHBOUR, ethernet(ETH_IPV4, &ipv4(SOURCE, local, TCP, 0, &tcp(1000, 81, flags))))
        };
        for _ in 0..6 {
            told(program, &mut events, &to(1, SYN));
        }
        assert_eq!(told(program, &mut events, &to(1, SYN)), None, "the seventh hit is none to be told");
        let other = told(program, &mut events, &to(2, SYN)).expect("the eighth is anyway");
        assert_eq!(other.destination().to_string(), "127.0.0.2");
        let back = told(program, &mut events, &to(1, SYN)).expect("another address than the last");
        assert_eq!((back.destination().to_string().as_str(), back.hits), ("127.0.0.1", 9));
        let fin = told(program, &mut events, &to(1, FIN)).expect("another kind");
        assert_eq!(
            (fin.kind(), fin.kinds),
            (Some(ProbeKind::Fin), ProbeKind::Syn.bit() | ProbeKind::Fin.bit())
        );
        assert_eq!(told(program, &mut events, &to(1, SYN)), None, "both kinds are known");
    });
}

#[test]
fn a25_banned_sources_are_counted_up_to_a_ration_and_dropped_in_any_case() {
    const PACKETS: u32 = 5_000;
    with_program(CHALLENGE, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        let source = "192.0.2.7/32".parse().unwrap();
        program.ban(source, None).unwrap();
        let syn = v4(TCP, 0, &tcp(1000, 81, SYN));
        assert_eq!(program.try_frame(&syn, PACKETS).unwrap().verdict, Verdict::Drop);
        assert_eq!(program.ban_drops(source).unwrap(), Some(u64::from(PACKETS)), "every one is dropped");
        let counted = program.counter(Counter::BannedProbes).unwrap();
        assert!((1..u64::from(PACKETS)).contains(&counted), "{counted} are counted");
        for event in probes(&mut events, usize::MAX) {
            assert!(event.has(ProbeEvent::BANNED) && !event.has(ProbeEvent::CHALLENGED), "{event:?}");
        }
        assert_eq!(program.counter(Counter::Challenges).unwrap(), 0);
        // What is cut short is not looked at any closer, and dropped all the same.
        assert_eq!(program.try_frame(&v4(TCP, 0, &[1, 2]), 1).unwrap().verdict, Verdict::Drop);
    });
}

#[test]
fn with_established_flows_kept_it_is_for_nftables_to_drop() {
    with_program(Options { keep_established: true, ..CHALLENGE }, |program| {
        let mut events = program.take_events().expect("nobody has taken them");
        program.ban("192.0.2.7/32".parse().unwrap(), None).unwrap();
        let event =
            told(program, &mut events, &v4(TCP, 0, &tcp(1000, 81, SYN))).expect("the first hit is told");
        assert_eq!(event.flags, ProbeEvent::BANNED);
        assert_eq!(program.counter(Counter::BanDrops).unwrap(), 0);
    });
}

/// Sends a probe and returns the challenge that it brings.
fn challenge(program: &TcProgram, wire: &mut Loopback, frame: &[u8]) -> Option<Vec<u8>> {
    assert_eq!(program.try_frame(frame, 1).expect("the program runs").verdict, Verdict::Next);
    wire.next()
}

/// A bare ACK without options; its acknowledgment number is as it came, because it is the cookie.
fn assert_is_challenge(answer: &[u8], probe: &[u8], port: u16, what: &str) {
    let is_v4 = probe[12..14] == ETH_IPV4.to_be_bytes();
    let ip = if is_v4 { 20 } else { 40 };
    let segment = 14 + ip;
    assert_eq!(answer.len(), segment + 20, "{what}");
    assert_eq!(answer[..6], probe[6..12], "{what}: to who sent it");
    let cookie = &answer[segment + 8..segment + 12];
    let mut tcp = [port.to_be_bytes(), 1000_u16.to_be_bytes()].concat();
    tcp.extend([0; 4]);
    tcp.extend(cookie);
    tcp.extend([0x50, ACK, 0, 0, 0, 0, 0, 0]);
    let network = if is_v4 {
        let mut network = ipv4(LOCAL, SOURCE, TCP, 0x4000, &tcp);
        network[4..6].fill(0);
        let sum = checksum(&network[..20]);
        network[10..12].copy_from_slice(&sum.to_be_bytes());
        network
    } else {
        ipv6(LOCAL6, SOURCE6, TCP, &tcp)
    };
    let mut expected = network;
    let addresses = if is_v4 { expected[12..20].to_vec() } else { expected[8..40].to_vec() };
    let pseudo = [addresses, vec![0, TCP, 0, 20]].concat();
    let sum = checksum(&[pseudo, expected[ip..].to_vec()].concat());
    expected[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(answer[14..], expected, "{what}");
}

/// A frame to a port.
type ToPort<'a> = &'a dyn Fn(u16) -> Vec<u8>;

#[test]
fn a28_a_challenge_is_a_bare_ack_whatever_it_answers() {
    with_program(CHALLENGE, |program| {
        let mut wire = Loopback::open();
        let syn = |port| tcp(1000, port, SYN);
        let optioned = |port| {
            let mut segment = syn(port);
            segment[12] = 0x70;
            segment.extend([0x02, 0x04, 0x05, 0xb4, 1, 1, 1, 0]);
            segment
        };
        let loaded = |port| [syn(port), vec![0xaa; 1200]].concat();
        let cases: [(&str, ToPort); 12] = [
            ("SYN", &|port| v4(TCP, 0, &syn(port))),
            ("SYN, IPv6", &|port| v6(TCP, &syn(port))),
            ("SYN with options", &|port| v4(TCP, 0, &optioned(port))),
            ("SYN with options, IPv6", &|port| v6(TCP, &optioned(port))),
            ("SYN with payload", &|port| v4(TCP, 0, &loaded(port))),
            ("SYN with payload, IPv6", &|port| v6(TCP, &loaded(port))),
            ("behind an extension header", &|port| v6(0, &options(TCP, &syn(port)))),
            ("tiny fragment", &|port| v4(TCP, MORE_FRAGMENTS, &syn(port)[..8])),
            ("tiny fragment, IPv6", &|port| v6(44, &fragment(TCP, 0, &syn(port)[..8]))),
            ("ACK with a window", &|port| v4(TCP, 0, &tcp(1000, port, ACK))),
            ("FIN", &|port| v4(TCP, 0, &tcp(1000, port, FIN))),
            ("Maimon, IPv6", &|port| v6(TCP, &tcp(1000, port, FIN | ACK))),
        ];
        for (port, (what, probe)) in (81..).zip(cases) {
            let probe = probe(port);
            let answer =
                challenge(program, &mut wire, &probe).unwrap_or_else(|| panic!("{what}: no challenge"));
            assert_is_challenge(&answer, &probe, port, what);
        }
        assert_eq!(program.counter(Counter::Challenges).unwrap(), 12);
        assert_eq!(program.counter(Counter::ChallengesUnsent).unwrap(), 0);
    });
}

#[test]
fn a28_what_must_not_be_challenged_is_not() {
    with_program(CHALLENGE, |program| {
        let mut wire = Loopback::open();
        let mut windowless = tcp(1000, 81, ACK);
        windowless[14..16].fill(0);
        let routing = [&[TCP, 0, 0, 0, 0, 0, 0, 0][..], &tcp(1000, 83, SYN)].concat();
        for (what, frame) in [
            ("ACK with window 0, as challenges are", v4(TCP, 0, &windowless)),
            ("RST", v4(TCP, 0, &tcp(1000, 82, RST))),
            ("SYN and ACK", v4(TCP, 0, &tcp(1000, 82, SYN | ACK))),
            ("routing header", v6(43, &routing)),
            ("UDP", v4(UDP, 0, &udp(1000, 84))),
            ("INIT", v4(SCTP, 0, &sctp(85, 1))),
        ] {
            assert_eq!(challenge(program, &mut wire, &frame), None, "{what}");
        }
        program.set_options(STEALTH).unwrap();
        assert_eq!(challenge(program, &mut wire, &v4(TCP, 0, &tcp(1000, 86, SYN))), None, "switched off");
        assert_eq!(program.counter(Counter::Challenges).unwrap(), 0);
    });
}

#[test]
fn a28_only_the_cookie_from_the_same_neighbour_and_ports_is_an_echo() {
    with_program(CHALLENGE, |program| {
        let mut wire = Loopback::open();
        let mut events = program.take_events().expect("nobody has taken them");
        let answer = challenge(program, &mut wire, &v4(TCP, 0, &tcp(1000, 81, SYN))).expect("a challenge");
        let cookie: [u8; 4] = answer[42..46].try_into().unwrap();
        let reset = |neighbour, source_port, sequence: [u8; 4], flags| {
            let mut segment = tcp(source_port, 81, flags);
            segment[4..8].copy_from_slice(&sequence);
            from(neighbour, ethernet(ETH_IPV4, &ipv4(SOURCE, LOCAL, TCP, 0, &segment)))
        };
        let mut guess = cookie;
        guess[3] ^= 1;
        for (what, frame) in [
            ("another number", reset(NEIGHBOUR, 1000, guess, RST)),
            ("another port", reset(NEIGHBOUR, 1001, cookie, RST)),
            ("another neighbour", reset(FORGER, 1000, cookie, RST)),
            ("RST and ACK", reset(NEIGHBOUR, 1000, cookie, RST | ACK)),
        ] {
            program.try_frame(&frame, 1).unwrap();
            assert_eq!(program.counter(Counter::Echoes).unwrap(), 0, "{what}");
        }
        assert_eq!(program.counter(Counter::EchoesWrong).unwrap(), 3);
        program.try_frame(&reset(NEIGHBOUR, 1000, cookie, RST), 3).unwrap();
        assert_eq!(program.counter(Counter::Echoes).unwrap(), 1, "as many echoes as challenges");
        let mut seen = Vec::new();
        events.drain(usize::MAX, |event| seen.push(event));
        assert!(
            matches!(seen[0], Event::Echo { source, echoes: 1, .. } if source == IpAddr::V4(SOURCE)),
            "who has echoed comes first: {seen:?}"
        );
        assert!(matches!(&seen[1..], [Event::Probe(probe)] if probe.flags == ProbeEvent::CHALLENGED));
        let event = told(program, &mut events, &v4(UDP, 0, &udp(1000, 90))).expect("a new key");
        assert_eq!((event.flags, event.echoes), (ProbeEvent::PROVEN, 1), "known from now on");
        let mut proofs = Vec::new();
        program.sweep_proofs(|source, proof| proofs.push((source, proof.echoes))).unwrap();
        assert_eq!(proofs, [(SOURCE.into(), 1)]);
    });
}

#[test]
fn a28_guesses_are_looked_at_no_more_than_a_few_times_per_challenge() {
    const GUESSES: u32 = 1_000;
    with_program(CHALLENGE, |program| {
        let reset = v4(TCP, 0, &tcp(1000, 81, RST));
        program.try_frame(&reset, GUESSES).unwrap();
        assert_eq!(program.counter(Counter::EchoesWrong).unwrap(), 0, "nobody was challenged");
        program.try_frame(&v4(TCP, 0, &tcp(1000, 81, SYN)), 1).unwrap();
        program.try_frame(&reset, GUESSES).unwrap();
        assert_eq!(program.counter(Counter::EchoesWrong).unwrap(), 1 + 8);
        assert_eq!(program.counter(Counter::EchoesRefused).unwrap(), u64::from(GUESSES) - 9);
    });
}

#[test]
fn a28_challenges_are_rationed_per_source_and_in_all() {
    const SOURCES: u32 = 60_000;
    with_program(CHALLENGE, |program| {
        for port in 1..=200 {
            program.try_frame(&v4(TCP, 0, &tcp(1000, port, SYN)), 1).unwrap();
        }
        let of_one = program.counter(Counter::Challenges).unwrap();
        // The 200 may have been of two windows.
        assert!((32..=64).contains(&of_one), "{of_one} challenges to one source");
        let start = MonotonicTime::now();
        for n in 0..SOURCES {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + n);
            let frame = ethernet(ETH_IPV4, &ipv4(source, LOCAL, TCP, 0, &tcp(1000, 81, SYN)));
            program.try_frame(&frame, 1).unwrap();
        }
        let windows = MonotonicTime::now().since(start).as_nanos() / (1 << 24) + 2;
        let of_all = u128::from(program.counter(Counter::Challenges).unwrap() - of_one);
        assert!(
            of_all <= 128 * windows,
            "{of_all} challenges in {windows} windows: strangers are let in slowly"
        );
        assert!(program.counter(Counter::ChallengesOverBudget).unwrap() > 0);
        let counted =
            program.counter(Counter::Probes).unwrap() + program.counter(Counter::ProbesShed).unwrap();
        assert_eq!(counted, 200 + u64::from(SOURCES), "all are counted");
    });
}

#[test]
fn a28_a_flood_sheds_strangers_and_nobody_who_is_known() {
    const STRANGERS: u32 = 60_000;
    const PORTS: u16 = 6_000;
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    with_program(CHALLENGE, |program| {
        program.try_frame(&v4(TCP, 0, &tcp(1000, 1, SYN)), 1).unwrap();
        assert_eq!(program.counter(Counter::Challenges).unwrap(), 1, "the source is known from here on");
        let mut strangers = first..first + STRANGERS;
        for port in 2..=PORTS {
            for stranger in strangers.by_ref().take((STRANGERS / u32::from(PORTS)) as usize) {
                let frame = ipv4(stranger.into(), LOCAL, TCP, 0, &tcp(1000, 81, SYN));
                program.try_frame(&ethernet(ETH_IPV4, &frame), 1).unwrap();
            }
            program.try_frame(&v4(TCP, 0, &tcp(1000, port, SYN)), 1).unwrap();
        }
        let shed = program.counter(Counter::ProbesShed).unwrap();
        assert!(shed > 0, "{STRANGERS} strangers are within the ration");
        let mut known = 0;
        program.sweep_counts(|key, _| known += u16::from(key.source() == IpAddr::V4(SOURCE))).unwrap();
        assert_eq!(known, PORTS, "every probe of who is known is in the table");
    });
}
