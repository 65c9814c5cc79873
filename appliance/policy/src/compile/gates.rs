//! Gates, with every name resolved.

use super::CompileError;
use super::scope::Scope;
use crate::{Door, Gate, Peer, Spanned};
use glacis_plan::GatePlan;
use glacis_plan::gate::{GateMode, OnOpen, Pool};
use ipnet::IpNet;

pub(super) fn compile(scope: &Scope<'_>, errors: &mut Vec<CompileError>) -> Vec<GatePlan> {
    scope.policy.gates.iter().filter_map(|gate| plan(scope, gate, errors)).collect()
}

/// `None` when no device of the gate is present.
fn plan(scope: &Scope<'_>, gate: &Gate, errors: &mut Vec<CompileError>) -> Option<GatePlan> {
    let fronts = networks(scope, &gate.fronts, errors);
    if let Some(front) = gate.fronts.first().filter(|_| fronts.iter().any(|net| net.prefix_len() == 0)) {
        errors.push(CompileError::Ineffective {
            why: "everybody may say which client they are",
            hint: "name the addresses of the proxies in front of the gate",
            span: front.span,
        });
    }
    let ignore = networks(scope, &gate.ignore, errors);
    let whole_families = ignore.iter().filter(|net| net.prefix_len() == 0).count();
    if let Some(ignored) = gate.ignore.first().filter(|_| whole_families == 2) {
        errors.push(CompileError::Ineffective {
            why: "nobody is ever looked at",
            hint: "take the gate out and write a `forward` instead, or ignore fewer",
            span: ignored.span,
        });
    }
    let devices = devices(scope, gate);
    if devices.is_empty() {
        return None;
    }
    let mut ignore_countries: Vec<String> = gate.ignore_countries.iter().map(|c| c.value.clone()).collect();
    ignore_countries.sort_unstable();
    Some(GatePlan {
        name: gate.name.value.clone(),
        line: gate.line,
        port: gate.port.value,
        devices,
        protocol: gate.protocol,
        fronts: (!gate.fronts.is_empty()).then_some(fronts),
        pools: gate
            .pools
            .iter()
            .map(|pool| Pool { backends: pool.iter().map(|b| b.value).collect() })
            .collect(),
        routes: gate.routes.clone(),
        routes_only: gate.routes_only,
        health: gate.health,
        idle: gate.idle,
        ports: gate.ports.clone(),
        timeout: gate.timeout,
        prove: gate.prove,
        mode: gate.mode,
        budget: gate.budget,
        remember: gate.remember,
        deny: gate.deny.clone(),
        // A gate that only tells refuses nobody, neither here nor in the kernel.
        on_open: gate
            .on_open
            .filter(|_| gate.mode == GateMode::Enforce)
            // Who is spared, the whole policy says.
            .map(|on_open| OnOpen { block: on_open.block, never: vec![] }),
        ignore,
        ignore_countries,
        private: gate.private,
        fast_path: gate.fast_path,
    })
}

/// Of all doors together, in their order; one that is not present was told where interfaces are bound.
fn devices(scope: &Scope<'_>, gate: &Gate) -> Vec<String> {
    let behind = gate.on.iter().flat_map(|door| match &door.value {
        Door::Zone(zone) => scope.bindings.of_zones([zone.as_str()]),
        Door::Interface(interface) => scope.bindings.device(interface).into_iter().collect(),
    });
    behind.map(str::to_owned).collect()
}

fn networks(scope: &Scope<'_>, peers: &[Spanned<Peer>], errors: &mut Vec<CompileError>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for peer in peers {
        match scope.networks(peer) {
            Ok(found) => networks.extend(found),
            Err(error) => errors.push(error),
        }
    }
    IpNet::aggregate(&networks)
}

#[cfg(test)]
mod tests;
