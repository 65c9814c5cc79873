//! Scan data: what was probed, by whom, how, how often.

use crate::UnixMillis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

    /// Its first millisecond.
    pub const fn start(self) -> UnixMillis {
        UnixMillis(self.0 as u64 * 86_400_000)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// What kind of packet a probe was. The numbers are those of the TC program.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// TCP SYN without ACK: a connection attempt.
    Syn = 0,
    /// TCP FIN and nothing else.
    Fin = 1,
    /// TCP without any flag.
    Null = 2,
    /// TCP FIN, PSH and URG.
    Xmas = 3,
    /// TCP FIN and ACK, of no connection (Uriel Maimon's scan).
    Maimon = 4,
    /// TCP ACK of no connection. ACK and window scans send the same packet; they differ in what they read off the
    /// answer.
    Ack = 5,
    /// TCP with any other flags that no connection begins or goes on with.
    OddFlags = 6,
    /// A first fragment too short for TCP's flags.
    Fragment = 7,
    /// A UDP datagram that answers nothing.
    Datagram = 8,
    /// An SCTP INIT chunk.
    Init = 9,
}

impl ProbeKind {
    /// Every kind, by ascending number.
    pub const ALL: [Self; 10] = [
        Self::Syn,
        Self::Fin,
        Self::Null,
        Self::Xmas,
        Self::Maimon,
        Self::Ack,
        Self::OddFlags,
        Self::Fragment,
        Self::Datagram,
        Self::Init,
    ];

    /// As in JSON and on the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::Fin => "fin",
            Self::Null => "null",
            Self::Xmas => "xmas",
            Self::Maimon => "maimon",
            Self::Ack => "ack",
            Self::OddFlags => "odd-flags",
            Self::Fragment => "fragment",
            Self::Datagram => "datagram",
            Self::Init => "init",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kinds that a source used on one port; in JSON a list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ProbeKinds(u16);

impl ProbeKinds {
    pub const fn of(kind: ProbeKind) -> Self {
        Self(1 << kind as u8)
    }

    /// Bit `n` is the kind of number `n`; bits of unknown kinds are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ((1 << ProbeKind::ALL.len()) - 1))
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, kind: ProbeKind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = ProbeKind> {
        ProbeKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<ProbeKind> for ProbeKinds {
    fn from_iter<I: IntoIterator<Item = ProbeKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::default(), |all, kind| all.with(Self::of(kind)))
    }
}

impl fmt::Display for ProbeKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in self.iter().enumerate() {
            write!(f, "{}{kind}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl Serialize for ProbeKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ProbeKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<ProbeKind>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Probes of one source at one port since the last hit that was reported for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanHit {
    /// IPv4 sources are IPv4, never IPv4-mapped.
    pub source: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub kinds: ProbeKinds,
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
    #[serde(default)]
    pub kinds: ProbeKinds,
    pub hits: u64,
    pub first: UnixMillis,
    pub last: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_by_their_numbers() {
        for (number, kind) in ProbeKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(ProbeKinds::from_bits(1 << number), ProbeKinds::of(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn sets_of_kinds_survive_json_and_forget_unknown_bits() {
        let kinds: ProbeKinds = [ProbeKind::Xmas, ProbeKind::Syn].into_iter().collect();
        assert_eq!(serde_json::to_string(&kinds).unwrap(), r#"["syn","xmas"]"#);
        assert_eq!(serde_json::from_str::<ProbeKinds>(r#"["xmas","syn"]"#).unwrap(), kinds);
        assert_eq!(ProbeKinds::from_bits(u16::MAX).iter().count(), ProbeKind::ALL.len());
        assert_eq!(kinds.to_string(), "syn xmas");
    }
}
