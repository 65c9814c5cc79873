//! What happened, as it is stored and listed.

use crate::{Ban, UnixMillis};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    LinkChanged {
        device: String,
        up: bool,
    },
}
