//! Statements: what a rule does.

use super::{Element, Expr, Match, Name, NfProto, SetRef};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    Match(Match),
    Verdict(Verdict),
    /// A verdict looked up by key; no element, no verdict.
    VerdictMap {
        key: Expr,
        map: VerdictMap,
    },
    Counter,
    CounterRef(Name),
    Limit(Limit),
    LimitRef(Name),
    Quota(Quota),
    QuotaRef(Name),
    /// `ct count`: matches up to `count` connections, or past it when `over`.
    ConnLimit {
        count: u32,
        over: bool,
    },
    Log(Log),
    Reject(Reject),
    Notrack,
    /// Offer the flow to a flowtable.
    FlowOffload(Name),
    Synproxy(Synproxy),
    SynproxyRef(Name),
    CtHelperRef(Name),
    CtTimeoutRef(Name),
    SetMetaMark(Expr),
    SetCtMark(Expr),
    /// `tcp option maxseg size set …`.
    SetMaxseg(Expr),
    /// Add, update or delete an element of a dynamic set. `statements` may be limit, counter, quota, connlimit.
    DynSet {
        op: DynSetOp,
        set: Name,
        key: Expr,
        timeout: Option<Duration>,
        statements: Vec<Statement>,
    },
    Masquerade(NatFlags),
    Redirect {
        port: Option<Expr>,
        flags: NatFlags,
    },
    Nat {
        kind: NatKind,
        family: NfProto,
        address: NatAddress,
        port: Option<Expr>,
        flags: NatFlags,
    },
}

impl Statement {
    pub const ACCEPT: Self = Self::Verdict(Verdict::Accept);
    pub const DROP: Self = Self::Verdict(Verdict::Drop);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(Name),
    Goto(Name),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerdictMap {
    Named(Name),
    /// Every element has a verdict.
    Anonymous(Vec<Element>),
}

/// A token bucket: matches while under the rate, or past it when `over`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rate: u64,
    pub unit: LimitUnit,
    pub per: Per,
    /// Packets, or bytes for [`LimitUnit::Bytes`]. nft's defaults: 5 packets, 0 bytes.
    pub burst: u32,
    pub over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitUnit {
    Packets,
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
    Week,
}

impl Per {
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }
}

/// Matches until so many bytes went by, or past it when `over`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub bytes: u64,
    pub over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// At most 127 bytes.
    pub prefix: Option<String>,
    /// nfnetlink group; `None` logs to the kernel ring.
    pub group: Option<u16>,
    /// Bytes of packet to copy.
    pub snaplen: Option<u32>,
    pub queue_threshold: Option<u16>,
    /// Syslog level, 0 emerg to 7 debug.
    pub level: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    TcpReset,
    PortUnreachable,
    HostUnreachable,
    NoRoute,
    AdminProhibited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synproxy {
    pub mss: Option<u16>,
    pub wscale: Option<u8>,
    pub timestamp: bool,
    pub sack_perm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynSetOp {
    Add,
    Update,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    Snat,
    Dnat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatAddress {
    /// Only the port changes.
    Keep,
    /// An address, a map lookup, or a map lookup that yields address and port side by side.
    Expr(Expr),
    /// Inclusive.
    Range(super::Atom, super::Atom),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NatFlags {
    pub random: bool,
    pub fully_random: bool,
    pub persistent: bool,
}

impl From<Match> for Statement {
    fn from(m: Match) -> Self {
        Self::Match(m)
    }
}

impl From<Verdict> for Statement {
    fn from(v: Verdict) -> Self {
        Self::Verdict(v)
    }
}

impl From<SetRef> for super::Operand {
    fn from(set: SetRef) -> Self {
        Self::Set(set)
    }
}
