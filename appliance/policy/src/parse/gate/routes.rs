//! `route "a.example.org" "*.b.example.org" { backend "10.0.0.4:443" }`: where each server name leads.

use super::Protocol;
use super::lead::{Pool, pool};
use crate::model::Spanned;
use crate::parse::decode::{Children, Fields, Scalar, head};
use crate::parse::problems::Problems;
use crate::report::Problem;
use glacis_plan::gate::GateProtocol;
use kdl::KdlNode;
use miette::SourceSpan;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Routes of one gate.
const ROUTES_MAX: usize = 64;
/// Names of one gate, all its routes together.
const NAMES_MAX: usize = 1_024;
/// RFC 1035, section 2.3.4, less the root's empty label.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// What stands before a name for all that lie below it.
const WILDCARD: &str = "*.";

pub(super) struct Route {
    pub names: Vec<String>,
    pub pool: Pool,
}

pub(super) fn decode(
    children: &Children<'_>,
    port: Option<u16>,
    protocol: &Protocol,
    problems: &Problems,
) -> Vec<Route> {
    let read: Vec<(Vec<Spanned<String>>, Pool)> =
        children.many("route").map(|node| route(node, port, problems)).collect();
    if let Some(first) = children.many("route").next()
        && protocol.value != GateProtocol::Tls
    {
        let message = format!("`protocol {}` has no server name to go by", protocol.value.name());
        let problem = Problem::new(head(first), message).hint("write `protocol tls`, or take the routes out");
        problems.add(protocol.blame(problem));
    }
    if let Some(surplus) = children.many("route").nth(ROUTES_MAX) {
        let message = format!("more than {ROUTES_MAX} routes of one gate");
        problems.add(Problem::new(head(surplus), message).hint("join those that lead to the same backends"));
    }
    let names: Vec<&Spanned<String>> = read.iter().flat_map(|(names, _)| names).collect();
    match names.get(NAMES_MAX) {
        Some(surplus) => {
            let message = format!("{} names of one gate, and {NAMES_MAX} are the most", names.len());
            problems.add(Problem::new(surplus.span, message).hint("use wildcards: \"*.example.org\""));
        }
        None => check_reached(&names, problems),
    }
    let plain = |names: Vec<Spanned<String>>| names.into_iter().map(|name| name.value).collect();
    read.into_iter().map(|(names, pool)| Route { names: plain(names), pool }).collect()
}

fn route(node: &KdlNode, port: Option<u16>, problems: &Problems) -> (Vec<Spanned<String>>, Pool) {
    let mut fields = Fields::new(node, problems);
    let names = fields.required_arguments("server names", server_name);
    let children = fields.children(&["backend"]);
    if children.all().next().is_none() {
        let hint = "say where it leads: `{ backend \"10.10.0.30:443\" }`";
        problems.add(Problem::new(fields.span(), "a route that leads nowhere").hint(hint));
    }
    (names, pool(&children, port, problems))
}

/// A host name as clients send it (RFC 6066, section 3), or `*.` and one; lower case.
fn server_name(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let wanted = "a server name such as \"www.example.org\" or \"*.example.org\"";
    let text = scalar.text(wanted)?;
    let wrong = |hint: &str| Err(scalar.wrong(wanted).hint(hint));
    if text.parse::<IpAddr>().is_ok() {
        return wrong("clients send no address as a server name: use `backend` for what has none");
    }
    if !text.is_ascii() {
        return wrong("write the name as the DNS has it, beginning with `xn--`");
    }
    let name = text.to_ascii_lowercase();
    let base = name.strip_prefix(WILDCARD).unwrap_or(&name);
    if base.contains('*') {
        return wrong("`*` stands for whole labels and only at the beginning: \"*.example.org\"");
    }
    if base.ends_with('.') {
        return wrong("take the dot at the end out: clients send none");
    }
    let fits = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if base.len() > NAME_BYTES_MAX || !base.split('.').all(fits) {
        return wrong("labels of letters, digits and `-`, 63 characters each, with dots between, 253 in all");
    }
    Ok(name)
}

/// Reports names that an earlier one answers for: the first match wins.
fn check_reached(names: &[&Spanned<String>], problems: &Problems) {
    let mut seen: BTreeMap<String, SourceSpan> = BTreeMap::new();
    for name in names {
        let twice = seen.get(&name.value).map(|first| {
            Problem::new(name.span, format!("\"{}\" is routed twice", name.value))
                .label("second")
                .related(*first, "first")
                .hint("take one of them out")
        });
        let problem = twice.or_else(|| {
            let wider = above(&name.value).find_map(|wider| seen.get(&wider))?;
            let message = format!("\"{}\" never leads here", name.value);
            let problem = Problem::new(name.span, message).related(*wider, "this one takes it");
            Some(problem.hint("the first match wins: move it up, or take it out"))
        });
        match problem {
            Some(problem) => problems.add(problem),
            None => _ = seen.insert(name.value.clone(), name.span),
        }
    }
}

/// The wildcards that a name lies under, the nearest first; its own is not among them.
fn above(name: &str) -> impl Iterator<Item = String> + '_ {
    let base = name.strip_prefix(WILDCARD).unwrap_or(name);
    base.match_indices('.').map(|(dot, _)| format!("{WILDCARD}{}", &base[dot + 1..]))
}
