//! Gathers what compiling a policy must know of the host.

use glacis_plan::ObservedLink;
use glacis_policy::{Facts, InterfaceFact, Policy};
use std::net::IpAddr;
use std::path::Path;

/// Where the host's resolvers are written, on a host that has such a file.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Facts for one policy. `folder` is where relative list files are looked for.
pub fn gather(policy: &Policy, folder: &Path, links: &[ObservedLink]) -> Facts {
    let interfaces = interfaces(links);
    let lists = crate::policy_file::read_lists(policy, folder);
    Facts { interfaces: Some(interfaces), lists, never_block: never_block(links) }
}

/// What a policy binds its interfaces by.
pub fn interfaces(links: &[ObservedLink]) -> Vec<InterfaceFact> {
    let outward = links.iter().filter(|link| !link.loopback);
    outward
        .map(|link| InterfaceFact { device: link.device.clone(), mac: link.mac, pci: link.pci.clone() })
        .collect()
}

/// Our own addresses, the gateways and the resolvers: banning one of them would cut ourselves off.
pub fn never_block(links: &[ObservedLink]) -> Vec<IpAddr> {
    let own = links.iter().flat_map(|link| link.addresses.iter().map(|a| a.net.addr()));
    let gateways = links.iter().flat_map(|link| link.routes.iter().filter_map(|r| r.route.gateway));
    let mut addresses: Vec<IpAddr> = own.chain(gateways).chain(resolvers()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn resolvers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect()
}
