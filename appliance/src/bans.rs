//! The book of bans: who is blocked and until when, and how the kernel is told.
//!
//! Pure. The daemon is the one owner of a [`BanBook`]; it writes a ban to the store first and to the kernel
//! after, so a crash in between leaves a ban that the next start enforces.

use glacis_control::{Ban, UnixMillis};
use glacis_plan::closed::{TABLE, TABLE_FAMILY, ban_set_of, ban_sets};
use glacis_plan::nft::{Atom, Element, Elements, Key, KeyPart, Op, Set};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Single addresses banned at once: what the TC program's copy holds.
pub const SINGLES_MAX: usize = glacis_loader::BANS_MAX;
/// Prefixes banned at once, likewise. An add to the kernel's interval set costs with their number.
pub const PREFIXES_MAX: usize = glacis_loader::BAN_PREFIXES_MAX;

#[derive(Debug, Default)]
pub struct BanBook {
    bans: BTreeMap<IpNet, Ban>,
}

/// Why a source cannot be banned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BanRefusal {
    #[error("{source_net} is already covered by the block of {by}; unblock that first")]
    Covered { source_net: IpNet, by: IpNet },
    #[error("the block of {inside} ends later than one of {source_net} would; unblock it first")]
    WouldShorten { source_net: IpNet, inside: IpNet },
    #[error("{SINGLES_MAX} addresses are blocked, which is the bound; unblock some or block a prefix")]
    Full,
    #[error("{PREFIXES_MAX} prefixes are blocked, which is the bound; unblock some")]
    FullOfPrefixes,
    #[error("{0} is too wide: a block covers at most an IPv4 /8 or an IPv6 /16")]
    TooWide(IpNet),
}

impl BanBook {
    pub fn new(bans: impl IntoIterator<Item = Ban>) -> Self {
        Self { bans: bans.into_iter().map(|ban| (ban.source, ban)).collect() }
    }

    pub fn len(&self) -> usize {
        self.bans.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    pub fn get(&self, source: &IpNet) -> Option<&Ban> {
        self.bans.get(source)
    }

    /// The ban that covers an address.
    pub fn covering(&self, address: IpAddr) -> Option<&Ban> {
        self.bans.values().find(|ban| ban.source.contains(&address))
    }

    /// Whether a source is blocked at least until then, by itself or within a wider prefix.
    pub fn holds_until(&self, source: &IpNet, until: Option<UnixMillis>) -> bool {
        let lasts = |ban: &Ban| ban.until.is_none() || (until.is_some() && ban.until >= until);
        self.bans.values().any(|ban| ban.source.contains(source) && lasts(ban))
    }

    /// Whether a ban may be entered, and which narrower bans it takes the place of. An interval set holds no
    /// overlapping prefixes, so a wide ban swallows the narrow ones that end no later.
    pub fn admit(&self, ban: &Ban) -> Result<Vec<IpNet>, BanRefusal> {
        let source = ban.source;
        let widest = if source.addr().is_ipv4() { 8 } else { 16 };
        if source.prefix_len() < widest {
            return Err(BanRefusal::TooWide(source));
        }
        if !self.bans.contains_key(&source) {
            let prefixes = self.bans.keys().filter(|known| !is_single(known)).count();
            match is_single(&source) {
                true if self.bans.len() - prefixes >= SINGLES_MAX => return Err(BanRefusal::Full),
                false if prefixes >= PREFIXES_MAX => return Err(BanRefusal::FullOfPrefixes),
                _ => {}
            }
        }
        let mut swallowed = vec![];
        for known in self.bans.values().filter(|known| known.source != source) {
            if known.source.contains(&source) {
                return Err(BanRefusal::Covered { source_net: source, by: known.source });
            }
            if source.contains(&known.source) {
                if ends_later(known, ban) {
                    // Single addresses live in a set of their own and may stay.
                    if is_single(&known.source) {
                        continue;
                    }
                    return Err(BanRefusal::WouldShorten { source_net: source, inside: known.source });
                }
                swallowed.push(known.source);
            }
        }
        Ok(swallowed)
    }

    /// Enters a ban that was admitted, in the place of an earlier one of the same source.
    pub fn enter(&mut self, ban: Ban) {
        self.bans.insert(ban.source, ban);
    }

    pub fn strike(&mut self, source: &IpNet) -> Option<Ban> {
        self.bans.remove(source)
    }

    /// Takes out the bans whose time is up.
    pub fn take_expired(&mut self, now: UnixMillis) -> Vec<Ban> {
        let over: Vec<IpNet> =
            self.bans.values().filter(|ban| ban.is_over(now)).map(|ban| ban.source).collect();
        over.iter().filter_map(|source| self.bans.remove(source)).collect()
    }

    /// Live bans, soonest to end first, permanent ones last.
    pub fn listed(&self) -> Vec<Ban> {
        let mut bans: Vec<Ban> = self.bans.values().cloned().collect();
        bans.sort_by_key(|ban| (ban.until.is_none(), ban.until, ban.source));
        bans
    }
}

fn is_single(source: &IpNet) -> bool {
    source.prefix_len() == source.max_prefix_len()
}

fn ends_later(one: &Ban, other: &Ban) -> bool {
    match (one.until, other.until) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

/// Steps that make the kernel hold a ban with its remaining time, whatever it held for that source before.
/// The first add makes the deletion sure to find something; an add alone would keep an older timeout.
pub fn enforce(ban: &Ban, now: UnixMillis) -> Vec<Op> {
    let mut ops = lift(&ban.source);
    ops.push(add(ban_set(&ban.source), vec![element(&ban.source, Some((ban, now)))]));
    ops
}

/// Steps that make the kernel hold no ban of a source, whether it did or not.
pub fn lift(source: &IpNet) -> Vec<Op> {
    let set = ban_set(source);
    let elements = Elements::List(vec![element(source, None)]);
    vec![
        add(set.clone(), vec![element(source, None)]),
        Op::DeleteElements { family: TABLE_FAMILY, table: TABLE, set, elements },
    ]
}

/// Steps that make the kernel's ban sets hold exactly these bans.
pub fn reconcile<'a>(bans: impl Iterator<Item = &'a Ban>, now: UnixMillis) -> Vec<Op> {
    let mut elements: BTreeMap<_, Vec<Element>> = BTreeMap::new();
    for ban in bans.filter(|ban| !ban.is_over(now)) {
        elements.entry(ban_set_of(&ban.source)).or_default().push(element(&ban.source, Some((ban, now))));
    }
    let mut ops = vec![];
    for set in ban_sets() {
        ops.push(Op::FlushSet { family: TABLE_FAMILY, table: TABLE, set: set.name.clone() });
        if let Some(elements) = elements.remove(&set.name) {
            ops.push(add(set, elements));
        }
    }
    ops
}

/// Whether an element of a ban set is the one of a source.
pub fn is_of(found: &Element, source: &IpNet) -> bool {
    found.key == element(source, None).key
}

fn add(set: Set, elements: Vec<Element>) -> Op {
    Op::AddElements { family: TABLE_FAMILY, table: TABLE, set, elements: Elements::List(elements) }
}

/// The declaration of the set that a source belongs in.
pub fn ban_set(source: &IpNet) -> Set {
    let name = ban_set_of(source);
    ban_sets().into_iter().find(|set| set.name == name).expect("every source has one of the four ban sets")
}

fn element(source: &IpNet, timed: Option<(&Ban, UnixMillis)>) -> Element {
    let atom = match source.network() {
        IpAddr::V4(address) => Atom::Ipv4(address),
        IpAddr::V6(address) => Atom::Ipv6(address),
    };
    let part =
        if is_single(source) { KeyPart::One(atom) } else { KeyPart::Prefix(atom, source.prefix_len()) };
    let mut element = Element::new(Key::Fields(vec![part]));
    if let Some((ban, now)) = timed {
        let whole = ban.until.map(|until| until.since(ban.since));
        let left = ban.remaining(now);
        // Zero would mean "for ever".
        let at_least = |span: Duration| span.max(Duration::from_millis(1));
        element.timeout = whole.map(at_least);
        element.expires = left.filter(|left| Some(*left) < whole).map(at_least);
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::BanReason;

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
        let book = BanBook::new([
            ban("10.1.2.3/32", Some(50)),
            ban("10.1.9.0/24", Some(100)),
            ban("10.2.0.1/32", None),
        ]);
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
        let holds = |source: &str, until: Option<u64>| {
            book.holds_until(&source.parse().unwrap(), until.map(UnixMillis))
        };
        assert!(holds("10.0.0.1/32", Some(99)) && holds("10.0.0.1/32", None));
        assert!(holds("10.1.2.3/32", Some(50)) && holds("10.1.2.3/32", Some(49)));
        assert!(
            !holds("10.1.2.3/32", Some(51)) && !holds("10.1.2.3/32", None) && !holds("10.2.0.1/32", Some(1))
        );
    }

    #[test]
    fn the_bound_refuses_one_more_and_takes_a_known_one() {
        let single =
            |n: usize| ban(&format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + n as u32)), None);
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
        let mut book = BanBook::new([
            ban("10.0.0.1/32", Some(10)),
            ban("10.0.0.2/32", Some(11)),
            ban("10.0.0.3/32", None),
        ]);
        let over = book.take_expired(UnixMillis(10));
        assert_eq!(over.iter().map(|b| b.source.to_string()).collect::<Vec<_>>(), ["10.0.0.1/32"]);
        assert_eq!(
            book.listed().iter().map(|b| b.source.to_string()).collect::<Vec<_>>(),
            ["10.0.0.2/32", "10.0.0.3/32"]
        );
    }

    #[test]
    fn reconciling_flushes_every_set_and_adds_the_time_that_remains() {
        let bans =
            [ban("10.0.0.1/32", Some(5_000)), ban("2001:db8::/64", None), ban("10.0.0.9/32", Some(1_000))];
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
}
