//! Requests and replies.

use crate::gate::GateTest;
use crate::scan_query::{DayRange, PortTotal, ScanFilter, ScanPage, ScanSummary, SourceTotal, Top, TrendDay};
use crate::{Ban, ClientRecord, Event, StatusReport};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Asked of the core over its unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    Status,
    /// Newest first.
    Events {
        limit: u32,
    },
    /// Live bans, soonest to end first, permanent ones last.
    Blocks,
    Block {
        source: IpNet,
        /// `None`: permanent.
        duration: Option<Duration>,
        note: String,
        /// Block even the asker's own or a never-blocked address.
        force: bool,
    },
    Unblock {
        source: IpNet,
    },
    /// What would change, without changing it. `policy`: the text of a policy file.
    Plan {
        policy: String,
        file: String,
    },
    Apply {
        policy: String,
        file: String,
    },
    /// Read the policy file again.
    Reload,
    ScanSummary {
        days: DayRange,
    },
    ScanTrend {
        days: DayRange,
    },
    ScanSources {
        days: DayRange,
        limit: u32,
    },
    ScanPorts {
        days: DayRange,
        limit: u32,
    },
    /// `after`: [`ScanPage::next`] of the page before.
    ScanRecords {
        filter: ScanFilter,
        after: Option<String>,
        limit: u32,
    },
    /// Removes every scan record for good; settings, blocks and events stay.
    ScanClear,
    /// What gates know of clients, newest first.
    GateVerdicts {
        /// Only clients in it.
        within: Option<IpNet>,
        limit: u32,
    },
    /// Forget what gates know of these clients; `None`: of all.
    GateForget {
        within: Option<IpNet>,
    },
    /// Look at a client now, as a gate would.
    GateTest {
        /// `None`: the only one there is.
        gate: Option<String>,
        client: IpAddr,
    },
    /// Take over what another appliance's gates know.
    GateLearn {
        records: Vec<ClientRecord>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    Status {
        report: Box<StatusReport>,
    },
    Events {
        events: Vec<Event>,
    },
    Blocks {
        bans: Vec<Ban>,
    },
    Blocked {
        ban: Ban,
    },
    /// Nothing was blocked: it takes `force`, because of what the source is.
    Confirm {
        why: String,
    },
    /// Whether there was a ban to lift.
    Unblocked {
        was_blocked: bool,
    },
    /// One line per change, as a person reads it.
    Plan {
        changes: Vec<String>,
        warnings: Vec<String>,
        nft: String,
    },
    Applied {
        revision: u64,
        changes: Vec<String>,
        warnings: Vec<String>,
    },
    ScanSummary {
        summary: ScanSummary,
    },
    /// One entry per day, oldest first, also for days without a scan.
    ScanTrend {
        days: Vec<TrendDay>,
    },
    ScanSources {
        sources: Top<SourceTotal>,
    },
    ScanPorts {
        ports: Top<PortTotal>,
    },
    ScanRecords {
        page: ScanPage,
    },
    ScansCleared {
        records: u64,
    },
    GateVerdicts {
        records: Vec<ClientRecord>,
        /// That gates know, listed or not.
        clients: u64,
    },
    GateForgotten {
        clients: u64,
    },
    GateTested {
        test: GateTest,
    },
    /// Of the records that were sent, those that were news and had not run out.
    GateLearned {
        clients: u64,
    },
    Refused {
        refusal: Refusal,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// One sentence: what failed and what to do.
    pub message: String,
    /// Diagnostics of a policy, ready to print; empty for other refusals.
    pub detail: String,
}

/// Told by the core to the status worker, over their socket pair. Nothing travels the other way but [`WorkerReady`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum StatusFeed {
    Snapshot { report: Box<StatusReport> },
}

/// Told once by a worker when its sandbox is closed and it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReady;
