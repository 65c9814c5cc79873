//! Keys of what is counted.

use super::{Fields, RecordError};
use glacis_control::{Day, Protocol, ScanHit, ScanRecord};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

/// No key is longer: day, place, family and an IPv6 address are 25 bytes.
const KEY_BYTES_MAX: usize = 32;

/// A key, or the beginning of one, put together field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    length: u8,
}

impl Key {
    pub const EMPTY: Self = Self { bytes: [0; KEY_BYTES_MAX], length: 0 };

    pub fn of_day(day: Day) -> Self {
        Self::EMPTY.with(&day.0.to_be_bytes())
    }

    /// Panics when the key would get longer than any is.
    #[must_use]
    pub fn with(mut self, field: &[u8]) -> Self {
        let start = usize::from(self.length);
        self.bytes[start..start + field.len()].copy_from_slice(field);
        self.length += field.len() as u8;
        self
    }

    #[must_use]
    pub fn with_source(self, source: IpAddr) -> Self {
        match source {
            IpAddr::V4(v4) => self.with(&[4]).with(&v4.octets()),
            IpAddr::V6(v6) => self.with(&[6]).with(&v6.octets()),
        }
    }

    #[must_use]
    pub fn with_target(self, target: Target) -> Self {
        self.with(&[target.protocol.number()]).with(&target.port.to_be_bytes())
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What a probe was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub protocol: Protocol,
    pub port: u16,
}

/// What is ranked and sketched; the numbers are those in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Subject {
    Source = 0,
    Target = 1,
}

/// Key of one scan record; ordered as its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScanKey {
    pub day: Day,
    pub source: IpAddr,
    pub target: Target,
}

impl ScanKey {
    pub fn of(hit: &ScanHit) -> Self {
        let target = Target { protocol: hit.protocol, port: hit.port };
        Self { day: Day::of(hit.at), source: hit.source, target }
    }

    pub fn of_record(record: &ScanRecord) -> Self {
        let target = Target { protocol: record.protocol, port: record.port };
        Self { day: record.day, source: record.source, target }
    }

    pub fn bytes(&self) -> Key {
        Key::of_day(self.day).with_source(self.source).with_target(self.target)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("the key of a scan", bytes);
        let key = Self { day: fields.day()?, source: fields.source()?, target: fields.target()? };
        fields.end().map(|()| key)
    }

    /// In `by-port`, where the target stands before the source.
    pub fn by_port(&self) -> Key {
        Key::of_day(self.day).with_target(self.target).with_source(self.source)
    }

    pub fn parse_by_port(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("the key of a scan by its port", bytes);
        let (day, target) = (fields.day()?, fields.target()?);
        let key = Self { day, source: fields.source()?, target };
        fields.end().map(|()| key)
    }
}

impl Fields<'_> {
    pub fn day(&mut self) -> Result<Day, RecordError> {
        Ok(Day(self.u32()?))
    }

    pub fn source(&mut self) -> Result<IpAddr, RecordError> {
        match self.u8()? {
            4 => Ok(Ipv4Addr::from(self.array::<4>()?).into()),
            6 => Ok(Ipv6Addr::from(self.array::<16>()?).into()),
            family => Err(self.wrong("family", family.into())),
        }
    }

    pub fn target(&mut self) -> Result<Target, RecordError> {
        let number = self.u8()?;
        let protocol = Protocol::from_number(number).ok_or_else(|| self.wrong("protocol", number.into()))?;
        Ok(Target { protocol, port: self.u16()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(day: u32, source: &str, protocol: Protocol, port: u16) -> ScanKey {
        ScanKey { day: Day(day), source: source.parse().unwrap(), target: Target { protocol, port } }
    }

    #[test]
    fn the_bytes_of_a_key_are_those_documented() {
        let key = key(0x0102, "192.0.2.1", Protocol::Tcp, 22);
        assert_eq!(*key.bytes(), [0, 0, 1, 2, 4, 192, 0, 2, 1, 6, 0, 22]);
        assert_eq!(*key.by_port(), [0, 0, 1, 2, 6, 0, 22, 4, 192, 0, 2, 1]);
    }

    #[test]
    fn keys_survive_their_bytes_and_keep_their_order_in_them() {
        let mut keys = Vec::new();
        for day in [0, 1, 256, u32::MAX] {
            for source in ["0.0.0.0", "192.0.2.9", "192.0.2.10", "255.255.255.255", "::", "::1", "ff00::"] {
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                    keys.extend([0, 255, 256, u16::MAX].map(|port| key(day, source, protocol, port)));
                }
            }
        }
        assert!(keys.is_sorted());
        assert!(keys.is_sorted_by(|a, b| *a.bytes() < *b.bytes()));
        for key in keys {
            assert_eq!(ScanKey::parse(&key.bytes()).unwrap(), key);
            assert_eq!(ScanKey::parse_by_port(&key.by_port()).unwrap(), key);
        }
    }

    #[test]
    fn foreign_keys_are_errors() {
        let good = key(1, "192.0.2.1", Protocol::Tcp, 22).bytes();
        for (at, value) in [(4, 5), (9, 7)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert!(ScanKey::parse(&bad).is_err(), "{bad:?}");
        }
        assert!(ScanKey::parse(&good[..11]).is_err());
        assert!(ScanKey::parse(&good.with(&[0])).is_err());
    }
}
