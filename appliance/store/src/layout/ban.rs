//! Bans, offences and events.

use super::{RecordError, parse_u64, split_u64};
use glacis_control::{Ban, BanReason, Event, EventKind, Offences, UnixMillis};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;

/// Stands for a time that never comes.
const PERMANENT: u64 = u64::MAX;

pub fn ban_key(source: &IpNet) -> Vec<u8> {
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
    let wrong = |field, value: u8| RecordError::Field { what: WHAT, field, value: value.into() };
    let (address, prefix) = match *key {
        [4, a, b, c, d, prefix] => (IpAddr::from([a, b, c, d]), prefix),
        [6, ref address @ .., prefix] => {
            let octets: [u8; 16] =
                address.try_into().map_err(|_| RecordError::Length { what: WHAT, bytes: key.len() })?;
            (IpAddr::from(octets), prefix)
        }
        _ => return Err(RecordError::Length { what: WHAT, bytes: key.len() }),
    };
    let net = IpNet::new(address, prefix).map_err(|_| wrong("prefix", prefix))?;
    if net.trunc() == net { Ok(net) } else { Err(wrong("host bits beyond prefix", prefix)) }
}

/// The part of a ban that is JSON.
#[derive(Serialize, Deserialize)]
struct BanDetail<'a> {
    reason: Cow<'a, BanReason>,
    author: Cow<'a, str>,
}

pub fn ban_value(ban: &Ban) -> Result<Vec<u8>, RecordError> {
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

pub fn parse_ban(key: &[u8], value: &[u8]) -> Result<Ban, RecordError> {
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

pub fn offences_value(offences: &Offences) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&offences.count.to_be_bytes());
    let until = offences.until.map_or(PERMANENT, |until| until.0.min(PERMANENT - 1));
    value[4..].copy_from_slice(&until.to_be_bytes());
    value
}

pub fn parse_offences(key: &[u8], value: &[u8]) -> Result<Offences, RecordError> {
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

pub fn event_value(at: UnixMillis, kind: &EventKind) -> Result<Vec<u8>, RecordError> {
    let mut value = Vec::with_capacity(128);
    value.extend(at.0.to_be_bytes());
    serde_json::to_writer(&mut value, kind)
        .map_err(|source| RecordError::Json { what: "an event", source })?;
    Ok(value)
}

pub(crate) fn event_at(value: &[u8]) -> Result<UnixMillis, RecordError> {
    Ok(UnixMillis(split_u64("an event", value)?.0))
}

pub fn parse_event(key: &[u8], value: &[u8]) -> Result<Event, RecordError> {
    const WHAT: &str = "an event";
    let (at, json) = split_u64(WHAT, value)?;
    let kind = serde_json::from_slice(json).map_err(|source| RecordError::Json { what: WHAT, source })?;
    Ok(Event { id: parse_u64("the key of an event", key)?, at: UnixMillis(at), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn offences_survive_their_bytes() {
        for until in [None, Some(UnixMillis(7))] {
            let offences = Offences { source: "2001:db8::/64".parse().unwrap(), count: 3, until };
            let read = parse_offences(&ban_key(&offences.source), &offences_value(&offences)).unwrap();
            assert_eq!(read, offences);
        }
    }

    #[test]
    fn foreign_bytes_are_errors() {
        for key in [
            &[][..],
            &[4, 1, 2, 3, 4, 33],
            &[4, 1, 2, 3, 4, 24],
            &[4, 1, 2, 3, 4],
            &[5, 1, 2, 3, 4, 24],
            &[6; 17],
        ] {
            assert!(parse_ban_key(key).is_err(), "{key:?}");
        }
        let key = ban_key(&"::1/128".parse().unwrap());
        assert!(parse_ban(&key, &[0; 16]).is_err());
        assert!(parse_offences(&key, &[0; 11]).is_err());
        assert!(parse_event(&[0; 8], &[0; 7]).is_err());
    }
}
