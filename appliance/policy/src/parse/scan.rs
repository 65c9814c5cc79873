//! `scan { interfaces wan; retention "30d"; auto-block { … } }`.

use super::Context;
use super::decode::Fields;
use super::values;
use crate::model::{AutoBlock, Scan};
use crate::report::Problem;
use glacis_plan::{AutoBlockMode, SourceGroup};
use kdl::KdlNode;
use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const RETENTION: RangeInclusive<Duration> = DAY..=Duration::from_secs(365 * 86_400);
const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
const THRESHOLD: RangeInclusive<u32> = 1..=100_000;
const THRESHOLD_DEFAULT: u32 = 100;
const WINDOW: RangeInclusive<Duration> = MINUTE..=DAY;
const WINDOW_DEFAULT: Duration = Duration::from_secs(5 * 60);
const BLOCK: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(87_600 * HOUR.as_secs());
const GROUP_V4: RangeInclusive<u32> = 8..=32;
const GROUP_V6: RangeInclusive<u32> = 16..=128;
const MODE: &[(&str, AutoBlockMode)] =
    &[("observe", AutoBlockMode::Observe), ("enforce", AutoBlockMode::Enforce)];

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Scan {
    let mut fields = Fields::new(node, cx.problems);
    let children = fields.children(&["interfaces", "retention", "auto-block"]);
    let interfaces = children.one("interfaces").map(|node| {
        Fields::new(node, cx.problems)
            .required_arguments("interfaces; leave it out to watch every one that faces outwards", |scalar| {
                cx.names.interfaces.refer(scalar)
            })
    });
    let retention = children.one("retention").and_then(|node| {
        Fields::new(node, cx.problems).required_argument(
            "a duration",
            values::duration(RETENTION, "a duration from \"1d\" to \"365d\""),
        )
    });
    let auto_block = children.one("auto-block").map(|node| auto_block(node, cx));
    let interfaces = interfaces.unwrap_or_default();
    for (at, interface) in interfaces.iter().enumerate() {
        if let Some(first) = interfaces[..at].iter().find(|first| first.value == interface.value) {
            let problem = Problem::new(interface.span, format!("`{}` is named twice", interface.value));
            cx.problems.add(problem.related(first.span, "first"));
        }
    }
    Scan {
        interfaces,
        retention: retention.map_or(RETENTION_DEFAULT, |retention| retention.value),
        auto_block,
    }
}

fn auto_block(node: &KdlNode, cx: &Context<'_>) -> AutoBlock {
    let mut fields = Fields::new(node, cx.problems);
    let children = fields.children(&["mode", "threshold", "window", "duration", "group", "never"]);
    let problems = cx.problems;
    let mode = children.one("mode").and_then(|node| {
        Fields::new(node, problems).required_argument("`observe` or `enforce`", values::choice(MODE))
    });
    let threshold = children.one("threshold").and_then(|node| {
        Fields::new(node, problems).required_argument("a number of hits", values::integer(THRESHOLD))
    });
    let window = children.one("window").and_then(|node| {
        let read = values::duration(WINDOW, "a duration from \"1m\" to \"1440m\"");
        Fields::new(node, problems).required_argument("a duration", read)
    });
    let duration = children.one("duration").and_then(|node| {
        let read = values::duration(BLOCK, "a duration up to \"87600h\", or \"0\" for ever");
        Fields::new(node, problems).required_argument("a duration", read)
    });
    let group = children.one("group").map_or_else(SourceGroup::default, |node| group(node, cx));
    let never = children.one("never").map(|node| {
        Fields::new(node, problems).required_arguments("sets", |scalar| cx.names.sets.refer(scalar))
    });
    AutoBlock {
        mode: mode.map_or(AutoBlockMode::Enforce, |mode| mode.value),
        threshold: threshold.map_or(THRESHOLD_DEFAULT, |threshold| threshold.value),
        window: window.map_or(WINDOW_DEFAULT, |window| window.value),
        duration: duration.map(|duration| duration.value).filter(|duration| !duration.is_zero()),
        group,
        never: never.unwrap_or_default(),
    }
}

/// `group v4=32 v6=64`: by which prefixes sources are counted and blocked.
fn group(node: &KdlNode, cx: &Context<'_>) -> SourceGroup {
    let mut fields = Fields::new(node, cx.problems);
    let says_nothing = !fields.has("v4") && !fields.has("v6");
    let v4 = fields.property("v4", values::integer(GROUP_V4));
    let v6 = fields.property("v6", values::integer(GROUP_V6));
    if says_nothing {
        cx.problems
            .add(Problem::new(fields.span(), "`group` needs `v4=` or `v6=`").hint("group v4=32 v6=64"));
    }
    let default = SourceGroup::default();
    SourceGroup {
        v4: v4.map_or(default.v4, |v4| v4.value as u8),
        v6: v6.map_or(default.v6, |v6| v6.value as u8),
    }
}
