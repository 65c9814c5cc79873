//! How answers look in a terminal.

use super::duration::human;
use glacis_control::report::{FirewallState, PolicySource};
use glacis_control::{Ban, BanReason, Event, EventKind, StatusReport, UnixMillis};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::macros::format_description;

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
    println!("{}  glacis {}  up {}", report.name, report.version, human(report.taken.since(report.started)));
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
        let left =
            ban.remaining(now).map_or_else(|| "for ever".to_owned(), |left| format!("{} left", human(left)));
        [source(ban), left, format!("since {}", clock(ban.since)), ban.author.clone(), reason(&ban.reason)]
    });
    table(rows.collect());
    if bans.is_empty() {
        println!("nobody is blocked");
    }
}

pub fn events(events: &[Event]) {
    table(events.iter().map(|e| [clock(e.at), happening(&e.kind)]).collect());
    if events.is_empty() {
        println!("nothing has happened yet");
    }
}

fn source(ban: &Ban) -> String {
    if ban.source.prefix_len() == ban.source.max_prefix_len() {
        ban.source.addr().to_string()
    } else {
        ban.source.to_string()
    }
}

fn reason(reason: &BanReason) -> String {
    match reason {
        BanReason::Scan { hits, ports, window_seconds } => {
            let window = human(Duration::from_secs(*window_seconds));
            format!("scan: {hits} hits on {ports} ports within {window}")
        }
        BanReason::Manual { note } if note.is_empty() => "by hand".to_owned(),
        BanReason::Manual { note } => format!("by hand: {note}"),
    }
}

fn happening(kind: &EventKind) -> String {
    match kind {
        EventKind::CoreStarted { version } => format!("glacis {version} started"),
        EventKind::PolicyApplied { revision, changes } => {
            format!("policy revision {revision} applied, {changes} changes")
        }
        EventKind::PolicyRefused { message } => format!("policy refused: {message}"),
        EventKind::SourceBlocked { ban } => {
            format!("{} blocked by {}: {}", source(ban), ban.author, reason(&ban.reason))
        }
        EventKind::WouldBlock { ban } => {
            format!("{} would have been blocked: {}", source(ban), reason(&ban.reason))
        }
        EventKind::SourceUnblocked { source, author } => format!("{source} unblocked by {author}"),
        EventKind::BanExpired { source } => format!("{source} is no longer blocked: its time is up"),
        EventKind::WorkerRestarted { worker, cause } => format!("worker {worker} restarted: {cause}"),
        EventKind::LinkChanged { device, up } => format!("{device} is {}", if *up { "up" } else { "down" }),
    }
}

/// UTC, to the second.
fn clock(at: UnixMillis) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    OffsetDateTime::from_unix_timestamp((at.0 / 1_000) as i64)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| at.0.to_string())
}

/// Columns as wide as their widest cell; the last one is not padded.
fn table<const N: usize>(rows: Vec<[String; N]>) {
    let width: [usize; N] =
        std::array::from_fn(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0));
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            if c + 1 == N {
                line += cell;
            } else {
                line += &format!("{cell:<w$}  ", w = width[c]);
            }
        }
        println!("{}", line.trim_end());
    }
}
