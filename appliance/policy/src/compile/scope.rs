//! What every part of the compiler looks up: the policy, its devices here, its sets by family.

use super::CompileError;
use super::bind::Bindings;
use super::ranges::Ranges;
use crate::{Peer, Policy, Spanned, Zone};
use glacis_plan::nft::{Name, NfProto, Set};
use ipnet::IpNet;

pub(super) struct Scope<'a> {
    pub(super) policy: &'a Policy,
    pub(super) bindings: Bindings<'a>,
    sets: Vec<NamedRanges<'a>>,
}

/// An address set of the policy, as the kernel has it: one set a family.
pub(super) struct NamedRanges<'a> {
    policy_name: &'a str,
    v4: Name,
    v6: Name,
    pub(super) ranges: Ranges,
}

impl NamedRanges<'_> {
    pub(super) const fn name(&self, family: NfProto) -> &Name {
        match family {
            NfProto::Ipv4 => &self.v4,
            NfProto::Ipv6 => &self.v6,
        }
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(policy: &'a Policy, bindings: Bindings<'a>, errors: &mut Vec<CompileError>) -> Self {
        let mut sets = Vec::with_capacity(policy.sets.len());
        for set in &policy.sets {
            let name = |family| Name::parse(&format!("set.{}.{family}", set.name.value));
            match (name("v4"), name("v6")) {
                (Ok(v4), Ok(v6)) => sets.push(NamedRanges {
                    policy_name: &set.name,
                    v4,
                    v6,
                    ranges: Ranges::merged(set.entries.iter().map(|entry| entry.value)),
                }),
                (Err(cause), _) | (_, Err(cause)) => {
                    errors.push(CompileError::Name { cause, span: set.name.span });
                }
            }
        }
        Self { policy, bindings, sets }
    }

    pub(super) fn set(&self, name: &str) -> Option<&NamedRanges<'a>> {
        self.sets.iter().find(|set| set.policy_name == name)
    }

    /// The fewest prefixes of a set or of literal addresses.
    pub(super) fn networks(&self, peer: &Spanned<Peer>) -> Result<Vec<IpNet>, CompileError> {
        match &peer.value {
            Peer::Addresses(range) => Ok(Ranges::merged([*range]).prefixes().collect()),
            Peer::Set(name) => match self.set(name) {
                Some(set) => Ok(set.ranges.prefixes().collect()),
                None => Err(CompileError::Undeclared { what: "set", name: name.clone(), span: peer.span }),
            },
        }
    }

    pub(super) fn zone(&self, name: &str) -> Option<&'a Zone> {
        self.policy.zones.iter().find(|zone| *zone.name == name)
    }

    /// The kernel's sets for those of the policy that a rule names; others live in user space only.
    pub(super) fn used_sets(&self) -> impl Iterator<Item = Set> + '_ {
        let rules = || self.policy.rules.iter().flat_map(|block| &block.rules);
        let peers =
            move || rules().flat_map(|rule| [rule.source.as_ref(), rule.destination.as_ref()]).flatten();
        let used = move |set: &&NamedRanges<'_>| {
            peers().any(|peer| matches!(&peer.value, Peer::Set(name) if name == set.policy_name))
        };
        self.sets.iter().filter(used).flat_map(|set| {
            [NfProto::Ipv4, NfProto::Ipv6]
                .into_iter()
                .filter_map(|family| set.ranges.set(set.name(family).clone(), family))
        })
    }
}
