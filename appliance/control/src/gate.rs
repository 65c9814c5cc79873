//! Reverse-scan gates: what was found at a client's ports, and what a gate tells about itself.

use crate::UnixMillis;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What a look at one port of a client came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortOutcome {
    /// The client answered with a reset.
    Refused,
    /// The client, or a router before it, answered with an ICMP error.
    Unreachable,
    /// Nothing came back within the timeout.
    Silent,
    /// A connection came about; nobody asked what is behind it.
    Open,
    /// A connection came about, and what is behind it carries nothing back to us.
    Service,
    /// It carried a connection back to us, asked as an HTTP proxy: by `CONNECT`, or by a whole URL.
    HttpProxy,
    Socks4Proxy,
    Socks5Proxy,
}

impl PortOutcome {
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Unreachable,
        Self::Silent,
        Self::Open,
        Self::Service,
        Self::HttpProxy,
        Self::Socks4Proxy,
        Self::Socks5Proxy,
    ];

    /// As in JSON, in metrics and on the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Open => "open",
            Self::Service => "service",
            Self::HttpProxy => "http-proxy",
            Self::Socks4Proxy => "socks4-proxy",
            Self::Socks5Proxy => "socks5-proxy",
        }
    }

    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Service) || self.is_proxy()
    }

    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::HttpProxy | Self::Socks4Proxy | Self::Socks5Proxy)
    }
}

/// What is known of one port of a client, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub port: u16,
    pub outcome: PortOutcome,
    pub until: UnixMillis,
}

/// What is known of a client. The gates share it: each judges by the ports that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Never an IPv4 address written as IPv6.
    pub client: IpAddr,
    /// When it was looked at last.
    pub seen: UnixMillis,
    /// Ascending by port, each once; never empty.
    pub findings: Vec<Finding>,
}

/// Findings in one message, some 4 MB of JSON, far below what a frame may hold.
pub const FINDINGS_PER_MESSAGE: usize = 65_536;

/// Cuts records into parts of at most [`FINDINGS_PER_MESSAGE`] findings; a record stays whole.
pub fn parts(records: impl IntoIterator<Item = ClientRecord>) -> Vec<Vec<ClientRecord>> {
    let mut parts = Vec::new();
    let (mut part, mut findings) = (Vec::new(), 0);
    for record in records {
        findings += record.findings.len();
        if findings > FINDINGS_PER_MESSAGE {
            findings = record.findings.len();
            parts.push(std::mem::take(&mut part));
        }
        part.push(record);
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// What a gate makes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    Clean,
    /// With the port that proves it.
    Open {
        port: u16,
        outcome: PortOutcome,
    },
}

/// What one gate does and did since the worker began; counters of earlier workers are added by the core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct GateStatus {
    pub name: String,
    pub port: u16,
    /// `tcp`, `tls` or `http`.
    pub protocol: String,
    /// `detect` or `enforce`.
    pub mode: String,
    /// Connections being relayed now.
    pub relaying: u64,
    /// Connections that wait for a verdict now.
    pub waiting: u64,
    /// By name, in a fixed order; every connection counts as `accepted`, and at its end under exactly one of the ends
    /// that docs/gate.md lists. What it counts as on the way overlaps.
    pub counters: Vec<(String, u64)>,
    /// Relayed payload.
    pub bytes_to_backends: u64,
    pub bytes_to_clients: u64,
    /// Ascending by port.
    pub ports: Vec<PortTally>,
    pub latency: Histogram,
    pub backends: Vec<BackendStatus>,
    /// `None`: the gate has none.
    pub fast_path: Option<FastPathStatus>,
}

/// Outcomes at one port number, over all clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTally {
    pub port: u16,
    /// In the order of [`PortOutcome::ALL`].
    pub outcomes: [u64; PortOutcome::ALL.len()],
}

/// From the first connection of a client to its verdict; clients that were known are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Histogram {
    /// Observations up to each of [`Histogram::BOUNDS_MICROS`], and one more for those above all; not cumulative.
    pub counts: [u64; Histogram::BOUNDS_MICROS.len() + 1],
    pub sum_micros: u64,
}

impl Histogram {
    /// Upper bounds, inclusive.
    pub const BOUNDS_MICROS: [u64; 15] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 10_000_000,
    ];

    pub fn observe(&mut self, micros: u64) {
        let place = Self::BOUNDS_MICROS.iter().position(|bound| micros <= *bound);
        self.counts[place.unwrap_or(Self::BOUNDS_MICROS.len())] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    pub address: SocketAddr,
    /// Why it is out of service; `None`: it serves, as far as is known.
    pub down: Option<String>,
    /// Connections being relayed to it now.
    pub relaying: u64,
    /// Connections that were led to it.
    pub connections: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FastPathStatus {
    /// Clients that the kernel admits by itself.
    pub clients: u64,
    /// Connections that it led to a backend.
    pub connections: u64,
    /// Both ways.
    pub packets: u64,
    pub bytes: u64,
}

/// A look at a client, asked for by hand; nothing is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateTest {
    pub gate: String,
    pub client: IpAddr,
    /// Why the gate would admit the client without a look.
    pub ignored: Option<String>,
    pub ports: Vec<(u16, PortOutcome)>,
    pub verdict: Verdict,
    pub micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ports: usize) -> ClientRecord {
        let finding = |port| Finding { port, outcome: PortOutcome::Unreachable, until: UnixMillis(u64::MAX) };
        ClientRecord {
            client: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            seen: UnixMillis(u64::MAX),
            findings: (0..ports as u16).map(finding).collect(),
        }
    }

    #[test]
    fn parts_hold_all_records_in_their_order_and_no_part_too_many_findings() {
        let sizes = |records: Vec<_>| parts(records).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![]), [0; 0]);
        assert_eq!(sizes(vec![record(1024); 64]), [64]);
        assert_eq!(sizes(vec![record(1024); 65]), [64, 1]);
        assert_eq!(sizes(vec![record(30_000); 3]), [2, 1]);
    }

    #[test]
    fn the_largest_part_fits_into_a_frame() {
        for part in parts(vec![record(1024); 65]).into_iter().chain(parts(vec![record(1); 65_537])) {
            crate::frame::encode(&part).unwrap();
        }
    }
}
