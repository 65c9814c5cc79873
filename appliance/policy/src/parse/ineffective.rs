//! Rules that no packet ever reaches, because an earlier one of the same pair of zones takes them all.

use super::problems::Problems;
use crate::model::{AddressRange, Peer, Rule, RuleBlock, Spanned, Traffic, What, ZoneRef};
use crate::report::Problem;
use std::ops::RangeInclusive;

/// Rules of one file; the search below compares each with those before it.
const RULES_MAX: usize = 4_096;

pub(super) fn check(blocks: &[RuleBlock], problems: &Problems) {
    let count: usize = blocks.iter().map(|block| block.rules.len()).sum();
    if count > RULES_MAX {
        let past = blocks.iter().flat_map(|block| &block.rules).nth(RULES_MAX);
        let span = past.map_or((0, 0).into(), |rule| rule.span);
        let message = format!("{count} rules, and {RULES_MAX} are the most");
        problems.add(Problem::new(span, message).label("one too many").hint("put addresses into sets"));
        return;
    }
    // A rule that could not be read wholly looks wider than it was meant.
    let read = |rule: &&Rule| !problems.touch(rule.span);
    let rules: Vec<(&ZoneRef, &ZoneRef, &Rule)> = blocks
        .iter()
        .flat_map(|block| {
            block.rules.iter().filter(read).map(|rule| (&block.from.value, &block.to.value, rule))
        })
        .collect();
    for (at, (from, to, rule)) in rules.iter().enumerate() {
        let mut earlier =
            rules[..at].iter().filter(|(f, t, _)| f == from && t == to).map(|(.., earlier)| *earlier);
        if let Some(earlier) = earlier.find(|earlier| covers(earlier, rule)) {
            problems.add(
                Problem::new(rule.span, "this rule never decides anything")
                    .label("no packet comes this far")
                    .related(earlier.span, "this one takes them all")
                    .hint("the first match wins: move it up, or take it out"),
            );
        }
    }
}

/// Whether every packet that `later` speaks of is decided by `earlier`.
fn covers(earlier: &Rule, later: &Rule) -> bool {
    // What is over the rate goes on to later rules.
    earlier.rate.is_none()
        && covers_peer(earlier.source.as_ref(), later.source.as_ref())
        && covers_peer(earlier.destination.as_ref(), later.destination.as_ref())
        && covers_what(&earlier.what, &later.what)
}

fn covers_peer(earlier: Option<&Spanned<Peer>>, later: Option<&Spanned<Peer>>) -> bool {
    match (earlier.map(|peer| &peer.value), later.map(|peer| &peer.value)) {
        (None, _) => true,
        (Some(Peer::Addresses(outer)), Some(Peer::Addresses(inner))) => holds(outer, inner),
        (Some(Peer::Set(outer)), Some(Peer::Set(inner))) => outer == inner,
        _ => false,
    }
}

fn holds(outer: &AddressRange, inner: &AddressRange) -> bool {
    outer.first.is_ipv4() == inner.first.is_ipv4() && outer.first <= inner.first && inner.last <= outer.last
}

fn covers_what(earlier: &What, later: &What) -> bool {
    match (earlier, later) {
        (What::All, _) => true,
        (What::Traffic(_), What::All) => false,
        // Traffic that could not be read is empty, and was reported.
        (What::Traffic(outer), What::Traffic(inner)) => {
            !inner.is_empty()
                && inner.iter().all(|inner| outer.iter().any(|outer| covers_traffic(outer, inner)))
        }
    }
}

fn covers_traffic(outer: &Traffic, inner: &Traffic) -> bool {
    match (outer, inner) {
        (Traffic::Tcp(outer), Traffic::Tcp(inner)) | (Traffic::Udp(outer), Traffic::Udp(inner)) => {
            covers_ports(outer, inner)
        }
        (Traffic::Ping, Traffic::Ping) => true,
        _ => false,
    }
}

fn covers_ports(outer: &RangeInclusive<u16>, inner: &RangeInclusive<u16>) -> bool {
    outer.start() <= inner.start() && inner.end() <= outer.end()
}
