//! Desired and observed state of one Glacis host, and the pure difference between them.
//!
//! Owns the vocabulary that every other crate speaks: a [`Plan`] is what the policy asks for, an
//! [`Observed`] is what the kernel has, and [`Changes`] is the way from one to the other. Nothing
//! here touches a socket, a file or a clock.

pub mod changes;
pub mod closed;
pub mod diff;
pub mod gate;
pub mod gate_elements;
pub mod interface;
pub mod nft;
pub mod scan;
mod scan_words;

pub use changes::{Changes, LinkChange, Observed, ObservedLink};
pub use diff::describe;
pub use gate::GatePlan;
pub use interface::{Addressing, InterfacePlan, Mac, PciAddress, RoutePlan};
pub use scan::{
    AutoBlock, AutoBlockMode, DistinctLimit, EstablishedFlows, EvidenceRule, GeoipFile, GeoipKind, Ladder,
    ScanDevices, ScanPlan, Shapes, SourceGroup,
};
pub use scan_words::describe_scan;

use std::net::SocketAddr;

/// Everything the policy asks of the host, with no name left to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In policy order.
    pub interfaces: Vec<InterfacePlan>,
    pub sysctls: Vec<Sysctl>,
    pub ruleset: nft::Ruleset,
    /// `None`: scan awareness is off and the TC program only drops banned sources.
    pub scan: Option<ScanPlan>,
    pub geoip: Vec<GeoipFile>,
    pub status: Option<StatusPlan>,
    /// In policy order; names and ports differ.
    pub gates: Vec<GatePlan>,
}

/// One kernel parameter, as the path below `/proc/sys` and its value without a newline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    pub path: String,
    pub value: String,
}

/// Where the read-only status endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusPlan {
    /// At least one; wildcard addresses, because the ruleset decides who may reach them.
    pub listen: Vec<SocketAddr>,
}
