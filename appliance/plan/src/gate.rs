//! What the policy asks of one reverse-scan gate: where it listens, whom it looks at and how, and where it leads.
//!
//! The settings travel to the gate worker as they stand here.

use crate::nft::{Name, NfProto};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Longest name of a gate, in bytes; letters, digits, `-` and `_`, a letter first.
pub const GATE_NAME_BYTES_MAX: usize = 32;
/// User and group of the gate worker, of no name on any host; the ruleset knows its connections by it.
pub const GATE_UID: u32 = 65_531;
/// Most gates of one policy.
pub const GATES_MAX: usize = 16;
/// Most ports of a client that one gate looks at.
pub const GATE_PORTS_MAX: usize = 64;
/// Most backends of one pool.
pub const POOL_BACKENDS_MAX: usize = 32;
/// Places of a fast path's map; backends in service share them by weight.
pub const FAST_PATH_PLACES: u32 = 60;
/// Clients that the kernel admits to one gate by itself; one more goes by way of the worker.
pub const FAST_PATH_CLIENTS_MAX: u32 = 65_536;

/// One gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePlan {
    pub name: String,
    /// Of its node in the policy, counted from 1.
    pub line: u32,
    /// TCP port of ours, on wildcard addresses of both families: the ruleset decides who reaches it.
    pub port: u16,
    /// Kernel names of the devices from which it is reached; never empty.
    pub devices: Vec<String>,
    pub protocol: GateProtocol,
    /// Proxies in front of us, whose PROXY header names the client. `None`: clients come by themselves.
    /// Never empty: with fronts, nobody else is let in.
    pub fronts: Option<Vec<IpNet>>,
    /// Never empty. The first one takes what no route speaks of, unless `routes_only`.
    pub pools: Vec<Pool>,
    /// For [`GateProtocol::Tls`] alone; first match wins.
    pub routes: Vec<NameRoute>,
    /// A client that no route speaks of is let go instead of being led to the first pool.
    pub routes_only: bool,
    /// `None`: backends are taken as they are.
    pub health: Option<HealthCheck>,
    /// A relayed connection without a byte in either direction for so long ends. 10 seconds to 7 days.
    pub idle: Duration,
    /// Ports of the client to look at, ascending; 1 to [`GATE_PORTS_MAX`].
    pub ports: Vec<u16>,
    /// For one port; all are looked at together. 10 ms to 10 s.
    pub timeout: Duration,
    pub prove: Prove,
    pub mode: GateMode,
    pub budget: Budget,
    pub remember: Remember,
    pub deny: Deny,
    /// What happens to a client with an open port besides being refused. `None`: nothing.
    pub on_open: Option<OnOpen>,
    /// Never looked at and always admitted, aggregated.
    pub ignore: Vec<IpNet>,
    /// ISO 3166-1 codes, upper case; clients from there are never looked at and always admitted.
    pub ignore_countries: Vec<String>,
    /// Look at private and link-local clients, too. Otherwise they are admitted without a look. Loopback and own addresses
    /// never are looked at.
    pub private: bool,
    /// `None`: every connection is relayed.
    pub fast_path: Option<FastPath>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateProtocol {
    Tcp,
    /// Passed through; the server's name is read from the first message.
    Tls,
    /// In the clear; a refused client gets a page.
    Http,
}

impl GateProtocol {
    /// As the policy spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
        }
    }
}

/// Backends among which connections are balanced by weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// 1 to [`POOL_BACKENDS_MAX`].
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub address: SocketAddr,
    /// 1 to 10.
    pub weight: u8,
    pub proxy_protocol: Option<ProxyVersion>,
}

/// Version of the PROXY header that a backend expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersion {
    V1,
    V2,
}

/// Server names that lead to a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRoute {
    /// Lower case; `*.example.org` stands for every name below it, not for itself.
    pub names: Vec<String>,
    /// Index into [`GatePlan::pools`].
    pub pool: usize,
}

/// A TCP connection to each backend tells whether it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// 500 ms to 5 minutes.
    pub every: Duration,
    /// 100 ms to 30 s, at most `every`.
    pub timeout: Duration,
    /// Failures in a row that take it out. 1 to 10.
    pub fall: u8,
    /// Successes in a row that take it in again. 1 to 10.
    pub rise: u8,
}

/// What makes a client one to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prove {
    /// Any open port.
    Open,
    /// An open port that carries a connection back to us, asked in HTTP, SOCKS4 or SOCKS5.
    Proxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateMode {
    /// Everything but the refusal.
    Detect,
    Enforce,
}

impl GateMode {
    /// As the policy spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Enforce => "enforce",
        }
    }
}

/// How much looking a gate does. A client that finds the budget spent waits for at most one `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Ports being looked at, of all clients together. [`GATE_PORTS_MAX`] to 10 000.
    pub in_flight: u32,
    /// Clients whose look begins within a second. 1 to 10 000.
    pub per_second: u32,
    pub then: Exhausted,
}

/// What becomes of a client for whom no budget was left. It is not remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    Admit,
    Refuse,
}

/// How long a verdict holds. Each 1 minute to 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remember {
    pub clean: Duration,
    pub open: Duration,
}

/// What a refused client gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deny", rename_all = "kebab-case")]
pub enum Deny {
    Close,
    /// For [`GateProtocol::Http`]; others are closed.
    Page {
        /// 400 to 599.
        status: u16,
        /// Where the reason is explained.
        notice: Option<String>,
        /// Whom to write to.
        contact: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnOpen {
    /// `None`: for good.
    pub block: Option<Duration>,
    /// Never blocked, aggregated: administrators, our own addresses, gateways and resolvers.
    pub never: Vec<IpNet>,
}

/// The kernel leads admitted clients to the backends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPath {
    pub source: FastPathSource,
    pub established: FastPathEstablished,
}

/// Whose address a backend sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastPathSource {
    /// Ours, as of relayed connections: answers come back through us wherever the backend is.
    Own,
    /// The client's; the backend's way back must lead through us.
    Client,
}

/// What becomes of the open connections of a client that is not admitted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastPathEstablished {
    Keep,
    Drop,
}

impl GatePlan {
    /// The set of admitted clients of one family.
    pub fn clients_set(&self, family: NfProto) -> Name {
        self.kernel_name("clients", family)
    }

    /// The map from a place to a backend of one family.
    pub fn backends_map(&self, family: NfProto) -> Name {
        self.kernel_name("backends", family)
    }

    /// Counts connections that the kernel led to a backend by itself, once each.
    pub fn led_counter(&self) -> Name {
        self.named("led")
    }

    /// Counts packets and bytes of these connections, both ways.
    pub fn carried_counter(&self) -> Name {
        self.named("carried")
    }

    /// The chain that packets of these connections go through.
    pub fn flows_chain(&self) -> Name {
        self.named("flows")
    }

    fn kernel_name(&self, what: &str, family: NfProto) -> Name {
        self.named(
            match family {
                NfProto::Ipv4 => format!("{what}4"),
                NfProto::Ipv6 => format!("{what}6"),
            }
            .as_str(),
        )
    }

    fn named(&self, what: &str) -> Name {
        Name::parse(&format!("gate_{}_{what}", self.name))
            .expect("a gate's name has the letters of an nf_tables name")
    }
}
