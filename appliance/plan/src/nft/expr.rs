//! Expressions: what a rule reads from a packet, its flow or its host.

use super::{Atom, Element, KeyPart, Name, SetRef};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    Payload(Field),
    Meta(MetaKey),
    Ct {
        key: CtKey,
        direction: Option<Direction>,
    },
    Fib {
        flags: FibFlags,
        result: FibResult,
    },
    /// `rt mtu`: the TCP MSS of the route.
    RouteMss,
    Jhash {
        of: Box<Expr>,
        modulus: u32,
        seed: Option<u32>,
        offset: u32,
    },
    /// Fields side by side, each padded to four bytes.
    Concat(Vec<Expr>),
    /// `expr & mask`.
    Masked {
        of: Box<Expr>,
        mask: u32,
    },
    /// The value that a map holds for a key.
    Map {
        key: Box<Expr>,
        map: MapSource,
    },
    Atom(Atom),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapSource {
    Named(Name),
    /// Every element has data.
    Anonymous(Vec<Element>),
}

/// A header field; the dependency on its protocol is added by whoever encodes or walks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    EtherSaddr,
    EtherDaddr,
    IpSaddr,
    IpDaddr,
    IpProtocol,
    IpDscp,
    IpFragOff,
    IpTtl,
    IpLength,
    Ip6Saddr,
    Ip6Daddr,
    Ip6Nexthdr,
    TcpSport,
    TcpDport,
    TcpFlags,
    UdpSport,
    UdpDport,
    /// The port of whatever transport protocol; adds no dependency.
    ThSport,
    ThDport,
    IcmpType,
    Icmpv6Type,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKey {
    Mark,
    Iif,
    Oif,
    Iifname,
    Oifname,
    NfProto,
    L4Proto,
    PktType,
    Cpu,
    SkUid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtKey {
    State,
    Status,
    Mark,
    /// Addresses are told of one direction only, and of flows of their own family.
    IpSaddr,
    Ip6Saddr,
    ProtoSrc,
    ProtoDst,
    Zone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Original,
    Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the kernel's independent flag bits")]
pub struct FibFlags {
    pub saddr: bool,
    pub daddr: bool,
    pub mark: bool,
    pub iif: bool,
    pub oif: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibResult {
    /// Whether a route exists; compare with [`Operand::Exists`].
    Oif,
    OifName,
    AddrType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub left: Expr,
    pub op: MatchOp,
    pub right: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Any of the bits on the right is set: `ct state established,related`.
    AnyBit,
    /// None of the bits on the right is set.
    NoBit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A constant, an inclusive range or a prefix.
    Part(KeyPart),
    Set(SetRef),
    /// `exists` (true) or `missing` (false), for [`FibResult::Oif`].
    Exists(bool),
}

impl Operand {
    pub const fn atom(atom: Atom) -> Self {
        Self::Part(KeyPart::One(atom))
    }
}
