//! Rulesets into the kernel: our encoder against the `nft` program, in a network namespace of their own.

use crate::{Bound, Figure, Outcome, Unit, median};
use glacis_netlink::nft::{Connection, NftError};
use glacis_plan::nft::{
    Atom, BasePolicy, Chain, ChainType, Datatype, Element, Elements, Expr, Family, Field, Hook, HookPoint,
    Key, KeyPart, Match, MatchOp, Name, Op, Operand, Rule, Ruleset, Set, SetFlags, SetRef, Statement, Table,
    between, text,
};
use glacis_tests::netns::Namespace;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

const RULES: u16 = 500;
const INTERVALS: u32 = 100_000;
const APPLY_RUNS: usize = 5;
const BAN_RUNS: usize = 200;
const SPAWN_RUNS: usize = 10;
/// How often a running process is asked for its memory, and whether it still runs.
const POLL: Duration = Duration::from_millis(1);
const TABLE: Name = Name::literal("bench");
const BANS: Name = Name::literal("bans");
const LIST: Name = Name::literal("geo");

/// First argument of a bench binary that is to run [`apply_child`].
pub(crate) const APPLY_ARGUMENT: &str = "nft-apply-child";

/// Parts of the peer's figure that ours may be.
const APPLY_TIME_MAX: f64 = 0.5;
const APPLY_MEMORY_MAX: f64 = 0.25;
const BAN_TIME_MAX: f64 = 1.0 / 50.0;

/// What a process took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    time: Duration,
    /// Peak resident memory of the whole process.
    peak_kib: u64,
}

/// Ours and the peer's, from one run.
struct Comparison<T> {
    ours: T,
    peer: T,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("cannot run {0}")]
    Run(&'static str, #[source] std::io::Error),
    #[error("{0} failed")]
    Failed(&'static str),
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// What [`APPLY_ARGUMENT`] asks a bench binary for: make the ruleset, encode it, load it.
pub(crate) fn apply_child() -> Result<(), BenchError> {
    Connection::open()?.commit(&between(None, &ruleset()), None)?;
    Ok(())
}

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let namespace = Namespace::new("bench");
    let (apply, ban, ban_alone) = namespace.enter(|| {
        let alone = Ruleset { tables: vec![Table { sets: vec![bans()], ..Table::new(Family::Inet, TABLE) }] };
        Ok::<_, BenchError>((apply_against_nft()?, ban_against_nft(&ruleset())?, ban_against_nft(&alone)?))
    })?;
    let time = |what: &str, ours: Duration, peer: Duration, most| Figure {
        what: what.to_owned(),
        ours: format!("{ours:.1?}"),
        peer: format!("nft {peer:.1?}"),
        value: ours.as_secs_f64() / peer.as_secs_f64(),
        unit: Unit::Ratio,
        bound: Bound::AtMost(most),
    };
    let mebibytes = |cost: Cost| cost.peak_kib as f64 / 1024.0;
    Ok(vec![
        time("500 rules, 100k intervals: time", apply.ours.time, apply.peer.time, APPLY_TIME_MAX),
        Figure {
            what: "500 rules, 100k intervals: peak memory".to_owned(),
            ours: format!("{:.1} MiB", mebibytes(apply.ours)),
            peer: format!("nft {:.1} MiB", mebibytes(apply.peer)),
            value: mebibytes(apply.ours) / mebibytes(apply.peer),
            unit: Unit::Ratio,
            bound: Bound::AtMost(APPLY_MEMORY_MAX),
        },
        time("one ban beside them: time", ban.ours, ban.peer, BAN_TIME_MAX),
        time("one ban, nothing beside it: time", ban_alone.ours, ban_alone.peer, BAN_TIME_MAX),
    ])
}

/// 500 rules and a list of 100 000 ranges, each time into an empty table by a process of its own.
fn apply_against_nft() -> Result<Comparison<Cost>, BenchError> {
    let mut file = tempfile::NamedTempFile::new().map_err(|e| BenchError::Run("a temporary file", e))?;
    file.write_all(text::render(&ruleset()).as_bytes())
        .map_err(|e| BenchError::Run("a temporary file", e))?;
    let this = std::env::current_exe().map_err(|e| BenchError::Run("ourselves", e))?;
    let (mut ours, mut peer) = (vec![], vec![]);
    for _ in 0..APPLY_RUNS {
        Connection::open()?.destroy_table(Family::Inet, &TABLE)?;
        ours.push(measure("ourselves", Command::new(&this).arg(APPLY_ARGUMENT))?);
        Connection::open()?.destroy_table(Family::Inet, &TABLE)?;
        peer.push(measure("nft", Command::new("nft").arg("-f").arg(file.path()))?);
    }
    Connection::open()?.destroy_table(Family::Inet, &TABLE)?;
    let middle = |runs: &[Cost]| Cost {
        time: median(runs.iter().map(|run| run.time).collect()),
        peak_kib: median(runs.iter().map(|run| run.peak_kib).collect()),
    };
    Ok(Comparison { ours: middle(&ours), peer: middle(&peer) })
}

/// One address banned: a request to the kernel against spawning `nft`, which first reads all sets of the table.
fn ban_against_nft(ruleset: &Ruleset) -> Result<Comparison<Duration>, BenchError> {
    let mut connection = Connection::open()?;
    connection.destroy_table(Family::Inet, &TABLE)?;
    connection.commit(&between(None, ruleset), None)?;
    let (mut ours, mut peer) = (vec![], vec![]);
    for i in 0..BAN_RUNS {
        let element = Element {
            timeout: Some(Duration::from_secs(3600)),
            ..Element::atom(Atom::Ipv4(Ipv4Addr::from(0xc633_6400 + i as u32)))
        };
        let start = Instant::now();
        let elements = Elements::List(vec![element]);
        connection
            .commit(&[Op::AddElements { family: Family::Inet, table: TABLE, set: bans(), elements }], None)?;
        ours.push(start.elapsed());
    }
    for i in 0..SPAWN_RUNS {
        let address = Ipv4Addr::from(0xc612_0000 + i as u32);
        let command = format!("add element inet {TABLE} {BANS} {{ {address} timeout 1h }}");
        peer.push(measure("nft", Command::new("nft").arg(command))?.time);
    }
    connection.destroy_table(Family::Inet, &TABLE)?;
    Ok(Comparison { ours: median(ours), peer: median(peer) })
}

/// Runs a process to its end. Its peak is asked of `/proc` while it runs: what `wait4` tells of a child that was
/// spawned without a copy of its parent includes the parent's own peak.
fn measure(what: &'static str, command: &mut Command) -> Result<Cost, BenchError> {
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| BenchError::Run(what, e))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        peak_kib = peak_kib.max(high_water_kib(&status).unwrap_or(0));
        match child.try_wait().map_err(|e| BenchError::Run(what, e))? {
            None => std::thread::sleep(POLL),
            Some(exit) if exit.success() => return Ok(Cost { time: start.elapsed(), peak_kib }),
            Some(_) => return Err(BenchError::Failed(what)),
        }
    }
}

/// `None` once the process has let go of its memory.
fn high_water_kib(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn bans() -> Set {
    let flags = SetFlags { timeout: true, ..SetFlags::default() };
    Set { flags, elements: Elements::Runtime, ..Set::new(BANS, [Datatype::Ipv4Addr]) }
}

fn ruleset() -> Ruleset {
    let step = 0x2000;
    let ranges = (0..INTERVALS).map(|i| {
        let first = 0x0100_0000 + i * step;
        (Ipv4Addr::from(first), Ipv4Addr::from(first + i % 64))
    });
    let list = Set {
        flags: SetFlags { interval: true, ..SetFlags::default() },
        elements: Elements::Ipv4Ranges(ranges.collect()),
        ..Set::new(LIST, [Datatype::Ipv4Addr])
    };
    let hook = Hook {
        kind: ChainType::Filter,
        point: HookPoint::Input,
        priority: 0,
        device: None,
        policy: BasePolicy::Accept,
    };
    let mut table = Table::new(Family::Inet, TABLE);
    table.sets = vec![bans(), list];
    let rules = (0..RULES).map(rule).collect();
    table.chains = vec![Chain { name: Name::literal("input"), hook: Some(hook), rules }];
    Ruleset { tables: vec![table] }
}

/// Rules of four kinds, as policies mix them.
fn rule(i: u16) -> Rule {
    let matches =
        |field, right: Operand| Statement::from(Match { left: Expr::Payload(field), op: MatchOp::Eq, right });
    let port = |port| Atom::InetService(port);
    let saddr = |right| matches(Field::IpSaddr, right);
    let tcp = |right| matches(Field::TcpDport, right);
    match i % 4 {
        0 => {
            let net = Atom::Ipv4(Ipv4Addr::from([10, (i >> 8) as u8, i as u8, 0]));
            let one = tcp(Operand::atom(port(1000 + i)));
            Rule::new([
                saddr(Operand::Part(KeyPart::Prefix(net, 24))),
                one,
                Statement::Counter,
                Statement::ACCEPT,
            ])
        }
        1 => {
            let ports = [2000, 3000, 4000].map(|base| Element::atom(port(base + i)));
            let banned = saddr(SetRef::Named(BANS).into());
            Rule::new([tcp(SetRef::Anonymous(ports.to_vec()).into()), banned, Statement::DROP])
        }
        2 => {
            let range = Element::new(Key::Fields(vec![KeyPart::Range(port(6000 + i), port(6010 + i))]));
            let listed = saddr(SetRef::Named(LIST).into());
            let single = Element::atom(port(9000 + i));
            Rule::new([listed, tcp(SetRef::Anonymous(vec![range, single]).into()), Statement::DROP])
        }
        _ => Rule::new([matches(Field::UdpDport, Operand::atom(port(5000 + i))), Statement::ACCEPT]),
    }
}
