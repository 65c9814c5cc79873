//! From a policy and the facts of a host to a plan.
//!
//! Pure: the same policy and facts give the same plan, element for element. Every error is reported.

mod bind;
mod chains;
mod error;
mod gate_rules;
mod gates;
mod label;
mod lists;
mod matches;
mod nat;
pub(crate) mod ranges;
mod rules;
mod scan;
mod scope;
mod sysctls;
#[cfg(test)]
mod tests;

pub use chains::{BANS_DROPPED, FORGED_DROPPED, INVALID_DROPPED};
pub use error::{CompileError, ListError, Warning};
pub use label::Label;
pub use lists::LIST_ENTRIES_MAX;

use crate::simulate::Network;
use crate::{Address, Facts, GeoipDatabase, Interface, Policy};
use bind::Bindings;
use glacis_plan::nft::Ruleset;
use glacis_plan::{Addressing, GeoipFile, InterfacePlan, Plan, RoutePlan, StatusPlan};
use scope::Scope;
use sysctls::Forwarding;

/// A plan for one host, and what is worth knowing about it.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub plan: Plan,
    /// In policy order.
    pub warnings: Vec<Warning>,
}

/// Compiles a policy for the host that the facts describe.
///
/// A declared interface that is not present is a warning: its zone has one device fewer.
pub fn compile(policy: &Policy, facts: &Facts) -> Result<Compiled, Vec<CompileError>> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let bindings = Bindings::new(policy, facts, &mut errors, &mut warnings);
    let scope = Scope::new(policy, bindings, &mut errors);
    let lists = lists::read(policy, facts, &mut errors, &mut warnings);

    let interfaces: Vec<_> = policy.interfaces.iter().filter_map(|i| interface_plan(&scope, i)).collect();
    let pairs = rules::pairs(&scope, &mut errors);
    let nat = nat::compile(&scope, &Network::new(&interfaces), &mut errors);
    let mut gates = gates::compile(&scope, &mut errors);
    let auto_blocks = policy.scan.as_ref().is_some_and(|scan| scan.auto_block.is_some());
    let spared = if auto_blocks || gates.iter().any(|gate| gate.on_open.is_some()) {
        scan::spared(&scope, facts, &interfaces, &gates, &mut warnings)
    } else {
        vec![]
    };
    for on_open in gates.iter_mut().filter_map(|gate| gate.on_open.as_mut()) {
        on_open.never.clone_from(&spared);
    }
    let scan = scan::compile(&scope, &gates, &spared, &mut errors);
    let forwards = !policy.forwards.is_empty()
        || pairs.iter().any(rules::Pair::forwards)
        || gates.iter().any(|gate| gate.fast_path.is_some());
    let forwarding = if forwards { Forwarding::On } else { Forwarding::Off };
    let table = chains::table(&scope, &pairs, &lists, nat, &gates, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let plan = Plan {
        sysctls: sysctls::compile(forwarding, &interfaces, &gates),
        interfaces,
        ruleset: Ruleset { tables: vec![table] },
        scan,
        geoip: policy.geoip.iter().map(geoip_file).collect(),
        status: policy.status.as_ref().map(|status| StatusPlan { listen: status.listen() }),
        gates,
    };
    warnings.sort_by_key(|warning| warning.span().offset());
    Ok(Compiled { plan, warnings })
}

fn geoip_file(database: &GeoipDatabase) -> GeoipFile {
    GeoipFile { kind: database.kind, path: database.file.value.clone().into() }
}

/// `None` when the interface is not present.
fn interface_plan(scope: &Scope<'_>, interface: &Interface) -> Option<InterfacePlan> {
    let device = scope.bindings.device(&interface.name)?.to_owned();
    let addressing = interface.addresses.iter().map(|address| match address.value {
        Address::Static(net) => Addressing::Static(net),
        Address::Dhcp4 => Addressing::Dhcp4,
    });
    let routes = interface.routes.iter().map(|route| RoutePlan {
        destination: route.destination,
        gateway: route.gateway,
        metric: route.metric,
    });
    Some(InterfacePlan {
        name: interface.name.value.clone(),
        device,
        addressing: addressing.collect(),
        mtu: interface.mtu,
        routes: routes.collect(),
    })
}
