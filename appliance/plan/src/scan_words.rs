//! What changes in scan awareness, as a person reads it.

use crate::scan::{
    AutoBlock, AutoBlockMode, DistinctLimit, EstablishedFlows, EvidenceRule, ScanDevices, ScanPlan,
};
use std::time::Duration;

/// One line per setting that comes (`+`), goes (`-`) or changes (`=`); none when both are alike.
pub fn describe_scan(before: Option<&ScanPlan>, after: Option<&ScanPlan>) -> Vec<String> {
    let (before, after) = (before.map_or_else(Vec::new, settings), after.map_or_else(Vec::new, settings));
    let value = |all: &[(&'static str, String)], name: &str| {
        all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let gone = before.iter().filter(|(name, _)| value(&after, name).is_none());
    let mut lines: Vec<String> = gone.map(|(name, value)| format!("- scan {name} {value}")).collect();
    for (name, new) in &after {
        match value(&before, name) {
            None => lines.push(format!("+ scan {name} {new}")),
            Some(old) if old != *new => lines.push(format!("= scan {name} {new}, was {old}")),
            Some(_) => {}
        }
    }
    lines
}

/// By the policy's words; what is off is not listed.
fn settings(scan: &ScanPlan) -> Vec<(&'static str, String)> {
    let devices = match &scan.devices {
        ScanDevices::Outward => "auto".to_owned(),
        ScanDevices::Named(devices) if devices.is_empty() => "none present".to_owned(),
        ScanDevices::Named(devices) => devices.join(" "),
    };
    let mut settings = vec![
        ("interfaces", devices),
        ("retention", span(scan.retention)),
        ("stealth", if scan.stealth { "on" } else { "off" }.to_owned()),
    ];
    let shapes = [
        ("vertical", "ports", scan.shapes.vertical),
        ("horizontal", "hosts", scan.shapes.horizontal),
        ("slow", "ports", scan.shapes.slow),
    ];
    for (name, what, limit) in shapes {
        let limit =
            limit.map(|DistinctLimit { count, within }| format!("{count} {what} within {}", span(within)));
        settings.extend(limit.map(|limit| (name, limit)));
    }
    settings.extend(scan.auto_block.iter().flat_map(auto_block));
    settings
}

fn auto_block(block: &AutoBlock) -> Vec<(&'static str, String)> {
    let mode = match block.mode {
        AutoBlockMode::Observe => "observe",
        AutoBlockMode::Enforce => "enforce",
    };
    let evidence = match block.evidence {
        EvidenceRule::Any => "any",
        EvidenceRule::SpoofProof => "spoof-proof",
    };
    let established = match block.established {
        EstablishedFlows::Drop => "dropped",
        EstablishedFlows::Keep => "kept",
    };
    let forever = |duration: &Option<Duration>| duration.map_or_else(|| "for ever".to_owned(), span);
    let length = match &block.ladder {
        None => ("block duration", forever(&block.duration)),
        Some(ladder) => {
            let steps: Vec<String> = ladder.steps.iter().map(forever).collect();
            ("block ladder", format!("{} forgiven after {}", steps.join(", "), span(ladder.forgive)))
        }
    };
    vec![
        ("block mode", mode.to_owned()),
        ("block evidence", evidence.to_owned()),
        ("block threshold", format!("{} within {}", block.threshold, span(block.window))),
        length,
        ("block group", format!("/{} and /{}", block.group.v4, block.group.v6)),
        ("established flows", established.to_owned()),
        ("never blocked", prefixes(block.never.len())),
    ]
}

fn prefixes(count: usize) -> String {
    format!("{count} {}", if count == 1 { "prefix" } else { "prefixes" })
}

/// In the largest unit that it is a whole number of.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Ladder, Shapes, SourceGroup};

    fn plan() -> ScanPlan {
        ScanPlan {
            devices: ScanDevices::Named(vec!["eth0".into()]),
            retention: Duration::from_secs(30 * 86_400),
            exposed_tcp: vec![],
            exposed_udp: vec![],
            stealth: true,
            shapes: Shapes::default(),
            auto_block: None,
        }
    }

    fn block() -> AutoBlock {
        AutoBlock {
            mode: AutoBlockMode::Enforce,
            evidence: EvidenceRule::SpoofProof,
            threshold: 100,
            window: Duration::from_secs(300),
            duration: None,
            ladder: None,
            group: SourceGroup::default(),
            never: vec![],
            established: EstablishedFlows::Keep,
        }
    }

    #[test]
    fn what_stays_is_not_told_and_what_changes_is_told_with_what_it_was() {
        assert!(describe_scan(Some(&plan()), Some(&plan())).is_empty());
        assert!(describe_scan(None, None).is_empty());
        let limit = DistinctLimit { count: 15, within: Duration::from_secs(90) };
        let after = ScanPlan {
            stealth: false,
            shapes: Shapes { vertical: Some(limit), ..Shapes::default() },
            ..plan()
        };
        assert_eq!(
            describe_scan(Some(&plan()), Some(&after)),
            ["= scan stealth off, was on", "+ scan vertical 15 ports within 90s"]
        );
        assert_eq!(
            describe_scan(Some(&plan()), None),
            ["- scan interfaces eth0", "- scan retention 30d", "- scan stealth on"]
        );
    }

    #[test]
    fn a_threshold_and_a_ladder_are_told() {
        let with = |block| ScanPlan { auto_block: Some(block), ..plan() };
        let hour = Duration::from_secs(3_600);
        let ladder = Ladder { steps: vec![Some(hour), None], forgive: 24 * hour };
        let after = AutoBlock { threshold: 50, duration: Some(hour), ladder: Some(ladder), ..block() };
        assert_eq!(
            describe_scan(Some(&with(block())), Some(&with(after))),
            [
                "- scan block duration for ever",
                "= scan block threshold 50 within 5m, was 100 within 5m",
                "+ scan block ladder 1h, for ever forgiven after 1d"
            ]
        );
    }
}
