//! The table: hooks, what stands before the policy's rules, and the way to them.
//!
//! ```text
//! prerouting  -300  bans, blocklists, forged sources          (before connection tracking)
//!             -150  bans, where a policy lets the flows go on that were there before them
//!             -100  dstnat: port forwards, admitted clients of gates
//! input          0  known flows, neighbours, DHCP, status port, gates, then by device to `<zone>.self`
//! forward        0  blocklists, flows that gates lead, known flows, translated flows, then by both devices to `<zone>.<zone>`
//! output         0  blocklists, known flows, neighbours, DHCP, gate worker, then by device to `self.<zone>`
//! postrouting  100  srcnat: flows that gates lead, hairpins, masquerading
//! ```
//! Dispatch is one lookup, so a packet's cost does not grow with the number of zones. ICMP errors need no
//! rule: those that answer a known flow are `related`, the kernel calls all others `invalid`.

use super::lists::List;
use super::matches::{
    TCP, daddr, destination_translated, devices, equal, in_set, known_flows, l4proto, of_known_flow, saddr,
    udp_between,
};
use super::nat::Nat;
use super::rules::{self, Direction, Pair};
use super::scope::Scope;
use super::{CompileError, gate_rules};
use crate::{Address, ZoneRef};
use glacis_plan::closed::{self, BANS4, BANS4_NETS, BANS6, BANS6_NETS};
use glacis_plan::nft::{
    Atom, BasePolicy, Chain, ChainType, Element, Expr, FibFlags, FibResult, Field, Hook, HookPoint, KeyPart,
    MetaKey, Name, NfProto, Object, ObjectKind, Operand, Reject, Rule, SetRef, Statement, Table, Verdict,
};
use glacis_plan::{EstablishedFlows, GatePlan, gate_elements};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Refuses with an answer: a reset for TCP, an ICMP error for the rest.
pub(super) const REFUSE: Name = Name::literal("refuse");
const INVALID: Name = Name::literal("invalid_flow");
const FORWARDS: Name = Name::literal("forwards");

/// Packets of banned sources, dropped; where their flows go on, also the first packets of new ones to them.
pub const BANS_DROPPED: Name = Name::literal("bans_dropped");
/// Packets whose source cannot have come from where they came, dropped.
pub const FORGED_DROPPED: Name = Name::literal("forged_dropped");
/// Packets that belong to no connection and start none, dropped.
pub const INVALID_DROPPED: Name = Name::literal("invalid_dropped");

const RAW: i32 = -300;
/// Behind connection tracking (-200), before anything is translated.
const MANGLE: i32 = -150;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// Neighbour discovery and multicast queries that arrive (RFC 4890 section 4.4.1): MLD query, solicitation and
/// advertisement of a neighbour. Redirects and advertisements of routers are left out: the policy says the routes.
const ICMPV6_IN: [u8; 3] = [130, 135, 136];
/// The same that leave: MLD reports, solicitation of routers, solicitation and advertisement of a neighbour.
const ICMPV6_OUT: [u8; 6] = [131, 132, 133, 135, 136, 143];

pub(super) fn table(
    scope: &Scope<'_>,
    pairs: &[Pair<'_>],
    lists: &[List<'_>],
    mut nat: Nat,
    gates: &[GatePlan],
    errors: &mut Vec<CompileError>,
) -> Table {
    let mut table = Table::new(closed::TABLE_FAMILY, closed::TABLE);
    table.objects = [BANS_DROPPED, FORGED_DROPPED, INVALID_DROPPED].map(counter).into();
    table.objects.extend(lists.iter().map(List::counter));
    table.objects.extend(gates.iter().flat_map(gate_elements::counters));
    table.sets = closed::ban_sets();
    table.sets.extend(scope.used_sets());
    table.sets.extend(lists.iter().flat_map(List::sets));
    table.sets.extend(gates.iter().flat_map(gate_elements::sets));

    table.chains = vec![refuse_chain(), invalid_chain()];
    table.chains.extend(pairs.iter().map(|pair| rules::chain(scope, pair, errors)));
    let zones = scope.policy.zones.iter().map(|zone| ZoneRef::Zone(zone.name.value.clone()));
    table.chains.extend(zones.filter_map(|zone| rules::default_chain(scope, &zone)));
    table.chains.extend(gate_rules::chains(gates));
    nat.destination.extend(gate_rules::destination(gates));
    nat.admission.extend(gate_rules::admission(gates));
    nat.source.splice(..0, gate_rules::source(gates));
    table.chains.push(Chain { name: FORWARDS, hook: None, rules: nat.admission });
    table.chains.push(base("prerouting", HookPoint::Prerouting, RAW, prerouting(scope, lists)));
    if established(scope) == EstablishedFlows::Keep {
        table.chains.push(base("bans", HookPoint::Prerouting, MANGLE, bans_of_new_flows()));
    }
    table.chains.extend([
        base("dstnat", HookPoint::Prerouting, DSTNAT, nat.destination),
        base("input", HookPoint::Input, FILTER, input(scope, pairs, gates)),
        base("forward", HookPoint::Forward, FILTER, forward(scope, pairs, lists, gates)),
        base("output", HookPoint::Output, FILTER, output(scope, pairs, lists, gates)),
        base("srcnat", HookPoint::Postrouting, SRCNAT, nat.source),
    ]);
    table
}

fn counter(name: Name) -> Object {
    Object { name, kind: ObjectKind::Counter, comment: None }
}

/// The three hooks that decide fail closed; those before and after them only ever take away or translate.
fn base(name: &'static str, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    let policy = if priority == FILTER { BasePolicy::Drop } else { BasePolicy::Accept };
    let kind = if matches!(priority, DSTNAT | SRCNAT) { ChainType::Nat } else { ChainType::Filter };
    Chain {
        name: Name::literal(name),
        hook: Some(Hook { kind, point, priority, device: None, policy }),
        rules,
    }
}

fn refuse_chain() -> Chain {
    let rules = vec![
        Rule::new([l4proto(TCP), Statement::Reject(Reject::TcpReset)]),
        Rule::new([Statement::Reject(Reject::AdminProhibited)]),
    ];
    Chain { name: REFUSE, hook: None, rules }
}

fn invalid_chain() -> Chain {
    let rule = Rule::new([Statement::CounterRef(INVALID_DROPPED), Statement::DROP]).comment("invalid flow");
    Chain { name: INVALID, hook: None, rules: vec![rule] }
}

/// Before connection tracking, so that a flood of what is dropped here costs no entry there.
fn prerouting(scope: &Scope<'_>, lists: &[List<'_>]) -> Vec<Rule> {
    let mut rules = vec![loopback(MetaKey::Iifname)];
    if established(scope) == EstablishedFlows::Drop {
        rules.extend(bans(saddr, "banned source"));
    }
    rules.extend(lists.iter().flat_map(|list| list.drops_in(&scope.bindings)));
    rules.extend(forged(scope));
    rules
}

/// What a policy says of the flows of banned sources. Without auto-block somebody bans by hand, and means all of it.
fn established(scope: &Scope<'_>) -> EstablishedFlows {
    let block = scope.policy.scan.as_ref().and_then(|scan| scan.auto_block.as_ref());
    block.map_or(EstablishedFlows::Drop, |block| block.established)
}

/// A packet that is dropped here has been looked up among the flows, but leaves none behind. Neighbour discovery
/// is of no flow, and the flows of a neighbour end without it.
fn bans_of_new_flows() -> Vec<Rule> {
    let mut rules = vec![loopback(MetaKey::Iifname)];
    rules.push(Rule::new([of_known_flow(), Statement::ACCEPT]).comment("flows of banned sources go on"));
    rules.push(neighbours(&ICMPV6_IN));
    rules.extend(bans(saddr, "banned source"));
    rules
}

/// Behind the known flows: where those of banned sources go on, no new one to them begins.
fn bans_of_destinations(scope: &Scope<'_>) -> Vec<Rule> {
    match established(scope) {
        EstablishedFlows::Drop => vec![],
        EstablishedFlows::Keep => bans(daddr, "banned destination").into(),
    }
}

fn bans(field: fn(NfProto) -> Field, comment: &str) -> [Rule; 4] {
    let sets = [
        (NfProto::Ipv4, BANS4),
        (NfProto::Ipv4, BANS4_NETS),
        (NfProto::Ipv6, BANS6),
        (NfProto::Ipv6, BANS6_NETS),
    ];
    sets.map(|(family, set)| {
        let count = Statement::CounterRef(BANS_DROPPED);
        Rule::new([in_set(field(family), set), count, Statement::DROP]).comment(comment)
    })
}

/// A packet to loopback, or from a source that no route leads back to by the same device (loopback and our
/// own addresses among them), is forged. Every packet is checked, not only the first of a flow: otherwise
/// a forged datagram that names a known flow would pass. A server that leases us an address answers before
/// we have a route to it. The kernel's lookup lets IPv6 duplicate address detection and DHCP discovery pass.
fn forged(scope: &Scope<'_>) -> Vec<Rule> {
    let drop = |mut statements: Vec<Statement>| {
        statements.extend([Statement::CounterRef(FORGED_DROPPED), Statement::DROP]);
        Rule::new(statements).comment("forged address")
    };
    let to = |field, part| equal(Expr::Payload(field), Operand::Part(part));
    let mut rules = vec![
        drop(vec![to(Field::IpDaddr, KeyPart::Prefix(Atom::Ipv4(Ipv4Addr::new(127, 0, 0, 0)), 8))]),
        drop(vec![to(Field::Ip6Daddr, KeyPart::One(Atom::Ipv6(Ipv6Addr::LOCALHOST)))]),
    ];
    rules.extend(dhcp(scope, MetaKey::Iifname));
    let reverse = Expr::Fib {
        flags: FibFlags { saddr: true, iif: true, ..FibFlags::default() },
        result: FibResult::Oif,
    };
    rules.push(drop(vec![equal(reverse, Operand::Exists(false))]));
    rules
}

fn input(scope: &Scope<'_>, pairs: &[Pair<'_>], gates: &[GatePlan]) -> Vec<Rule> {
    let mut rules = vec![loopback(MetaKey::Iifname), Rule::new([known_flows(Verdict::Goto(INVALID))])];
    rules.push(neighbours(&ICMPV6_IN));
    rules.extend(dhcp(scope, MetaKey::Iifname));
    rules.extend(rules::status_listener(scope));
    rules.extend(gate_rules::listeners(gates));
    rules.extend(rules::dispatch(scope, pairs, Direction::In));
    rules.extend(rules::dispatch_defaults(scope));
    rules.push(last("no zone has this device"));
    rules
}

fn forward(scope: &Scope<'_>, pairs: &[Pair<'_>], lists: &[List<'_>], gates: &[GatePlan]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = lists.iter().flat_map(|list| list.drops_out(&scope.bindings)).collect();
    rules.extend(gate_rules::forward(gates));
    rules.push(Rule::new([known_flows(Verdict::Goto(INVALID))]));
    rules.extend(bans_of_destinations(scope));
    rules.push(Rule::new([destination_translated(), Verdict::Jump(FORWARDS).into()]));
    rules.extend(rules::dispatch(scope, pairs, Direction::Through));
    rules.extend(rules::dispatch_defaults(scope));
    rules.push(last("no zone has this device"));
    rules
}

fn output(scope: &Scope<'_>, pairs: &[Pair<'_>], lists: &[List<'_>], gates: &[GatePlan]) -> Vec<Rule> {
    let mut rules = vec![loopback(MetaKey::Oifname)];
    if !gates.is_empty() {
        let of_worker = gate_rules::of_worker();
        rules.extend(lists.iter().flat_map(|list| list.refusals_out(&scope.bindings, &of_worker)));
    }
    rules.extend(lists.iter().flat_map(|list| list.drops_out(&scope.bindings)));
    rules.push(Rule::new([known_flows(Verdict::Goto(INVALID))]));
    rules.push(neighbours(&ICMPV6_OUT));
    rules.extend(bans_of_destinations(scope));
    rules.extend(dhcp(scope, MetaKey::Oifname));
    rules.extend(gate_rules::output(gates));
    rules.extend(rules::dispatch(scope, pairs, Direction::Out));
    rules.push(last("no rule from self"));
    rules
}

/// By name: an index would be read from this host's `lo` at load time and tie the text to it.
fn loopback(key: MetaKey) -> Rule {
    Rule::new([equal(Expr::Meta(key), Operand::atom(Atom::Ifname("lo".to_owned()))), Statement::ACCEPT])
        .comment("loopback")
}

/// The chain's policy says the same; this rule counts it.
fn last(why: &str) -> Rule {
    Rule::new([Statement::Counter, Statement::DROP]).comment(why)
}

fn neighbours(types: &[u8]) -> Rule {
    let types = types.iter().map(|number| Element::atom(Atom::Icmpv6Type(*number))).collect();
    let right = Operand::Set(SetRef::Anonymous(types));
    Rule::new([equal(Expr::Payload(Field::Icmpv6Type), right), Statement::ACCEPT])
        .comment("neighbour discovery")
}

/// The client's side of DHCP on the devices that the policy gives to it.
fn dhcp(scope: &Scope<'_>, key: MetaKey) -> Option<Rule> {
    let clients = scope
        .policy
        .interfaces
        .iter()
        .filter(|interface| interface.addresses.iter().any(|address| address.value == Address::Dhcp4));
    let clients: Vec<&str> = clients.filter_map(|interface| scope.bindings.device(&interface.name)).collect();
    let on = devices(key, &clients)?;
    let [source, destination] = if key == MetaKey::Iifname {
        udp_between(DHCP_SERVER, DHCP_CLIENT)
    } else {
        udp_between(DHCP_CLIENT, DHCP_SERVER)
    };
    Some(Rule::new([on, source, destination, Statement::ACCEPT]).comment("dhcp client"))
}
