//! Bans: who is blocked, until when and why.

use crate::{PortOutcome, ProbeKinds, UnixMillis};
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

/// How often a source was blocked by the auto-block, as far as that is not forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offences {
    pub source: IpNet,
    /// At least 1.
    pub count: u32,
    /// End of the newest block; `None`: it has none.
    pub until: Option<UnixMillis>,
}

/// How a source scanned, as far as it decided about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ScanShape {
    /// Many probes, whatever they were.
    #[default]
    Volume,
    /// Many ports.
    Vertical,
    /// Many of our addresses.
    Horizontal,
    /// Many ports over a long time.
    Slow,
}

impl ScanShape {
    /// As in JSON, in metrics and on the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Vertical => "vertical",
            Self::Horizontal => "horizontal",
            Self::Slow => "slow",
        }
    }
}

/// What a block after a scan rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Evidence {
    /// Distinct ports within the window.
    pub ports: u32,
    /// Distinct addresses of ours within the window.
    pub hosts: u32,
    /// Challenges that the source answered: it receives what is sent to it. 0 where the policy asks for no proof.
    pub echoes: u32,
    /// Kinds of its probes.
    pub kinds: ProbeKinds,
    /// How often it was blocked before, as far as that is not forgiven.
    pub earlier_blocks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BanReason {
    /// The auto-block found a scan.
    Scan {
        #[serde(default)]
        shape: ScanShape,
        /// Within the window.
        hits: u64,
        window_seconds: u64,
        #[serde(flatten)]
        evidence: Evidence,
    },
    /// A gate found an open port at the client.
    Gate {
        gate: String,
        port: u16,
        outcome: PortOutcome,
    },
    Manual {
        note: String,
    },
}
