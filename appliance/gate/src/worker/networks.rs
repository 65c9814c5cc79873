//! Which network an address is in, whether it is in one of many, and which addresses are nobody's on the Internet.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// Networks to be asked often: sorted ranges, so that an answer costs a binary search.
#[derive(Debug, Default)]
pub struct Networks {
    /// First and last address; apart from each other and ascending.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: joined(v4), v6: joined(v6) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => is_in(&self.v4, address.to_bits()),
            IpAddr::V6(address) => is_in(&self.v6, address.to_bits()),
        }
    }
}

fn joined<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut apart: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match apart.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|at| address <= ranges[at].1)
}

/// Private, link-local and shared addresses: RFC 1918, 3927, 6598, 4193, 4291. Not loopback.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || is_link_local(v6),
    }
}

pub fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

/// Whether nobody can be a client by this address: unspecified, a group's, everybody's.
pub fn is_nobody(address: IpAddr) -> bool {
    let is_everybody = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_unspecified() || address.is_multicast() || is_everybody
}

/// 0 for IPv4, 1 for IPv6.
pub fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// Bits of an IPv4 address that make its network.
const NETWORK4_BITS: u32 = 24;
/// The same of IPv6: what providers give to a customer is a /56 more often than a /64.
const NETWORK6_BITS: u32 = 56;

/// A client's network: whoever has one of its addresses can have them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl Network {
    pub fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(v4.to_bits() >> (u32::BITS - NETWORK4_BITS))),
            // Apart from IPv4's.
            IpAddr::V6(v6) => Self(v6.to_bits() >> (u128::BITS - NETWORK6_BITS) | 1 << 127),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_and_the_last_address_of_a_network_are_in_it_and_their_neighbours_are_not() {
        let nets = ["198.51.100.0/24", "198.51.100.128/25", "203.0.113.7/32", "2001:db8:1::/48"];
        let networks = Networks::new(&nets.map(|net| net.parse().unwrap()));
        for inside in
            ["198.51.100.0", "198.51.100.255", "203.0.113.7", "2001:db8:1::", "2001:db8:1:ffff:ffff::1"]
        {
            assert!(networks.contains(address(inside)), "{inside}");
        }
        for outside in ["198.51.99.255", "198.51.101.0", "203.0.113.6", "203.0.113.8", "2001:db8:2::"] {
            assert!(!networks.contains(address(outside)), "{outside}");
        }
        assert!(!Networks::new(&[]).contains(address("::")));
        let all = Networks::new(&["0.0.0.0/0".parse().unwrap()]);
        assert!(all.contains(address("255.255.255.255")) && !all.contains(address("::1")));
    }

    #[test]
    fn networks_are_of_24_bits_in_ipv4_and_of_56_in_ipv6() {
        let of = |text: &str| Network::of(address(text));
        assert_eq!(of("203.0.113.1"), of("203.0.113.254"));
        assert_eq!(of("203.0.113.1"), of("::ffff:203.0.113.2"));
        assert_ne!(of("203.0.113.1"), of("203.0.112.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:ff:ffff::1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:100::1"));
        assert_ne!(of("0.0.1.1"), of("::1"));
    }

    #[test]
    fn nobody_comes_from_an_address_of_none_of_many_or_of_all() {
        for nobody in ["0.0.0.0", "::", "224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255"] {
            assert!(is_nobody(address(nobody)), "{nobody}");
        }
        for somebody in ["0.0.0.1", "223.255.255.255", "240.0.0.1", "255.255.255.254", "::1", "fe80::1"] {
            assert!(!is_nobody(address(somebody)), "{somebody}");
        }
    }

    #[test]
    fn addresses_of_no_one_on_the_internet_are_private() {
        for private in
            ["10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.0.1", "100.64.0.1", "fd00::1", "fe80::1"]
        {
            assert!(is_private(address(private)), "{private}");
        }
        for public in
            ["100.63.0.1", "100.128.0.1", "172.32.0.1", "203.0.113.1", "2001:db8::1", "127.0.0.1", "::1"]
        {
            assert!(!is_private(address(public)), "{public}");
        }
    }
}
