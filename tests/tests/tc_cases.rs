//! Every path of the TC program, one packet each, by `BPF_PROG_TEST_RUN`: no device, no timing.

mod tc_support;

use glacis_loader::{
    Counter, Detection, KernelBan, MonotonicTime, ProbeKey, ProbeKind, Protocol, Settings, TcProgram, Verdict,
};
use glacis_tests::netns::Namespace;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::time::Duration;
use tc_support::*;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LOCAL6: Ipv6Addr = Ipv6Addr::LOCALHOST;
const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66);
/// Beyond a route of the namespace, so that a host that forwards sends it on.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);
const ELSEWHERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe15e, 0, 0, 0, 0, 9);

/// What becomes of a packet. All but `Passed` show in the counter of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not a probe.
    Passed,
    Counted,
    /// Of a banned source, and dropped.
    CountedAndDropped,
    Backscatter,
    FlowReply,
    Open,
    Forwarded,
    UdpReply,
    LaterFragment,
    Malformed,
    Dropped,
}

const FATES: [(Fate, Counter); 9] = [
    (Fate::Counted, Counter::Probes),
    (Fate::Backscatter, Counter::Backscatter),
    (Fate::FlowReply, Counter::FlowReplies),
    (Fate::Open, Counter::Open),
    (Fate::Forwarded, Counter::Forwarded),
    (Fate::UdpReply, Counter::UdpReplies),
    (Fate::LaterFragment, Counter::LaterFragments),
    (Fate::Malformed, Counter::Malformed),
    (Fate::Dropped, Counter::BanDrops),
];

/// Runs the test in a namespace with a route to elsewhere, and a program that counts.
fn with_program(test: impl FnOnce(&Namespace, &mut TcProgram) + Send) {
    let bpffs = Bpffs::mount();
    let namespace = Namespace::new("tc");
    namespace.run(["ip", "route", "add", "198.18.0.0/24", "dev", "lo"]);
    namespace.run(["ip", "-6", "route", "add", "2001:db8:e15e::/48", "dev", "lo"]);
    namespace.enter(|| {
        let settings = Settings { detection: Detection::On, ..Settings::default() };
        let mut program = TcProgram::load(&bpffs.pins(), settings).expect("the program loads");
        test(&namespace, &mut program);
    });
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETH_IPV4, &ipv4(SOURCE, LOCAL, protocol, 0, payload))
}

fn v4_from(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETH_IPV4, &ipv4(source.into(), LOCAL, protocol, 0, payload))
}

fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETH_IPV6, &ipv6(SOURCE6, LOCAL6, next_header, payload))
}

fn counts(program: &TcProgram) -> BTreeMap<Counter, u64> {
    Counter::ALL.iter().map(|&c| (c, program.counter(c).expect("counters can be read"))).collect()
}

/// Gives the program one frame and says what became of it; one of the fates' counters may move, by one, and of a banned
/// source's two.
fn fate(program: &TcProgram, frame: &[u8]) -> Fate {
    let before = counts(program);
    let trial = program.try_frame(frame, 1).expect("the program runs");
    let after = counts(program);
    assert_eq!(after[&Counter::Packets], before[&Counter::Packets] + 1);
    let moved: Vec<_> = FATES.iter().filter(|(_, counter)| after[counter] != before[counter]).collect();
    let fate = match moved[..] {
        [] => Fate::Passed,
        [(fate, counter)] => {
            assert_eq!(after[counter], before[counter] + 1, "{fate:?} counts once");
            *fate
        }
        [(Fate::Counted, counted), (Fate::Dropped, dropped)] => {
            for counter in [counted, dropped, &Counter::BannedProbes] {
                assert_eq!(after[counter], before[counter] + 1, "{counter:?} counts once");
            }
            Fate::CountedAndDropped
        }
        _ => panic!("one packet moved {moved:?}"),
    };
    let is_dropped = matches!(fate, Fate::Dropped | Fate::CountedAndDropped);
    assert_eq!(trial.verdict == Verdict::Drop, is_dropped, "{fate:?} and the verdict agree");
    fate
}

fn check(program: &TcProgram, cases: &[(&str, Vec<u8>, Fate)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(name, frame, expected)| {
            let got = fate(program, frame);
            (got != *expected).then(|| format!("{name}: {got:?} instead of {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ipv4_packets_meet_their_fates() {
    with_program(|_, program| {
        let any = TcpListener::bind("0.0.0.0:0").unwrap();
        let dual = TcpListener::bind("[::]:0").unwrap();
        let bound = UdpSocket::bind("0.0.0.0:0").unwrap();
        let open = any.local_addr().unwrap().port();
        let open_dual = dual.local_addr().unwrap().port();
        let open_udp = bound.local_addr().unwrap().port();
        program.set_exposed([8080], []).unwrap();
        program.set_udp_reply_ports([53, 4500]).unwrap();
        program.ban("203.0.113.9/32".parse().unwrap(), None).unwrap();
        program.ban("203.0.113.10/32".parse().unwrap(), Some(MonotonicTime(1))).unwrap();
        let hour = MonotonicTime::now().plus(Duration::from_hours(1));
        program.ban("203.0.113.11/32".parse().unwrap(), Some(hour)).unwrap();
        program.ban("198.51.100.0/24".parse().unwrap(), None).unwrap();

        let mut optioned = ipv4(SOURCE, LOCAL, TCP, 0, &[]);
        optioned[0] = 0x46;
        optioned.extend([1, 1, 1, 0]);
        optioned.extend(tcp(999, 33, SYN));
        let mut broadcast = v4(UDP, &udp(1000, 91));
        broadcast[..6].fill(0xff);
        let in_vlan = tagged(5, ETH_IPV4, &ipv4(SOURCE, LOCAL, TCP, 0, &tcp(1000, 89, SYN)));
        let in_qinq = tagged(6, ETH_IPV4, &ipv4(SOURCE, LOCAL, TCP, 0, &tcp(1000, 90, SYN)));
        check(
            program,
            &[
                ("SYN to a closed port", v4(TCP, &tcp(1000, 81, SYN)), Fate::Counted),
                ("SYN with ECE and CWR", v4(TCP, &tcp(1000, 82, SYN | 0xc0)), Fate::Counted),
                ("SYN and ACK", v4(TCP, &tcp(1000, 81, SYN | ACK)), Fate::Passed),
                ("ACK", v4(TCP, &tcp(1000, 81, ACK)), Fate::Passed),
                ("SYN to a listener", v4(TCP, &tcp(1000, open, SYN)), Fate::Open),
                ("SYN to a dual-stack listener", v4(TCP, &tcp(1000, open_dual, SYN)), Fate::Open),
                ("SYN to an exposed port", v4(TCP, &tcp(1000, 8080, SYN)), Fate::Open),
                ("UDP to a closed port", v4(UDP, &udp(1000, 81)), Fate::Counted),
                ("UDP to a port exposed for TCP", v4(UDP, &udp(1000, 8080)), Fate::Counted),
                ("UDP to a bound socket", v4(UDP, &udp(1000, open_udp)), Fate::Open),
                ("UDP from port 53", v4(UDP, &udp(53, 40_000)), Fate::UdpReply),
                ("UDP from port 4500", v4(UDP, &udp(4500, 40_000)), Fate::UdpReply),
                ("UDP from port 54", v4(UDP, &udp(54, 40_000)), Fate::Counted),
                ("ICMP", v4(1, &[8, 0, 0, 0, 0, 0, 0, 0]), Fate::Passed),
                (
                    "later fragment",
                    ethernet(ETH_IPV4, &ipv4(SOURCE, LOCAL, TCP, 5, &tcp(1000, 83, SYN))),
                    Fate::LaterFragment,
                ),
                (
                    "first fragment",
                    ethernet(ETH_IPV4, &ipv4(SOURCE, LOCAL, TCP, 0x2000, &tcp(1000, 84, SYN))),
                    Fate::Counted,
                ),
                ("header with options", ethernet(ETH_IPV4, &optioned), Fate::Counted),
                ("TCP cut short", v4(TCP, &[1, 2, 3, 4]), Fate::Malformed),
                ("banned address", v4_from([203, 0, 113, 9], TCP, &tcp(1000, 81, ACK)), Fate::Dropped),
                ("ban that is over", v4_from([203, 0, 113, 10], TCP, &tcp(1000, 81, ACK)), Fate::Passed),
                ("ban for an hour", v4_from([203, 0, 113, 11], TCP, &tcp(1000, 81, ACK)), Fate::Dropped),
                (
                    "UDP of a banned prefix",
                    v4_from([198, 51, 100, 77], UDP, &udp(1000, 81)),
                    Fate::CountedAndDropped,
                ),
                ("802.1Q in the data", ethernet(0x8100, &in_vlan), Fate::Counted),
                ("QinQ in the data", ethernet(0x88a8, &tagged(5, 0x8100, &in_qinq)), Fate::Counted),
                ("ARP", ethernet(0x0806, &[0; 28]), Fate::Passed),
                ("broadcast UDP", broadcast, Fate::Passed),
            ],
        );
    });
}

#[test]
fn ipv6_packets_meet_their_fates() {
    with_program(|_, program| {
        let v4_only = TcpListener::bind("0.0.0.0:0").unwrap();
        let dual = TcpListener::bind("[::]:0").unwrap();
        let bound = UdpSocket::bind("[::1]:0").unwrap();
        let open_v4 = v4_only.local_addr().unwrap().port();
        let open = dual.local_addr().unwrap().port();
        let open_udp = bound.local_addr().unwrap().port();
        program.ban("2001:db8:bad::/48".parse().unwrap(), None).unwrap();
        let banned: Ipv6Addr = "2001:db8:bad::1".parse().unwrap();
        // IPv6 allows eight extension headers here; a ninth is one too many.
        let stacked = |depth: u32, port: u16| {
            let upper = (0..depth)
                .fold((TCP, tcp(1000, port, SYN)), |(next, payload), _| (60, options(next, &payload)));
            v6(upper.0, &upper.1)
        };
        check(
            program,
            &[
                ("SYN to a closed port", v6(TCP, &tcp(1000, 81, SYN)), Fate::Counted),
                ("SYN to a listener", v6(TCP, &tcp(1000, open, SYN)), Fate::Open),
                ("SYN to an IPv4-only listener", v6(TCP, &tcp(1000, open_v4, SYN)), Fate::Counted),
                ("UDP to a bound socket", v6(UDP, &udp(1000, open_udp)), Fate::Open),
                ("UDP to a closed port", v6(UDP, &udp(1000, 81)), Fate::Counted),
                ("hop-by-hop", v6(0, &options(TCP, &tcp(1000, 85, SYN))), Fate::Counted),
                (
                    "hop-by-hop and destination options",
                    v6(0, &options(60, &options(TCP, &tcp(1000, 86, SYN)))),
                    Fate::Counted,
                ),
                ("authentication header", v6(51, &authentication(TCP, &tcp(1000, 87, SYN))), Fate::Counted),
                ("first fragment", v6(44, &fragment(TCP, 0, &tcp(1000, 88, SYN))), Fate::Counted),
                ("later fragment", v6(44, &fragment(TCP, 9, &tcp(1000, 89, SYN))), Fate::LaterFragment),
                ("seven extension headers", stacked(7, 92), Fate::Counted),
                ("nine extension headers", stacked(9, 93), Fate::Malformed),
                ("extension header cut short", v6(0, &[]), Fate::Malformed),
                ("no next header", v6(59, &[]), Fate::Passed),
                (
                    "banned prefix",
                    ethernet(ETH_IPV6, &ipv6(banned, LOCAL6, TCP, &tcp(1000, 81, ACK))),
                    Fate::Dropped,
                ),
            ],
        );
    });
}

#[test]
fn a_router_counts_what_is_for_itself_and_not_what_it_forwards() {
    with_program(|namespace, program| {
        let to = |destination| ethernet(ETH_IPV4, &ipv4(SOURCE, destination, TCP, 0, &tcp(1000, 81, SYN)));
        let to6 = |destination| ethernet(ETH_IPV6, &ipv6(SOURCE6, destination, UDP, &udp(1000, 81)));
        check(program, &[("host, elsewhere", to(ELSEWHERE), Fate::Counted)]);
        namespace.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        // What the routing table said is remembered for a second.
        std::thread::sleep(Duration::from_millis(1100));
        check(
            program,
            &[
                ("router, itself", to(LOCAL), Fate::Counted),
                ("router, elsewhere", to(ELSEWHERE), Fate::Forwarded),
                ("router, itself, IPv6", to6(LOCAL6), Fate::Counted),
                ("router, elsewhere, IPv6", to6(ELSEWHERE6), Fate::Forwarded),
            ],
        );
    });
}

#[test]
fn without_detection_only_bans_have_an_effect() {
    with_program(|_, program| {
        program.ban("203.0.113.9/32".parse().unwrap(), None).unwrap();
        let syn = v4(TCP, &tcp(1000, 81, SYN));
        let banned = v4_from([203, 0, 113, 9], TCP, &tcp(1000, 81, SYN));
        program.set_detection(Detection::Off).unwrap();
        check(program, &[("off", syn.clone(), Fate::Passed), ("off, banned", banned.clone(), Fate::Dropped)]);
        program.set_detection(Detection::On).unwrap();
        check(program, &[("on", syn, Fate::Counted), ("on, banned", banned, Fate::CountedAndDropped)]);
    });
}

#[test]
fn events_come_at_ever_longer_distances_and_carry_all_hits() {
    with_program(|_, program| {
        let mut events = program.take_events().expect("nobody has taken them");
        assert!(program.take_events().is_none());
        let before = MonotonicTime::now();
        program.try_frame(&v4(TCP, &tcp(1000, 81, SYN)), 50).unwrap();
        let key = ProbeKey::new(IpAddr::V4(SOURCE), Protocol::Tcp, 81);
        let mut seen = probes(&mut events, 3);
        assert_eq!(seen.len(), 3, "the limit holds");
        seen.extend(probes(&mut events, usize::MAX));
        assert_eq!(seen.iter().map(|e| e.hits).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 48]);
        for event in &seen {
            assert_eq!((event.key, event.first, event.flags, event.echoes), (key, seen[0].at, 0, 0));
            assert_eq!((event.kind(), event.kinds), (Some(ProbeKind::Syn), ProbeKind::Syn.bit()));
            assert_eq!(event.destination(), IpAddr::V4(LOCAL));
            assert!((before.0..=MonotonicTime::now().0).contains(&event.at));
        }
        assert_eq!(program.counter(Counter::Events).unwrap(), 7);
        assert_eq!(program.counter(Counter::NewKeys).unwrap(), 1);

        let mut swept = Vec::new();
        assert_eq!(program.sweep_counts(|key, count| swept.push((key, count))).unwrap(), 1);
        let (swept_key, count) = swept[0];
        assert_eq!((swept_key, count.hits, count.first), (key, 50, seen[0].at));
        assert_eq!((count.destination, count.kinds), (IpAddr::V4(LOCAL).into(), ProbeKind::Syn.bit()));
        assert!(count.last >= seen[6].at);
    });
}

#[test]
fn a30_what_a_flood_of_new_keys_loses_is_counted() {
    const KEYS: u16 = 30_000;
    with_program(|_, program| {
        for port in 1..=KEYS {
            program.try_frame(&v4(TCP, &tcp(1000, port, SYN)), 1).unwrap();
        }
        let mut events = program.take_events().expect("nobody has taken them");
        let drained = probes(&mut events, usize::MAX).len() as u64;
        let shed = program.counter(Counter::ProbesShed).unwrap();
        let seen = u64::from(KEYS) - shed;
        assert!(shed > 0, "{KEYS} keys are within the ration");
        let over_budget = program.counter(Counter::EventsOverBudget).unwrap();
        let lost = program.counter(Counter::EventsLost).unwrap() + over_budget;
        assert!(lost > 0, "{seen} events fit into the ring");
        assert_eq!(drained + lost, seen);
        assert_eq!(program.counter(Counter::Probes).unwrap(), seen);
        let mut hits = 0;
        program.sweep_counts(|_, count| hits += count.hits).unwrap();
        let unlisted = program.counter(Counter::ProbesLost).unwrap();
        assert_eq!(hits + unlisted, seen);
        assert_eq!(program.counter(Counter::NewKeys).unwrap(), hits);
        // The ration is by the window, and this took many.
        assert!(hits > 1024, "{hits}");
    });
}

#[test]
fn bans_are_kept_moved_and_lifted() {
    with_program(|_, program| {
        let address = "203.0.113.9/32".parse().unwrap();
        let inner = "203.0.113.0/28".parse().unwrap();
        let outer = "203.0.112.0/23".parse().unwrap();
        let frame = v4_from([203, 0, 113, 9], TCP, &tcp(1000, 81, ACK));
        let hour = MonotonicTime::now().plus(Duration::from_hours(1));
        let listed = |program: &TcProgram| program.bans().expect("bans can be read");
        assert_eq!(listed(program), []);
        assert!(!program.unban(address).unwrap());

        program.ban(address, Some(hour)).unwrap();
        program.try_frame(&frame, 3).unwrap();
        program.ban(address, None).unwrap();
        assert_eq!(listed(program), [KernelBan { source: address, until: None, drops: 3 }]);

        program.ban(outer, None).unwrap();
        assert_eq!(program.ban_drops(inner).unwrap(), None, "the longer prefix has no ban of its own");
        program.ban(inner, Some(hour)).unwrap();
        assert!(program.unban(address).unwrap());
        assert_eq!(fate(program, &frame), Fate::Dropped, "by the longest prefix");
        assert_eq!(program.ban_drops(inner).unwrap(), Some(1));
        assert_eq!(program.ban_drops(outer).unwrap(), Some(0));
        assert!(program.unban(inner).unwrap());
        assert_eq!(fate(program, &frame), Fate::Dropped, "by the shorter prefix");
        assert!(program.unban(outer).unwrap());
        assert_eq!(fate(program, &frame), Fate::Passed);
        assert_eq!(listed(program), []);
    });
}

#[test]
fn a_ban_drops_to_its_end_and_nothing_a_tick_later() {
    with_program(|_, program| {
        let address = "203.0.113.9/32".parse().unwrap();
        let frame = v4_from([203, 0, 113, 9], TCP, &tcp(1000, 81, ACK));
        let end = MonotonicTime::now().plus(Duration::from_millis(500));
        program.ban(address, Some(end)).unwrap();
        let mut dropped = 0;
        loop {
            let met = fate(program, &frame);
            if MonotonicTime::now() > end {
                break;
            }
            assert_eq!(met, Fate::Dropped, "the ban was in force until after the packet");
            dropped += 1;
        }
        assert!(dropped > 0, "no packet came while the ban was in force");
        // The program reads the clock once a tick, and a tick is at most 10 ms.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(fate(program, &frame), Fate::Passed);
    });
}

#[test]
fn replacing_bans_leaves_exactly_the_wanted_ones_and_their_drops() {
    with_program(|_, program| {
        let (kept, gone, moved) = (
            "203.0.113.9/32".parse().unwrap(),
            "203.0.113.10/32".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        );
        let added = "198.51.100.0/24".parse().unwrap();
        for source in [kept, gone, moved] {
            program.ban(source, None).unwrap();
        }
        program.try_frame(&v4_from([203, 0, 113, 9], TCP, &tcp(1000, 81, ACK)), 2).unwrap();
        let hour = MonotonicTime::now().plus(Duration::from_hours(1));
        let wanted = [(kept, None), (moved, Some(hour)), (added, None)];
        for _ in 0..2 {
            program.replace_bans(wanted).unwrap();
            assert_eq!(
                program.bans().unwrap(),
                [
                    KernelBan { source: kept, until: None, drops: 2 },
                    KernelBan { source: moved, until: Some(hour), drops: 0 },
                    KernelBan { source: added, until: None, drops: 0 },
                ]
            );
        }
        program.replace_bans([]).unwrap();
        assert_eq!(program.bans().unwrap(), []);
    });
}

#[test]
fn full_ban_tables_say_so_and_make_room_for_a_replacement() {
    with_program(|_, program| {
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let all = u32::try_from(glacis_loader::BANS_MAX).unwrap();
        let address = |n: u32| format!("{}/32", Ipv4Addr::from(first + n)).parse().unwrap();
        program.replace_bans((0..all).map(|n| (address(n), None))).unwrap();
        let refused = program.ban(address(all), None).expect_err("the table is full");
        assert!(matches!(refused, glacis_loader::LoaderError::BansFull { .. }), "{refused}");
        // Every one of these is new, and no old one stays.
        program.replace_bans((0..all).map(|n| (address(all + n), None))).unwrap();
        assert_eq!(program.bans().unwrap().len(), glacis_loader::BANS_MAX);
        assert_eq!(program.ban_drops(address(0)).unwrap(), None);
        assert_eq!(program.ban_drops(address(2 * all - 1)).unwrap(), Some(0));
    });
}

#[test]
fn every_exposed_port_and_only_those_count_as_open() {
    with_program(|_, program| {
        program.set_exposed([1, 64, u16::MAX], [64]).unwrap();
        for port in [1, 2, 63, 64, 65, u16::MAX - 1, u16::MAX] {
            let tcp_fate = if [1, 64, u16::MAX].contains(&port) { Fate::Open } else { Fate::Counted };
            let udp_fate = if port == 64 { Fate::Open } else { Fate::Counted };
            assert_eq!(fate(program, &v4(TCP, &tcp(1000, port, SYN))), tcp_fate, "TCP {port}");
            assert_eq!(fate(program, &v4(UDP, &udp(1000, port))), udp_fate, "UDP {port}");
        }
        program.set_exposed([], []).unwrap();
        assert_eq!(fate(program, &v4(TCP, &tcp(1000, 64, SYN))), Fate::Counted);
    });
}
