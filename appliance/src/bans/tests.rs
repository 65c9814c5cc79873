//! Tests of the book and of the steps.

use super::*;
use crate::detector::tests::Dice;
use glacis_plan::nft::{Atom, Element, Elements, Key, KeyPart, Op};
use std::time::Duration;

fn ban(source: &str, until: Option<u64>) -> Ban {
    Ban {
        source: source.parse().unwrap(),
        since: UnixMillis(0),
        until: until.map(UnixMillis),
        reason: BanReason::Manual { note: String::new() },
        author: "test".into(),
    }
}

#[test]
fn a_wide_ban_swallows_narrow_ones_that_end_no_later() {
    let book =
        BanBook::new([ban("10.1.2.3/32", Some(50)), ban("10.1.9.0/24", Some(100)), ban("10.2.0.1/32", None)]);
    assert_eq!(
        book.admit(&ban("10.1.0.0/16", Some(100))),
        Ok(vec!["10.1.2.3/32".parse().unwrap(), "10.1.9.0/24".parse().unwrap()])
    );
    assert!(matches!(book.admit(&ban("10.1.0.0/16", Some(99))), Err(BanRefusal::WouldShorten { .. })));
    assert_eq!(
        book.admit(&ban("10.2.0.0/16", Some(99))),
        Ok(vec![]),
        "a single that stays longer stays beside it"
    );
    assert!(matches!(book.admit(&ban("10.1.9.7/32", None)), Err(BanRefusal::Covered { .. })));
    assert_eq!(book.admit(&ban("10.1.9.0/24", Some(5))), Ok(vec![]));
    assert!(matches!(book.admit(&ban("0.0.0.0/0", None)), Err(BanRefusal::TooWide(_))));
}

#[test]
fn a_longer_ban_is_known_as_such() {
    let book = BanBook::new([ban("10.0.0.1/32", None), ban("10.1.0.0/16", Some(50))]);
    let holds =
        |source: &str, until: Option<u64>| book.holds_until(&source.parse().unwrap(), until.map(UnixMillis));
    assert!(holds("10.0.0.1/32", Some(99)) && holds("10.0.0.1/32", None));
    assert!(holds("10.1.2.3/32", Some(50)) && holds("10.1.2.3/32", Some(49)));
    assert!(!holds("10.1.2.3/32", Some(51)) && !holds("10.1.2.3/32", None) && !holds("10.2.0.1/32", Some(1)));
}

#[test]
fn the_bound_refuses_one_more_and_takes_a_known_one() {
    let single = |n: usize| ban(&format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + n as u32)), None);
    let book = BanBook::new((0..SINGLES_MAX).map(single));
    assert_eq!(book.admit(&single(SINGLES_MAX)), Err(BanRefusal::Full));
    assert_eq!(book.admit(&single(7)), Ok(vec![]));
    assert_eq!(book.admit(&ban("10.0.0.0/8", None)), Ok(vec![]));
    assert_eq!(book.admit(&ban("2001::/16", None)), Ok(vec![]));
    assert!(matches!(book.admit(&ban("8.0.0.0/7", None)), Err(BanRefusal::TooWide(_))));
    assert!(matches!(book.admit(&ban("2000::/15", None)), Err(BanRefusal::TooWide(_))));
}

#[test]
fn expiry_takes_what_is_over_and_nothing_else() {
    let mut book =
        BanBook::new([ban("10.0.0.1/32", Some(10)), ban("10.0.0.2/32", Some(11)), ban("10.0.0.3/32", None)]);
    let over = book.take_expired(UnixMillis(10));
    assert_eq!(over.iter().map(|b| b.source.to_string()).collect::<Vec<_>>(), ["10.0.0.1/32"]);
    assert_eq!(
        book.listed().iter().map(|b| b.source.to_string()).collect::<Vec<_>>(),
        ["10.0.0.2/32", "10.0.0.3/32"]
    );
}

#[test]
fn reconciling_flushes_every_set_and_adds_the_time_that_remains() {
    let bans = [ban("10.0.0.1/32", Some(5_000)), ban("2001:db8::/64", None), ban("10.0.0.9/32", Some(1_000))];
    let ops = reconcile(bans.iter(), UnixMillis(2_000));
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::FlushSet { .. })).count(), 4);
    let times: Vec<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::AddElements { set, elements: Elements::List(list), .. } => {
                Some((set.name.as_str(), list.iter().map(|e| (e.timeout, e.expires)).collect::<Vec<_>>()))
            }
            _ => None,
        })
        .collect();
    let seconds = |s| Some(Duration::from_secs(s));
    assert_eq!(times, [("bans4", vec![(seconds(5), seconds(3))]), ("bans6_nets", vec![(None, None)])]);
}

fn scanner(source: &str, until: Option<u64>) -> Ban {
    let reason = BanReason::Scan {
        shape: glacis_control::ScanShape::Volume,
        hits: 100,
        window_seconds: 300,
        evidence: glacis_control::Evidence::default(),
    };
    Ban { reason, author: "auto".into(), ..ban(source, until) }
}

fn single(n: usize) -> String {
    format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + n as u32))
}

fn prefix(n: usize) -> String {
    format!("{}/24", std::net::Ipv4Addr::from(0x0b00_0000 + ((n as u32) << 8)))
}

fn sources<'a>(bans: impl IntoIterator<Item = &'a Ban>) -> Vec<String> {
    bans.into_iter().map(|ban| ban.source.to_string()).collect()
}

#[test]
fn a_flood_of_scanners_leaves_room_for_blocks_by_hand() {
    let mut book = BanBook::default();
    let entered = book.enter_all((0..AUTO_SINGLES_MAX + 7).map(|n| scanner(&single(n), None)));
    assert_eq!((entered.bans.len(), entered.refused.len()), (AUTO_SINGLES_MAX, 7));
    assert!(entered.refused.iter().all(|(_, refusal)| *refusal == BanRefusal::AutoFull));
    let by_hand = (AUTO_SINGLES_MAX..SINGLES_MAX).map(|n| ban(&single(n), None));
    assert_eq!(book.enter_all(by_hand).refused, []);
    assert_eq!(book.admit(&ban("192.0.2.1/32", None)), Err(BanRefusal::Full));
    assert_eq!(book.admit(&scanner("192.0.2.1/32", None)), Err(BanRefusal::Full));
    book.strike(&single(0).parse().unwrap());
    assert_eq!(book.admit(&scanner("192.0.2.1/32", None)), Ok(vec![]));

    let mut book = BanBook::default();
    let entered = book.enter_all((0..=AUTO_PREFIXES_MAX).map(|n| scanner(&prefix(n), None)));
    assert_eq!((entered.bans.len(), entered.refused.len()), (AUTO_PREFIXES_MAX, 1));
    assert_eq!(entered.refused[0].1, BanRefusal::AutoFullOfPrefixes);
    assert_eq!(book.admit(&ban(&prefix(AUTO_PREFIXES_MAX), None)), Ok(vec![]));
    // A block by hand that takes over an automatic one makes room for another automatic one.
    book.enter(ban(&prefix(0), None));
    assert_eq!(book.admit(&scanner(&prefix(AUTO_PREFIXES_MAX), None)), Ok(vec![]));
}

#[test]
fn many_bans_are_entered_as_if_one_by_one() {
    let mut book = BanBook::new([ban("10.1.2.0/24", Some(50)), ban("10.9.0.1/32", Some(5))]);
    let entered = book.enter_all([
        scanner("10.1.3.3/32", Some(90)),
        scanner("10.1.0.0/16", Some(100)),
        scanner("10.1.4.4/32", Some(80)),
        scanner("10.9.0.1/32", Some(5)),
        scanner("10.9.0.1/32", Some(6)),
        scanner("10.1.5.5/32", None),
        scanner("0.0.0.0/0", None),
    ]);
    assert_eq!(sources(&entered.bans), ["10.1.0.0/16", "10.9.0.1/32"]);
    assert_eq!(entered.lifted.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.2.0/24"]);
    let refusals: Vec<_> = entered.refused.iter().map(|(_, refusal)| refusal.clone()).collect();
    let net = |source: &str| source.parse().unwrap();
    assert_eq!(
        refusals,
        [
            BanRefusal::Held { source_net: net("10.1.4.4/32") },
            BanRefusal::Held { source_net: net("10.9.0.1/32") },
            BanRefusal::Covered { source_net: net("10.1.5.5/32"), by: net("10.1.0.0/16") },
            BanRefusal::TooWide(net("0.0.0.0/0")),
        ]
    );
    assert_eq!(sources(&book.listed()), ["10.9.0.1/32", "10.1.0.0/16"]);
}

/// The book's answers against a look at every ban, over nested prefixes of both families.
#[test]
fn indexed_answers_are_those_of_a_walk_through_all_bans() {
    let mut dice = Dice::new(31);
    let mut book = BanBook::default();
    let random = |dice: &mut Dice| {
        let until = (dice.below(4) > 0).then(|| dice.below(100));
        let (low, v6) = (dice.below(1 << 12) as u32, dice.below(2) == 0);
        let source = if v6 {
            let length = [56, 60, 64, 127, 128][dice.below(5) as usize];
            let bits = 0x2001_0db8 << 96 | u128::from(low) << 60 | u128::from(low & 3);
            IpNet::new(std::net::Ipv6Addr::from(bits).into(), length)
        } else {
            let length = [16, 22, 24, 31, 32][dice.below(5) as usize];
            IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 | low << 4).into(), length)
        };
        ban(&source.unwrap().trunc().to_string(), until)
    };
    let (mut swallowing, mut covered) = (0, 0);
    for turn in 0..4_000 {
        let ban = random(&mut dice);
        let all = |test: &dyn Fn(&Ban) -> bool| book.iter().filter(|known| test(known)).count();
        let wider = all(&|known| known.source != ban.source && known.source.contains(&ban.source));
        let lasts = |known: &Ban| {
            known.source.contains(&ban.source)
                && (known.until.is_none() || (ban.until.is_some() && known.until >= ban.until))
        };
        assert_eq!(book.holds_until(&ban.source, ban.until), all(&lasts) > 0);
        let address = ban.source.addr();
        assert_eq!(book.covering(address).is_some(), all(&|known| known.source.contains(&address)) > 0);
        match book.admit(&ban) {
            Err(BanRefusal::Covered { .. }) => {
                assert!(wider > 0);
                covered += 1;
            }
            Err(BanRefusal::WouldShorten { inside, .. }) => {
                assert!(ban.source.contains(&inside) && wider == 0);
            }
            Err(other) => panic!("{other}"),
            Ok(swallowed) => {
                let inside = |known: &Ban| {
                    known.source != ban.source
                        && ban.source.contains(&known.source)
                        && !ends_later(known, &ban)
                };
                assert_eq!((swallowed.len(), wider), (all(&inside), 0));
                swallowing += usize::from(!swallowed.is_empty());
                for source in swallowed {
                    book.strike(&source);
                }
                book.enter(ban);
            }
        }
        if turn % 9 == 0 {
            let now = UnixMillis(dice.below(60));
            let over = book.iter().filter(|ban| ban.is_over(now)).count();
            assert_eq!(book.take_expired(now).len(), over);
        }
    }
    assert!(swallowing > 50 && covered > 500, "{swallowing} swallowed, {covered} were covered");
}

#[test]
fn many_bans_are_enforced_in_a_few_steps_with_lifted_prefixes_first() {
    let bans: Vec<Ban> =
        (0..500).map(|n| scanner(&single(n), Some(9_000))).chain([scanner("10.1.0.0/16", None)]).collect();
    let lifted = ["10.1.2.0/24".parse().unwrap()];
    let steps: Vec<_> = enforce_all(&bans, &lifted, UnixMillis(1_000))
        .into_iter()
        .map(|op| match op {
            Op::AddElements { set, elements: Elements::List(list), .. } => {
                ("add", set.name.to_string(), list.len(), list[0].timeout)
            }
            Op::DeleteElements { set, elements: Elements::List(list), .. } => {
                ("delete", set.name.to_string(), list.len(), list[0].timeout)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let (nets, singles) = ("bans4_nets".to_owned(), "bans4".to_owned());
    assert_eq!(
        steps,
        [
            ("add", nets.clone(), 1, None),
            ("delete", nets.clone(), 1, None),
            ("add", singles.clone(), 500, None),
            ("delete", singles.clone(), 500, None),
            ("add", nets.clone(), 1, None),
            ("delete", nets.clone(), 1, None),
            ("add", singles, 500, Some(Duration::from_secs(9))),
            ("add", nets, 1, None),
        ]
    );
}

#[test]
fn an_element_is_known_as_it_was_written_and_as_the_kernel_tells_it() {
    let net = |text: &str| -> IpNet { text.parse().unwrap() };
    let told = |low: &str, high: &str| {
        let atom = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(address) => Atom::Ipv4(address),
            IpAddr::V6(address) => Atom::Ipv6(address),
        };
        Element::new(Key::Fields(vec![KeyPart::Range(atom(low), atom(high))]))
    };
    let v6 = told("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff");
    assert!(is_of(&v6, &net("2001:db8::/64")) && !is_of(&v6, &net("2001:db8::/65")));
    assert!(is_of(&told("10.1.0.0", "10.1.255.255"), &net("10.1.0.0/16")));
    let single = Element::new(Key::Fields(vec![KeyPart::One(Atom::Ipv4([10, 9, 0, 1].into()))]));
    assert!(is_of(&single, &net("10.9.0.1/32")) && !is_of(&single, &net("10.9.0.2/32")));
}
