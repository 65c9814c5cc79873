//! What gates, and what else of the policy takes a port, must agree on.

use super::{Around, interfaces};
use crate::model::{Address, Gate, Interface, Traffic};
use crate::parse::problems::Problems;
use crate::report::Problem;
use glacis_plan::gate::GATES_MAX;
use miette::SourceSpan;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) fn check(gates: &[Gate], around: &Around<'_>, own: &Own, problems: &Problems) {
    if let Some(surplus) = gates.get(GATES_MAX) {
        let message = format!("{} gates, and {GATES_MAX} are the most", gates.len());
        let hint = "one gate leads to many services by server name: `protocol tls` and `route`";
        problems.add(Problem::new(surplus.name.span, message).label("one too many").hint(hint));
    }
    let gates = &gates[..gates.len().min(GATES_MAX)];
    check_ports(gates, around, problems);
    for gate in gates {
        check_forwards(gate, around, problems);
    }
    check_loops(gates, own, problems);
}

/// The host's own addresses, as far as the policy tells: a lease is not known here.
pub(super) struct Own(BTreeSet<IpAddr>);

impl Own {
    pub fn of(interfaces: &[Interface]) -> Self {
        let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
        let statics = addresses.filter_map(|address| match address.value {
            Address::Static(net) => Some(net.addr()),
            Address::Dhcp4 => None,
        });
        Self(statics.collect())
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.0.contains(&address)
    }
}

/// Listening sockets are on all addresses, so a port is one listener's, wherever it is reached from.
fn check_ports(gates: &[Gate], around: &Around<'_>, problems: &Problems) {
    let mut taken: BTreeMap<u16, (SourceSpan, String)> = BTreeMap::new();
    if let Some((status, on)) = around.status.and_then(|status| Some((status, status.on.first()?))) {
        taken.insert(status.port, (on.span, "the status page".to_owned()));
    }
    for gate in gates {
        let Some((span, whose)) = taken.get(&gate.port.value) else {
            taken.insert(gate.port.value, (gate.port.span, format!("the gate `{}`", gate.name.value)));
            continue;
        };
        problems.add(
            Problem::new(gate.port.span, format!("port {} is that of {whose}", gate.port.value))
                .label("second")
                .related(*span, format!("{whose} listens here"))
                .hint("give one of them another port"),
        );
    }
}

/// A forwarded port never reaches the gate.
fn check_forwards(gate: &Gate, around: &Around<'_>, problems: &Problems) {
    let takes = |what: &Traffic| matches!(what, Traffic::Tcp(ports) if ports.contains(&gate.port.value));
    for forward in around.forwards.iter().filter(|forward| forward.what.iter().any(takes)) {
        let input = forward.input.value.as_str();
        let door = gate.on.iter().find(|door| interfaces(&door.value, around.zones).contains(&input));
        if let Some(door) = door {
            let message = format!("port {} is that of the gate `{}`", gate.port.value, gate.name.value);
            problems.add(
                Problem::new(forward.span, message)
                    .label("forwarded away")
                    .related(door.span, "the gate listens here")
                    .hint("give one of them another port"),
            );
        }
    }
}

/// A gate that leads to a gate would go round in circles, and the second would see the host itself for a client.
fn check_loops(gates: &[Gate], own: &Own, problems: &Problems) {
    for gate in gates {
        for backend in gate.pools.iter().flatten() {
            let address = backend.address;
            let is_own = own.holds(address.ip());
            let Some(reached) = gates.iter().find(|gate| is_own && gate.port.value == address.port()) else {
                continue;
            };
            let whose = if reached.name.value == gate.name.value {
                "this gate itself".to_owned()
            } else {
                format!("the gate `{}`", reached.name.value)
            };
            let problem = Problem::new(backend.span, format!("the backend {address} is {whose}"));
            let problem = problem.related(reached.port.span, "it listens here, on every address of ours");
            problems
                .add(problem.hint("name the service behind the gate; if it is here, give it another port"));
        }
    }
}
