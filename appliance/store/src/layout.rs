//! Keys and values, byte by byte. `docs/store.md` is the same in prose.
//!
//! All integers are big-endian.
//!
//! ```text
//! scans   key    0  day         u32       days since 1970-01-01 UTC
//!                4  address     16 bytes  IPv6; IPv4 as ::ffff:a.b.c.d
//!               20  protocol    u8        6 TCP, 17 UDP
//!               21  port        u16
//!         value  0  hits        u64
//!                8  first       u32       milliseconds since the day began
//!               12  last        u32       milliseconds since the day began
//! bans    key    0  family      u8        4 or 6
//!                1  address     4 or 16 bytes, host bits zero
//!              end  prefix      u8        0 to 32 or 0 to 128
//!         value  0  until       u64       milliseconds since 1970; 2^64 - 1: permanent
//!                8  since       u64       milliseconds since 1970
//!               16  JSON        {"reason": …, "author": …}
//! events  key    0  id          u64       ascending, never used twice
//!         value  0  at          u64       milliseconds since 1970
//!                8  JSON        the kind, tagged by "event"
//! meta    "layout"           u32  LAYOUT_VERSION
//!         "next-event"       u64  id of the next event
//!         "policy-revision"  u64  counts applied policies
//! ```

use glacis_control::scan_query::Location;
use glacis_control::{
    Ban, BanReason, Day, Event, EventKind, Offences, ProbeKinds, Protocol, ScanHit, ScanRecord, UnixMillis,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Raised with every change that an older version would misread.
pub const LAYOUT_VERSION: u32 = 2;

pub(crate) const META_LAYOUT: &[u8] = b"layout";
pub(crate) const META_NEXT_EVENT: &[u8] = b"next-event";
pub(crate) const META_RETENTION: &[u8] = b"retention";
pub(crate) const META_REVISION: &[u8] = b"policy-revision";

const DAY_MILLIS: u64 = 86_400_000;
/// Of the day in front of a scan's key.
const DAY_BYTES: usize = 4;
const SCAN_KEY_BYTES: usize = 23;
/// Where the port begins in the key of a scan.
const PORT_AT: usize = 21;
const TALLY_BYTES: usize = 18;
/// Stands for a ban without end; no clock reaches it.
const PERMANENT: u64 = u64::MAX;

/// A key or a value that is not of this layout.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{what} of {bytes} bytes")]
    Length { what: &'static str, bytes: usize },
    #[error("{what} with {field} {value}")]
    Field { what: &'static str, field: &'static str, value: u64 },
    #[error("{what} with unknown JSON: {source}")]
    Json { what: &'static str, source: serde_json::Error },
}

/// Key of one scan record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanKey([u8; SCAN_KEY_BYTES]);

impl ScanKey {
    pub fn of(hit: &ScanHit) -> Self {
        Self::new(Day::of(hit.at), hit.source, hit.protocol.number(), hit.port)
    }

    pub fn of_record(record: &ScanRecord) -> Self {
        Self::new(record.day, record.source, record.protocol.number(), record.port)
    }

    /// The lowest key of a day and an address.
    pub fn first_of(day: Day, source: IpAddr) -> Self {
        Self::new(day, source, u8::MIN, u16::MIN)
    }

    /// The highest key of a day and an address.
    pub fn last_of(day: Day, source: IpAddr) -> Self {
        Self::new(day, source, u8::MAX, u16::MAX)
    }

    fn new(day: Day, source: IpAddr, protocol: u8, port: u16) -> Self {
        let mut key = [0; SCAN_KEY_BYTES];
        key[..DAY_BYTES].copy_from_slice(&day.0.to_be_bytes());
        key[4..20].copy_from_slice(&address_bytes(source));
        key[20] = protocol;
        key[PORT_AT..].copy_from_slice(&port.to_be_bytes());
        Self(key)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let key = bytes
            .try_into()
            .map_err(|_| RecordError::Length { what: "the key of a scan", bytes: bytes.len() })?;
        Ok(Self(key))
    }

    pub fn day(&self) -> Day {
        Day(u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }

    /// Address, protocol and port: equal for the records of one probe over several days.
    pub fn probe(&self) -> [u8; SCAN_KEY_BYTES - DAY_BYTES] {
        let mut probe = [0; SCAN_KEY_BYTES - DAY_BYTES];
        probe.copy_from_slice(&self.0[DAY_BYTES..]);
        probe
    }

    /// Day, address and protocol: equal for the ports that one source tries on one day.
    pub fn without_port(&self) -> &[u8] {
        &self.0[..PORT_AT]
    }

    pub fn day_and_source(&self) -> &[u8] {
        &self.0[..20]
    }

    pub fn port(&self) -> u16 {
        u16::from_be_bytes([self.0[PORT_AT], self.0[PORT_AT + 1]])
    }

    pub fn source(&self) -> IpAddr {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0[4..20]);
        Ipv6Addr::from(address).to_canonical()
    }

    pub fn record(&self, tally: Tally) -> Result<ScanRecord, RecordError> {
        let number = self.0[20];
        let protocol = Protocol::from_number(number).ok_or(RecordError::Field {
            what: "the key of a scan",
            field: "protocol",
            value: number.into(),
        })?;
        let day = self.day();
        let day_start = u64::from(day.0) * DAY_MILLIS;
        Ok(ScanRecord {
            day,
            source: self.source(),
            port: self.port(),
            protocol,
            kinds: tally.kinds,
            hits: tally.hits,
            first: UnixMillis(day_start + u64::from(tally.first_ms)),
            last: UnixMillis(day_start + u64::from(tally.last_ms)),
        })
    }
}

/// Value of one scan record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub hits: u64,
    /// Since the day began.
    pub first_ms: u32,
    /// Since the day began.
    pub last_ms: u32,
    pub kinds: ProbeKinds,
}

impl Tally {
    pub fn of(hit: &ScanHit) -> Self {
        // Below 86,400,000, which a u32 holds.
        let of_day = (hit.at.0 % DAY_MILLIS) as u32;
        Self { hits: hit.hits, first_ms: of_day, last_ms: of_day, kinds: hit.kinds }
    }

    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        Self {
            hits: self.hits.saturating_add(other.hits),
            first_ms: self.first_ms.min(other.first_ms),
            last_ms: self.last_ms.max(other.last_ms),
            kinds: self.kinds.with(other.kinds),
        }
    }

    pub fn bytes(self) -> [u8; TALLY_BYTES] {
        let mut value = [0; TALLY_BYTES];
        value[..8].copy_from_slice(&self.hits.to_be_bytes());
        value[8..12].copy_from_slice(&self.first_ms.to_be_bytes());
        value[12..16].copy_from_slice(&self.last_ms.to_be_bytes());
        value[16..].copy_from_slice(&self.kinds.bits().to_be_bytes());
        value
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let value: &[u8; TALLY_BYTES] =
            bytes.try_into().map_err(|_| RecordError::Length { what: "a scan", bytes: bytes.len() })?;
        let [h0, h1, h2, h3, h4, h5, h6, h7, f0, f1, f2, f3, l0, l1, l2, l3, k0, k1] = *value;
        Ok(Self {
            hits: u64::from_be_bytes([h0, h1, h2, h3, h4, h5, h6, h7]),
            first_ms: u32::from_be_bytes([f0, f1, f2, f3]),
            last_ms: u32::from_be_bytes([l0, l1, l2, l3]),
            kinds: ProbeKinds::from_bits(u16::from_be_bytes([k0, k1])),
        })
    }
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(crate) fn ban_key(source: &IpNet) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    match source.trunc() {
        IpNet::V4(net) => {
            key.push(4);
            key.extend(net.network().octets());
        }
        IpNet::V6(net) => {
            key.push(6);
            key.extend(net.network().octets());
        }
    }
    key.push(source.prefix_len());
    key
}

fn parse_ban_key(key: &[u8]) -> Result<IpNet, RecordError> {
    const WHAT: &str = "the key of a ban";
    let prefix_error = |prefix: u8| RecordError::Field { what: WHAT, field: "prefix", value: prefix.into() };
    match *key {
        [4, a, b, c, d, prefix] => {
            Ok(Ipv4Net::new([a, b, c, d].into(), prefix).map_err(|_| prefix_error(prefix))?.into())
        }
        [6, ref address @ .., prefix] if address.len() == 16 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(address);
            Ok(Ipv6Net::new(octets.into(), prefix).map_err(|_| prefix_error(prefix))?.into())
        }
        _ => Err(RecordError::Length { what: WHAT, bytes: key.len() }),
    }
}

/// The part of a ban that is JSON.
#[derive(Serialize, Deserialize)]
struct BanDetail<'a> {
    reason: Cow<'a, BanReason>,
    author: Cow<'a, str>,
}

pub(crate) fn ban_value(ban: &Ban) -> Result<Vec<u8>, RecordError> {
    let mut value = Vec::with_capacity(128);
    value.extend(ban.until.map_or(PERMANENT, |until| until.0.min(PERMANENT - 1)).to_be_bytes());
    value.extend(ban.since.0.to_be_bytes());
    let detail = BanDetail { reason: Cow::Borrowed(&ban.reason), author: Cow::Borrowed(&ban.author) };
    serde_json::to_writer(&mut value, &detail)
        .map_err(|source| RecordError::Json { what: "a ban", source })?;
    Ok(value)
}

/// When a ban ends, without reading the rest of it.
pub(crate) fn ban_until(value: &[u8]) -> Result<Option<UnixMillis>, RecordError> {
    let (until, _) = split_u64("a ban", value)?;
    Ok((until != PERMANENT).then_some(UnixMillis(until)))
}

pub(crate) fn parse_ban(key: &[u8], value: &[u8]) -> Result<Ban, RecordError> {
    const WHAT: &str = "a ban";
    let until = ban_until(value)?;
    let (_, rest) = split_u64(WHAT, value)?;
    let (since, json) = split_u64(WHAT, rest)?;
    let detail: BanDetail<'_> =
        serde_json::from_slice(json).map_err(|source| RecordError::Json { what: WHAT, source })?;
    Ok(Ban {
        source: parse_ban_key(key)?,
        since: UnixMillis(since),
        until,
        reason: detail.reason.into_owned(),
        author: detail.author.into_owned(),
    })
}

pub(crate) fn location_value(location: &Location) -> Result<Vec<u8>, RecordError> {
    serde_json::to_vec(location).map_err(|source| RecordError::Json { what: "a location", source })
}

pub(crate) fn parse_location(value: &[u8]) -> Result<Location, RecordError> {
    serde_json::from_slice(value).map_err(|source| RecordError::Json { what: "a location", source })
}

pub(crate) fn offences_value(offences: &Offences) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&offences.count.to_be_bytes());
    let until = offences.until.map_or(PERMANENT, |until| until.0.min(PERMANENT - 1));
    value[4..].copy_from_slice(&until.to_be_bytes());
    value
}

pub(crate) fn parse_offences(key: &[u8], value: &[u8]) -> Result<Offences, RecordError> {
    const WHAT: &str = "offences";
    let (count, until) =
        value.split_first_chunk().ok_or(RecordError::Length { what: WHAT, bytes: value.len() })?;
    let until = parse_u64(WHAT, until)?;
    Ok(Offences {
        source: parse_ban_key(key)?,
        count: u32::from_be_bytes(*count),
        until: (until != PERMANENT).then_some(UnixMillis(until)),
    })
}

pub(crate) fn event_value(at: UnixMillis, kind: &EventKind) -> Result<Vec<u8>, RecordError> {
    let mut value = Vec::with_capacity(128);
    value.extend(at.0.to_be_bytes());
    serde_json::to_writer(&mut value, kind)
        .map_err(|source| RecordError::Json { what: "an event", source })?;
    Ok(value)
}

pub(crate) fn event_at(value: &[u8]) -> Result<UnixMillis, RecordError> {
    Ok(UnixMillis(split_u64("an event", value)?.0))
}

pub(crate) fn parse_event(key: &[u8], value: &[u8]) -> Result<Event, RecordError> {
    const WHAT: &str = "an event";
    let (at, json) = split_u64(WHAT, value)?;
    let kind = serde_json::from_slice(json).map_err(|source| RecordError::Json { what: WHAT, source })?;
    Ok(Event { id: parse_u64("the key of an event", key)?, at: UnixMillis(at), kind })
}

pub(crate) fn parse_u64(what: &'static str, bytes: &[u8]) -> Result<u64, RecordError> {
    match split_u64(what, bytes)? {
        (number, []) => Ok(number),
        _ => Err(RecordError::Length { what, bytes: bytes.len() }),
    }
}

pub(crate) fn parse_version(bytes: &[u8]) -> Result<u32, RecordError> {
    let version = bytes
        .try_into()
        .map_err(|_| RecordError::Length { what: "the layout's version", bytes: bytes.len() })?;
    Ok(u32::from_be_bytes(version))
}

fn split_u64<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), RecordError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(RecordError::Length { what, bytes: bytes.len() })?;
    Ok((u64::from_be_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::ProbeKind;

    fn hit(source: &str, at: u64) -> ScanHit {
        ScanHit {
            source: source.parse().unwrap(),
            port: 22,
            protocol: Protocol::Tcp,
            kinds: ProbeKinds::default(),
            at: UnixMillis(at),
            hits: 3,
        }
    }

    fn ban(source: &str, until: Option<u64>) -> Ban {
        Ban {
            source: source.parse().unwrap(),
            since: UnixMillis(5),
            until: until.map(UnixMillis),
            reason: BanReason::Manual { note: "ünïcode \"quoted\"".into() },
            author: "root".into(),
        }
    }

    #[test]
    fn the_bytes_of_a_scan_are_those_documented() {
        let hit = hit("192.0.2.1", DAY_MILLIS * 0x0102 + 0x0304);
        let mut expected = vec![0, 0, 1, 2];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        expected.extend([6, 0, 22]);
        assert_eq!(ScanKey::of(&hit).bytes(), expected);
        assert_eq!(Tally::of(&hit).bytes(), [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 4, 0, 0, 3, 4, 0, 0]);
    }

    #[test]
    fn a_scan_survives_its_bytes_for_both_families_and_at_the_edges_of_a_day() {
        for source in ["0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1"] {
            for at in [0, DAY_MILLIS - 1, DAY_MILLIS, DAY_MILLIS * u64::from(u32::MAX)] {
                let hit = hit(source, at);
                let key = ScanKey::parse(ScanKey::of(&hit).bytes()).unwrap();
                let record = key.record(Tally::parse(&Tally::of(&hit).bytes()).unwrap()).unwrap();
                assert_eq!((record.source, record.port, record.hits), (hit.source, 22, 3));
                assert_eq!((record.day, record.first, record.last), (Day::of(hit.at), hit.at, hit.at));
            }
        }
    }

    #[test]
    fn the_order_of_keys_is_day_then_address() {
        let key = |source, at| ScanKey::of(&hit(source, at));
        assert!(key("192.0.2.9", 0) < key("192.0.2.10", 0));
        assert!(key("192.0.2.10", 0) < key("192.0.2.1", DAY_MILLIS));
        assert!(key("192.0.2.1", 0) < key("2001:db8::", 0));
    }

    #[test]
    fn merged_tallies_add_hits_and_span_both() {
        let kinds = |kind| ProbeKinds::of(kind);
        let early = Tally { hits: 1, first_ms: 5, last_ms: 6, kinds: kinds(ProbeKind::Syn) };
        let late = Tally { hits: u64::MAX, first_ms: 7, last_ms: 9, kinds: kinds(ProbeKind::Fin) };
        let both = kinds(ProbeKind::Syn).with(kinds(ProbeKind::Fin));
        assert_eq!(late.merged(early), Tally { hits: u64::MAX, first_ms: 5, last_ms: 9, kinds: both });
    }

    #[test]
    fn a_ban_survives_its_bytes() {
        for source in ["0.0.0.0/0", "203.0.113.9/32", "203.0.113.0/24", "::/0", "2001:db8::1/128"] {
            for until in [None, Some(0), Some(u64::MAX - 1)] {
                let ban = ban(source, until);
                let read = parse_ban(&ban_key(&ban.source), &ban_value(&ban).unwrap()).unwrap();
                assert_eq!(read, ban);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_ban_are_those_documented() {
        let ban = ban("203.0.113.0/24", None);
        assert_eq!(ban_key(&ban.source), [4, 203, 0, 113, 0, 24]);
        let value = ban_value(&ban).unwrap();
        assert_eq!(value[..16], [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(value[16..17], *b"{");
    }

    #[test]
    fn an_event_survives_its_bytes() {
        let kind = EventKind::SourceBlocked { ban: ban("203.0.113.9/32", Some(9)) };
        let value = event_value(UnixMillis(7), &kind).unwrap();
        let read = parse_event(&1u64.to_be_bytes(), &value).unwrap();
        assert_eq!(read, Event { id: 1, at: UnixMillis(7), kind });
    }

    #[test]
    fn foreign_bytes_are_errors() {
        assert!(ScanKey::parse(&[0; 22]).is_err());
        assert!(Tally::parse(&[0; 17]).is_err());
        assert!(ScanKey::parse(&[0; 23]).unwrap().record(Tally::of(&hit("::1", 0))).is_err());
        for key in [&[][..], &[4, 1, 2, 3, 4, 33], &[4, 1, 2, 3, 4], &[5, 1, 2, 3, 4, 24], &[6; 17]] {
            assert!(parse_ban_key(key).is_err(), "{key:?}");
        }
        assert!(parse_ban(&ban_key(&"::1/128".parse().unwrap()), &[0; 16]).is_err());
        assert!(parse_event(&[0; 8], &[0; 7]).is_err());
        assert!(parse_u64("x", &[0; 9]).is_err());
    }
}
