use super::*;
use glacis_control::gate::PortOutcome;
use glacis_plan::gate::Prove;
use std::net::{Ipv4Addr, Ipv6Addr};

const NOW: UnixMillis = UnixMillis(1_000);

fn client(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).into()
}

fn mapped(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).to_ipv6_mapped().into()
}

fn finding(port: u16, outcome: PortOutcome, until: u64) -> Finding {
    Finding { port, outcome, until: UnixMillis(until) }
}

fn record(findings: &[Finding]) -> ClientRecord {
    ClientRecord { client: client(1), seen: NOW, findings: findings.to_vec() }
}

#[test]
fn b8_gates_share_what_is_known_and_judge_by_their_own_ports() {
    let known = record(&[
        finding(22, PortOutcome::Open, 5_000),
        finding(80, PortOutcome::Refused, 4_000),
        finding(443, PortOutcome::Silent, 3_000),
    ]);
    let by = |ports: &[u16]| judge(Some(&known), ports, Prove::Open, NOW);
    assert_eq!(by(&[80, 443]), Judgement::Clean { until: UnixMillis(3_000) });
    assert_eq!(by(&[80, 443, 8080]), Judgement::Unknown { missing: vec![8080] });
    let denied = Judgement::Denied { port: 22, outcome: PortOutcome::Open, until: UnixMillis(5_000) };
    assert_eq!(by(&[22, 8080]), denied);
}

#[test]
fn a_client_never_looked_at_misses_every_port() {
    assert_eq!(judge(None, &[22, 80], Prove::Open, NOW), Judgement::Unknown { missing: vec![22, 80] });
}

#[test]
fn b7_an_open_port_is_to_be_asked_again_where_a_proxy_is_to_be_proven() {
    let ports = [22, 80];
    let with = |outcome| record(&[finding(22, outcome, 5_000), finding(80, PortOutcome::Refused, 5_000)]);
    let clean = Judgement::Clean { until: UnixMillis(5_000) };
    let by = |outcome| judge(Some(&with(outcome)), &ports, Prove::Proxy, NOW);
    assert_eq!(by(PortOutcome::Open), Judgement::Unknown { missing: vec![22] });
    assert_eq!(by(PortOutcome::Service), clean);
    for outcome in [PortOutcome::HttpProxy, PortOutcome::Socks4Proxy, PortOutcome::Socks5Proxy] {
        let denied = Judgement::Denied { port: 22, outcome, until: UnixMillis(5_000) };
        assert_eq!(by(outcome), denied);
    }
    let open = judge(Some(&with(PortOutcome::Service)), &ports, Prove::Open, NOW);
    assert!(matches!(open, Judgement::Denied { port: 22, outcome: PortOutcome::Service, .. }));
}

#[test]
fn a_finding_ends_at_its_time_and_not_before() {
    let known = record(&[finding(22, PortOutcome::Open, 2_000)]);
    let at = |now| judge(Some(&known), &[22], Prove::Open, UnixMillis(now));
    assert!(matches!(at(1_999), Judgement::Denied { .. }));
    assert_eq!(at(2_000), Judgement::Unknown { missing: vec![22] });
}

#[test]
fn of_several_proofs_the_one_that_holds_longest_is_named() {
    let known = record(&[
        finding(22, PortOutcome::Open, 2_000),
        finding(80, PortOutcome::Open, 3_000),
        finding(443, PortOutcome::HttpProxy, 3_000),
        finding(8080, PortOutcome::HttpProxy, 3_000),
    ]);
    let named = judge(Some(&known), &[22, 80, 443, 8080], Prove::Open, NOW);
    assert!(matches!(named, Judgement::Denied { port: 443, .. }), "{named:?}");
}

#[test]
fn an_ipv4_client_is_the_same_however_it_is_written() {
    let mut book = Book::new();
    book.learn(mapped(1), &[finding(22, PortOutcome::Open, 5_000)], NOW);
    assert_eq!(book.get(client(1)).map(|record| record.client), Some(client(1)));
    assert_eq!(book.get(mapped(1)), book.get(client(1)));
    assert_eq!(book.forget(&"::ffff:203.0.113.0/120".parse().unwrap()), [client(1)]);
    assert!(book.is_empty());
}

#[test]
fn a_newer_look_wins_and_an_older_one_fills_gaps() {
    let mut book = Book::new();
    book.learn(client(1), &[finding(22, PortOutcome::Silent, 90_000)], UnixMillis(100));
    book.learn(client(1), &[finding(22, PortOutcome::Open, 5_000)], UnixMillis(200));
    let late = [finding(22, PortOutcome::Refused, 95_000), finding(80, PortOutcome::Refused, 95_000)];
    book.learn(client(1), &late, UnixMillis(150));
    let known = book.get(client(1)).unwrap();
    assert_eq!(known.seen, UnixMillis(200));
    let expected = [finding(22, PortOutcome::Open, 5_000), finding(80, PortOutcome::Refused, 95_000)];
    assert_eq!(known.findings, expected);
}

#[test]
fn what_has_ended_is_dropped_and_a_client_of_whom_nothing_is_left_is_told() {
    let mut book = Book::new();
    let of_one = [finding(22, PortOutcome::Open, 2_000), finding(80, PortOutcome::Refused, 3_000)];
    book.learn(client(1), &of_one, NOW);
    assert_eq!(book.expire(UnixMillis(1_999)), Vec::<IpAddr>::new());
    assert_eq!(book.open_ports(10), [(22, 1)]);
    assert_eq!(book.expire(UnixMillis(2_000)), Vec::<IpAddr>::new());
    assert_eq!((book.open_ports(10), book.findings), (vec![], 1));
    assert_eq!(book.expire(UnixMillis(3_000)), [client(1)]);
    assert!(book.is_empty() && book.ends.is_empty());
}

#[test]
fn at_a_bound_the_record_that_ends_first_goes_and_is_counted() {
    let mut book = Book::bounded(2, 4);
    book.learn(client(1), &[finding(22, PortOutcome::Open, 3_000)], NOW);
    book.learn(client(2), &[finding(22, PortOutcome::Open, 2_000)], NOW);
    assert_eq!(book.learn(client(3), &[finding(22, PortOutcome::Open, 4_000)], NOW), [client(2)]);
    let many: Vec<Finding> = (1..=4).map(|port| finding(port, PortOutcome::Silent, 3_500)).collect();
    assert_eq!(book.learn(client(4), &many, NOW), [client(1), client(4)]);
    assert_eq!((book.len(), book.evicted(), book.open_ports(9)), (1, 3, vec![(22, 1)]));
}

#[test]
fn the_newest_come_first_and_ports_that_many_have_open_too() {
    let mut book = Book::new();
    for n in 1..=5 {
        let mut open = vec![finding(22, PortOutcome::Open, 9_000)];
        if n > 3 {
            open.push(finding(8080, PortOutcome::HttpProxy, 9_000));
        }
        book.learn(client(n), &open, UnixMillis(u64::from(n) * 100));
    }
    let newest: Vec<IpAddr> = book.newest(2).iter().map(|record| record.client).collect();
    assert_eq!(newest, [client(5), client(4)]);
    assert_eq!(book.newest(99).len(), 5);
    assert_eq!(book.open_ports(1), [(22, 5)]);
    assert_eq!(book.open_ports(9), [(22, 5), (8080, 2)]);
}

#[test]
fn a_network_is_forgotten_without_its_neighbours() {
    let mut book = Book::new();
    let v6: IpAddr = Ipv6Addr::from_bits(0x2001_0db8 << 96 | 1).into();
    for address in [client(1), client(2), client(200), v6] {
        book.learn(address, &[finding(22, PortOutcome::Refused, 9_000)], NOW);
    }
    assert_eq!(book.forget(&IpNet::from(client(2))), [client(2)]);
    assert_eq!(book.forget(&"203.0.113.0/25".parse().unwrap()), [client(1)]);
    assert_eq!(book.forget(&"::/0".parse().unwrap()), [v6]);
    assert_eq!(book.forget(&IpNet::from(client(9))), Vec::<IpAddr>::new());
    assert_eq!(book.len(), 1);
}

#[test]
fn a_ban_casts_doubt_on_what_it_may_have_silenced_and_on_no_open_port() {
    let mut book = Book::new();
    let silent = finding(80, PortOutcome::Silent, 900_000);
    let both = [finding(22, PortOutcome::Open, 900_000), silent];
    let since = UnixMillis(100_000);
    book.learn(client(1), &both, UnixMillis(200_000));
    book.learn(client(2), &[silent], UnixMillis(75_000));
    book.learn(client(3), &[silent], UnixMillis(74_999));
    book.learn(client(4), &both[..1], since);
    book.learn(client(200), &[silent], since);
    let mut doubted = book.doubt(&"203.0.113.0/25".parse().unwrap(), since);
    doubted.sort_unstable();
    assert_eq!(doubted, [client(1), client(2)]);
    assert_eq!(book.get(client(1)).map(|record| &record.findings[..]), Some(&both[..1]));
    assert_eq!(book.get(client(2)), None);
    assert_eq!([3, 4, 200].map(|n| book.get(client(n)).is_some()), [true; 3]);
    assert_eq!(book.doubt(&IpNet::from(mapped(200)), UnixMillis(0)), [client(200)]);
    assert_eq!(book.doubt(&IpNet::from(client(200)), UnixMillis(0)), Vec::<IpAddr>::new());
}

/// A generator with a fixed seed (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Whatever happens to a book, its orders and totals are those that a walk through its records gives, it keeps its
/// bounds, and it knows of each client what a plain list of what was learnt says.
#[test]
fn totals_orders_and_bounds_hold_through_twenty_thousand_random_steps() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut book = Book::bounded(16, 40);
    let (mut now, mut evicted, mut doubted) = (1_000, 0, 0);
    for _ in 0..20_000 {
        now += chance.below(20);
        let who = client(chance.below(40) as u8);
        match chance.below(10) {
            0 => drop(book.forget(&IpNet::from(who))),
            1 if chance.below(4) == 0 => {
                // Of looks around half a second ago.
                let since = UnixMillis(now + 25_000 - chance.below(1_000));
                doubted += doubt_and_check(&mut book, &random_network(&mut chance), since);
            }
            2 | 3 => {
                for gone in book.expire(UnixMillis(now)) {
                    assert_eq!(book.get(gone), None);
                }
                assert!(book.records().flat_map(|r| &r.findings).all(|f| f.until.0 > now));
            }
            _ => {
                let news: Vec<Finding> = (0..chance.below(5))
                    .map(|_| {
                        let outcome = PortOutcome::ALL[chance.below(8) as usize];
                        finding(1 + chance.below(8) as u16, outcome, now + 1 + chance.below(500))
                    })
                    .collect();
                let gone = book.learn(who, &news, UnixMillis(now));
                evicted += gone.len() as u64;
                if let Some(last) = news.last()
                    && !gone.contains(&who)
                {
                    assert!(book.get(who).unwrap().findings.contains(last));
                }
            }
        }
        check(&book);
    }
    assert_eq!(book.evicted(), evicted);
    assert!(evicted > 100, "the bounds were hardly met: {evicted}");
    assert!(doubted > 100, "hardly anybody was doubted: {doubted}");
}

/// A host, or some of the clients.
fn random_network(chance: &mut Chance) -> IpNet {
    let prefix = 28 + chance.below(5) as u8;
    IpNet::new(client(chance.below(40) as u8), prefix).unwrap().trunc()
}

/// What is left and who is named are what a walk through all records before says. Returns how many they are.
fn doubt_and_check(book: &mut Book, within: &IpNet, since: UnixMillis) -> usize {
    let before: BTreeMap<IpAddr, ClientRecord> = book.records().map(|r| (r.client, r.clone())).collect();
    let mut doubted = book.doubt(within, since);
    doubted.sort_unstable();
    let mut expected = Vec::new();
    for (who, mut known) in before {
        let total = known.findings.len();
        if within.contains(&who) && known.seen.0 + 25_000 >= since.0 {
            known.findings.retain(|finding| finding.outcome.is_open());
        }
        if known.findings.len() < total {
            expected.push(who);
        }
        let left = Some(&known).filter(|known| !known.findings.is_empty());
        assert_eq!(book.get(who), left);
    }
    assert_eq!(doubted, expected);
    doubted.len()
}

fn check(book: &Book) {
    let findings = || book.records().flat_map(|record| &record.findings);
    assert!(book.len() <= book.clients_max && book.findings <= book.findings_max);
    assert_eq!(book.findings, findings().count());
    let mut open = BTreeMap::<u16, u64>::new();
    for finding in findings().filter(|finding| finding.outcome.is_open()) {
        *open.entry(finding.port).or_default() += 1;
    }
    assert_eq!(book.open, open);
    let ends: BTreeSet<_> = book.records().map(|r| (first_end(r).expect("never empty"), r.client)).collect();
    assert_eq!(book.ends, ends);
    assert!(book.records().all(|r| r.findings.is_sorted_by(|a, b| a.port < b.port)));
}

/// Against a definition that looks at every port by itself.
#[test]
fn a_judgement_is_what_its_definition_says_for_random_records() {
    const OUTCOMES: [PortOutcome; 7] = [
        PortOutcome::Refused,
        PortOutcome::Refused,
        PortOutcome::Silent,
        PortOutcome::Unreachable,
        PortOutcome::Open,
        PortOutcome::Service,
        PortOutcome::HttpProxy,
    ];
    let mut chance = Chance(42);
    let (mut denied, mut clean, mut unknown) = (0, 0, 0);
    for _ in 0..20_000 {
        let findings: Vec<Finding> = (1..=10)
            .filter_map(|port| {
                let known = chance.below(8) > 0;
                let outcome = OUTCOMES[chance.below(7) as usize];
                known.then(|| finding(port, outcome, 995 + chance.below(40)))
            })
            .collect();
        let first = 1 + chance.below(8) as u16;
        let ports: Vec<u16> = (first..=10).filter(|port| *port == first || chance.below(3) == 0).collect();
        let prove = if chance.below(2) == 0 { Prove::Open } else { Prove::Proxy };
        let known = record(&findings);
        let live = |port: &u16| findings.iter().find(|f| f.port == *port && f.until > NOW);
        let is_proof = |f: &&Finding| match prove {
            Prove::Open => f.outcome.is_open(),
            Prove::Proxy => f.outcome.is_proxy(),
        };
        match judge(Some(&known), &ports, prove, NOW) {
            Judgement::Denied { port, outcome, until } => {
                let proof = live(&port).filter(is_proof).unwrap();
                denied += 1;
                assert!(ports.contains(&port) && (outcome, until) == (proof.outcome, proof.until));
            }
            Judgement::Clean { until } => {
                clean += 1;
                let ends = ports.iter().map(|port| live(port).unwrap().until);
                assert_eq!(until, ends.min().unwrap());
                assert_eq!(ports.iter().filter_map(live).find(is_proof), None);
            }
            Judgement::Unknown { missing } => {
                assert_eq!(ports.iter().filter_map(live).find(is_proof), None);
                unknown += 1;
                let unsettled = |port: &&u16| {
                    live(port).is_none_or(|f| prove == Prove::Proxy && f.outcome == PortOutcome::Open)
                };
                assert_eq!(missing, ports.iter().filter(unsettled).copied().collect::<Vec<_>>());
                assert!(!missing.is_empty());
            }
        }
    }
    assert!(denied.min(clean).min(unknown) > 1_000, "{denied} denied, {clean} clean, {unknown} unknown");
}
