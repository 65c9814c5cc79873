//! Sets, maps and their elements.

use super::{Expr, Name, Verdict};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A named set, or a map when `data` is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: Name,
    /// One datatype per concatenated field; never empty.
    pub key: Vec<Datatype>,
    pub data: Option<MapData>,
    pub flags: SetFlags,
    /// Default timeout of an element.
    pub timeout: Option<Duration>,
    /// Largest number of elements. Dynamic sets must have one.
    pub size: Option<u32>,
    /// Every element carries a counter.
    pub counter: bool,
    pub comment: Option<String>,
    pub elements: Elements,
}

impl Set {
    /// A set without flags, bounds or elements.
    pub fn new(name: Name, key: impl Into<Vec<Datatype>>) -> Self {
        Self {
            name,
            key: key.into(),
            data: None,
            flags: SetFlags::default(),
            timeout: None,
            size: None,
            counter: false,
            comment: None,
            elements: Elements::List(vec![]),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapData {
    Verdict,
    /// One datatype per concatenated field; never empty.
    Value(Vec<Datatype>),
}

/// Flags as nft(8) spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the kernel's independent flag bits")]
pub struct SetFlags {
    pub interval: bool,
    pub timeout: bool,
    /// Filled by rules at run time.
    pub dynamic: bool,
    pub constant: bool,
    /// Overlapping intervals are merged by whoever writes the elements; never with `timeout` in our own rulesets.
    pub auto_merge: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Declared by the ruleset, in the order given.
    List(Vec<Element>),
    /// Inclusive address ranges, ascending and disjoint: a list of a million entries stays small.
    Ipv4Ranges(Vec<(Ipv4Addr, Ipv4Addr)>),
    /// Inclusive address ranges, ascending and disjoint.
    Ipv6Ranges(Vec<(Ipv6Addr, Ipv6Addr)>),
    /// State of its own (bans, meters): a reload that keeps the set keeps its elements.
    Runtime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub key: Key,
    pub data: Option<ElementData>,
    pub timeout: Option<Duration>,
    /// Time left, when it is less than `timeout`.
    pub expires: Option<Duration>,
    pub comment: Option<String>,
}

impl Element {
    /// A plain element of one field.
    pub fn atom(atom: Atom) -> Self {
        Self::new(Key::Fields(vec![KeyPart::One(atom)]))
    }

    pub const fn new(key: Key) -> Self {
        Self { key, data: None, timeout: None, expires: None, comment: None }
    }

    #[must_use]
    pub fn verdict(mut self, verdict: Verdict) -> Self {
        self.data = Some(ElementData::Verdict(verdict));
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// One part per field of the set's key.
    Fields(Vec<KeyPart>),
    /// `*`: whatever no other element matches.
    CatchAll,
}

/// One field of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    One(Atom),
    /// Inclusive.
    Range(Atom, Atom),
    /// Address and prefix length in bits.
    Prefix(Atom, u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementData {
    Value(Vec<Atom>),
    Verdict(Verdict),
}

/// Where a lookup looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRef {
    Named(Name),
    /// Interval if any element is a range or a prefix.
    Anonymous(Vec<Element>),
}

/// The type of a value; code, length and byte order are the encoder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Datatype {
    Ipv4Addr,
    Ipv6Addr,
    EtherAddr,
    InetProto,
    InetService,
    Mark,
    Ifname,
    Ifindex,
    CtState,
    CtStatus,
    IcmpType,
    Icmpv6Type,
    Dscp,
    PktType,
    NfProto,
    TcpFlags,
    /// An untyped integer of this many bytes (1, 2, 4), network byte order.
    Integer(u8),
    /// An untyped integer of four bytes, host byte order: `meta cpu`, hash results.
    HostInteger,
}

/// One constant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Ether([u8; 6]),
    /// IANA protocol number.
    InetProto(u8),
    /// Port, host order.
    InetService(u16),
    Mark(u32),
    /// At most 15 bytes.
    Ifname(String),
    /// A device by name, resolved to its index by the encoder: only for devices that never go away, as `lo`.
    Ifindex(String),
    /// Bits: 1 invalid, 2 established, 4 related, 8 new, 64 untracked.
    CtState(u32),
    /// `IPS_*` bits of `nf_conntrack_common.h`.
    CtStatus(u32),
    IcmpType(u8),
    Icmpv6Type(u8),
    Dscp(u8),
    /// 0 unicast to us, 1 broadcast, 2 multicast.
    PktType(u8),
    /// 2 IPv4, 10 IPv6.
    NfProto(u8),
    /// Bits: 1 fin, 2 syn, 4 rst, 8 psh, 16 ack, 32 urg, 64 ecn, 128 cwr.
    TcpFlags(u8),
    U8(u8),
    U16(u16),
    U32(u32),
}

impl From<Atom> for Expr {
    fn from(atom: Atom) -> Self {
        Self::Atom(atom)
    }
}
