//! Whom the kernel keeps out.

use super::networks::family;
use crate::book::canonical;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

/// The core's live bans. It bounds them, so there is no bound here.
///
/// An answer costs one look-up, and one more for each length of prefix that is in use in the client's family.
#[derive(Debug, Default)]
pub struct Banned {
    hosts: HashSet<IpAddr>,
    /// Of IPv4 and of IPv6: addresses of wider networks, by length of their prefix; no set is empty.
    wider: [BTreeMap<u8, HashSet<IpAddr>>; 2],
}

impl Banned {
    pub fn add(&mut self, network: &IpNet) {
        let network = canonical(network);
        if is_host(&network) {
            self.hosts.insert(network.addr());
        } else {
            let of_length = self.wider[family(network.addr())].entry(network.prefix_len()).or_default();
            of_length.insert(network.network());
        }
    }

    /// Takes out what was added as this network, and none within it or around it.
    pub fn lift(&mut self, network: &IpNet) {
        let network = canonical(network);
        if is_host(&network) {
            self.hosts.remove(&network.addr());
            return;
        }
        let wider = &mut self.wider[family(network.addr())];
        if let Some(of_length) = wider.get_mut(&network.prefix_len()) {
            of_length.remove(&network.network());
            if of_length.is_empty() {
                wider.remove(&network.prefix_len());
            }
        }
    }

    /// `client` is canonical.
    pub fn contains(&self, client: IpAddr) -> bool {
        let is_of = |(length, networks): (&u8, &HashSet<IpAddr>)| {
            IpNet::new(client, *length).is_ok_and(|around| networks.contains(&around.network()))
        };
        self.hosts.contains(&client) || self.wider[family(client)].iter().any(is_of)
    }
}

impl<'a> FromIterator<&'a IpNet> for Banned {
    fn from_iter<T: IntoIterator<Item = &'a IpNet>>(networks: T) -> Self {
        let mut banned = Self::default();
        networks.into_iter().for_each(|network| banned.add(network));
        banned
    }
}

fn is_host(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_banned_from_its_first_address_to_its_last_however_it_is_written() {
        let nets = ["203.0.113.7/32", "198.51.100.9/24", "2001:db8:1::/48", "::ffff:192.0.2.0/121"];
        let banned: Banned = nets.map(network).iter().collect();
        for inside in
            ["203.0.113.7", "198.51.100.0", "198.51.100.255", "2001:db8:1:ffff::", "192.0.2.0", "192.0.2.127"]
        {
            assert!(banned.contains(address(inside)), "{inside}");
        }
        for outside in
            ["203.0.113.6", "203.0.113.8", "198.51.99.255", "198.51.101.0", "2001:db8:2::", "192.0.2.128"]
        {
            assert!(!banned.contains(address(outside)), "{outside}");
        }
    }

    #[test]
    fn a_lifted_network_leaves_those_around_it_and_within_it() {
        let nets = ["203.0.113.7/32", "203.0.113.0/24", "203.0.0.0/16"].map(network);
        let mut banned: Banned = nets.iter().collect();
        banned.lift(&nets[1]);
        assert!(banned.contains(address("203.0.113.8")));
        banned.lift(&nets[2]);
        assert!(!banned.contains(address("203.0.113.8")) && banned.contains(address("203.0.113.7")));
        banned.lift(&nets[2]);
        banned.lift(&nets[0]);
        assert!(!banned.contains(address("203.0.113.7")));
        assert!(banned.hosts.is_empty() && banned.wider.iter().all(BTreeMap::is_empty));
    }
}
