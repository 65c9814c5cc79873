//! `reverse-scan shop { listen tcp=443 on=wan; backend "10.10.0.30:443"; … }`: clients are looked at first.
//!
//! One file a question: whom it lets in ([`guests`]), how it looks ([`look`]), what a refused client gets
//! ([`refusal`]), where it leads ([`lead`]), what the kernel may do alone ([`fast_path`]), and what gates and the
//! rest of the policy must agree on ([`agree`]).

mod agree;
mod countries;
mod fast_path;
mod guests;
mod lead;
mod look;
mod refusal;
mod routes;

use super::Context;
use super::decode::{Children, Fields, Scalar, head};
use super::values;
use crate::model::{Door, Forward, Gate, GeoipDatabase, Interface, Spanned, Status, Zone};
use crate::report::Problem;
use agree::Own;
use glacis_plan::gate::{GATE_NAME_BYTES_MAX, GateMode, GateProtocol};
use kdl::KdlNode;
use miette::SourceSpan;

const NODES: &[&str] = &[
    "listen",
    "protocol",
    "accept-proxy",
    "backend",
    "route",
    "routes-only",
    "health",
    "idle",
    "preset",
    "ports",
    "timeout",
    "prove",
    "mode",
    "budget",
    "remember",
    "deny",
    "on-open",
    "ignore",
    "private",
    "fast-path",
];

const PROTOCOL: &[(&str, GateProtocol)] =
    &[("tcp", GateProtocol::Tcp), ("tls", GateProtocol::Tls), ("http", GateProtocol::Http)];
const PROTOCOL_DEFAULT: GateProtocol = GateProtocol::Tcp;
const MODE: &[(&str, GateMode)] = &[("enforce", GateMode::Enforce), ("detect", GateMode::Detect)];
const MODE_DEFAULT: GateMode = GateMode::Enforce;
const PRIVATE_DEFAULT: bool = false;
/// `listen` nodes of one gate: each is compared with those before it.
const LISTENERS_MAX: usize = 64;

/// What a gate must know of the rest of the policy.
pub(super) struct Around<'a> {
    pub interfaces: &'a [Interface],
    pub zones: &'a [Zone],
    pub forwards: &'a [Forward],
    pub status: Option<&'a Status>,
    pub geoip: &'a [GeoipDatabase],
}

/// The protocol, and the word that asks for it, if one does.
struct Protocol {
    value: GateProtocol,
    asked: Option<SourceSpan>,
}

impl Protocol {
    /// Adds to a problem the word that it comes from.
    fn blame(&self, problem: Problem) -> Problem {
        match self.asked {
            Some(span) => problem.related(span, "the protocol"),
            None => problem,
        }
    }
}

pub(super) fn decode<'a>(
    nodes: impl Iterator<Item = &'a KdlNode>,
    around: &Around<'_>,
    cx: &Context<'_>,
) -> Vec<Gate> {
    let own = Own::of(around.interfaces);
    let gates: Vec<Gate> = nodes.filter_map(|node| gate(node, around, &own, cx)).collect();
    agree::check(&gates, around, &own, cx.problems);
    gates
}

fn gate(node: &KdlNode, around: &Around<'_>, own: &Own, cx: &Context<'_>) -> Option<Gate> {
    let problems = cx.problems;
    let mut fields = Fields::new(node, problems);
    let name = fields.required_argument("a name", name);
    let children = fields.children(NODES);
    let listen = listen(&children, fields.span(), around.zones, cx);
    let protocol = children.value("protocol", "`tcp`, `tls` or `http`", values::choice(PROTOCOL));
    let protocol = Protocol {
        value: protocol.as_ref().map_or(PROTOCOL_DEFAULT, |protocol| protocol.value),
        asked: protocol.map(|protocol| protocol.span),
    };
    let port = listen.as_ref().map(|(port, _)| port.value);
    let lead = lead::decode(&children, fields.span(), port, &protocol, problems);
    let fronts = guests::fronts(&children, cx);
    let (ignore, ignore_countries) = guests::ignored(&children, around.geoip, cx);
    let mode = children.value("mode", "`enforce` or `detect`", values::choice(MODE));
    let private = children.value("private", "`#true` or `#false`", values::boolean);
    let look = look::decode(&children, problems);
    let deny = refusal::deny(children.one("deny"), &protocol, problems);
    let on_open = children.one("on-open").and_then(|node| refusal::on_open(node, problems));
    let fast_path = fast_path::decode(&children, &lead, own, problems);
    let (name, (port, on)) = (name?, listen?);
    cx.names.gates.check_first(&name, problems);
    Some(Gate {
        line: cx.source.line_of(fields.span()),
        name,
        port,
        on,
        protocol: protocol.value,
        fronts,
        pools: lead.pools,
        routes: lead.routes,
        routes_only: lead.routes_only,
        health: lead.health,
        idle: lead.idle,
        ports: look.ports,
        timeout: look.timeout,
        prove: look.prove,
        mode: mode.map_or(MODE_DEFAULT, |mode| mode.value),
        budget: look.budget,
        remember: look.remember,
        deny,
        on_open,
        ignore,
        ignore_countries,
        private: private.map_or(PRIVATE_DEFAULT, |private| private.value),
        fast_path,
    })
}

/// Names of the kernel's sets are built of it.
fn name(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let text = scalar.text("a name")?;
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if starts && goes_on && text.len() <= GATE_NAME_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(scalar.wrong("a name").hint(format!(
        "a letter first, then letters, digits, `_` or `-`, {GATE_NAME_BYTES_MAX} characters at most"
    )))
}

/// `listen tcp=443 on=wan`, once for each zone or interface, always with the same port.
fn listen(
    children: &Children<'_>,
    gate: SourceSpan,
    zones: &[Zone],
    cx: &Context<'_>,
) -> Option<(Spanned<u16>, Vec<Spanned<Door>>)> {
    let mut listeners: Vec<(Spanned<u16>, Spanned<Door>)> = Vec::new();
    for node in children.many("listen") {
        let mut fields = Fields::new(node, cx.problems);
        let port = fields.required("tcp", values::port);
        let door = fields.required("on", |scalar| cx.names.door(scalar));
        listeners.extend(port.zip(door));
    }
    if let Some(surplus) = children.many("listen").nth(LISTENERS_MAX) {
        let message = format!("more than {LISTENERS_MAX} zones and interfaces of one gate");
        cx.problems.add(Problem::new(head(surplus), message).hint("join interfaces into a zone"));
        return None;
    }
    if children.many("listen").next().is_none() {
        let hint = "say where it listens: `listen tcp=443 on=wan`";
        cx.problems.add(Problem::new(gate, "a gate that listens nowhere").hint(hint));
    }
    let (ports, doors): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
    let first = ports.first()?;
    for port in ports.iter().filter(|port| port.value != first.value) {
        cx.problems.add(
            Problem::new(port.span, "a gate listens on one port")
                .label("another port")
                .related(first.span, "the first")
                .hint(format!("write tcp={} here as well, or a gate of its own", first.value)),
        );
    }
    for (at, door) in doors.iter().enumerate() {
        let overlaps = |earlier: &&Spanned<Door>| {
            interfaces(&earlier.value, zones).iter().any(|name| interfaces(&door.value, zones).contains(name))
        };
        if let Some(earlier) = doors[..at].iter().find(overlaps) {
            let (Door::Zone(name) | Door::Interface(name)) = &door.value;
            let problem = Problem::new(door.span, format!("it listens on `{name}` already"));
            cx.problems
                .add(problem.label("second").related(earlier.span, "first").hint("take one of them out"));
        }
    }
    Some((first.clone(), doors))
}

/// Names of the interfaces behind a door.
fn interfaces<'n>(door: &'n Door, zones: &'n [Zone]) -> Vec<&'n str> {
    match door {
        Door::Interface(name) => vec![name],
        Door::Zone(name) => {
            let zone = zones.iter().find(|zone| zone.name.value == *name);
            zone.map_or_else(Vec::new, |zone| {
                zone.interfaces.iter().map(|interface| interface.as_str()).collect()
            })
        }
    }
}

#[cfg(test)]
mod tests;
