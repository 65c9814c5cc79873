//! Bans: who is blocked, until when and why.

use crate::UnixMillis;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One blocked source. There is at most one ban for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Host bits are zero. A single address is a /32 or a /128.
    pub source: IpNet,
    pub since: UnixMillis,
    /// `None`: until someone unblocks it.
    pub until: Option<UnixMillis>,
    pub reason: BanReason,
    /// Who asked for it: `auto`, or the user that ran the command.
    pub author: String,
}

impl Ban {
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// `None` when it is permanent; zero when it is over.
    pub fn remaining(&self, now: UnixMillis) -> Option<Duration> {
        self.until.map(|until| until.since(now))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BanReason {
    /// The auto-block's threshold was reached.
    Scan {
        hits: u64,
        ports: u32,
        window_seconds: u64,
    },
    Manual {
        note: String,
    },
}
