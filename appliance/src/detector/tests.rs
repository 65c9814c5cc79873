//! Behaviour of the whole detector. The rolling windows and the memory of counts have tests of their own.

use super::roster::{ELEMENTS_MAX, SOURCES_MAX};
use super::*;
use glacis_control::{Evidence, ScanShape};
use glacis_plan::{AutoBlockMode, DistinctLimit, EstablishedFlows, EvidenceRule, SourceGroup};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Numbers that are the same in every run (`SplitMix64`).
pub(crate) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number less than the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Moments are milliseconds after this: an uptime longer than any window.
const UPTIME: Duration = Duration::from_secs(1_000_000);

fn at(ms: u64) -> Duration {
    UPTIME + Duration::from_millis(ms)
}

fn settings(evidence: EvidenceRule, threshold: u32, window_seconds: u64) -> AutoBlock {
    AutoBlock {
        mode: AutoBlockMode::Enforce,
        evidence,
        threshold,
        window: Duration::from_secs(window_seconds),
        duration: None,
        ladder: None,
        group: SourceGroup::default(),
        never: vec![],
        established: EstablishedFlows::Drop,
    }
}

fn limit(count: u16, seconds: u64) -> DistinctLimit {
    DistinctLimit { count, within: Duration::from_secs(seconds) }
}

/// Of a volume only.
fn detector(evidence: EvidenceRule, threshold: u32, window_seconds: u64) -> Detector {
    shaped(evidence, threshold, window_seconds, Shapes::default())
}

fn shaped(evidence: EvidenceRule, threshold: u32, window_seconds: u64, shapes: Shapes) -> Detector {
    let mut detector = Detector::default();
    detector.configure(Some(&settings(evidence, threshold, window_seconds)), shapes);
    detector
}

/// A first SYN.
fn syn(source: &str, port: u16, ms: u64) -> Observation {
    probe(source.parse().expect("an address"), port, ms)
}

fn probe(source: IpAddr, port: u16, ms: u64) -> Observation {
    Observation {
        source,
        port,
        protocol: Protocol::Tcp,
        kind: ProbeKind::Syn,
        kinds: ProbeKinds::of(ProbeKind::Syn),
        destination: Some(Ipv4Addr::new(198, 51, 100, 1).into()),
        first: at(ms).as_nanos() as u64,
        hits: 1,
        at: at(ms),
        wall: UnixMillis(ms),
        banned: false,
    }
}

fn forged(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

fn echo(source: &str, echoes: u64, ms: u64) -> Echoes {
    Echoes { source: source.parse().expect("an address"), echoes, at: at(ms) }
}

/// Shape, hits and evidence of a trigger.
fn told(trigger: Option<Trigger>) -> (ScanShape, u64, u64, Evidence) {
    match trigger.expect("a trigger").reason {
        BanReason::Scan { shape, hits, window_seconds, evidence } => (shape, hits, window_seconds, evidence),
        BanReason::Gate { .. } | BanReason::Manual { .. } => panic!("a trigger is a scan"),
    }
}

#[test]
fn a13_the_threshold_is_the_hit_that_triggers() {
    let mut d = detector(EvidenceRule::Any, 3, 60);
    assert_eq!(d.observe(&syn("192.0.2.1", 1, 0)).trigger, None);
    let mut fin = syn("192.0.2.1", 2, 1);
    (fin.kind, fin.kinds) = (ProbeKind::Fin, ProbeKinds::of(ProbeKind::Fin));
    let hit = d.observe(&fin).hit.unwrap();
    assert_eq!((hit.at, hit.hits, hit.kinds), (UnixMillis(1), 1, fin.kinds));
    let trigger = d.observe(&syn("192.0.2.1", 3, 2)).trigger;
    assert_eq!(trigger.as_ref().unwrap().source, "192.0.2.1/32".parse().unwrap());
    let kinds = [ProbeKind::Syn, ProbeKind::Fin].into_iter().collect();
    let evidence = Evidence { ports: 3, hosts: 1, kinds, ..Evidence::default() };
    assert_eq!(told(trigger), (ScanShape::Volume, 3, 60, evidence));
}

#[test]
fn evidence_is_spent_with_its_trigger() {
    let mut d = detector(EvidenceRule::Any, 2, 60);
    let triggered = |d: &mut Detector, port| d.observe(&syn("192.0.2.1", port, 5)).trigger.is_some();
    assert_eq!([1, 2, 3, 4, 5].map(|port| triggered(&mut d, port)), [false, true, false, true, false]);
    d.forgive(&"192.0.2.1/32".parse().unwrap());
    assert_eq!([6, 7].map(|port| triggered(&mut d, port)), [false, true]);
    assert!(!triggered(&mut d, 8));
    d.forgive(&"192.0.0.0/16".parse().unwrap());
    assert_eq!([9, 10].map(|port| triggered(&mut d, port)), [false, true], "a wider block forgives too");
    assert!(!triggered(&mut d, 11));
    d.forgive(&"192.0.2.2/32".parse().unwrap());
    assert!(triggered(&mut d, 12), "somebody else was forgiven");
}

#[test]
fn a14_the_window_rolls_on_the_kernels_clock_whatever_the_wall_clock_does() {
    for wall in [UnixMillis(0), UnixMillis(u64::MAX)] {
        let mut d = detector(EvidenceRule::Any, 10, 60);
        for n in 0..9 {
            let seen = Observation { wall, ..syn("192.0.2.1", n, u64::from(n) * 1_000) };
            assert_eq!(d.observe(&seen).trigger, None);
        }
        // At 59 s all nine are within the window; at 64 s the first five are out of it.
        assert_eq!(d.observe(&syn("192.0.2.1", 99, 64_000)).trigger, None);
        for port in 100..104 {
            assert_eq!(d.observe(&syn("192.0.2.1", port, 64_100)).trigger, None, "{port}");
        }
        assert!(d.observe(&syn("192.0.2.1", 104, 64_200)).trigger.is_some());
    }
    let mut d = detector(EvidenceRule::Any, 10, 60);
    (0..9).for_each(|n| _ = d.observe(&syn("192.0.2.1", n, u64::from(n) * 1_000)));
    assert!(d.observe(&syn("192.0.2.1", 99, 58_900)).trigger.is_some());
}

const SHAPES: Shapes = Shapes {
    vertical: Some(DistinctLimit { count: 20, within: Duration::from_secs(10) }),
    horizontal: Some(DistinctLimit { count: 5, within: Duration::from_secs(60) }),
    slow: Some(DistinctLimit { count: 30, within: Duration::from_secs(86_400) }),
};

#[test]
fn a27_shapes_are_told_apart_by_ports_and_addresses() {
    let scan = |mut observations: Box<dyn Iterator<Item = Observation>>| {
        let mut d = shaped(EvidenceRule::Any, 1_000, 300, SHAPES);
        observations.find_map(|seen| d.observe(&seen).trigger)
    };
    let to = |n: u8| Some(IpAddr::from([198, 51, 100, n]));
    let vertical = scan(Box::new((0..100).map(|n| syn("192.0.2.1", n, u64::from(n) * 100))));
    let (shape, hits, window, evidence) = told(vertical);
    assert_eq!((shape, hits, window, evidence.ports, evidence.hosts), (ScanShape::Vertical, 20, 10, 20, 1));

    let wide = |n: u8| Observation {
        destination: to(n),
        hits: u64::from(n) + 1,
        first: 7,
        ..syn("192.0.2.1", 22, u64::from(n) * 1_000)
    };
    let (shape, hits, window, evidence) = told(scan(Box::new((0..100).map(wide))));
    assert_eq!((shape, hits, window, evidence.ports, evidence.hosts), (ScanShape::Horizontal, 5, 60, 1, 5));

    let patient = scan(Box::new((0..100).map(|n| syn("192.0.2.1", n, u64::from(n) * 2_000_000))));
    let (shape, hits, window, evidence) = told(patient);
    assert_eq!((shape, hits, window, evidence.ports), (ScanShape::Slow, 30, 86_400, 30));
    assert_eq!(
        scan(Box::new((0..100).map(|n| syn("192.0.2.1", n, u64::from(n) * 3_000_000)))),
        None,
        "too slow"
    );

    let one_port = |n: u64| Observation { hits: 50 * n, first: 7, ..syn("192.0.2.1", 22, n * 100) };
    let (shape, hits, window, evidence) = told(scan(Box::new((1..100).map(one_port))));
    assert_eq!((shape, hits, window, evidence.ports), (ScanShape::Volume, 1_000, 300, 1));
}

#[test]
fn a27_when_several_rules_hold_the_most_telling_one_is_named() {
    let all =
        Shapes { vertical: Some(limit(2, 10)), horizontal: Some(limit(2, 10)), slow: Some(limit(2, 60)) };
    let named = |shapes| {
        let mut d = shaped(EvidenceRule::Any, 2, 300, shapes);
        d.observe(&syn("192.0.2.1", 1, 0));
        let to = Some(Ipv6Addr::LOCALHOST.into());
        told(d.observe(&Observation { destination: to, ..syn("192.0.2.1", 2, 1) }).trigger).0
    };
    assert_eq!(named(all), ScanShape::Vertical);
    assert_eq!(named(Shapes { vertical: None, ..all }), ScanShape::Horizontal);
    assert_eq!(named(Shapes { slow: Some(limit(2, 60)), ..Shapes::default() }), ScanShape::Slow);
    assert_eq!(named(Shapes::default()), ScanShape::Volume);
}

#[test]
fn a27_udp_and_tcp_of_one_number_are_two_ports_and_an_overtaken_event_still_tells_its_address() {
    let mut d =
        shaped(EvidenceRule::Any, 99, 300, Shapes { vertical: Some(limit(2, 10)), ..Shapes::default() });
    assert_eq!(d.observe(&syn("192.0.2.1", 53, 0)).trigger, None);
    let udp = Observation { protocol: Protocol::Udp, ..syn("192.0.2.1", 53, 1) };
    assert_eq!(told(d.observe(&udp).trigger).3.ports, 2);

    let horizontal = Shapes { horizontal: Some(limit(2, 10)), ..Shapes::default() };
    let mut d = shaped(EvidenceRule::Any, 99, 300, horizontal);
    let key = |hits, ms, destination| Observation { hits, first: 7, destination, ..syn("192.0.2.1", 22, ms) };
    d.observe(&key(1, 0, Some(forged(1))));
    assert_eq!(d.observe(&key(3, 20, None)).hit.unwrap().hits, 2, "the sweep");
    let event = d.observe(&key(2, 10, Some(forged(2))));
    assert_eq!(event.hit, None);
    assert_eq!(told(event.trigger).1, 3);
}

/// Against a count of everything, for each rule by itself: never early, and late by no more than the window's edge.
#[test]
fn a27_triggers_are_those_of_a_naive_count_but_for_the_edge() {
    // With how many probes per window the limit is about reached.
    let none = Shapes::default();
    let alone = [
        (1_000_000, Shapes { vertical: Some(limit(25, 10)), ..none }, ScanShape::Vertical, 10, 28),
        (1_000_000, Shapes { horizontal: Some(limit(25, 30)), ..none }, ScanShape::Horizontal, 30, 32),
        (1_000_000, Shapes { slow: Some(limit(60, 600)), ..none }, ScanShape::Slow, 600, 83),
        (90, none, ScanShape::Volume, 60, 45),
    ];
    for (threshold, shapes, shape, window, probes) in alone {
        let mut dice = Dice::new(probes);
        let mut d = shaped(EvidenceRule::Any, threshold, 60, shapes);
        let (mut seen, mut ms, mut triggers, mut missed) = (Vec::<Observation>::new(), 0, 0, 0);
        for first in 0..3_000 {
            // Now slower than that, now faster.
            let pace = 70 + 20 * (first / 150 % 5);
            ms += dice.below(2 * window * 1_000 * 100 / (probes * pace));
            let destination = Some(forged(dice.below(60) as u32));
            let hits = 1 + dice.below(3);
            let port = dice.below(120) as u16;
            seen.push(Observation { destination, first, hits, ..syn("192.0.2.1", port, ms) });
            let within = |span: Duration| {
                let recent = seen.iter().filter(|o| at(ms).saturating_sub(o.at) < span);
                match shape {
                    ScanShape::Volume => recent.map(|o| o.hits).sum(),
                    ScanShape::Horizontal => {
                        recent.map(|o| o.destination).collect::<BTreeSet<_>>().len() as u64
                    }
                    _ => recent.map(|o| o.port).collect::<BTreeSet<_>>().len() as u64,
                }
            };
            let limit = match shape {
                ScanShape::Volume => 90,
                ScanShape::Slow => 60,
                _ => 25,
            };
            let whole = Duration::from_secs(window);
            let found = d.observe(seen.last().unwrap()).trigger;
            if found.is_some() {
                assert!(within(whole) >= limit, "{shape:?} triggered early at {ms}");
                assert_eq!(told(found).0, shape);
                seen.clear();
                triggers += 1;
            } else {
                assert!(within(whole * 59 / 60) < limit, "{shape:?} missed at {ms}");
                missed += 1;
            }
        }
        assert!(triggers > 20, "{shape:?} triggered {triggers} times");
        assert!(missed > 1_000, "{shape:?} stayed below the limit {missed} times");
    }
}

#[test]
fn a28_an_honest_touch_does_not_vouch_for_what_others_forge() {
    let mut d = detector(EvidenceRule::SpoofProof, 100, 300);
    d.observe(&syn("192.0.2.1", 443, 0));
    assert_eq!(d.echoed(&echo("192.0.2.1", 1, 1)), None);
    for port in 0..5_000 {
        assert_eq!(d.observe(&syn("192.0.2.1", port, 2)).trigger, None);
    }
    // Its sixth answer vouches for 96 hits, its seventh for 112.
    assert_eq!(d.echoed(&echo("192.0.2.1", 6, 3)), None);
    let (shape, hits, _, evidence) = told(d.echoed(&echo("192.0.2.1", 7, 4)));
    assert_eq!((shape, hits, evidence.echoes), (ScanShape::Volume, 5_001, 7));
}

#[test]
fn a28_distinct_ports_and_addresses_are_vouched_for_alike() {
    let mut d = shaped(EvidenceRule::SpoofProof, 100_000, 300, SHAPES);
    for n in 0..200 {
        let to = Some(IpAddr::from([198, 51, 100, n]));
        let seen = Observation { destination: to, ..syn("192.0.2.1", n.into(), 0) };
        assert_eq!(d.observe(&seen).trigger, None);
    }
    // One answer vouches for 16: enough addresses, not enough ports.
    assert_eq!(told(d.echoed(&echo("192.0.2.1", 1, 1))).0, ScanShape::Horizontal);
    (0..200).for_each(|n| _ = d.observe(&syn("192.0.2.1", 1_000 + n, 2)));
    assert_eq!(told(d.echoed(&echo("192.0.2.1", 3, 3))).0, ScanShape::Vertical);
}

#[test]
fn a28_datagrams_count_but_never_alone() {
    let mut d = detector(EvidenceRule::SpoofProof, 20, 300);
    let datagram = |port| Observation {
        protocol: Protocol::Udp,
        kind: ProbeKind::Datagram,
        kinds: ProbeKinds::of(ProbeKind::Datagram),
        ..syn("192.0.2.1", port, 0)
    };
    for port in 0..2_000 {
        let found = d.observe(&datagram(port));
        assert_eq!((found.hit.is_some(), found.trigger), (true, None));
    }
    d.observe(&syn("192.0.2.1", 22, 1));
    assert_eq!(d.echoed(&echo("192.0.2.1", 1, 1)), None);
    assert_eq!(told(d.echoed(&echo("192.0.2.1", 2, 1))).1, 2_001);
}

#[test]
fn a28_echoes_leave_the_window_as_hits_do() {
    let mut d = detector(EvidenceRule::SpoofProof, 20, 60);
    d.observe(&syn("192.0.2.1", 22, 0));
    assert_eq!(d.echoed(&echo("192.0.2.1", 9, 0)), None);
    for port in 0..100 {
        assert_eq!(d.observe(&syn("192.0.2.1", port, 61_000)).trigger, None);
    }
    assert_eq!(d.echoed(&echo("192.0.2.1", 10, 61_001)), None);
    assert_eq!(told(d.echoed(&echo("192.0.2.1", 11, 61_002))).3.echoes, 2);
}

#[test]
fn a28_where_no_proof_is_asked_for_echoes_are_only_told() {
    let mut d = detector(EvidenceRule::Any, 2, 60);
    d.observe(&syn("192.0.2.1", 1, 0));
    assert_eq!(d.echoed(&echo("192.0.2.1", 1, 0)), None);
    assert_eq!(told(d.observe(&syn("192.0.2.1", 2, 0)).trigger).3.echoes, 1);
}

#[test]
fn a29_sources_count_by_group() {
    let triggered = |group, pair: [&str; 2]| {
        let mut d = Detector::default();
        d.configure(Some(&AutoBlock { group, ..settings(EvidenceRule::Any, 2, 60) }), Shapes::default());
        pair.iter().find_map(|source| d.observe(&syn(source, 1, 1)).trigger).map(|t| t.source.to_string())
    };
    let usual = SourceGroup::default();
    assert_eq!(triggered(usual, ["2001:db8::1", "2001:db8::2"]).as_deref(), Some("2001:db8::/64"));
    assert_eq!(triggered(usual, ["2001:db8::1", "2001:db8:0:1::1"]), None);
    assert_eq!(triggered(usual, ["192.0.2.1", "192.0.2.2"]), None);
    let wide = SourceGroup { v4: 24, v6: 48 };
    assert_eq!(triggered(wide, ["192.0.2.1", "192.0.2.2"]).as_deref(), Some("192.0.2.0/24"));
    assert_eq!(triggered(wide, ["2001:db8::1", "2001:db8:0:1::1"]).as_deref(), Some("2001:db8::/48"));
    assert_eq!(triggered(SourceGroup { v4: 32, v6: 128 }, ["2001:db8::1", "2001:db8::2"]), None);
}

#[test]
fn a28_echoes_of_a_groups_addresses_add_up() {
    let mut d = detector(EvidenceRule::SpoofProof, 40, 60);
    (0..40).for_each(|port| _ = d.observe(&syn("2001:db8::1", port, 0)));
    assert_eq!(d.echoed(&echo("2001:db8::1", 1, 1)), None);
    assert_eq!(d.echoed(&echo("2001:db8::2", 1, 1)), None);
    assert_eq!(d.echoed(&echo("2001:db8::2", 1, 2)), None, "told twice");
    assert_eq!(told(d.echoed(&echo("2001:db8::3", 1, 3))).3.echoes, 3);
}

#[test]
fn a25_blocked_sources_are_recorded_and_never_trigger() {
    let mut d = detector(EvidenceRule::Any, 3, 60);
    for port in 0..50 {
        let found = d.observe(&Observation { banned: true, ..syn("192.0.2.1", port, 0) });
        assert_eq!((found.hit.map(|hit| hit.hits), found.trigger), (Some(1), None));
    }
    assert_eq!(d.watched(), 0);
    assert_eq!(d.observe(&syn("192.0.2.1", 99, 1)).trigger, None, "the block over, it begins anew");
}

#[test]
fn a30_a_flood_hides_neither_who_came_back_nor_who_proved_himself() {
    let mut d = detector(EvidenceRule::SpoofProof, 100, 300);
    for port in 0..99 {
        d.observe(&syn("192.0.2.1", port, 0));
    }
    d.observe(&syn("192.0.2.2", 1, 0));
    d.echoed(&echo("192.0.2.2", 7, 0));
    for n in 0..5 * SOURCES_MAX as u32 {
        assert_eq!(d.observe(&probe(forged(n), 1, 1 + u64::from(n) / 1_000)).trigger, None);
    }
    assert_eq!(d.watched(), SOURCES_MAX);
    assert_eq!(d.losses().sources, 4 * SOURCES_MAX as u64 + 2);
    d.observe(&syn("192.0.2.1", 99, 90));
    assert!(d.echoed(&echo("192.0.2.1", 7, 91)).is_some(), "99 hits before the flood, one after");
    let scan = (2..101).find_map(|port| d.observe(&syn("192.0.2.2", port, 92)).trigger);
    assert_eq!(told(scan).1, 100, "one hit and the proof before the flood, the rest after");
}

#[test]
fn a30_the_most_silent_source_goes_first_and_the_stale_ones_before_it() {
    let mut d = detector(EvidenceRule::Any, 100, 60);
    for port in 0..99 {
        d.observe(&syn("192.0.2.1", port, 0));
    }
    for n in 0..SOURCES_MAX as u32 - 1 {
        d.observe(&probe(forged(n), 1, 61_000));
    }
    // There is room for one more: the busy source has been silent for longer than the window.
    d.observe(&syn("192.0.2.3", 1, 61_000));
    assert_eq!((d.watched(), d.losses().sources), (SOURCES_MAX, 0));
    let hundredth = d.observe(&Observation { hits: 99, ..probe(forged(0), 2, 61_001) });
    assert!(hundredth.trigger.is_some(), "it leaves and makes room");
    for n in 0..2 {
        d.observe(&syn("192.0.2.4", n, 61_002));
    }
    d.observe(&syn("192.0.2.5", 1, 61_003));
    assert_eq!(d.losses().sources, 1);
    let group = |source: IpAddr| IpNet::from(source);
    assert!(!d.roster.contains(&group(forged(1))), "the most silent of those with one hit");
    assert!(d.roster.contains(&group(forged(2))) && d.roster.contains(&group([192, 0, 2, 4].into())));
}

#[test]
fn a30_all_entries_together_are_bounded() {
    // Every source comes back in every slice of four windows: 242 entries each, if there were room.
    let shapes =
        Shapes { vertical: Some(limit(9, 600)), horizontal: Some(limit(9, 600)), slow: Some(limit(9, 600)) };
    let mut d = shaped(EvidenceRule::SpoofProof, 100_000, 600, shapes);
    for slice in 0..60 {
        for n in 0..6_000 {
            d.observe(&Observation { first: slice, ..probe(forged(n), 1, slice * 10_000) });
        }
        assert!(d.roster.elements() <= ELEMENTS_MAX);
    }
    assert!(d.roster.elements() > ELEMENTS_MAX - 300);
    let (left, lost) = (d.watched(), d.losses().sources);
    assert!(left > ELEMENTS_MAX / 242 && left < 6_000 && lost > 1_000, "{left} left, {lost} forgotten");
    d.forgive(&"10.0.0.0/8".parse().unwrap());
    assert_eq!((d.watched(), d.roster.elements()), (0, 0));
}

#[test]
fn a14_a_restart_keeps_the_window() {
    let before = |first_ms, hits, last_ms| Observation {
        first: at(first_ms).as_nanos() as u64,
        hits,
        destination: None,
        ..syn("192.0.2.1", hits as u16, last_ms)
    };
    let mut d = detector(EvidenceRule::SpoofProof, 100, 60);
    let now = at(100_000);
    d.resume(&before(50_000, 70, 90_000), now);
    d.resume(&before(10_000, 500, 80_000), now);
    d.resume(&before(10_000, 900, 30_000), now);
    d.resume(&Observation { banned: true, ..before(50_000, 5_000, 90_000) }, now);
    d.resume_echoes(&echo("192.0.2.1", 4_000, 90_000), now);
    d.resume_echoes(&echo("192.0.2.9", 4_000, 90_000), now);
    assert_eq!(d.watched(), 1, "an echo without probes is of a source that is blocked or gone");
    let repeated = d.observe(&before(50_000, 70, 90_000));
    assert_eq!(repeated, Findings::default(), "what is stored is not recorded again");
    // 70 of the first key and the last one of the second are within the window, nothing of the third.
    let next = d.observe(&Observation { hits: 28, ..syn("192.0.2.1", 9_999, 100_000) });
    assert_eq!((next.hit.unwrap().hits, next.trigger), (28, None));
    let (_, hits, _, evidence) = told(d.observe(&syn("192.0.2.1", 9_998, 100_001)).trigger);
    assert_eq!((hits, evidence.echoes, evidence.ports), (100, 71, 4));
}

#[test]
fn settings_may_change_under_way() {
    let mut d = detector(EvidenceRule::Any, 10, 60);
    (0..5).for_each(|port| _ = d.observe(&syn("192.0.2.1", port, 0)));
    d.configure(Some(&settings(EvidenceRule::Any, 6, 60)), Shapes::default());
    assert_eq!(told(d.observe(&syn("192.0.2.1", 5, 1)).trigger).1, 6, "a lower threshold counts on");
    (0..5).for_each(|port| _ = d.observe(&syn("192.0.2.1", 100 + port, 2)));
    d.configure(Some(&settings(EvidenceRule::Any, 6, 90)), Shapes::default());
    assert_eq!(d.watched(), 0, "another window begins anew");
    d.observe(&syn("192.0.2.1", 200, 3));
    d.configure(None, Shapes::default());
    let found = d.observe(&Observation { hits: 5, ..syn("192.0.2.1", 1_000, 4) });
    assert_eq!((found.hit.map(|hit| hit.hits), found.trigger, d.watched()), (Some(5), None, 0));
    assert_eq!(d.echoed(&echo("192.0.2.1", 1, 5)), None);
}
