//! How answers look in a terminal.

use super::table::{Align, Table};
use crate::words;
use glacis_control::report::{FirewallState, PolicySource, ScanStatus};
use glacis_control::{Ban, BanReason, Day, Event, Evidence, ScanShape, StatusReport, UnixMillis};
use std::time::SystemTime;

pub fn changes(lines: &[String], warnings: &[String]) {
    for line in lines {
        println!("{line}");
    }
    if lines.is_empty() {
        println!("nothing to change");
    }
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

pub fn status(report: &StatusReport) {
    let firewall = match report.firewall {
        FirewallState::Applied => "applied",
        FirewallState::DropAll => "DROP ALL: no policy is in force",
        FirewallState::Tampered => "TAMPERED: the kernel has something else than what was loaded",
    };
    let source = match report.policy.source {
        PolicySource::None => "none",
        PolicySource::File => "the policy file",
        PolicySource::LastGood => "the last good one",
        PolicySource::Command => "glacis apply",
    };
    println!(
        "{}  glacis {}  up {}",
        report.name,
        report.version,
        words::span(report.taken.since(report.started))
    );
    println!("firewall    {firewall}");
    println!(
        "policy      revision {} from {source}, {} kernel rules",
        report.policy.revision, report.policy.rules
    );
    for i in &report.interfaces {
        let zone = i.zone.as_deref().unwrap_or("no zone");
        let state = match (i.present, i.carrier) {
            (false, _) => "absent",
            (true, false) => "no carrier",
            (true, true) => "up",
        };
        println!("interface   {} ({}) {state}, {zone}  {}", i.name, i.device, i.addresses.join(" "));
    }
    if report.scan.enabled {
        println!(
            "scan        on {} by {}, {} hits lost",
            report.scan.devices.join(" "),
            report.scan.attachment,
            report.scan.lost
        );
    } else {
        println!("scan        off");
    }
    scan_details(&report.scan);
    println!("blocked     {} sources", report.bans_active);
    for gate in &report.gates {
        let down = gate.backends.iter().filter(|backend| backend.down.is_some()).count();
        let down = if down > 0 {
            format!(", {down} of {} backends DOWN", gate.backends.len())
        } else {
            String::new()
        };
        println!(
            "gate        {} on port {}, {}: {} relayed, {} waiting{down}",
            gate.name, gate.port, gate.mode, gate.relaying, gate.waiting
        );
    }
    println!(
        "store       {} records, {} KiB of {} MiB, {} dropped",
        report.store.scan_records,
        report.store.bytes_used >> 10,
        report.store.bytes_max >> 20,
        report.store.dropped
    );
    for problem in &report.problems {
        println!("problem     {problem}");
    }
}

fn scan_details(scan: &ScanStatus) {
    if let Some(block) = &scan.auto_block {
        let suspended = block.suspended.as_ref().map(|why| format!(", SUSPENDED: {why}")).unwrap_or_default();
        println!("auto-block  {}, evidence {}{suspended}", block.mode, block.evidence);
    }
    for database in &scan.geoip {
        let state = match database.built {
            Some(built) => format!("of {}", words::day(Day::of(built))),
            None => "not in use".into(),
        };
        println!("geoip       {} {} {state}", database.kind, database.file);
    }
}

pub fn bans(bans: &[Ban]) {
    let now = UnixMillis::from_system(SystemTime::now());
    let rows = bans.iter().map(|ban| {
        let left = ban
            .remaining(now)
            .map_or_else(|| "for ever".into(), |left| format!("{} left", words::span(left)));
        let since = format!("since {}", words::date_time(ban.since));
        [words::source(ban.source), left, since, ban.author.clone(), why(&ban.reason)]
    });
    print(rows);
    if bans.is_empty() {
        println!("nobody is blocked");
    }
}

/// The reason, and the evidence for it.
fn why(reason: &BanReason) -> String {
    let mut parts = vec![words::reason(reason)];
    if let BanReason::Scan { shape, evidence, .. } = reason {
        let Evidence { hosts, echoes, kinds, earlier_blocks, .. } = *evidence;
        let counted = |number: u32, singular, plural| words::counted(number.into(), singular, plural);
        if *shape != ScanShape::Volume {
            parts.push(format!("{} scan", shape.name()));
        }
        if hosts > 1 {
            parts.push(counted(hosts, "address of ours", "addresses of ours"));
        }
        if !kinds.is_empty() {
            parts.push(kinds.to_string());
        }
        if echoes > 0 {
            parts.push(counted(echoes, "challenge answered", "challenges answered"));
        }
        if earlier_blocks > 0 {
            parts.push(format!("blocked {} before", counted(earlier_blocks, "time", "times")));
        }
    }
    parts.join(", ")
}

pub fn events(events: &[Event]) {
    print(events.iter().map(|e| [words::date_time(e.at), words::happening(&e.kind)]));
    if events.is_empty() {
        println!("nothing has happened yet");
    }
}

fn print<const N: usize>(rows: impl Iterator<Item = [String; N]>) {
    // Whoever closed the output does not want to hear of it.
    let _ = Table::new([Align::Left; N]).print(&mut std::io::stdout().lock(), &rows.collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::{ProbeKind, ProbeKinds};

    #[test]
    fn a27_blocks_are_listed_with_shape_and_evidence() {
        let reason = |shape, evidence| BanReason::Scan { shape, hits: 40, window_seconds: 300, evidence };
        let bare = Evidence { ports: 1, hosts: 1, ..Evidence::default() };
        assert_eq!(why(&reason(ScanShape::Volume, bare)), "40 probes at 1 port within 5 min");
        let kinds: ProbeKinds = [ProbeKind::Syn, ProbeKind::Xmas].into_iter().collect();
        let full = Evidence { ports: 2, hosts: 40, echoes: 3, kinds, earlier_blocks: 1 };
        assert_eq!(
            why(&reason(ScanShape::Horizontal, full)),
            "40 probes at 2 ports within 5 min, horizontal scan, 40 addresses of ours, syn xmas, 3 challenges answered, \
             blocked 1 time before"
        );
        assert_eq!(why(&BanReason::Manual { note: "abuse".into() }), "by hand: abuse");
    }
}
