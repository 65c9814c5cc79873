//! What happened, as it is stored and listed.

use crate::{Ban, PortOutcome, UnixMillis};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// One entry of the log of happenings. Ids ascend without reuse; a gap means that retention removed entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: u64,
    pub at: UnixMillis,
    #[serde(flatten)]
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    CoreStarted {
        version: String,
    },
    PolicyApplied {
        revision: u64,
        changes: u32,
    },
    PolicyRefused {
        message: String,
    },
    SourceBlocked {
        ban: Ban,
    },
    /// The threshold was reached, and the policy only observes.
    WouldBlock {
        ban: Ban,
    },
    SourceUnblocked {
        source: IpNet,
        author: String,
    },
    BanExpired {
        source: IpNet,
    },
    WorkerRestarted {
        worker: String,
        cause: String,
    },
    /// The wall clock was put forward (positive) or back; blocks kept the time that they had left.
    ClockStepped {
        seconds: i64,
    },
    /// All scan records were removed by hand.
    ScansCleared {
        records: u64,
        author: String,
    },
    /// A gate found an open port at a client. Said when it is found, not at every connection that is refused for it.
    ClientFound {
        gate: String,
        client: IpAddr,
        port: u16,
        outcome: PortOutcome,
        /// The gate only detects: the client was admitted all the same.
        admitted: bool,
    },
    /// What gates knew was removed by hand.
    ClientsForgotten {
        clients: u64,
        author: String,
    },
    BackendDown {
        gate: String,
        backend: SocketAddr,
        cause: String,
    },
    BackendUp {
        gate: String,
        backend: SocketAddr,
    },
    LinkChanged {
        device: String,
        up: bool,
    },
}
