//! `expect deny from="203.0.113.9" in=wan to=self tcp=22`, `expect never-blocked "198.51.100.7"`.

use super::Context;
use super::decode::Fields;
use super::names::SELF;
use super::rules::Ids;
use super::suggest::did_you_mean;
use super::values;
use crate::model::{Action, Expect, ExpectKind, PacketSpec, PacketTarget, Spanned, Traffic};
use crate::report::Problem;
use kdl::KdlNode;
use std::net::IpAddr;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Allow,
    Deny,
    NeverBlocked,
}

const VERBS: &[(&str, Verb)] =
    &[("allow", Verb::Allow), ("deny", Verb::Deny), ("never-blocked", Verb::NeverBlocked)];

/// One statement for each packet the node speaks of: a service stands for the ends of all its port ranges.
pub(super) fn decode(node: &KdlNode, ids: &Ids, cx: &Context<'_>) -> Vec<Expect> {
    let mut fields = Fields::new(node, cx.problems);
    let verb = fields.required_argument("`allow`, `deny` or `never-blocked`", values::choice(VERBS));
    let span = fields.span();
    let Some(verb) = verb else {
        // Without the verb nothing tells which properties belong here.
        fields.ignore_rest();
        return Vec::new();
    };
    let kinds = match verb.value {
        Verb::NeverBlocked => {
            let address = fields.required_argument("an address", values::address);
            address.map(|address| ExpectKind::NeverBlocked(address.value)).into_iter().collect()
        }
        Verb::Allow => packets(&mut fields, Action::Allow, ids, cx),
        Verb::Deny => packets(&mut fields, Action::Deny, ids, cx),
    };
    kinds.into_iter().map(|kind| Expect { span, kind }).collect()
}

fn packets(fields: &mut Fields<'_>, action: Action, ids: &Ids, cx: &Context<'_>) -> Vec<ExpectKind> {
    let from = fields.required("from", values::address);
    let input = fields.required("in", |scalar| cx.names.interfaces.refer(scalar));
    let to = fields.required("to", |scalar| {
        if scalar.value.as_string() == Some(SELF) {
            return Ok(PacketTarget::SelfHost);
        }
        values::address(scalar)
            .map(PacketTarget::Address)
            .map_err(|problem| problem.hint("`self` is the host itself"))
    });
    let traffic = traffic(fields, cx);
    let rule = fields.property("rule", values::name);
    let rule = rule.map(|rule| checked_rule(rule, action, ids, cx));
    let (Some(from), Some(input), Some(to)) = (from, input, to) else { return Vec::new() };
    check_families(&from, &to, cx);
    let packet = |traffic| ExpectKind::Packet {
        allow: action == Action::Allow,
        packet: PacketSpec { from: from.value, input: input.value.clone(), to: to.value.clone(), traffic },
        rule: rule.clone(),
    };
    traffic.into_iter().map(packet).collect()
}

/// Single ports, or a ping.
fn traffic(fields: &mut Fields<'_>, cx: &Context<'_>) -> Vec<Traffic> {
    let given = ["tcp", "udp", "service"].into_iter().filter(|name| fields.has(name)).count();
    let tcp = fields.property("tcp", values::port).map(|port| vec![Traffic::Tcp(port.value..=port.value)]);
    let udp = fields.property("udp", values::port).map(|port| vec![Traffic::Udp(port.value..=port.value)]);
    let service = fields.property("service", |scalar| cx.services.refer(scalar, cx.names));
    if given != 1 {
        let message = "an expectation is about one of `tcp=`, `udp=` and `service=`";
        cx.problems.add(Problem::new(fields.span(), message).hint("write tcp=22, or service=ping"));
    }
    let ends = service.map(|service| service.value.iter().flat_map(ends).collect());
    tcp.or(udp).or(ends).unwrap_or_default()
}

fn ends(traffic: &Traffic) -> Vec<Traffic> {
    let mut ends = match traffic {
        Traffic::Tcp(ports) => [ports.start(), ports.end()].map(|port| Traffic::Tcp(*port..=*port)).to_vec(),
        Traffic::Udp(ports) => [ports.start(), ports.end()].map(|port| Traffic::Udp(*port..=*port)).to_vec(),
        Traffic::Ping => vec![Traffic::Ping],
    };
    ends.dedup();
    ends
}

/// The rule must exist and do what is expected of the packet.
fn checked_rule(rule: Spanned<String>, action: Action, ids: &Ids, cx: &Context<'_>) -> String {
    match ids.get(&rule.value) {
        Some(found) if found.value != action => cx.problems.add(
            Problem::new(rule.span, format!("the rule `{}` does the opposite", rule.value))
                .related(found.span, "this rule")
                .hint("this can never hold: turn one of them round"),
        ),
        Some(_) => {}
        None => {
            let known: Vec<&str> = ids.keys().map(String::as_str).collect();
            let hint =
                did_you_mean(&rule.value, &known).unwrap_or_else(|| String::from("give the rule this `id=`"));
            cx.problems
                .add(Problem::new(rule.span, format!("no rule has the id `{}`", rule.value)).hint(hint));
        }
    }
    rule.value
}

fn check_families(from: &Spanned<IpAddr>, to: &Spanned<PacketTarget>, cx: &Context<'_>) {
    if let PacketTarget::Address(address) = to.value
        && address.is_ipv4() != from.value.is_ipv4()
    {
        let problem = Problem::new(to.span, "no packet goes from IPv4 to IPv6 or back");
        cx.problems.add(problem.related(from.span, "the other family"));
    }
}
