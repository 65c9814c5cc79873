//! One chain per pair of zones: the policy's rules in order, then the default of the zone they come from.
//!
//! A policy rule becomes as many kernel rules as it has protocols and address families; each has a counter
//! and a bucket of its own.

use super::CompileError;
use super::chains::REFUSE;
use super::label::{ID_BYTES_MAX, Label};
use super::matches::{
    address_part, daddr, devices, equal, family_of, in_set, log, packet_limit, ports, saddr, sample_limit,
};
use super::scope::Scope;
use crate::{Action, Default, LogMode, Peer, Rate, Rule as PolicyRule, RuleBlock, Traffic, What, ZoneRef};
use glacis_plan::nft::{
    Atom, Chain, Element, Expr, Field, Key, KeyPart, MetaKey, Name, NfProto, Operand, Rule, Statement,
    Verdict, VerdictMap,
};
use std::ops::RangeInclusive;

/// The host itself, in names of chains.
const SELF: &str = "self";
const FAMILIES: [NfProto; 2] = [NfProto::Ipv4, NfProto::Ipv6];

/// One pair of zones that something speaks of.
pub(super) struct Pair<'a> {
    from: &'a ZoneRef,
    to: &'a ZoneRef,
    chain: Name,
    blocks: Vec<&'a RuleBlock>,
}

impl Pair<'_> {
    /// Both ends are zones, so that packets must be forwarded for it.
    pub(super) fn forwards(&self) -> bool {
        *self.from != ZoneRef::SelfHost && *self.to != ZoneRef::SelfHost
    }
}

/// Every pair that has rules, or a listener of ours, in the order in which the policy names them.
pub(super) fn pairs<'a>(scope: &Scope<'a>, errors: &mut Vec<CompileError>) -> Vec<Pair<'a>> {
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for block in &scope.policy.rules {
        if block.from.value == ZoneRef::SelfHost && block.to.value == ZoneRef::SelfHost {
            errors.push(CompileError::Ineffective {
                why: "packets of the host to itself never meet a rule",
                hint: "loopback is always open; remove the block",
                span: block.from.span,
            });
            continue;
        }
        if let Some(pair) = pairs.iter_mut().find(|p| *p.from == *block.from && *p.to == *block.to) {
            pair.blocks.push(block);
            continue;
        }
        match Name::parse(&format!("{}.{}", chain_part(&block.from), chain_part(&block.to))) {
            Ok(chain) => pairs.push(Pair { from: &block.from, to: &block.to, chain, blocks: vec![block] }),
            Err(cause) => errors.push(CompileError::Name { cause, span: block.from.span }),
        }
    }
    pairs
}

/// The chain of a pair: rules in order, then the default.
pub(super) fn chain(scope: &Scope<'_>, pair: &Pair<'_>, errors: &mut Vec<CompileError>) -> Chain {
    let refusal = refusal(scope, pair.from);
    let mut rules = Vec::new();
    for rule in pair.blocks.iter().flat_map(|block| &block.rules) {
        match policy_rule(scope, pair.chain.as_str(), refusal, rule) {
            Ok(made) => rules.extend(made),
            Err(error) => errors.push(error),
        }
    }
    rules.extend(default_rules(scope, pair.from, pair.chain.as_str()));
    Chain { name: pair.chain.clone(), hook: None, rules }
}

/// What becomes of packets of a zone for which no chain of a pair exists.
pub(super) fn default_chain(scope: &Scope<'_>, from: &ZoneRef) -> Option<Chain> {
    let name = default_name(from)?;
    let rules = default_rules(scope, from, name.as_str());
    Some(Chain { name, hook: None, rules })
}

fn default_name(from: &ZoneRef) -> Option<Name> {
    Name::parse(&format!("default_{}", chain_part(from))).ok()
}

/// A zone in a chain's name. Dots of its own are doubled, so that the single one of a pair stays the only
/// odd run of them and no two pairs share a name.
fn chain_part(zone: &ZoneRef) -> String {
    zone_name(zone).replace('.', "..")
}

/// Which packets a dispatch decides over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Through,
    Out,
}

/// One lookup that sends a packet to the chain of its pair, whatever the number of zones;
/// `None` when no device would lead anywhere.
pub(super) fn dispatch(scope: &Scope<'_>, pairs: &[Pair<'_>], direction: Direction) -> Option<Rule> {
    let mut elements = Vec::new();
    for pair in pairs {
        let keys: Vec<Vec<&str>> = match (direction, pair.from, pair.to) {
            (Direction::In, ZoneRef::Zone(from), ZoneRef::SelfHost) => {
                scope.bindings.of_zones([from.as_str()]).into_iter().map(|d| vec![d]).collect()
            }
            (Direction::Out, ZoneRef::SelfHost, ZoneRef::Zone(to)) => {
                scope.bindings.of_zones([to.as_str()]).into_iter().map(|d| vec![d]).collect()
            }
            (Direction::Through, ZoneRef::Zone(from), ZoneRef::Zone(to)) => {
                let outputs = scope.bindings.of_zones([to.as_str()]);
                let inputs = scope.bindings.of_zones([from.as_str()]);
                inputs.iter().flat_map(|input| outputs.iter().map(|output| vec![*input, *output])).collect()
            }
            _ => vec![],
        };
        elements.extend(keys.iter().map(|key| goto(key, &pair.chain)));
    }
    let (input, output) = (Expr::Meta(MetaKey::Iifname), Expr::Meta(MetaKey::Oifname));
    let key = match direction {
        Direction::In => input,
        Direction::Out => output,
        Direction::Through => Expr::Concat(vec![input, output]),
    };
    verdict_map(key, elements)
}

/// Sends what no pair took to the default of the zone it comes from.
pub(super) fn dispatch_defaults(scope: &Scope<'_>) -> Option<Rule> {
    let mut elements = Vec::new();
    for zone in &scope.policy.zones {
        if let Some(name) = default_name(&ZoneRef::Zone(zone.name.value.clone())) {
            elements.extend(scope.bindings.of_zone(zone).iter().map(|device| goto(&[device], &name)));
        }
    }
    verdict_map(Expr::Meta(MetaKey::Iifname), elements)
}

/// Opens the status port for its zones, before any rule of theirs.
pub(super) fn status_listener(scope: &Scope<'_>) -> Option<Rule> {
    let status = scope.policy.status.as_ref()?;
    let zones = scope.bindings.of_zones(status.on.iter().map(|zone| zone.as_str()));
    let port = ports(Field::TcpDport, &[status.port..=status.port]);
    let from = devices(MetaKey::Iifname, &zones)?;
    Some(Rule::new([from, port, Statement::Counter, Statement::ACCEPT]).comment("status listener"))
}

fn goto(devices: &[&str], chain: &Name) -> Element {
    let part = |device: &&str| KeyPart::One(Atom::Ifname((*device).to_owned()));
    Element::new(Key::Fields(devices.iter().map(part).collect())).verdict(Verdict::Goto(chain.clone()))
}

fn verdict_map(key: Expr, elements: Vec<Element>) -> Option<Rule> {
    let map = VerdictMap::Anonymous(elements);
    match &map {
        VerdictMap::Anonymous(elements) if elements.is_empty() => None,
        _ => Some(Rule::new([Statement::VerdictMap { key, map }])),
    }
}

fn zone_name(zone: &ZoneRef) -> &str {
    match zone {
        ZoneRef::SelfHost => SELF,
        ZoneRef::Zone(name) => name,
    }
}

/// How a zone says no. The host's own packets are dropped: the program that sends them gets `EPERM`.
fn refusal(scope: &Scope<'_>, from: &ZoneRef) -> Default {
    match from {
        ZoneRef::SelfHost => Default::Drop,
        ZoneRef::Zone(name) => scope.zone(name).map_or(Default::Drop, |zone| zone.default),
    }
}

fn refuse(refusal: Default) -> Statement {
    match refusal {
        Default::Drop => Statement::DROP,
        Default::Reject => Verdict::Goto(REFUSE).into(),
    }
}

fn default_rules(scope: &Scope<'_>, from: &ZoneRef, pair: &str) -> Vec<Rule> {
    let mode = match from {
        ZoneRef::SelfHost => None,
        ZoneRef::Zone(name) => scope.zone(name).and_then(|zone| zone.log),
    };
    let mut rules = Vec::new();
    if mode == Some(LogMode::Sample) {
        rules.push(Rule::new([sample_limit(), log(pair, "default")]));
    }
    let mut statements = vec![Statement::Counter];
    if mode == Some(LogMode::All) {
        statements.push(log(pair, "default"));
    }
    statements.push(refuse(refusal(scope, from)));
    rules.push(Rule::new(statements).comment(format!("default of {}", zone_name(from))));
    rules
}

/// The kernel rules of one policy rule. A sampled log is a rule of its own before the deciding one,
/// so that its limit never changes the verdict; it sees packets over the rule's own rate, too.
fn policy_rule(
    scope: &Scope<'_>,
    pair: &str,
    refusal: Default,
    rule: &PolicyRule,
) -> Result<Vec<Rule>, CompileError> {
    let id = rule.id.as_ref().map(|id| id.as_str());
    if let Some(id) = rule.id.as_ref().filter(|id| id.len() > ID_BYTES_MAX) {
        return Err(CompileError::LongId { id: id.value.clone(), max: ID_BYTES_MAX, span: id.span });
    }
    let label = Label::rule(id, rule.line);
    let logged_as = id.map_or_else(|| format!("line {}", rule.line), str::to_owned);
    let mut made = Vec::new();
    for matches in packets_of(scope, rule)? {
        if rule.log == Some(LogMode::Sample) {
            let mut statements = matches.clone();
            statements.extend([sample_limit(), log(pair, &logged_as)]);
            made.push(Rule::new(statements));
        }
        let mut statements = matches;
        if let Some(Rate { packets, per, burst }) = rule.rate {
            statements.push(packet_limit(packets, per, burst));
        }
        statements.push(Statement::Counter);
        if rule.log == Some(LogMode::All) {
            statements.push(log(pair, &logged_as));
        }
        statements.push(match rule.action {
            Action::Allow => Statement::ACCEPT,
            Action::Deny => refuse(refusal),
        });
        made.push(Rule::new(statements).comment(label.to_string()));
    }
    Ok(made)
}

/// The matches of a rule, one list per kernel rule.
fn packets_of(scope: &Scope<'_>, rule: &PolicyRule) -> Result<Vec<Vec<Statement>>, CompileError> {
    if rule.source.is_none() && rule.destination.is_none() {
        return Ok(traffic(&rule.what, &FAMILIES));
    }
    let mut all = Vec::new();
    for family in FAMILIES {
        let source = addresses(scope, rule.source.as_deref(), rule, saddr(family), family)?;
        let destination = addresses(scope, rule.destination.as_deref(), rule, daddr(family), family)?;
        let (Some(source), Some(destination)) = (source, destination) else { continue };
        for mut matches in traffic(&rule.what, &[family]) {
            let mut statements: Vec<_> = source.iter().chain(&destination).cloned().collect();
            statements.append(&mut matches);
            all.push(statements);
        }
    }
    if all.is_empty() {
        return Err(CompileError::Ineffective {
            why: "no packet can match this rule: its addresses are empty or of different families",
            hint: "give `from` and `to` addresses of the same family",
            span: rule.span,
        });
    }
    Ok(all)
}

/// Matches for one side of a rule within one family: none for anyone, `None` when that family cannot match.
fn addresses(
    scope: &Scope<'_>,
    peer: Option<&Peer>,
    rule: &PolicyRule,
    field: Field,
    family: NfProto,
) -> Result<Option<Vec<Statement>>, CompileError> {
    match peer {
        None => Ok(Some(vec![])),
        Some(Peer::Addresses(range)) => Ok((family_of(range.first) == family)
            .then(|| vec![equal(Expr::Payload(field), Operand::Part(address_part(*range)))])),
        Some(Peer::Set(name)) => {
            let set = scope.set(name).ok_or_else(|| CompileError::Undeclared {
                what: "set",
                name: name.clone(),
                span: rule.span,
            })?;
            Ok(set.ranges.has(family).then(|| vec![in_set(field, set.name(family).clone())]))
        }
    }
}

/// One list of matches per protocol; services with many ports become one set.
fn traffic(what: &What, families: &[NfProto]) -> Vec<Vec<Statement>> {
    let What::Traffic(list) = what else { return vec![vec![]] };
    let of = |pick: fn(&Traffic) -> Option<&RangeInclusive<u16>>| -> Vec<_> {
        list.iter().filter_map(pick).cloned().collect()
    };
    let tcp = of(|t| if let Traffic::Tcp(ports) = t { Some(ports) } else { None });
    let udp = of(|t| if let Traffic::Udp(ports) = t { Some(ports) } else { None });
    let mut matches = Vec::new();
    if !tcp.is_empty() {
        matches.push(vec![ports(Field::TcpDport, &tcp)]);
    }
    if !udp.is_empty() {
        matches.push(vec![ports(Field::UdpDport, &udp)]);
    }
    if list.contains(&Traffic::Ping) {
        matches.extend(families.iter().map(|family| vec![echo_request(*family)]));
    }
    matches
}

fn echo_request(family: NfProto) -> Statement {
    match family {
        NfProto::Ipv4 => equal(Expr::Payload(Field::IcmpType), Operand::atom(Atom::IcmpType(8))),
        NfProto::Ipv6 => equal(Expr::Payload(Field::Icmpv6Type), Operand::atom(Atom::Icmpv6Type(128))),
    }
}
