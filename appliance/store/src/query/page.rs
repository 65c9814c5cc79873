//! Pages of records: newest day first, in a day by source, protocol and port.

use super::days;
use super::filter::Criteria;
use super::walk::Walk;
use crate::error::Fault;
use crate::layout::{Fields, Key, RecordError, ScanKey};
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::{ScanFilter, ScanPage};
use heed::RoTxn;
use std::net::IpAddr;

/// Rows of one page; a caller that asks for more gets so many, and goes on.
const ROWS_MAX: usize = 1000;

/// A place in the listing: after everything up to this key. Records that come before it later are not listed; nothing is
/// listed twice.
///
/// As text the bytes of the key in hexadecimal; a protocol of 255 stands behind all records of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub day: Day,
    pub source: IpAddr,
    pub protocol: u8,
    pub port: u16,
}

impl Position {
    pub fn at(key: &ScanKey) -> Self {
        let protocol = key.target.protocol.number();
        Self { day: key.day, source: key.source, protocol, port: key.target.port }
    }

    pub fn behind(day: Day, source: IpAddr) -> Self {
        Self { day, source, protocol: u8::MAX, port: u16::MAX }
    }

    pub fn key(&self) -> Key {
        Key::of_day(self.day).with_source(self.source).with(&[self.protocol]).with(&self.port.to_be_bytes())
    }

    /// `None` for what is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let byte = |pair: &[u8; 2]| {
            let text =
                str::from_utf8(pair).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Vec<u8> = digits.iter().map(byte).collect::<Option<_>>()?;
        Self::of_bytes(&bytes).ok()
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut fields = Fields::of("a place in a listing", bytes);
        let position = Self {
            day: fields.day()?,
            source: fields.source()?,
            protocol: fields.u8()?,
            port: fields.u16()?,
        };
        fields.end().map(|()| position)
    }

    pub fn text(&self) -> String {
        self.key().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

pub(crate) fn page(
    tables: &Tables,
    txn: &RoTxn<'_>,
    filter: &ScanFilter,
    after: Option<Position>,
    limit: usize,
) -> Result<ScanPage, Fault> {
    let criteria = Criteria::of(tables, txn, filter)?;
    let mut walk = Walk::new(tables, txn, &criteria, limit.clamp(1, ROWS_MAX));
    if criteria.places.as_ref().is_none_or(|places| !places.is_empty()) {
        for (day, _) in days(tables, txn, filter.days)?.into_iter().rev() {
            if after.is_some_and(|after| after.day < day) {
                continue;
            }
            if walk.day(day, after.filter(|after| after.day == day))?.is_break() {
                break;
            }
        }
    }
    Ok(walk.page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_and_foreign_text_is_none() {
        let sources = ["192.0.2.1", "2001:db8::1"];
        for source in sources {
            let position = Position::behind(Day(20_000), source.parse().unwrap());
            assert_eq!(Position::parse(&position.text()), Some(position));
        }
        let good = Position::behind(Day(1), sources[0].parse().unwrap()).text();
        for bad in ["", "0", "zz", "+1+1", &good[2..], &format!("{good}00"), &good.replacen("04", "05", 1)] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }
}
