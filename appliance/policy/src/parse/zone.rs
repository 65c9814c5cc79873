//! `zone internet { from wan; default drop log=sample }`.

use super::Context;
use super::decode::{Fields, Scalar};
use super::names::SELF;
use super::problems::Problems;
use super::values;
use crate::model::{Default, LogMode, Zone};
use crate::report::Problem;
use kdl::KdlNode;
use miette::SourceSpan;
use std::collections::BTreeMap;

pub(super) const LOG: &[(&str, LogMode)] = &[("sample", LogMode::Sample), ("all", LogMode::All)];
const DEFAULT: &[(&str, Default)] = &[("drop", Default::Drop), ("reject", Default::Reject)];

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Option<Zone> {
    let mut fields = Fields::new(node, cx.problems);
    let name = fields.required_argument("a name", own_name);
    let children = fields.children(&["from", "default"]);
    let from = children.one("from");
    let interfaces = from.map(|node| {
        Fields::new(node, cx.problems)
            .required_arguments("interfaces", |scalar| cx.names.interfaces.refer(scalar))
    });
    if from.is_none() {
        let hint = "say where its packets come from: `from wan`";
        cx.problems.add(Problem::new(fields.span(), "a zone without an interface").hint(hint));
    }
    let (default, log) = children.one("default").map_or((Default::Drop, None), |node| {
        let mut fields = Fields::new(node, cx.problems);
        let default = fields.required_argument("`drop` or `reject`", values::choice(DEFAULT));
        let log = fields.property("log", values::choice(LOG));
        (default.map_or(Default::Drop, |default| default.value), log.map(|log| log.value))
    });
    let name = name?;
    cx.names.zones.check_first(&name, cx.problems);
    Some(Zone { name, interfaces: interfaces.unwrap_or_default(), default, log })
}

fn own_name(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let name = values::name(scalar)?;
    if name == SELF {
        return Err(scalar.problem("`self` is built in: the host itself").hint("give the zone another name"));
    }
    Ok(name)
}

/// A packet is of one zone, so an interface is.
pub(super) fn check(zones: &[Zone], problems: &Problems) {
    let mut seen: BTreeMap<&str, SourceSpan> = BTreeMap::new();
    for interface in zones.iter().flat_map(|zone| &zone.interfaces) {
        match seen.get(interface.value.as_str()) {
            Some(first) => problems.add(
                Problem::new(
                    interface.span,
                    format!("the interface `{}` is in a zone already", interface.value),
                )
                .label("second")
                .related(*first, "first")
                .hint("an interface is in one zone"),
            ),
            None => _ = seen.insert(&interface.value, interface.span),
        }
    }
}
