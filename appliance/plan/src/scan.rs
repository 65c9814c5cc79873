//! What the policy asks of scan awareness.

use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the scan detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPlan {
    pub devices: ScanDevices,
    /// How long a scan record is kept. 1 to 365 days.
    pub retention: Duration,
    /// TCP ports that the policy forwards or serves itself; never counted.
    pub exposed_tcp: Vec<u16>,
    /// UDP ports that the policy forwards or serves itself; never counted.
    pub exposed_udp: Vec<u16>,
    /// Whether TCP packets that begin nothing (FIN, NULL, XMAS, Maimon, ACK, odd flags, tiny fragments) and SCTP INIT
    /// are looked at.
    pub stealth: bool,
    pub shapes: Shapes,
    /// `None`: scans are recorded, nobody is blocked.
    pub auto_block: Option<AutoBlock>,
}

/// Which interfaces are watched; loopback never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanDevices {
    /// Every up interface with a default route or a public address.
    Outward,
    /// Kernel names. Those that the policy names and the host lacks are not in it.
    Named(Vec<String>),
}

/// When a scanning source is blocked, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoBlock {
    pub mode: AutoBlockMode,
    pub evidence: EvidenceRule,
    /// Hits of one source within `window` that trigger a block. 1 to 100 000.
    pub threshold: u32,
    /// 1 minute to 1440 minutes.
    pub window: Duration,
    /// Of the first block, and of all without a ladder. `None`: permanent. At most 87 600 hours.
    pub duration: Option<Duration>,
    /// `None`: every block lasts for `duration`.
    pub ladder: Option<Ladder>,
    pub group: SourceGroup,
    /// Never auto-blocked. Loopback and unspecified addresses need no entry.
    pub never: Vec<IpNet>,
    /// What becomes of a blocked source's flows that were there before.
    pub established: EstablishedFlows,
}

/// Durations for sources that come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Of the first block, the second, and so on; the last one stays. Never empty, each longer than the one before;
    /// `None`, which only the last may be, is permanent.
    pub steps: Vec<Option<Duration>>,
    /// An offence is forgotten when its block has been over for so long. 1 hour to 365 days.
    pub forgive: Duration,
}

/// What makes hits count towards a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceRule {
    /// Every hit, also of a forged source.
    Any,
    /// Hits of sources that answered a challenge: they receive what is sent to them.
    SpoofProof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstablishedFlows {
    /// Dropped like everything else.
    Drop,
    /// They go on until they end; nothing new begins.
    Keep,
}

/// Distinct things of one source within a rolling time that make it a scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DistinctLimit {
    /// 2 to 1000.
    pub count: u16,
    /// 10 seconds to 1 day.
    pub within: Duration,
}

/// Scans that are told apart by what they touch, not by how often. `None`: not looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shapes {
    /// Many ports.
    pub vertical: Option<DistinctLimit>,
    /// Many addresses of ours.
    pub horizontal: Option<DistinctLimit>,
    /// Many ports over a long time.
    pub slow: Option<DistinctLimit>,
}

/// GeoIP databases in the `MaxMind` format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeoipFile {
    pub kind: GeoipKind,
    /// As the policy names it: absolute, or relative to the policy's folder.
    pub path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GeoipKind {
    City,
    Country,
    Isp,
    Asn,
}

impl GeoipKind {
    /// As the policy spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Country => "country",
            Self::Isp => "isp",
            Self::Asn => "asn",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoBlockMode {
    /// Everything but the block itself.
    Observe,
    Enforce,
}

/// Prefix lengths by which sources are counted and blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceGroup {
    /// 8 to 32.
    pub v4: u8,
    /// 16 to 128.
    pub v6: u8,
}

impl Default for SourceGroup {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}
