//! Rulesets into the kernel: our encoder against the `nft` program, in the namespace of the caller.
//!
//! Run in a network namespace of its own: the tables here are made and deleted.

use glacis_netlink::nft::{Connection, NftError};
use glacis_plan::nft::{
    Atom, BasePolicy, Chain, ChainType, Datatype, Element, Elements, Expr, Family, Field, Hook, HookPoint,
    Key, KeyPart, Match, MatchOp, Name, Op, Operand, Rule, Ruleset, Set, SetFlags, SetRef, Statement, Table,
    between, text,
};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const RULES: u16 = 500;
const INTERVALS: u32 = 100_000;
const APPLY_RUNS: usize = 5;
const BAN_RUNS: usize = 200;
const SPAWN_RUNS: usize = 10;
const TABLE: Name = Name::literal("bench");
const BANS: Name = Name::literal("bans");
const LIST: Name = Name::literal("geo");

/// First argument of a bench binary that is to run [`apply_child`].
pub const APPLY_ARGUMENT: &str = "nft-apply-child";

/// Our figure and the peer's, from one run.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    pub ours: Duration,
    pub peer: Duration,
    /// Peak resident memory of the whole process; `None` where nothing large is held.
    pub ours_kib: Option<u64>,
    pub peer_kib: Option<u64>,
}

impl Comparison {
    pub fn time_ratio(&self) -> f64 {
        self.ours.as_secs_f64() / self.peer.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "memory sizes are far below 2^52")]
    pub fn memory_ratio(&self) -> Option<f64> {
        Some(self.ours_kib? as f64 / self.peer_kib? as f64)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("cannot run {0}")]
    Run(&'static str, #[source] std::io::Error),
    #[error("{0} failed")]
    Failed(&'static str),
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// What [`APPLY_ARGUMENT`] asks a bench binary for: make the ruleset, encode it, load it.
pub fn apply_child() -> Result<(), BenchError> {
    Connection::open()?.commit(&between(None, &ruleset()), None)?;
    Ok(())
}

/// 500 rules and a list of 100 000 ranges, each time into an empty table by a process of its own.
pub fn apply_against_nft() -> Result<Comparison, BenchError> {
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
    let peak = |runs: &[(Duration, u64)]| runs.iter().map(|run| run.1).max();
    let times = |runs: &[(Duration, u64)]| median(runs.iter().map(|run| run.0).collect());
    Ok(Comparison { ours: times(&ours), peer: times(&peer), ours_kib: peak(&ours), peer_kib: peak(&peer) })
}

/// One address banned beside a list of 100 000 ranges: a request to the kernel against spawning `nft`.
pub fn ban_against_nft() -> Result<Comparison, BenchError> {
    let mut connection = Connection::open()?;
    connection.destroy_table(Family::Inet, &TABLE)?;
    connection.commit(&between(None, &ruleset()), None)?;
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
        peer.push(measure("nft", Command::new("nft").arg(command))?.0);
    }
    connection.destroy_table(Family::Inet, &TABLE)?;
    Ok(Comparison { ours: median(ours), peer: median(peer), ours_kib: None, peer_kib: None })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Time and peak resident memory in KiB of a process.
fn measure(what: &'static str, command: &mut Command) -> Result<(Duration, u64), BenchError> {
    let start = Instant::now();
    let child = command.spawn().map_err(|e| BenchError::Run(what, e))?;
    let mut status = 0;
    // SAFETY: all zeroes is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types the call wants; the child is ours and not yet reaped.
    let code = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    let elapsed = start.elapsed();
    if code < 0 || !ExitStatus::from_raw(status).success() {
        return Err(BenchError::Failed(what));
    }
    Ok((elapsed, usage.ru_maxrss as u64))
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
