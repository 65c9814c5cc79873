//! `nat { masquerade home out=wan; forward game in=wan to="10.0.2.40" hairpin=#true }`.

use super::Context;
use super::decode::Fields;
use super::problems::Problems;
use super::values;
use crate::model::{Forward, Masquerade, Spanned, Traffic};
use crate::report::Problem;
use kdl::KdlNode;
use miette::SourceSpan;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Forwarded ports of one file, counted as ranges.
const FORWARDED_MAX: usize = 4_096;

pub(super) fn decode<'a>(
    nodes: impl Iterator<Item = &'a KdlNode>,
    cx: &Context<'a>,
) -> (Vec<Masquerade>, Vec<Forward>) {
    let (mut masquerades, mut forwards) = (Vec::new(), Vec::new());
    for node in nodes {
        let mut fields = Fields::new(node, cx.problems);
        let children = fields.children(&["masquerade", "forward"]);
        masquerades.extend(children.many("masquerade").filter_map(|node| masquerade(node, cx)));
        forwards.extend(children.many("forward").filter_map(|node| forward(node, cx)));
    }
    check_masquerades(&masquerades, cx.problems);
    check_forwards(&forwards, cx.problems);
    (masquerades, forwards)
}

fn masquerade(node: &KdlNode, cx: &Context<'_>) -> Option<Masquerade> {
    let mut fields = Fields::new(node, cx.problems);
    let zones = fields.required_arguments("zones", |scalar| cx.names.zones.refer(scalar));
    let out = fields.required("out", |scalar| cx.names.interfaces.refer(scalar));
    let span = fields.span();
    Some(Masquerade { span, line: cx.source.line_of(span), zones, out: out? })
}

fn check_masquerades(masquerades: &[Masquerade], problems: &Problems) {
    let mut seen: BTreeMap<(&str, &str), SourceSpan> = BTreeMap::new();
    for (zone, out) in masquerades.iter().flat_map(|m| m.zones.iter().map(move |zone| (zone, &m.out))) {
        match seen.get(&(zone.value.as_str(), out.value.as_str())) {
            Some(first) => problems.add(
                Problem::new(
                    zone.span,
                    format!("`{}` is masqueraded out of `{}` twice", zone.value, out.value),
                )
                .label("second")
                .related(*first, "first")
                .hint("take it out"),
            ),
            None => _ = seen.insert((&zone.value, &out.value), zone.span),
        }
    }
}

fn forward(node: &KdlNode, cx: &Context<'_>) -> Option<Forward> {
    let mut fields = Fields::new(node, cx.problems);
    let what = forwarded(&mut fields, cx);
    let input = fields.required("in", |scalar| cx.names.interfaces.refer(scalar));
    let to = fields.required("to", |scalar| {
        let (address, port) = values::address_and_port(scalar)?;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(scalar.problem(format!("nothing can be forwarded to {address}")));
        }
        Ok((address, port))
    });
    let to_port = fields.property("to-port", values::port);
    let hairpin = fields.property("hairpin", values::boolean);
    let span = fields.span();
    let (input, to) = (input?, to?);
    if let (Some(to_port), Some(_)) = (&to_port, to.value.1) {
        let problem = Problem::new(to_port.span, "the port is given twice").related(to.span, "also here");
        cx.problems.add(problem.hint("take `to-port=` out"));
    }
    let (address, port): (IpAddr, _) = to.value;
    let port = port.or(to_port.map(|port| port.value));
    if port.is_some() && !what.iter().all(is_one_port) {
        let hint = "forward one port, or leave the port of the target out: the ports are kept then";
        cx.problems.add(Problem::new(span, "a range of ports cannot become one port").hint(hint));
    }
    Some(Forward {
        span,
        line: cx.source.line_of(span),
        what,
        input,
        to: Spanned { value: address, span: to.span },
        to_port: port,
        hairpin: hairpin.is_some_and(|hairpin| hairpin.value),
    })
}

/// The ports that are forwarded.
fn forwarded(fields: &mut Fields<'_>, cx: &Context<'_>) -> Vec<Traffic> {
    let says_nothing = fields.argument_count() == 0 && !fields.has("tcp") && !fields.has("udp");
    let services = fields.arguments(|scalar| {
        let traffic = cx.services.refer(scalar, cx.names)?;
        if traffic.contains(&Traffic::Ping) {
            return Err(scalar
                .problem("`ping` has no port to forward")
                .hint("the firewall answers pings itself"));
        }
        Ok(traffic)
    });
    let tcp = fields.property("tcp", values::ports).map(|ports| Traffic::Tcp(ports.value));
    let udp = fields.property("udp", values::ports).map(|ports| Traffic::Udp(ports.value));
    if says_nothing {
        let hint = "name a service, or a port such as tcp=443";
        cx.problems.add(Problem::new(fields.span(), "`forward` does not say what").hint(hint));
    }
    services.into_iter().flat_map(|service| service.value).chain(tcp).chain(udp).collect()
}

fn is_one_port(traffic: &Traffic) -> bool {
    match traffic {
        Traffic::Tcp(ports) | Traffic::Udp(ports) => ports.start() == ports.end(),
        Traffic::Ping => false,
    }
}

/// A packet goes to one target, so a port of an interface is forwarded once.
fn check_forwards(forwards: &[Forward], problems: &Problems) {
    // First and last port and whose they are, per interface, protocol and family of the target.
    type Lane = Vec<(u16, u16, usize)>;
    let mut lanes: BTreeMap<(&str, bool, bool), Lane> = BTreeMap::new();
    for (index, forward) in forwards.iter().enumerate() {
        for traffic in &forward.what {
            let (Traffic::Tcp(ports) | Traffic::Udp(ports)) = traffic else { continue };
            let lane = (
                forward.input.value.as_str(),
                matches!(traffic, Traffic::Tcp(_)),
                forward.to.value.is_ipv4(),
            );
            lanes.entry(lane).or_default().push((*ports.start(), *ports.end(), index));
        }
    }
    for lane in lanes.values_mut() {
        lane.sort_unstable();
        let mut widest: Option<(u16, usize)> = None;
        for (start, end, index) in lane.iter().copied() {
            if let Some((_, other)) = widest.filter(|(widest, _)| start <= *widest) {
                let (first, second) = (&forwards[index.min(other)], &forwards[index.max(other)]);
                problems.add(
                    Problem::new(
                        second.span,
                        format!("port {start} of `{}` is forwarded already", second.input.value),
                    )
                    .label("second")
                    .related(first.span, "first")
                    .hint("a port leads to one host"),
                );
            }
            if widest.is_none_or(|(widest, _)| end > widest) {
                widest = Some((end, index));
            }
        }
    }
    if forwards.iter().map(|forward| forward.what.len()).sum::<usize>() > FORWARDED_MAX {
        let span = forwards.last().map_or((0, 0).into(), |forward| forward.span);
        problems.add(
            Problem::new(span, format!("more than {FORWARDED_MAX} forwarded ports")).hint("forward ranges"),
        );
    }
}
