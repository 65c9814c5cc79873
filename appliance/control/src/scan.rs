//! Scan data: what was probed, by whom, how often.

use crate::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub u32);

impl Day {
    pub const fn of(at: UnixMillis) -> Self {
        Self((at.0 / 86_400_000) as u32)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Probes of one source at one port since the last hit that was reported for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanHit {
    /// IPv4 sources are IPv4, never IPv4-mapped.
    pub source: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub at: UnixMillis,
    /// At least 1.
    pub hits: u64,
}

/// What is kept: one record per source, port, protocol and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRecord {
    pub day: Day,
    pub source: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub hits: u64,
    pub first: UnixMillis,
    pub last: UnixMillis,
}
