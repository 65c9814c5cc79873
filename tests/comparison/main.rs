//! Glacis beside its peers: each in turn on the same small network, under the same traffic.
//!
//! `comparison FOLDER [PEER …]` runs the named peers, or all, keeps what it finds as `FOLDER/<peer>.json`, and prints one
//! table of all that the folder holds. Needs root; `run` beside this file says what else, and docs/comparison.md what it
//! all means.

mod crowdsec;
mod fail2ban;
mod glacis;
mod kernel_log;
mod network;
mod peer;
mod portsentry;
mod psad;
mod report;
mod trials;

use crowdsec::CrowdSec;
use fail2ban::Fail2ban;
use glacis::{Evidence, Glacis};
use network::{Network, outside};
use peer::Peer;
use portsentry::{Mode, Portsentry};
use psad::Psad;
use report::{Finding, Findings, FloodFinding, Outcome, Survival};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use trials::Trial;

const PEERS: [&str; 8] = [
    "glacis",
    "glacis-any",
    "psad",
    "portsentry-classic",
    "portsentry-stealth",
    "portsentry-advanced",
    "fail2ban",
    "crowdsec",
];

/// The slowest peer asks its own database every ten seconds.
const SETTLE: Duration = Duration::from_secs(15);
/// A peer that reads its log again after a restart may take so long to remember its blocks.
const RETURN_PATIENCE: Duration = Duration::from_secs(60);
/// A peer may go on with a flood for so long.
const FLOOD_PATIENCE: Duration = Duration::from_secs(120);
/// It is done with it when it takes less than this within a window longer than any peer sleeps.
const IDLE_CPU: Duration = Duration::from_millis(300);
const IDLE_WINDOW: Duration = Duration::from_secs(12);
const BURST_PATIENCE: Duration = Duration::from_secs(20);
/// How often a burst's source knocks at the open port to see whether it is still let in.
const KNOCK: Duration = Duration::from_millis(2);
/// Sources of bursts, by their last octet; the first is looked for after a restart.
const BURST_SOURCES: [u8; 3] = [41, 42, 43];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: comparison FOLDER [PEER …]; peers: {}", PEERS.join(", "));
        return ExitCode::FAILURE;
    };
    let mut named: Vec<String> = arguments.collect();
    if named.is_empty() {
        named = PEERS.map(str::to_owned).to_vec();
    }
    if let Some(unknown) = named.iter().find(|name| !PEERS.contains(&name.as_str())) {
        eprintln!("no peer is called {unknown}; there are {}", PEERS.join(", "));
        return ExitCode::FAILURE;
    }
    for name in &named {
        eprintln!("{name} …");
        let findings = examine(name, &folder.join(name));
        findings.write(&folder.join(format!("{name}.json")));
    }
    let all: Vec<Findings> =
        PEERS.iter().filter_map(|name| Findings::read(&folder.join(format!("{name}.json")))).collect();
    print!("{}", report::table(&all));
    ExitCode::SUCCESS
}

/// Runs one peer from its start to its second start; its configuration and logs stay in the folder.
fn examine(name: &str, folder: &Path) -> Findings {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let folder = folder.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let network = Network::new();
    let mut peer = peer_named(name, &network, &folder);
    peer.start();
    let (mut findings, latencies_ms) = watch_trials(&network, peer.as_ref());
    let (flood, in_flood) = watch_flood(&network, peer.as_ref());
    findings.insert(trials::scans().len() + 1, in_flood);
    let known = outside(BURST_SOURCES[0]);
    let restart = survive(&network, peer.as_mut(), known, |peer| peer.stop());
    let reboot = survive(&network, peer.as_mut(), known, |peer| {
        peer.kill();
        network.victim.run(["nft", "flush", "ruleset"]);
    });
    Findings { title: peer.title(), trials: findings, flood, latencies_ms, restart, reboot }
}

fn peer_named<'a>(name: &str, network: &'a Network, folder: &Path) -> Box<dyn Peer + 'a> {
    let victim = &network.victim;
    match name {
        "glacis" => Box::new(Glacis::new(victim, Evidence::SpoofProof)),
        "glacis-any" => Box::new(Glacis::new(victim, Evidence::Any)),
        "psad" => Box::new(Psad::new(victim, folder)),
        "portsentry-classic" => Box::new(Portsentry::new(victim, Mode::Classic, folder)),
        "portsentry-stealth" => Box::new(Portsentry::new(victim, Mode::Stealth, folder)),
        "portsentry-advanced" => Box::new(Portsentry::new(victim, Mode::Advanced, folder)),
        "fail2ban" => Box::new(Fail2ban::new(victim, folder)),
        _ => Box::new(CrowdSec::new(victim, folder)),
    }
}

/// All trials without the flood, in the order of the table, and how long a block takes.
fn watch_trials(network: &Network, peer: &dyn Peer) -> (Vec<Finding>, Vec<Option<u64>>) {
    let (scans, slow, innocents) = (trials::scans(), trials::slow_scan(), trials::innocents());
    let latencies = std::thread::scope(|scope| {
        scope.spawn(|| slow.send(network));
        for trial in scans.iter().chain(&innocents) {
            trial.send(network);
        }
        std::thread::sleep(SETTLE);
        BURST_SOURCES.map(|octet| time_to_block(network, outside(octet))).to_vec()
    });
    std::thread::sleep(SETTLE);
    let all = scans.iter().chain([&slow]).chain(&innocents);
    (all.map(|trial| judge(network, peer, trial)).collect(), latencies)
}

fn judge(network: &Network, peer: &dyn Peer, trial: &Trial) -> Finding {
    let outcome = if !network.reachable(trial.source) {
        Outcome::Blocked
    } else if peer.saw(trial.source) {
        Outcome::Seen
    } else {
        Outcome::Unseen
    };
    Finding { trial: trial.name.to_owned(), right: trial.right, outcome }
}

/// Milliseconds from a burst of connections to the first one to the open port that gets no answer.
fn time_to_block(network: &Network, source: IpAddr) -> Option<u64> {
    let started = Instant::now();
    network.knock(source, 1..=trials::BURST_PORTS);
    while started.elapsed() < BURST_PATIENCE {
        let knocked = started.elapsed();
        if !network.answers(source, Duration::from_millis(250)) && !network.answers(source, SECOND_LOOK) {
            return Some(knocked.as_millis() as u64);
        }
        std::thread::sleep(KNOCK);
    }
    None
}

/// One lost answer is not yet a block.
const SECOND_LOOK: Duration = Duration::from_millis(400);

fn watch_flood(network: &Network, peer: &dyn Peer) -> (FloodFinding, Finding) {
    let (blocked_before, cpu_before, lines_before) = (peer.blocked(), peer.cpu(), peer.lines_logged());
    let honest = trials::scan_in_flood();
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| network.before_victim.flood(&trials::flood()));
        std::thread::sleep(Duration::from_secs(1));
        honest.send(network);
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let deadline = Instant::now() + FLOOD_PATIENCE;
    let mut cpu = peer.cpu();
    loop {
        std::thread::sleep(IDLE_WINDOW);
        let now = peer.cpu();
        let idle = now.saturating_sub(cpu) < IDLE_CPU;
        cpu = now;
        if idle || Instant::now() > deadline {
            break;
        }
    }
    std::thread::sleep(SETTLE);
    let finding = judge(network, peer, &honest);
    let honest_blocked = usize::from(finding.outcome == Outcome::Blocked);
    let flood = FloodFinding {
        packets: sent.packets,
        packets_per_second: (sent.packets as f64 / sent.took.as_secs_f64()) as u64,
        blocked_sources: peer.blocked().saturating_sub(blocked_before + honest_blocked),
        cpu_ms: cpu.saturating_sub(cpu_before).as_millis() as u64,
        lines_logged: peer.lines_logged().zip(lines_before).map(|(after, before)| after - before),
    };
    (flood, finding)
}

/// Takes a peer away, brings it back, and looks for a block that it held.
fn survive(network: &Network, peer: &mut dyn Peer, source: IpAddr, end: impl Fn(&mut dyn Peer)) -> Survival {
    let seconds = |peer: &dyn Peer| peer.remaining(source).map(|left| left.as_secs());
    let (blocked_before, seconds_before) = (!network.reachable(source), seconds(peer));
    end(peer);
    network.address_victim();
    peer.start();
    let started = Instant::now();
    while network.reachable(source) && started.elapsed() < RETURN_PATIENCE {
        std::thread::sleep(Duration::from_millis(500));
    }
    let blocked_after = !network.reachable(source);
    Survival { blocked_before, blocked_after, seconds_before, seconds_after: seconds(peer) }
}
