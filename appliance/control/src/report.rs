//! What the core tells about itself; the status page and `glacis status` show nothing else.

use crate::UnixMillis;
use crate::gate::GateStatus;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A snapshot of the running core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The policy's name for this host.
    pub name: String,
    pub version: String,
    pub taken: UnixMillis,
    pub started: UnixMillis,
    pub firewall: FirewallState,
    pub policy: PolicyStatus,
    pub interfaces: Vec<InterfaceStatus>,
    pub scan: ScanStatus,
    pub bans_active: u64,
    /// In policy order.
    #[serde(default)]
    pub gates: Vec<GateStatus>,
    /// Clients that gates know.
    #[serde(default)]
    pub gate_clients: u64,
    pub store: StoreStatus,
    pub workers: Vec<WorkerStatus>,
    /// Where the status endpoint listens.
    pub status_listen: Vec<SocketAddr>,
    /// Everything an operator should act on, worst first; empty when all is well.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirewallState {
    /// The ruleset of the policy is in the kernel and was read back.
    Applied,
    /// No policy could be applied: all but loopback is dropped.
    DropAll,
    /// What the kernel has is not what was loaded.
    Tampered,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Counts applied policies; 0 before the first.
    pub revision: u64,
    pub applied: Option<UnixMillis>,
    /// Where the running policy came from.
    pub source: PolicySource,
    pub rules: u32,
    /// Why the newest policy is not the running one, with its diagnostics as text.
    pub refused: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicySource {
    None,
    /// The file named on the command line or on the POLICY partition.
    File,
    /// The newest one that was ever applied, because the file is missing or wrong.
    LastGood,
    /// Sent by `glacis apply`.
    Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub device: String,
    pub present: bool,
    pub carrier: bool,
    /// With prefix lengths.
    pub addresses: Vec<String>,
    pub zone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ScanStatus {
    pub enabled: bool,
    /// Devices with the TC program attached.
    pub devices: Vec<String>,
    /// `tcx` or `clsact`; empty when nothing is attached.
    pub attachment: String,
    /// Counters of the TC program since it was first loaded, by name, in a fixed order.
    pub counters: Vec<(String, u64)>,
    /// Hits that were counted and never recorded because their keys were evicted, and packets that were not looked at
    /// while a flood of forged sources lasted.
    pub lost: u64,
    /// Sources that the detector watches now.
    #[serde(default)]
    pub sources: u64,
    /// Sources that were forgotten because the detector watches only so many.
    #[serde(default)]
    pub sources_forgotten: u64,
    /// `None`: the policy has no auto-block.
    #[serde(default)]
    pub auto_block: Option<AutoBlockStatus>,
    #[serde(default)]
    pub geoip: Vec<GeoipStatus>,
}

/// Whether scanning sources are blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoBlockStatus {
    /// `observe` or `enforce`.
    pub mode: String,
    /// `any` or `spoof-proof`.
    pub evidence: String,
    /// Why it does not block although the policy asks for it; `None` when it does.
    pub suspended: Option<String>,
}

/// One GeoIP database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoipStatus {
    /// As the policy names it.
    pub file: String,
    /// `city`, `country`, `isp` or `asn`.
    pub kind: String,
    /// When its maker built it.
    pub built: Option<UnixMillis>,
    /// Why it, or its newest version, is not in use.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct StoreStatus {
    pub bytes_used: u64,
    pub bytes_max: u64,
    pub scan_records: u64,
    pub events: u64,
    /// Writes dropped because the store was full or its queue was.
    pub dropped: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub name: String,
    pub pid: Option<u32>,
    pub restarts: u32,
}
