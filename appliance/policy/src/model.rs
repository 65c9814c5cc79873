//! The typed policy: what a file says, every name checked, every value in range.
//!
//! A [`Policy`] exists only when the file had no error. Spans point into the file, so that errors found
//! later, while compiling against the host, can show the line.

use glacis_plan::gate::{
    Backend, Budget, Deny, FastPath, GateMode, GateProtocol, HealthCheck, NameRoute, Prove, Remember,
};
use glacis_plan::{
    AutoBlockMode, EstablishedFlows, EvidenceRule, GeoipKind, Ladder, Mac, PciAddress, Shapes, SourceGroup,
};
use ipnet::IpNet;
use miette::SourceSpan;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value and where it stands in the file.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    pub value: T,
    pub span: SourceSpan,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One policy file.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The host's name on the status page.
    pub name: String,
    pub interfaces: Vec<Interface>,
    pub zones: Vec<Zone>,
    pub sets: Vec<AddressSet>,
    pub services: Vec<Service>,
    /// In file order; several blocks may speak of the same pair of zones.
    pub rules: Vec<RuleBlock>,
    pub masquerades: Vec<Masquerade>,
    pub forwards: Vec<Forward>,
    pub blocklists: Vec<Blocklist>,
    /// In the order of their kinds, each kind once.
    pub geoip: Vec<GeoipDatabase>,
    pub scan: Option<Scan>,
    /// In file order, each on a port of its own.
    pub gates: Vec<Gate>,
    pub status: Option<Status>,
    pub expects: Vec<Expect>,
}

#[derive(Debug, Clone)]
pub struct Interface {
    pub name: Spanned<String>,
    pub matcher: InterfaceMatcher,
    pub addresses: Vec<Spanned<Address>>,
    pub mtu: Option<u32>,
    pub routes: Vec<Spanned<Route>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceMatcher {
    /// The kernel's name, at most 15 bytes.
    Name(String),
    Mac(Mac),
    Pci(PciAddress),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Host bits kept: `10.0.0.1/24`.
    Static(IpNet),
    Dhcp4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    pub metric: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Zone {
    pub name: Spanned<String>,
    /// Names of [`Interface`]s; every interface is in at most one zone.
    pub interfaces: Vec<Spanned<String>>,
    pub default: Default,
    pub log: Option<LogMode>,
}

/// What happens to a packet from a zone that no rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    Drop,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogMode {
    All,
    /// A few packets a second.
    Sample,
}

/// Addresses under a name.
#[derive(Debug, Clone)]
pub struct AddressSet {
    pub name: Spanned<String>,
    pub entries: Vec<Spanned<AddressRange>>,
}

/// Inclusive, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// Protocols and ports under a name; the built-in ones are here too when the file uses them.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: Spanned<String>,
    pub ports: Vec<Traffic>,
}

/// What a rule's words name on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traffic {
    Tcp(RangeInclusive<u16>),
    Udp(RangeInclusive<u16>),
    /// Echo request of IPv4 and IPv6.
    Ping,
}

/// A named zone, or the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneRef {
    SelfHost,
    Zone(String),
}

#[derive(Debug, Clone)]
pub struct RuleBlock {
    pub from: Spanned<ZoneRef>,
    pub to: Spanned<ZoneRef>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub struct Rule {
    /// The whole node.
    pub span: SourceSpan,
    /// Counted from 1.
    pub line: u32,
    pub id: Option<Spanned<String>>,
    pub action: Action,
    pub what: What,
    pub source: Option<Spanned<Peer>>,
    pub destination: Option<Spanned<Peer>>,
    pub rate: Option<Rate>,
    pub log: Option<LogMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    /// The zone's own kind of no.
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    All,
    /// Service names and literal ports, resolved; never empty.
    Traffic(Vec<Traffic>),
}

/// One side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The name of an [`AddressSet`].
    Set(String),
    Addresses(AddressRange),
}

/// A token bucket over packets that start a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub packets: u64,
    pub per: glacis_plan::nft::Per,
    pub burst: u32,
}

/// Source addresses of these zones become the outgoing interface's own.
#[derive(Debug, Clone)]
pub struct Masquerade {
    pub span: SourceSpan,
    pub line: u32,
    pub zones: Vec<Spanned<String>>,
    /// Name of an [`Interface`].
    pub out: Spanned<String>,
}

/// A port of ours that leads to a host behind us.
#[derive(Debug, Clone)]
pub struct Forward {
    pub span: SourceSpan,
    pub line: u32,
    pub what: Vec<Traffic>,
    /// Name of an [`Interface`].
    pub input: Spanned<String>,
    pub to: Spanned<IpAddr>,
    /// `None`: the port is kept.
    pub to_port: Option<u16>,
    /// Also for hosts beside the target that use our address.
    pub hairpin: bool,
}

#[derive(Debug, Clone)]
pub struct Blocklist {
    pub name: Spanned<String>,
    /// As written; relative to the policy file's folder.
    pub file: Spanned<String>,
    /// Zones whose inbound packets from a listed source are dropped.
    pub drop_in: Vec<Spanned<String>>,
    /// Zones to which packets for a listed destination are dropped.
    pub drop_out: Vec<Spanned<String>>,
}

/// Where on Earth an address is, or whose it is.
#[derive(Debug, Clone)]
pub struct GeoipDatabase {
    pub kind: GeoipKind,
    /// As written; relative to the policy file's folder.
    pub file: Spanned<String>,
}

#[derive(Debug, Clone)]
pub struct Scan {
    /// Names of [`Interface`]s; empty means auto-detect.
    pub interfaces: Vec<Spanned<String>>,
    pub retention: Duration,
    /// Whether packets that begin no connection are looked at as well.
    pub stealth: bool,
    pub shapes: Shapes,
    pub auto_block: Option<AutoBlock>,
}

#[derive(Debug, Clone)]
pub struct AutoBlock {
    pub mode: AutoBlockMode,
    pub evidence: EvidenceRule,
    pub threshold: u32,
    pub window: Duration,
    /// Of the first block. `None`: permanent.
    pub duration: Option<Duration>,
    /// `None`: every block lasts as long as the first.
    pub ladder: Option<Ladder>,
    pub group: SourceGroup,
    /// Names of sets.
    pub never: Vec<Spanned<String>>,
    pub established: EstablishedFlows,
}

/// A port of ours where clients are looked at before they are led to a service.
///
/// What stands here is as [`glacis_plan::GatePlan`] documents it, names excepted.
#[derive(Debug, Clone)]
pub struct Gate {
    pub name: Spanned<String>,
    /// Counted from 1.
    pub line: u32,
    pub port: Spanned<u16>,
    /// Never empty.
    pub on: Vec<Spanned<Door>>,
    pub protocol: GateProtocol,
    /// Proxies in front of us. Empty: clients come by themselves.
    pub fronts: Vec<Spanned<Peer>>,
    /// Never empty, and no pool is.
    pub pools: Vec<Vec<Spanned<Backend>>>,
    pub routes: Vec<NameRoute>,
    pub routes_only: bool,
    pub health: Option<HealthCheck>,
    pub idle: Duration,
    /// Ascending.
    pub ports: Vec<u16>,
    pub timeout: Duration,
    pub prove: Prove,
    pub mode: GateMode,
    pub budget: Budget,
    pub remember: Remember,
    pub deny: Deny,
    pub on_open: Option<OnOpen>,
    pub ignore: Vec<Spanned<Peer>>,
    /// ISO 3166-1 codes; a database of the policy tells countries.
    pub ignore_countries: Vec<Spanned<String>>,
    pub private: bool,
    pub fast_path: Option<FastPath>,
}

/// From where a listener is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// Every interface of the zone.
    Zone(String),
    Interface(String),
}

#[derive(Debug, Clone)]
pub struct Status {
    pub port: u16,
    pub on: Vec<Spanned<String>>,
}

impl Status {
    /// Wildcard addresses of both families; the ruleset opens the port for the named zones only.
    pub fn listen(&self) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([0; 16], self.port))]
    }
}

/// A statement about the compiled ruleset that `check` tries.
#[derive(Debug, Clone)]
pub struct Expect {
    pub span: SourceSpan,
    pub kind: ExpectKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectKind {
    /// A first packet of a connection, and what must become of it.
    Packet { allow: bool, packet: PacketSpec, rule: Option<String> },
    /// The address is never auto-blocked.
    NeverBlocked(IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSpec {
    pub from: IpAddr,
    /// Name of the [`Interface`] it arrives on.
    pub input: String,
    pub to: PacketTarget,
    pub traffic: Traffic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketTarget {
    SelfHost,
    Address(IpAddr),
}

/// What happens to a client with an open port besides being refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnOpen {
    /// `None`: for good.
    pub block: Option<Duration>,
}
