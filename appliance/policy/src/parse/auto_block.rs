//! `auto-block { mode enforce; threshold 100; window "5m"; ladder "1h" "24h" forgive="30d"; … }`.

use super::Context;
use super::decode::{Fields, head};
use super::problems::Problems;
use super::values;
use crate::model::{AutoBlock, Spanned};
use crate::report::Problem;
use glacis_plan::{AutoBlockMode, EstablishedFlows, EvidenceRule, Ladder, SourceGroup};
use kdl::KdlNode;
use std::ops::RangeInclusive;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const THRESHOLD: RangeInclusive<u32> = 1..=100_000;
const THRESHOLD_DEFAULT: u32 = 100;
const WINDOW: RangeInclusive<Duration> = MINUTE..=DAY;
const WINDOW_DEFAULT: Duration = Duration::from_secs(5 * MINUTE.as_secs());
/// Zero is for ever.
pub(super) const BLOCK: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(87_600 * HOUR.as_secs());
pub(super) const BLOCK_WANTED: &str = "a duration up to \"87600h\", or \"0\" for ever";
const LADDER_STEPS_MIN: usize = 2;
const LADDER_STEPS_MAX: usize = 8;
const FORGIVE: RangeInclusive<Duration> = HOUR..=Duration::from_secs(365 * DAY.as_secs());
const FORGIVE_DEFAULT: Duration = Duration::from_secs(30 * DAY.as_secs());
const GROUP_V4: RangeInclusive<u32> = 8..=32;
const GROUP_V6: RangeInclusive<u32> = 16..=128;

const MODE: &[(&str, AutoBlockMode)] =
    &[("observe", AutoBlockMode::Observe), ("enforce", AutoBlockMode::Enforce)];
const MODE_DEFAULT: AutoBlockMode = AutoBlockMode::Enforce;
const EVIDENCE: &[(&str, EvidenceRule)] =
    &[("any", EvidenceRule::Any), ("spoof-proof", EvidenceRule::SpoofProof)];
const EVIDENCE_DEFAULT: EvidenceRule = EvidenceRule::SpoofProof;
const DROP_ESTABLISHED_DEFAULT: bool = false;

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> AutoBlock {
    let problems = cx.problems;
    let mut fields = Fields::new(node, problems);
    let children = fields.children(&[
        "mode",
        "evidence",
        "threshold",
        "window",
        "duration",
        "ladder",
        "group",
        "never",
        "drop-established",
    ]);
    let mode = children.value("mode", "`observe` or `enforce`", values::choice(MODE));
    let evidence = children.value("evidence", "`any` or `spoof-proof`", values::choice(EVIDENCE));
    let threshold = children.value("threshold", "a number of hits", values::integer(THRESHOLD));
    let read = values::duration(WINDOW, "a duration from \"1m\" to \"1440m\"");
    let window = children.value("window", "a duration", read);
    let group = children.one("group").map_or_else(SourceGroup::default, |node| group(node, problems));
    let never = children.one("never").map(|node| {
        Fields::new(node, problems).required_arguments("sets", |scalar| cx.names.sets.refer(scalar))
    });
    let drop_established = children.value("drop-established", "`#true` or `#false`", values::boolean);
    let drop_established = drop_established.map_or(DROP_ESTABLISHED_DEFAULT, |drop| drop.value);
    let (duration, ladder) = lasting(children.one("duration"), children.one("ladder"), problems);
    AutoBlock {
        mode: mode.map_or(MODE_DEFAULT, |mode| mode.value),
        evidence: evidence.map_or(EVIDENCE_DEFAULT, |evidence| evidence.value),
        threshold: threshold.map_or(THRESHOLD_DEFAULT, |threshold| threshold.value),
        window: window.map_or(WINDOW_DEFAULT, |window| window.value),
        duration,
        ladder,
        group,
        never: never.unwrap_or_default(),
        established: if drop_established { EstablishedFlows::Drop } else { EstablishedFlows::Keep },
    }
}

/// How long a first block lasts, and what comes after it. Without a word of it a block is for ever.
fn lasting(
    duration: Option<&KdlNode>,
    ladder: Option<&KdlNode>,
    problems: &Problems,
) -> (Option<Duration>, Option<Ladder>) {
    if let (Some(duration), Some(ladder)) = (duration, ladder) {
        problems.add(
            Problem::new(head(duration), "`duration` and `ladder` both say how long a block lasts")
                .related(head(ladder), "the ladder")
                .hint("take `duration` out: the ladder's first step is how long a first block lasts"),
        );
    }
    let duration = duration.and_then(|node| {
        let read = values::duration(BLOCK, BLOCK_WANTED);
        Fields::new(node, problems).required_argument("a duration", read)
    });
    match ladder.map(|node| self::ladder(node, problems)) {
        Some(ladder) => (ladder.steps.first().copied().flatten(), Some(ladder)),
        None => (duration.and_then(|duration| limited(duration.value)), None),
    }
}

/// `None` is for ever.
pub(super) fn limited(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// `ladder "1h" "24h" "7d" forgive="30d"`: the first block's duration, the second's, and so on.
fn ladder(node: &KdlNode, problems: &Problems) -> Ladder {
    let mut fields = Fields::new(node, problems);
    let given = fields.argument_count();
    let steps = fields.required_arguments("durations", values::duration(BLOCK, BLOCK_WANTED));
    let forgive = fields.property("forgive", values::duration(FORGIVE, "a duration from \"1h\" to \"365d\""));
    if given > 0 && given < LADDER_STEPS_MIN {
        let hint = "name a second step, or write `duration` instead";
        problems.add(Problem::new(fields.span(), "a ladder of one step leads nowhere").hint(hint));
    }
    if given > LADDER_STEPS_MAX {
        let message = format!("a ladder of {given} steps, and {LADDER_STEPS_MAX} are the most");
        problems.add(Problem::new(fields.span(), message).hint("the last step stays for all later blocks"));
    }
    check_rising(&steps, problems);
    Ladder {
        steps: steps.into_iter().map(|step| limited(step.value)).collect(),
        forgive: forgive.map_or(FORGIVE_DEFAULT, |forgive| forgive.value),
    }
}

/// Each step is longer than the one before, and nothing comes after one for ever.
fn check_rising(steps: &[Spanned<Duration>], problems: &Problems) {
    for pair in steps.windows(2) {
        let [before, step] = pair else { continue };
        let problem = match (limited(before.value), limited(step.value)) {
            (None, _) => Problem::new(step.span, "this step is never reached")
                .related(before.span, "a block for ever")
                .hint("only the last step may be \"0\""),
            (Some(before_for), Some(step_for)) if step_for <= before_for => {
                Problem::new(step.span, "this step is no longer than the one before")
                    .related(before.span, "the one before")
                    .hint("each step is longer; the last one stays for all later blocks")
            }
            _ => continue,
        };
        problems.add(problem);
    }
}

/// `group v4=32 v6=64`: by which prefixes sources are counted and blocked.
fn group(node: &KdlNode, problems: &Problems) -> SourceGroup {
    let mut fields = Fields::new(node, problems);
    let says_nothing = !fields.has("v4") && !fields.has("v6");
    let v4 = fields.property("v4", values::integer(GROUP_V4));
    let v6 = fields.property("v6", values::integer(GROUP_V6));
    if says_nothing {
        problems.add(Problem::new(fields.span(), "`group` needs `v4=` or `v6=`").hint("group v4=32 v6=64"));
    }
    let default = SourceGroup::default();
    SourceGroup {
        v4: v4.map_or(default.v4, |v4| v4.value as u8),
        v6: v6.map_or(default.v6, |v6| v6.value as u8),
    }
}
