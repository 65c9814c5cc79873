//! What the policy asks of scan awareness.

use ipnet::IpNet;
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
    /// Hits of one source within `window` that trigger a block. 1 to 100 000.
    pub threshold: u32,
    /// 1 minute to 1440 minutes.
    pub window: Duration,
    /// `None`: permanent. At most 87 600 hours.
    pub duration: Option<Duration>,
    pub group: SourceGroup,
    /// Never auto-blocked. Loopback and unspecified addresses need no entry.
    pub never: Vec<IpNet>,
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
