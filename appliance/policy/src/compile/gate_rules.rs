//! Gates in the ruleset: their listeners, what their worker may send, and the flows that the kernel leads by itself.
//!
//! ```text
//! dstnat    admitted client, port of a gate ──> mark, backend of its place
//! forward   mark ──> gates_forward ──> gate_<name>_flows: counted, and refused if the client is admitted no more
//! forwards  mark and a backend of the gate ──> accepted
//! srcnat    mark ──> counted; with `source own` masqueraded
//! output    user of the worker ──> gates_output: probed ports anywhere, backends, nothing else
//! ```
//! Other forwarded packets pay for one comparison of their flow's mark: not to be told from noise between two hosts on
//! one machine. A led packet pays 0.1 µs beside a port forward's, and 0.2 µs more where its client is looked up.

use super::chains::REFUSE;
use super::label::Label;
use super::matches::{
    addresses_and_ports, daddr, devices, equal, in_prefixes, in_set, marked, ports, saddr, to_ourselves,
};
use glacis_plan::GatePlan;
use glacis_plan::gate::{FAST_PATH_PLACES, FastPathEstablished, FastPathSource, GATE_UID};
use glacis_plan::gate_elements::{FLOW_MARK, FLOW_MARK_MASK, flow_mark, led_to};
use glacis_plan::nft::{
    Atom, Chain, CtKey, Direction, Element, Expr, Field, MapSource, Match, MatchOp, MetaKey, Name,
    NatAddress, NatFlags, NatKind, NfProto, Operand, Rule, SetRef, Statement, Verdict, VerdictMap,
};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const FAMILIES: [NfProto; 2] = [NfProto::Ipv4, NfProto::Ipv6];

/// Flows of all gates, by their marks.
const FORWARD: Name = Name::literal("gates_forward");
/// What the worker opens.
const OUTPUT: Name = Name::literal("gates_output");

fn label(gate: &GatePlan) -> String {
    Label::node(&format!("gate {}", gate.name), gate.line).to_string()
}

/// Opens the ports of gates on their devices, before any rule of a zone.
///
/// With fronts, nobody else is let in there, whatever a zone's rules say.
pub(super) fn listeners(gates: &[GatePlan]) -> Vec<Rule> {
    gates.iter().flat_map(listener).collect()
}

fn listener(gate: &GatePlan) -> Vec<Rule> {
    let Some(on) = arriving(gate) else { return vec![] };
    let rule = |from: Option<Statement>, verdict: Statement| {
        let statements: Vec<_> =
            on.iter().cloned().chain(from).chain([Statement::Counter, verdict]).collect();
        Rule::new(statements).comment(label(gate))
    };
    let Some(fronts) = &gate.fronts else { return vec![rule(None, Statement::ACCEPT)] };
    let fronts = IpNet::aggregate(fronts);
    let from = FAMILIES.into_iter().filter_map(|family| in_prefixes(saddr(family), &fronts, family));
    let accepted = from.map(|from| rule(Some(from), Statement::ACCEPT));
    accepted.chain([rule(None, Statement::DROP)]).collect()
}

/// A packet for the gate's port, by a device from which it is reached.
fn arriving(gate: &GatePlan) -> Option<[Statement; 2]> {
    let names: Vec<&str> = gate.devices.iter().map(String::as_str).collect();
    Some([devices(MetaKey::Iifname, &names)?, ports(Field::TcpDport, &[gate.port..=gate.port])])
}

/// Leads new connections of admitted clients to the backend of their place. A place without one ends the rule, so that
/// the connection goes on to the worker; the mark that it then bears is read of forwarded flows only.
pub(super) fn destination(gates: &[GatePlan]) -> Vec<Rule> {
    let led = gates.iter().filter(|gate| gate.fast_path.is_some());
    let families = |gate| FAMILIES.into_iter().filter_map(move |family| lead(gate, family));
    led.flat_map(families).collect()
}

fn lead(gate: &GatePlan, family: NfProto) -> Option<Rule> {
    let [on, port] = arriving(gate)?;
    let client = Expr::Concat(vec![Expr::Payload(saddr(family)), Expr::Payload(Field::TcpSport)]);
    let place = Expr::Jhash { of: Box::new(client), modulus: FAST_PATH_PLACES, seed: None, offset: 0 };
    let backend = Expr::Map { key: Box::new(place), map: MapSource::Named(gate.backends_map(family)) };
    let translate = Statement::Nat {
        kind: NatKind::Dnat,
        family,
        address: NatAddress::Expr(backend),
        port: None,
        flags: NatFlags::default(),
    };
    let admitted = in_set(saddr(family), gate.clients_set(family));
    let mark = Statement::SetCtMark(Atom::Mark(flow_mark(gate)).into());
    Some(Rule::new([on, port, admitted, to_ourselves(), mark, translate]).comment(label(gate)))
}

/// Lets the flows that a gate leads through to its backends, and only there.
pub(super) fn admission(gates: &[GatePlan]) -> Vec<Rule> {
    let led = gates.iter().filter(|gate| gate.fast_path.is_some());
    let families = |gate| {
        FAMILIES.into_iter().filter_map(move |family| {
            let to = addresses_and_ports(daddr(family), &led_to(gate, family))?;
            Some(Rule::new([marked(flow_mark(gate)), to, Statement::ACCEPT]).comment(label(gate)))
        })
    };
    led.flat_map(families).collect()
}

/// Counts each flow that a gate leads, once it is let through, and makes its answers come back through us if the
/// backend is to see our address. Before the policy's own translations: whose address it sees, the gate says.
pub(super) fn source(gates: &[GatePlan]) -> Vec<Rule> {
    let rule = |gate: &GatePlan| {
        let last = match gate.fast_path?.source {
            FastPathSource::Own => Statement::Masquerade(NatFlags::default()),
            FastPathSource::Client => Statement::ACCEPT,
        };
        let counted = Statement::CounterRef(gate.led_counter());
        Some(Rule::new([marked(flow_mark(gate)), counted, last]).comment(label(gate)))
    };
    gates.iter().filter_map(rule).collect()
}

/// Sends led flows to the chain of their gate, before known flows are accepted; `None` when no gate leads any.
pub(super) fn forward(gates: &[GatePlan]) -> Option<Rule> {
    let mark = Expr::Masked { of: Box::new(mark()), mask: FLOW_MARK_MASK };
    let led = equal(mark, Operand::atom(Atom::Mark(FLOW_MARK)));
    let any = gates.iter().any(|gate| gate.fast_path.is_some());
    any.then(|| Rule::new([led, Verdict::Jump(FORWARD).into()]).comment("flows that gates lead"))
}

/// Chains that the rules of gates jump to.
pub(super) fn chains(gates: &[GatePlan]) -> Vec<Chain> {
    let led: Vec<&GatePlan> = gates.iter().filter(|gate| gate.fast_path.is_some()).collect();
    let mut chains: Vec<Chain> = led.iter().map(|gate| flows(gate)).collect();
    if !led.is_empty() {
        let of_gate = |gate: &&GatePlan| {
            Element::atom(Atom::Mark(flow_mark(gate))).verdict(Verdict::Goto(gate.flows_chain()))
        };
        let map = VerdictMap::Anonymous(led.iter().map(of_gate).collect());
        let rule = Rule::new([Statement::VerdictMap { key: mark(), map }]);
        chains.push(Chain { name: FORWARD, hook: None, rules: vec![rule] });
    }
    if !gates.is_empty() {
        chains.push(Chain { name: OUTPUT, hook: None, rules: opened(gates) });
    }
    chains
}

/// Packets of one gate's flows, both ways. Where flows end with their client's admission, both ends are told by a reset,
/// which also ends the kernel's record of the flow.
fn flows(gate: &GatePlan) -> Chain {
    let counted = Rule::new([Statement::CounterRef(gate.carried_counter())]).comment(label(gate));
    let mut rules = vec![counted];
    if gate.fast_path.is_some_and(|path| path.established == FastPathEstablished::Drop) {
        rules.extend(FAMILIES.map(|family| {
            let key = match family {
                NfProto::Ipv4 => CtKey::IpSaddr,
                NfProto::Ipv6 => CtKey::Ip6Saddr,
            };
            let not_admitted = Match {
                left: Expr::Ct { key, direction: Some(Direction::Original) },
                op: MatchOp::Ne,
                right: Operand::Set(SetRef::Named(gate.clients_set(family))),
            };
            let refused = Verdict::Goto(REFUSE).into();
            Rule::new([not_admitted.into(), Statement::Counter, refused]).comment(label(gate))
        }));
    }
    Chain { name: gate.flows_chain(), hook: None, rules }
}

/// Takes the worker's packets to its chain, from which none comes back: the policy's rules for the host itself are not the
/// worker's.
pub(super) fn output(gates: &[GatePlan]) -> Option<Rule> {
    (!gates.is_empty()).then(|| Rule::new([of_worker(), Verdict::Goto(OUTPUT).into()]).comment("gate worker"))
}

/// Packets of the worker.
pub(super) fn of_worker() -> Statement {
    equal(Expr::Meta(MetaKey::SkUid), Operand::atom(Atom::U32(GATE_UID)))
}

fn opened(gates: &[GatePlan]) -> Vec<Rule> {
    let looked_at: BTreeSet<u16> = gates.iter().flat_map(|gate| &gate.ports).copied().collect();
    let looked_at: Vec<_> = looked_at.into_iter().map(|port| port..=port).collect();
    let look = Rule::new([ports(Field::TcpDport, &looked_at), Statement::Counter, Statement::ACCEPT]);
    let mut rules = vec![look.comment("looks at clients")];
    let pools = gates.iter().flat_map(|gate| &gate.pools);
    let backends: BTreeSet<SocketAddr> =
        pools.flat_map(|pool| &pool.backends).map(|backend| backend.address).collect();
    let backends: Vec<SocketAddr> = backends.into_iter().collect();
    rules.extend(FAMILIES.into_iter().filter_map(|family| {
        let to = addresses_and_ports(daddr(family), &backends)?;
        Some(Rule::new([to, Statement::Counter, Statement::ACCEPT]).comment("backends of gates"))
    }));
    rules.push(Rule::new([Statement::Counter, Statement::DROP]).comment("no business of gates"));
    rules
}

fn mark() -> Expr {
    Expr::Ct { key: CtKey::Mark, direction: None }
}

#[cfg(test)]
mod tests;
