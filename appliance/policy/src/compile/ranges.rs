//! Address ranges, by family, merged and sorted as the kernel's interval sets want them.

use crate::AddressRange;
use glacis_plan::nft::{Datatype, Elements, Name, NfProto, Set, SetFlags};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Inclusive ranges of both families; ascending and disjoint, neighbours joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub(crate) v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl Ranges {
    pub(crate) fn merged(ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match (range.first, range.last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((u32::from(first), u32::from(last))),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((u128::from(first), u128::from(last))),
                // An `AddressRange` is of one family.
                _ => {}
            }
        }
        let v4 = merge(v4, |end: u32| end.checked_add(1));
        let v6 = merge(v6, |end: u128| end.checked_add(1));
        Self {
            v4: v4.into_iter().map(|(first, last)| (first.into(), last.into())).collect(),
            v6: v6.into_iter().map(|(first, last)| (first.into(), last.into())).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn has(&self, family: NfProto) -> bool {
        match family {
            NfProto::Ipv4 => !self.v4.is_empty(),
            NfProto::Ipv6 => !self.v6.is_empty(),
        }
    }

    /// Whether any address of `first..=last` is covered.
    pub(crate) fn touches(&self, first: IpAddr, last: IpAddr) -> bool {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => touches(&self.v4, first, last),
            (IpAddr::V6(first), IpAddr::V6(last)) => touches(&self.v6, first, last),
            _ => false,
        }
    }

    /// The fewest prefixes that cover exactly the same addresses.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self.v4.iter().flat_map(|(a, b)| Ipv4Subnets::new(*a, *b, 0)).map(IpNet::V4);
        let v6 = self.v6.iter().flat_map(|(a, b)| Ipv6Subnets::new(*a, *b, 0)).map(IpNet::V6);
        v4.chain(v6)
    }

    /// The named set of one family; `None` when it would be empty.
    pub(crate) fn set(&self, name: Name, family: NfProto) -> Option<Set> {
        let (datatype, elements) = match family {
            NfProto::Ipv4 => (Datatype::Ipv4Addr, Elements::Ipv4Ranges(self.v4.clone())),
            NfProto::Ipv6 => (Datatype::Ipv6Addr, Elements::Ipv6Ranges(self.v6.clone())),
        };
        let flags = SetFlags { interval: true, ..SetFlags::default() };
        self.has(family).then(|| Set { flags, elements, ..Set::new(name, [datatype]) })
    }
}

/// Sorts and joins what overlaps or adjoins. `after` is `None` at the top of the number space.
fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if after(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn touches<T: Ord + Copy>(ranges: &[(T, T)], first: T, last: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= last);
    after > 0 && ranges[after - 1].1 >= first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
    }

    #[test]
    fn overlapping_and_adjoining_ranges_become_one() {
        let ranges = Ranges::merged([
            range("10.0.0.8", "10.0.0.9"),
            range("10.0.0.0", "10.0.0.7"),
            range("10.0.0.4", "10.0.0.5"),
            range("10.0.0.11", "10.0.0.11"),
            range("255.255.255.255", "255.255.255.255"),
            range("255.255.255.0", "255.255.255.255"),
            range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            range("::1", "::1"),
        ]);
        let shown: Vec<_> = ranges.v4.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        assert_eq!(shown, ["10.0.0.0-10.0.0.9", "10.0.0.11-10.0.0.11", "255.255.255.0-255.255.255.255"]);
        assert_eq!(ranges.v6.len(), 1);
    }

    #[test]
    fn a_range_touches_at_its_ends_and_not_beyond() {
        let ranges = Ranges::merged([range("10.0.0.4", "10.0.0.5"), range("10.0.1.0", "10.0.1.9")]);
        let touches = |a: &str, b: &str| ranges.touches(a.parse().unwrap(), b.parse().unwrap());
        assert!(
            touches("10.0.0.5", "10.0.0.8")
                && touches("10.0.0.0", "10.0.0.4")
                && touches("10.0.0.0", "10.1.0.0")
        );
        assert!(
            !touches("10.0.0.6", "10.0.0.255") && !touches("10.0.0.0", "10.0.0.3") && !touches("::", "::1")
        );
    }

    #[test]
    fn a_range_becomes_its_fewest_prefixes() {
        let ranges = Ranges::merged([range("10.0.0.0", "10.0.0.9")]);
        let shown: Vec<_> = ranges.prefixes().map(|net| net.to_string()).collect();
        assert_eq!(shown, ["10.0.0.0/29", "10.0.0.8/31"]);
    }
}
