//! Tables, chains, rules and named objects.

use super::{Limit, Name, Quota, Set, Statement, Synproxy};
use std::time::Duration;

/// All the tables that are ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: Name,
    pub objects: Vec<Object>,
    pub sets: Vec<Set>,
    pub flowtables: Vec<Flowtable>,
    pub chains: Vec<Chain>,
}

impl Table {
    pub const fn new(family: Family, name: Name) -> Self {
        Self { family, name, objects: vec![], sets: vec![], flowtables: vec![], chains: vec![] }
    }

    pub fn set(&self, name: &Name) -> Option<&Set> {
        self.sets.iter().find(|s| s.name == *name)
    }

    pub fn chain(&self, name: &Name) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == *name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Inet,
    Ip,
    Ip6,
    Netdev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: Name,
    /// `None`: a chain that is only jumped to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub kind: ChainType,
    pub point: HookPoint,
    /// As in nft(8): raw −300, mangle −150, dstnat −100, filter 0, srcnat 100. Lower runs earlier.
    pub priority: i32,
    /// For `Ingress` and `Egress` only.
    pub device: Option<String>,
    pub policy: BasePolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    Filter,
    Nat,
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Ingress,
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasePolicy {
    Accept,
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub statements: Vec<Statement>,
    /// At most 127 bytes; in ours, the policy line and the rule's id.
    pub comment: Option<String>,
}

impl Rule {
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { statements: statements.into(), comment: None }
    }

    #[must_use]
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }
}

/// A named stateful object; its state survives a reload that keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub name: Name,
    pub kind: ObjectKind,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    Counter,
    Quota(Quota),
    Limit(Limit),
    CtHelper { helper: String, protocol: L4Proto, l3: Option<NfProto> },
    CtTimeout(CtTimeoutPolicy),
    Synproxy(Synproxy),
}

/// Timeouts of conntrack states, in whole seconds; states that are not named keep the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CtTimeoutPolicy {
    pub protocol: L4Proto,
    pub l3: NfProto,
    /// `established`, `close`, `syn_sent`, … as nft(8) names them, in the order given.
    pub states: Vec<(&'static str, Duration)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L4Proto {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NfProto {
    Ipv4,
    Ipv6,
}

/// A software or hardware fast path for established flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flowtable {
    pub name: Name,
    pub priority: i32,
    pub devices: Vec<String>,
    pub counter: bool,
}
