//! What a server gave, judged: a [`Lease`] holds only values that are safe to configure.

use super::message::{Options, Reply, is_host};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Classless routes taken from one lease; more are cut off.
pub const ROUTES_MAX: usize = 32;
/// Name servers taken from one lease; more are cut off.
pub const DNS_SERVERS_MAX: usize = 4;

/// A shorter lease is refused: using it for longer than it was given is not ours to decide.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// A longer one, infinite included, is renewed as if it were this long.
const LEASE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The earliest renewal that a server may ask for.
const RENEW_MIN: Duration = Duration::from_secs(30);
/// A wider subnet than any that one link carries would turn the Internet into neighbours.
const PREFIX_MIN: u8 = 8;
/// Below 1280 the kernel takes IPv6 off the interface (RFC 8200 section 5), which a DHCPv4 server
/// must not be able to do; above 9216 no Ethernet goes.
const MTU_RANGE: std::ops::RangeInclusive<u16> = 1280..=9216;

/// A route that came with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRoute {
    /// Without host bits.
    pub destination: Ipv4Net,
    /// `None`: on link.
    pub gateway: Option<Ipv4Addr>,
}

/// An address on loan and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The host's address with the prefix length of its subnet.
    pub address: Ipv4Net,
    /// The server that gave it, as it identifies itself.
    pub server: Ipv4Addr,
    /// Every route to install, in an order in which each gateway is reachable when its route is
    /// added. Option 121 where the server sent it, else a default route by the router (RFC 3442).
    pub routes: Vec<LeaseRoute>,
    pub dns: Vec<Ipv4Addr>,
    /// Only within 1280 to 9216.
    pub mtu: Option<u16>,
    /// From the moment the request went out. `renew_after < rebind_after < duration`.
    pub duration: Duration,
    pub renew_after: Duration,
    pub rebind_after: Duration,
}

/// Why a lease is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("{0} cannot be a host's address")]
    Address(Ipv4Addr),
    #[error("no subnet mask")]
    NoMask,
    #[error("{0} is not a subnet mask of 8 to 32 bits")]
    Mask(Ipv4Addr),
    #[error("no lease time")]
    NoDuration,
    #[error("a lease of {0} s is shorter than 60 s")]
    TooShort(u32),
}

impl Lease {
    /// The gateway of the default route.
    pub fn router(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|r| r.destination.prefix_len() == 0).and_then(|r| r.gateway)
    }

    pub(super) fn from_reply(reply: &Reply) -> Result<Self, LeaseError> {
        let options = &reply.options;
        let address = subnet(reply.address, options.mask)?;
        let duration = duration(options)?;
        let (renew_after, rebind_after) = renewal_times(options, duration);
        let dns: Vec<Ipv4Addr> =
            options.dns.iter().copied().filter(|a| is_host(*a)).take(DNS_SERVERS_MAX).collect();
        Ok(Self {
            address,
            server: reply.server,
            routes: routes(options, address),
            dns,
            mtu: options.mtu.filter(|mtu| MTU_RANGE.contains(mtu)),
            duration,
            renew_after,
            rebind_after,
        })
    }
}

fn subnet(address: Ipv4Addr, mask: Option<Ipv4Addr>) -> Result<Ipv4Net, LeaseError> {
    let mask = mask.ok_or(LeaseError::NoMask)?;
    let net = Ipv4Net::with_netmask(address, mask)
        .ok()
        .filter(|net| net.prefix_len() >= PREFIX_MIN)
        .ok_or(LeaseError::Mask(mask))?;
    // /31 (RFC 3021) and /32 have neither a network nor a broadcast address.
    let reserved = net.prefix_len() < 31 && (address == net.network() || address == net.broadcast());
    if !is_host(address) || reserved {
        return Err(LeaseError::Address(address));
    }
    Ok(net)
}

fn duration(options: &Options) -> Result<Duration, LeaseError> {
    let seconds = options.lease_seconds.ok_or(LeaseError::NoDuration)?;
    let duration = Duration::from_secs(seconds.into());
    if duration < LEASE_MIN { Err(LeaseError::TooShort(seconds)) } else { Ok(duration.min(LEASE_MAX)) }
}

/// T1 and T2: the server's when they are in order, else half and seven eighths of the lease
/// (RFC 2131 section 4.4.5).
fn renewal_times(options: &Options, duration: Duration) -> (Duration, Duration) {
    let asked = |seconds: Option<u32>| seconds.map(|s| Duration::from_secs(s.into()));
    let rebind = asked(options.rebinding_seconds)
        .filter(|t2| *t2 > RENEW_MIN && *t2 < duration)
        .unwrap_or(duration * 7 / 8);
    let renew = asked(options.renewal_seconds)
        .filter(|t1| *t1 >= RENEW_MIN && *t1 < rebind)
        .unwrap_or((duration / 2).min(rebind * 4 / 7));
    (renew, rebind)
}

fn routes(options: &Options, address: Ipv4Net) -> Vec<LeaseRoute> {
    let usable = |gateway: Ipv4Addr| is_host(gateway) && gateway != address.addr();
    let mut routes = match options.classless_routes.as_deref().and_then(classless_routes) {
        Some(mut routes) => {
            routes.retain(|r| r.gateway.is_none_or(usable));
            routes
        }
        None => options
            .routers
            .iter()
            .copied()
            .find(|router| usable(*router))
            .map(|router| LeaseRoute { destination: Ipv4Net::default(), gateway: Some(router) })
            .into_iter()
            .collect(),
    };
    make_gateways_reachable(&mut routes, address);
    routes
}

/// Puts on-link routes first, and adds one for each gateway that neither the subnet nor an on-link
/// route covers: hosting networks hand out /32 addresses with a router outside.
fn make_gateways_reachable(routes: &mut Vec<LeaseRoute>, address: Ipv4Net) {
    let (mut ordered, through): (Vec<_>, Vec<_>) = routes.drain(..).partition(|r| r.gateway.is_none());
    for gateway in through.iter().filter_map(|r| r.gateway) {
        let on_link = |r: &LeaseRoute| r.gateway.is_none() && r.destination.contains(&gateway);
        if !address.contains(&gateway) && !ordered.iter().any(on_link) {
            ordered.push(LeaseRoute { destination: gateway.into(), gateway: None });
        }
    }
    ordered.extend(through);
    *routes = ordered;
}

/// Reads option 121: prefix length, its significant octets, gateway (RFC 3442). `None` when any
/// entry is malformed, so that half an option is never half a routing table.
fn classless_routes(mut data: &[u8]) -> Option<Vec<LeaseRoute>> {
    let mut routes = Vec::new();
    while let [prefix_len, rest @ ..] = data {
        let significant = usize::from(prefix_len.div_ceil(8));
        if *prefix_len > 32 {
            return None;
        }
        let (octets, rest) = rest.split_at_checked(significant)?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        data = rest;
        let mut destination = [0_u8; 4];
        destination[..significant].copy_from_slice(octets);
        let destination = Ipv4Net::new(destination.into(), *prefix_len).ok()?.trunc();
        let gateway = Ipv4Addr::from(*gateway);
        let route = LeaseRoute { destination, gateway: (!gateway.is_unspecified()).then_some(gateway) };
        if routable(destination) && !routes.contains(&route) && routes.len() < ROUTES_MAX {
            routes.push(route);
        }
    }
    Some(routes)
}

/// Whether a server may send this destination elsewhere: everything, or a net of hosts.
fn routable(destination: Ipv4Net) -> bool {
    destination.prefix_len() == 0 || is_host(destination.network()) || destination.network().octets()[0] == 0
}

#[cfg(test)]
mod tests;
