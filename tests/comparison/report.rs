//! What was found, kept as JSON for each peer and shown as one table.

use crate::trials::Right;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a peer made of one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Blocked,
    /// It has a record of the source and let it be.
    Seen,
    Unseen,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Finding {
    pub trial: String,
    pub right: Right,
    pub outcome: Outcome,
}

/// What was left of a block after its owner was away.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Survival {
    pub blocked_before: bool,
    pub blocked_after: bool,
    pub seconds_before: Option<u64>,
    pub seconds_after: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FloodFinding {
    pub packets: u64,
    pub packets_per_second: u64,
    pub blocked_sources: usize,
    pub cpu_ms: u64,
    /// Of the packets, as lines of the log that the peer reads.
    pub lines_logged: Option<usize>,
}

/// Everything about one peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Findings {
    pub title: String,
    pub trials: Vec<Finding>,
    pub flood: FloodFinding,
    /// From a burst of SYNs to the first packet that was dropped; `None` when none was in time.
    pub latencies_ms: Vec<Option<u64>>,
    pub restart: Survival,
    pub reboot: Survival,
}

impl Findings {
    pub fn write(&self, file: &Path) {
        let text = serde_json::to_string_pretty(self).expect("findings are plain data");
        fs::write(file, text + "\n").unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
    }
}

/// A Markdown table with a column for each peer.
pub fn table(all: &[Findings]) -> String {
    let mut rows = vec![row("", all, |f| f.title.clone()), row("---", all, |_| "---".to_owned())];
    let trials = all.first().map_or(&[][..], |findings| &findings.trials);
    for (index, trial) in trials.iter().enumerate() {
        let cell =
            |f: &Findings| f.trials.get(index).map_or_else(String::new, |t| verdict(t.right, t.outcome));
        rows.push(row(&trial.trial, all, cell));
    }
    rows.push(row("forged flood: sources blocked", all, |f| match f.flood.blocked_sources {
        0 => "0".to_owned(),
        many => format!("**{many}**"),
    }));
    rows.push(row("forged flood: CPU seconds", all, |f| format!("{:.1}", f.flood.cpu_ms as f64 / 1000.0)));
    rows.push(row("forged flood: lines logged", all, |f| {
        f.flood.lines_logged.map_or("–".to_owned(), |lines| format!("{lines} of {}", f.flood.packets))
    }));
    rows.push(row("from the packets to the block", all, |f| latency(&f.latencies_ms)));
    rows.push(row("block after a restart", all, |f| survival(f.restart)));
    rows.push(row("block after a reboot", all, |f| survival(f.reboot)));
    rows.join("\n") + "\n"
}

fn row(head: &str, all: &[Findings], cell: impl Fn(&Findings) -> String) -> String {
    let cells: Vec<String> = all.iter().map(cell).collect();
    format!("| {head} | {} |", cells.join(" | "))
}

/// What went wrong is bold.
fn verdict(right: Right, outcome: Outcome) -> String {
    match (right, outcome) {
        (Right::Blocked, Outcome::Blocked) => "blocked",
        (Right::Blocked, Outcome::Seen) => "seen",
        (Right::Blocked, Outcome::Unseen) => "**missed**",
        (Right::Spared, Outcome::Blocked) => "**blocked**",
        (Right::Spared, Outcome::Seen | Outcome::Unseen) => "spared",
    }
    .to_owned()
}

fn latency(all: &[Option<u64>]) -> String {
    let mut measured: Vec<u64> = all.iter().copied().flatten().collect();
    measured.sort_unstable();
    match (measured.first(), measured.last()) {
        (Some(least), Some(most)) if measured.len() == all.len() => format!("{least}–{most} ms"),
        _ => format!("**{} of {} in time**", measured.len(), all.len()),
    }
}

fn survival(survival: Survival) -> String {
    if !survival.blocked_before {
        return "lost before".to_owned();
    }
    match (survival.blocked_after, survival.seconds_before, survival.seconds_after) {
        (false, ..) => "**gone**".to_owned(),
        (true, Some(before), Some(after)) if after <= before => format!("kept, {after} s of {before} s left"),
        (true, Some(before), Some(after)) => format!("**begins anew**, {after} s after {before} s"),
        (true, ..) => "kept, without an end".to_owned(),
    }
}

/// The version of an installed package, as dpkg has it.
pub fn package_version(package: &str) -> String {
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${source:Upstream-Version}", package]).output();
    output.map_or_else(|_| "?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}
