//! `scan { interfaces wan; retention "30d"; vertical ports=15 within="60s"; auto-block { … } }`.

use super::Context;
use super::auto_block;
use super::decode::{Fields, head};
use super::problems::Problems;
use super::values;
use crate::model::{Scan, Spanned};
use crate::report::Problem;
use glacis_plan::{DistinctLimit, Shapes};
use kdl::KdlNode;
use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

const RETENTION: RangeInclusive<Duration> = DAY..=Duration::from_secs(365 * DAY.as_secs());
const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * DAY.as_secs());
const STEALTH_DEFAULT: bool = true;

const DISTINCT: RangeInclusive<u32> = 2..=1_000;
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(10)..=DAY;

/// What a shape that is named looks for when it does not say.
const VERTICAL: DistinctLimit = DistinctLimit { count: 15, within: MINUTE };
const HORIZONTAL: DistinctLimit = DistinctLimit { count: 20, within: MINUTE };
const SLOW: DistinctLimit = DistinctLimit { count: 40, within: Duration::from_secs(6 * 3_600) };

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Scan {
    let mut fields = Fields::new(node, cx.problems);
    let children = fields.children(&[
        "interfaces",
        "retention",
        "stealth",
        "vertical",
        "horizontal",
        "slow",
        "auto-block",
    ]);
    let interfaces = children.one("interfaces").map(|node| interfaces(node, cx)).unwrap_or_default();
    let read = values::duration(RETENTION, "a duration from \"1d\" to \"365d\"");
    let retention = children.value("retention", "a duration", read);
    let stealth = children.value("stealth", "`#true` or `#false`", values::boolean);
    let shape = |name, counted, default| {
        children.one(name).and_then(|node| shape(node, counted, default, cx.problems))
    };
    let vertical = shape("vertical", "ports", VERTICAL);
    let horizontal = shape("horizontal", "hosts", HORIZONTAL);
    let slow = shape("slow", "ports", SLOW);
    check_slow(vertical.as_ref(), slow.as_ref(), cx.problems);
    let value = |shape: Option<Spanned<DistinctLimit>>| shape.map(|shape| shape.value);
    Scan {
        interfaces,
        retention: retention.map_or(RETENTION_DEFAULT, |retention| retention.value),
        stealth: stealth.map_or(STEALTH_DEFAULT, |stealth| stealth.value),
        shapes: Shapes { vertical: value(vertical), horizontal: value(horizontal), slow: value(slow) },
        auto_block: children.one("auto-block").map(|node| auto_block::decode(node, cx)),
    }
}

fn interfaces(node: &KdlNode, cx: &Context<'_>) -> Vec<Spanned<String>> {
    let wanted = "interfaces; leave it out to watch every one that faces outwards";
    let named =
        Fields::new(node, cx.problems).required_arguments(wanted, |scalar| cx.names.interfaces.refer(scalar));
    for (at, interface) in named.iter().enumerate() {
        if let Some(first) = named[..at].iter().find(|first| first.value == interface.value) {
            let problem = Problem::new(interface.span, format!("`{}` is named twice", interface.value));
            cx.problems.add(problem.related(first.span, "first"));
        }
    }
    named
}

/// `vertical ports=15 within="60s"`; without either value that of the default. `None` when a value is wrong.
fn shape(
    node: &KdlNode,
    counted: &'static str,
    default: DistinctLimit,
    problems: &Problems,
) -> Option<Spanned<DistinctLimit>> {
    let mut fields = Fields::new(node, problems);
    let count = fields.property(counted, values::integer(DISTINCT));
    let within = fields.property("within", values::duration(WITHIN, "a duration from \"10s\" to \"1d\""));
    if fields.has(counted) != count.is_some() || fields.has("within") != within.is_some() {
        return None;
    }
    let limit = DistinctLimit {
        count: count.map_or(default.count, |count| count.value as u16),
        within: within.map_or(default.within, |within| within.value),
    };
    Some(Spanned { value: limit, span: head(node) })
}

/// Both count ports. One that is always reached after the other would never tell a scan.
fn check_slow(
    vertical: Option<&Spanned<DistinctLimit>>,
    slow: Option<&Spanned<DistinctLimit>>,
    problems: &Problems,
) {
    let (Some(vertical), Some(slow)) = (vertical, slow) else { return };
    let (message, hint) = if slow.within <= vertical.within {
        ("`slow` looks back no longer than `vertical`", "give it a longer `within=`")
    } else if slow.count <= vertical.count {
        ("`slow` takes no more ports than `vertical`, which then never tells a scan", "give it more `ports=`")
    } else {
        return;
    };
    problems.add(Problem::new(slow.span, message).related(vertical.span, "the vertical scan").hint(hint));
}
