//! The steps that make the kernel's ban sets follow the book.

use super::is_single;
use glacis_control::{Ban, UnixMillis};
use glacis_plan::closed::{TABLE, TABLE_FAMILY, ban_set_of, ban_sets};
use glacis_plan::nft::{Atom, Element, Elements, Key, KeyPart, Op, Set};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Steps that make the kernel hold many bans with their remaining time whatever it held for their sources
/// before, and none of the sources that are `lifted`; a few per set, however many there are. The first add makes the
/// deletion sure to find something; an add alone would keep an older timeout. Lifted prefixes go first: an interval set
/// takes no wider one beside them.
pub fn enforce_all(bans: &[Ban], lifted: &[IpNet], now: UnixMillis) -> Vec<Op> {
    let mut ops = lift_all(lifted.iter());
    ops.extend(lift_all(bans.iter().map(|ban| &ban.source)));
    let timed = bans.iter().map(|ban| (&ban.source, Some((ban, now))));
    ops.extend(by_set(timed).into_iter().map(|(set, elements)| add(set, elements)));
    ops
}

fn lift_all<'a>(sources: impl Iterator<Item = &'a IpNet>) -> Vec<Op> {
    let steps = |(set, elements): (Set, Vec<Element>)| {
        let gone = Elements::List(elements.clone());
        let delete =
            Op::DeleteElements { family: TABLE_FAMILY, table: TABLE, set: set.clone(), elements: gone };
        [add(set, elements), delete]
    };
    by_set(sources.map(|source| (source, None))).into_iter().flat_map(steps).collect()
}

/// Elements with the declarations of the sets that they belong in; no set without any.
fn by_set<'a>(
    sources: impl Iterator<Item = (&'a IpNet, Option<(&'a Ban, UnixMillis)>)>,
) -> Vec<(Set, Vec<Element>)> {
    let mut elements: BTreeMap<_, Vec<Element>> = BTreeMap::new();
    for (source, timed) in sources {
        elements.entry(ban_set_of(source)).or_default().push(element(source, timed));
    }
    let of_set = |set: Set| elements.remove(&set.name).map(|elements| (set, elements));
    ban_sets().into_iter().filter_map(of_set).collect()
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

/// Whether an element of a ban set is the one of a source. The kernel tells a prefix as its first and last address.
pub fn is_of(found: &Element, source: &IpNet) -> bool {
    let as_told = KeyPart::Range(atom(source.network()), atom(source.broadcast()));
    found.key == element(source, None).key || found.key == Key::Fields(vec![as_told])
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
    let atom = atom(source.network());
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

fn atom(address: IpAddr) -> Atom {
    match address {
        IpAddr::V4(address) => Atom::Ipv4(address),
        IpAddr::V6(address) => Atom::Ipv6(address),
    }
}
