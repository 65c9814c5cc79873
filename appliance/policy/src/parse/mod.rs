//! Policy text to a typed [`Policy`], or every error of the file in one [`Report`].
//!
//! Bytes pass three stages, each of which goes on after an error: [`shape`] checks the form and lets
//! well-formed text through, the `kdl` crate builds the tree, and the decoders (one file a family of nodes)
//! read it by way of [`decode::Fields`], which reports whatever no decoder asked for. A policy exists only
//! when no stage found anything.

mod auto_block;
mod blocklist;
mod decode;
mod expect;
mod gate;
mod geoip;
mod identity;
mod ineffective;
mod interface;
mod lex;
mod names;
mod nat;
mod problems;
mod rules;
mod scan;
mod services;
mod set;
mod shape;
mod status;
mod suggest;
mod values;
mod zone;

use crate::model::Policy;
use crate::report::{Problem, Report, Source};
use decode::known_nodes;
use kdl::{KdlDocument, KdlNode};
use miette::SourceSpan;
use names::Names;
use problems::Problems;
use services::Services;
use std::borrow::Cow;

/// A policy file is at most this long.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;

/// Nodes at the top of a file.
const NODES: &[&str] = &[
    "policy",
    "interface",
    "zone",
    "set",
    "service",
    "rules",
    "nat",
    "blocklist",
    "geoip",
    "scan",
    "reverse-scan",
    "status",
    "expect",
];

/// Reads one policy file. `file_name` is what messages call it.
pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Policy, Report> {
    let source = readable(file_name, bytes)?;
    let problems = Problems::default();
    let Some(shaped) = shape::shape(source.text(), &problems) else {
        return Err(report(source, problems, |span| span));
    };
    match KdlDocument::parse(&shaped.text) {
        Ok(document) => {
            let policy = policy(document.nodes(), &source, &problems);
            match policy.filter(|_| problems.is_empty()) {
                Some(policy) => Ok(policy),
                None => Err(report(source, problems, |span| shaped.original(span))),
            }
        }
        Err(error) => {
            // The gate leaves nothing that is known to come here.
            for diagnostic in error.diagnostics {
                let problem = Problem::new(diagnostic.span, diagnostic.to_string());
                problems.add(match diagnostic.help {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
            }
            Err(report(source, problems, |span| shaped.original(span)))
        }
    }
}

/// The text, when the bytes are one that a person can read.
fn readable(file_name: &str, bytes: &[u8]) -> Result<Source, Report> {
    let fail = |text: &str, problem: Problem| Err(Report::new(Source::new(file_name, text), vec![problem]));
    if bytes.len() > POLICY_BYTES_MAX {
        let message = format!("the policy has {} bytes, and {POLICY_BYTES_MAX} are the most", bytes.len());
        let hint = "put long lists of addresses into a file of their own and name it with `blocklist`";
        return fail("", Problem::new(SourceSpan::from(0), message).hint(hint));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            // The text before is the same in the lossy copy, so the offset holds there.
            let span = SourceSpan::from((at, '\u{fffd}'.len_utf8()));
            let message = format!("the file is not UTF-8: byte {at}, counted from 0, is 0x{:02x}", bytes[at]);
            let hint = "save it as UTF-8; check that this is the policy and no image or archive";
            let visible = visible(&String::from_utf8_lossy(bytes));
            return fail(&visible, Problem::new(span, message).label("not UTF-8").hint(hint));
        }
    };
    // Some editors begin a file with a byte order mark; spaces instead keep all offsets.
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => Cow::Owned(format!("   {rest}")),
        None => Cow::Borrowed(text),
    };
    let problems = Problems::default();
    for (at, c) in text.char_indices().filter(|(at, c)| is_invisible(*c, &text[at + c.len_utf8()..])) {
        let message = format!("invisible character U+{:04X}", u32::from(c));
        let problem = Problem::new((at, c.len_utf8()).into(), message);
        problems.add(problem.hint("delete it; a line ends with a line feed"));
    }
    if problems.is_empty() {
        Ok(Source::new(file_name, &text))
    } else {
        Err(report(Source::new(file_name, &visible(&text)), problems, |span| span))
    }
}

/// Characters that make a file look other than it is, and line breaks that editors do not count.
fn is_invisible(c: char, rest: &str) -> bool {
    match c {
        '\n' | '\t' => false,
        '\r' => !rest.starts_with('\n'),
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => true,
        _ => c.is_control(),
    }
}

/// The text with `?` for each byte of an invisible character, so that showing it plays no tricks.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if is_invisible(c, &text[at + c.len_utf8()..]) {
            shown.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn report(source: Source, problems: Problems, original: impl Fn(SourceSpan) -> SourceSpan) -> Report {
    let (found, omitted) = problems.take();
    let found = found.into_iter().map(|problem| problem.map_spans(&original)).collect();
    Report::with_omitted(source, found, omitted)
}

/// What every decoder may look up.
struct Context<'a> {
    source: &'a Source,
    problems: &'a Problems,
    names: &'a Names,
    services: &'a Services,
}

/// `None` when the file says nothing of itself; what else is wrong is in `problems`.
fn policy(nodes: &[KdlNode], source: &Source, problems: &Problems) -> Option<Policy> {
    let top = known_nodes(nodes, NODES, "in a policy", problems);
    let names = Names::of(nodes);
    let services = Services::declare(top.many("service"), &names, problems);
    let cx = Context { source, problems, names: &names, services: &services };

    let interfaces: Vec<_> = top.many("interface").filter_map(|node| interface::decode(node, &cx)).collect();
    interface::check(&interfaces, problems);
    let zones: Vec<_> = top.many("zone").filter_map(|node| zone::decode(node, &cx)).collect();
    zone::check(&zones, problems);
    let sets = top.many("set").filter_map(|node| set::decode(node, &cx)).collect();
    let rules: Vec<_> = top.many("rules").filter_map(|node| rules::decode(node, &zones, &cx)).collect();
    let ids = rules::ids(&rules, problems);
    ineffective::check(&rules, problems);
    let (masquerades, forwards) = nat::decode(top.many("nat"), &cx);
    let blocklists = top.many("blocklist").filter_map(|node| blocklist::decode(node, &cx)).collect();
    let geoip = top.one("geoip").map(|node| geoip::decode(node, &cx)).unwrap_or_default();
    let scan = top.one("scan").map(|node| scan::decode(node, &cx));
    let status = top.one("status").and_then(|node| status::decode(node, &cx));
    if let Some(status) = &status {
        status::check(status, &forwards, &zones, problems);
    }
    let around = gate::Around {
        interfaces: &interfaces,
        zones: &zones,
        forwards: &forwards,
        status: status.as_ref(),
        geoip: &geoip,
    };
    let gates = gate::decode(top.many("reverse-scan"), &around, &cx);
    let expects = top.many("expect").flat_map(|node| expect::decode(node, &ids, &cx)).collect();

    let name = identity::decode(top.one("policy"), problems)?;
    let services = services.into_used();
    Some(Policy {
        name,
        interfaces,
        zones,
        sets,
        services,
        rules,
        masquerades,
        forwards,
        blocklists,
        geoip,
        scan,
        gates,
        status,
        expects,
    })
}
