//! `rules from=home to=internet { deny smtp log=all; allow all }`.

use super::Context;
use super::decode::{Fields, Scalar};
use super::names::SELF;
use super::problems::Problems;
use super::services::ALL;
use super::values;
use super::zone::LOG;
use crate::model::{Action, Peer, Rate, Rule, RuleBlock, Spanned, Traffic, What, Zone, ZoneRef};
use crate::report::Problem;
use kdl::KdlNode;
use std::collections::BTreeMap;

/// Rule ids and what each rule does.
pub(super) type Ids = BTreeMap<String, Spanned<Action>>;

pub(super) fn decode(node: &KdlNode, zones: &[Zone], cx: &Context<'_>) -> Option<RuleBlock> {
    let mut fields = Fields::new(node, cx.problems);
    let from = fields.required("from", |scalar| cx.names.zone_or_self(scalar));
    let to = fields.required("to", |scalar| cx.names.zone_or_self(scalar));
    let children = fields.children(&["allow", "deny"]);
    let rules: Vec<_> = children.all().map(|node| rule(node, cx)).collect();
    if rules.is_empty() && node.children().is_none_or(|block| block.nodes().is_empty()) {
        cx.problems.add(Problem::new(fields.span(), "rules that say nothing").hint(
            "write `allow` and `deny` nodes in braces, or take the block out: the zone's default holds then",
        ));
    }
    let (from, to) = (from?, to?);
    check_pair(&from, &to, zones, cx.problems);
    Some(RuleBlock { from, to, rules })
}

/// Traffic from a zone to itself passes the host only when the zone has two interfaces.
fn check_pair(from: &Spanned<ZoneRef>, to: &Spanned<ZoneRef>, zones: &[Zone], problems: &Problems) {
    let nothing_passes = match (&from.value, &to.value) {
        (ZoneRef::SelfHost, ZoneRef::SelfHost) => true,
        (ZoneRef::Zone(from), ZoneRef::Zone(to)) if from == to => {
            zones.iter().any(|zone| zone.name.value == *from && zone.interfaces.len() == 1)
        }
        _ => false,
    };
    if nothing_passes {
        problems.add(
            Problem::new(to.span, "from a zone to itself: no packet goes that way")
                .related(from.span, "the same zone")
                .hint("hosts behind one interface talk to each other directly; loopback is always open"),
        );
    }
}

/// One argument of a rule.
enum Word {
    All,
    Service(Vec<Traffic>),
}

fn rule(node: &KdlNode, cx: &Context<'_>) -> Rule {
    let mut fields = Fields::new(node, cx.problems);
    let action = if fields.name() == "allow" { Action::Allow } else { Action::Deny };
    let what = what(&mut fields, cx);
    let source = fields.property("from", |scalar| peer(scalar, cx));
    let destination = fields.property("to", |scalar| peer(scalar, cx));
    let rate = rate(&mut fields, action, cx.problems);
    let log = fields.property("log", values::choice(LOG));
    let id = fields.property("id", values::name);
    fields.property("comment", values::text);
    check_families(source.as_ref(), destination.as_ref(), cx.problems);
    let span = fields.span();
    let line = cx.source.line_of(span);
    Rule { span, line, id, action, what, source, destination, rate, log: log.map(|log| log.value) }
}

fn what(fields: &mut Fields<'_>, cx: &Context<'_>) -> What {
    let says_nothing = fields.argument_count() == 0 && !fields.has("tcp") && !fields.has("udp");
    let words = fields.arguments(|scalar| {
        if scalar.value.as_string() == Some(ALL) {
            return Ok(Word::All);
        }
        cx.services.refer(scalar, cx.names).map(Word::Service)
    });
    let tcp = fields.property("tcp", values::ports).map(|ports| Traffic::Tcp(ports.value));
    let udp = fields.property("udp", values::ports).map(|ports| Traffic::Udp(ports.value));
    if says_nothing {
        let hint = "name services, ports such as tcp=443, or `all`";
        let message = format!("`{}` does not say what", fields.name());
        cx.problems.add(Problem::new(fields.span(), message).hint(hint));
    }
    let all = words.iter().find(|word| matches!(word.value, Word::All)).map(|word| word.span);
    if let Some(all) = all {
        if words.len() > 1 || tcp.is_some() || udp.is_some() {
            let hint = "`all` covers everything: take the rest out, or `all`";
            cx.problems.add(Problem::new(all, "`all` beside other services").hint(hint));
        }
        return What::All;
    }
    let services = words.into_iter().flat_map(|word| match word.value {
        Word::Service(traffic) => traffic,
        Word::All => Vec::new(),
    });
    What::Traffic(services.chain(tcp).chain(udp).collect())
}

/// A set by its name, an address, a network or a range.
pub(super) fn peer(scalar: &Scalar<'_>, cx: &Context<'_>) -> Result<Peer, Problem> {
    let text = scalar.text("the name of a set or an address")?;
    if values::looks_like_address(text) {
        return values::addresses(scalar).map(Peer::Addresses);
    }
    if text == SELF || cx.names.zones.contains(text) {
        let message = format!("`{text}` is a zone, and this takes a set or an address");
        return Err(scalar.problem(message).hint("zones stand on `rules from= to=`"));
    }
    cx.names.sets.refer(scalar).map(Peer::Set)
}

fn rate(fields: &mut Fields<'_>, action: Action, problems: &Problems) -> Option<Rate> {
    let had_rate = fields.has("rate");
    let rate = fields.property("rate", values::rate);
    let burst = fields.property("burst", values::integer(1..=u32::MAX));
    if let Some(burst) = burst.as_ref().filter(|_| !had_rate) {
        let hint = "add rate=\"5/s\", or take `burst=` out";
        problems.add(Problem::new(burst.span, "`burst=` without `rate=`").hint(hint));
    }
    if let Some(rate) = rate.as_ref().filter(|_| action == Action::Deny) {
        let hint = "what is over the limit would be allowed; limit the `allow` instead";
        problems.add(Problem::new(rate.span, "`deny` has no rate").hint(hint));
    }
    let mut rate = rate?.value;
    if let Some(burst) = burst {
        rate.burst = burst.value;
    }
    Some(rate)
}

fn check_families(source: Option<&Spanned<Peer>>, destination: Option<&Spanned<Peer>>, problems: &Problems) {
    let family = |peer: &Spanned<Peer>| match &peer.value {
        Peer::Addresses(range) => Some(range.first.is_ipv4()),
        Peer::Set(_) => None,
    };
    let (Some(source), Some(destination)) = (source, destination) else { return };
    if let (Some(from), Some(to)) = (family(source), family(destination))
        && from != to
    {
        problems.add(
            Problem::new(destination.span, "no packet goes from IPv4 to IPv6 or back")
                .related(source.span, "the other family"),
        );
    }
}

/// Every id and its rule's action; an id given twice is a problem.
pub(super) fn ids(blocks: &[RuleBlock], problems: &Problems) -> Ids {
    let mut ids = Ids::new();
    for rule in blocks.iter().flat_map(|block| &block.rules) {
        let Some(id) = &rule.id else { continue };
        match ids.get(&id.value) {
            Some(first) => problems.add(
                Problem::new(id.span, format!("the id `{}` is given twice", id.value))
                    .label("second")
                    .related(first.span, "first")
                    .hint("counters and expectations go by ids: each is one rule's"),
            ),
            None => _ = ids.insert(id.value.clone(), Spanned { value: rule.action, span: id.span }),
        }
    }
    ids
}
