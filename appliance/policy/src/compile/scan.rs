//! What scan awareness must know of the rest of the policy.

use super::bind::Bindings;
use super::ranges::Ranges;
use super::scope::Scope;
use super::{CompileError, Warning};
use crate::{Action, AutoBlock as PolicyAutoBlock, Facts, Peer, Rule, Scan, Spanned, Traffic, What, ZoneRef};
use glacis_plan::{Addressing, AutoBlock, GatePlan, InterfacePlan, ScanDevices, ScanPlan};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// What administrates every host, and the service whose ports do so where a policy declares it.
const SSH: Traffic = Traffic::Tcp(22..=22);
const ADMIN_SERVICE: &str = "admin";

/// The widest prefixes that one block can be of. Whoever spares more than that may not know how much it is.
const WIDE_V4: u8 = 8;
const WIDE_V6: u8 = 16;

pub(super) fn compile(
    scope: &Scope<'_>,
    gates: &[GatePlan],
    spared: &[IpNet],
    errors: &mut Vec<CompileError>,
) -> Option<ScanPlan> {
    let scan = scope.policy.scan.as_ref()?;
    let (exposed_tcp, exposed_udp) = exposed(scope, gates);
    let auto_block = scan.auto_block.as_ref().map(|block| {
        let mut never = never(scope, block, errors);
        never.extend(spared);
        AutoBlock {
            mode: block.mode,
            evidence: block.evidence,
            threshold: block.threshold,
            window: block.window,
            duration: block.duration,
            ladder: block.ladder.clone(),
            group: block.group,
            never: IpNet::aggregate(&never),
            established: block.established,
        }
    });
    Some(ScanPlan {
        devices: devices(scan, &scope.bindings),
        retention: scan.retention,
        exposed_tcp: exposed_tcp.into_iter().collect(),
        exposed_udp: exposed_udp.into_iter().collect(),
        stealth: scan.stealth,
        shapes: scan.shapes,
        auto_block,
    })
}

fn devices(scan: &Scan, bindings: &Bindings<'_>) -> ScanDevices {
    if scan.interfaces.is_empty() {
        return ScanDevices::Outward;
    }
    let present = scan.interfaces.iter().filter_map(|name| bindings.device(name));
    ScanDevices::Named(present.map(str::to_owned).collect())
}

/// Ports that lead somewhere by this policy: probing them tells nothing.
fn exposed(scope: &Scope<'_>, gates: &[GatePlan]) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let (mut tcp, mut udp) = (BTreeSet::new(), BTreeSet::new());
    tcp.extend(scope.policy.status.as_ref().map(|status| status.port));
    tcp.extend(gates.iter().map(|gate| gate.port));
    for traffic in scope.policy.forwards.iter().flat_map(|forward| &forward.what) {
        match traffic {
            Traffic::Tcp(ports) => tcp.extend(ports.clone()),
            Traffic::Udp(ports) => udp.extend(ports.clone()),
            Traffic::Ping => {}
        }
    }
    (tcp, udp)
}

/// The sets that the policy names.
fn never(scope: &Scope<'_>, block: &PolicyAutoBlock, errors: &mut Vec<CompileError>) -> Vec<IpNet> {
    let mut never = Vec::new();
    for name in &block.never {
        match scope.set(name) {
            Some(set) => never.extend(set.ranges.prefixes()),
            None => errors.push(CompileError::Undeclared {
                what: "set",
                name: name.value.clone(),
                span: name.span,
            }),
        }
    }
    never
}

/// Whom nothing blocks by itself: our own addresses, our gateways, administrators, what stands before and behind gates,
/// and what the host knows besides.
pub(super) fn spared(
    scope: &Scope<'_>,
    facts: &Facts,
    interfaces: &[InterfacePlan],
    gates: &[GatePlan],
    warnings: &mut Vec<Warning>,
) -> Vec<IpNet> {
    let mut spared: Vec<IpNet> = facts.never_block.iter().copied().map(IpNet::from).collect();
    for interface in interfaces {
        for addressing in &interface.addressing {
            if let Addressing::Static(net) = addressing {
                spared.push(IpNet::from(net.addr()));
            }
        }
        spared.extend(interface.routes.iter().filter_map(|route| route.gateway).map(IpNet::from));
    }
    for gate in gates {
        spared.extend(gate.fronts.iter().flatten());
        let backends = gate.pools.iter().flat_map(|pool| &pool.backends);
        spared.extend(backends.map(|backend| IpNet::from(backend.address.ip())));
    }
    spared.extend(admins(scope, warnings));
    IpNet::aggregate(&spared)
}

/// Sources that a rule names and lets administrate the host itself.
///
/// A set that a rule names and the policy does not declare is told where the rule is compiled.
fn admins(scope: &Scope<'_>, warnings: &mut Vec<Warning>) -> Vec<IpNet> {
    let policy = scope.policy;
    let own = policy.services.iter().filter(|service| service.name.value == ADMIN_SERVICE);
    let doors: Vec<&Traffic> = own.flat_map(|service| &service.ports).chain([&SSH]).collect();
    let to_self = policy.rules.iter().filter(|block| block.to.value == ZoneRef::SelfHost);
    let mut admins = Vec::new();
    for rule in to_self.flat_map(|block| &block.rules).filter(|rule| opens(rule, &doors)) {
        let Some(source) = &rule.source else { continue };
        let nets: Vec<IpNet> = match &source.value {
            Peer::Set(name) => scope.set(name).map(|set| set.ranges.prefixes().collect()).unwrap_or_default(),
            Peer::Addresses(range) => Ranges::merged([*range]).prefixes().collect(),
        };
        warnings.extend(nets.iter().find(|net| is_wide(net)).map(|net| spares_many(*net, source)));
        admins.extend(nets);
    }
    admins
}

fn opens(rule: &Rule, doors: &[&Traffic]) -> bool {
    rule.action == Action::Allow
        && match &rule.what {
            What::All => true,
            What::Traffic(what) => what.iter().any(|traffic| doors.iter().any(|door| overlap(traffic, door))),
        }
}

fn overlap(a: &Traffic, b: &Traffic) -> bool {
    match (a, b) {
        (Traffic::Tcp(a), Traffic::Tcp(b)) | (Traffic::Udp(a), Traffic::Udp(b)) => {
            a.start() <= b.end() && b.start() <= a.end()
        }
        _ => false,
    }
}

fn is_wide(net: &IpNet) -> bool {
    net.prefix_len() < if net.addr().is_ipv4() { WIDE_V4 } else { WIDE_V6 }
}

fn spares_many(network: IpNet, source: &Spanned<Peer>) -> Warning {
    Warning::AdminsMany { network: network.to_string(), span: source.span }
}

#[cfg(test)]
mod tests;
