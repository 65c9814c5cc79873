//! What scan awareness must know of the rest of the policy.

use super::CompileError;
use super::bind::Bindings;
use super::scope::Scope;
use crate::{AutoBlock as PolicyAutoBlock, Facts, Scan, Traffic};
use glacis_plan::{
    Addressing, AutoBlock, EstablishedFlows, EvidenceRule, InterfacePlan, ScanDevices, ScanPlan, Shapes,
};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// Source ports that masquerading may choose or keep. An answer to a masqueraded host finds no socket of ours, and its
/// peer must not be taken for a scanner; flows, once the program looks them up, make this unnecessary.
const MASQUERADED_PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

pub(super) fn compile(
    scope: &Scope<'_>,
    facts: &Facts,
    interfaces: &[InterfacePlan],
    errors: &mut Vec<CompileError>,
) -> Option<ScanPlan> {
    let scan = scope.policy.scan.as_ref()?;
    let (exposed_tcp, exposed_udp) = exposed(scope);
    let auto_block = scan.auto_block.as_ref().map(|block| AutoBlock {
        mode: block.mode,
        threshold: block.threshold,
        window: block.window,
        duration: block.duration,
        evidence: EvidenceRule::Any,
        ladder: None,
        established: EstablishedFlows::Drop,
        group: block.group,
        never: never(scope, facts, interfaces, block, errors),
    });
    Some(ScanPlan {
        devices: devices(scan, &scope.bindings),
        retention: scan.retention,
        exposed_tcp: exposed_tcp.into_iter().collect(),
        exposed_udp: exposed_udp.into_iter().collect(),
        stealth: true,
        shapes: Shapes::default(),
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
fn exposed(scope: &Scope<'_>) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let (mut tcp, mut udp) = (BTreeSet::new(), BTreeSet::new());
    tcp.extend(scope.policy.status.as_ref().map(|status| status.port));
    for traffic in scope.policy.forwards.iter().flat_map(|forward| &forward.what) {
        match traffic {
            Traffic::Tcp(ports) => tcp.extend(ports.clone()),
            Traffic::Udp(ports) => udp.extend(ports.clone()),
            Traffic::Ping => {}
        }
    }
    if !scope.policy.masquerades.is_empty() {
        udp.extend(MASQUERADED_PORTS);
    }
    (tcp, udp)
}

/// The sets the policy names, our own addresses, our gateways, and what the host knows besides.
fn never(
    scope: &Scope<'_>,
    facts: &Facts,
    interfaces: &[InterfacePlan],
    block: &PolicyAutoBlock,
    errors: &mut Vec<CompileError>,
) -> Vec<IpNet> {
    let mut never: Vec<IpNet> = facts.never_block.iter().copied().map(IpNet::from).collect();
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
    for interface in interfaces {
        for addressing in &interface.addressing {
            if let Addressing::Static(net) = addressing {
                never.push(IpNet::from(net.addr()));
            }
        }
        never.extend(interface.routes.iter().filter_map(|route| route.gateway).map(IpNet::from));
    }
    IpNet::aggregate(&never)
}
