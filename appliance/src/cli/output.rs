//! How answers look in a terminal.

use super::table::{Align, Table};
use crate::words;
use glacis_control::report::{FirewallState, PolicySource};
use glacis_control::{Ban, Event, StatusReport, UnixMillis};
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
    println!("blocked     {} sources", report.bans_active);
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

pub fn bans(bans: &[Ban]) {
    let now = UnixMillis::from_system(SystemTime::now());
    let rows = bans.iter().map(|ban| {
        let left = ban
            .remaining(now)
            .map_or_else(|| "for ever".into(), |left| format!("{} left", words::span(left)));
        let since = format!("since {}", words::date_time(ban.since));
        [words::source(ban.source), left, since, ban.author.clone(), words::reason(&ban.reason)]
    });
    print(rows);
    if bans.is_empty() {
        println!("nobody is blocked");
    }
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
