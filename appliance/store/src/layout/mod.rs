//! Keys and values, byte by byte; `docs/store.md` is the same in prose.
//!
//! All integers are big-endian, so that the order of keys is the order of their fields. What is counted per day has
//! the day in front: retention removes one end of every tree.
//!
//! ```text
//! source             family u8 (4 or 6), then 4 or 16 bytes
//! target             protocol u8 (6, 17, 132), port u16
//!
//! records       key  day u32, source, target
//!             value  hits u64, first u32, last u32 (milliseconds of the day), kinds u16
//! by-port       key  day u32, target, source                      value  empty
//! by-place      key  day u32, place u32, source                   value  empty
//! sources       key  day u32, source
//!             value  hits u64, ports u32, first u32, last u32, kinds u16, place u32
//! ports         key  day u32, target                              value  hits u64, sources u32
//! ranks         key  day u32, subject u8, grade u8, source or target (by subject)   value  empty
//! sketches      key  day u32, subject u8, source or target, part u8                 value  1024 registers
//! port-numbers  key  day u32, part u8                             value  512 bytes, a bit for each of 4096 ports
//! days          key  day u32                                      value  hits u64, sources u32, returns [u32; 365]
//! seen          key  source                                       value  days u32, ascending
//! recent        key  position u8                                  value  last u64 (since 1970), key of the record
//! places        key  place u32                                    value  length u16, location, folded text
//! place-ids     key  location                                     value  place u32
//! bans          key  family u8, address, prefix u8                value  until u64, since u64, JSON
//! offences      key  as of bans                                   value  count u32, until u64
//! events        key  id u64                                       value  at u64, JSON
//! clients       key  source                                       value  seen u64, then for each port, ascending:
//!                                                                        port u16, outcome u8, until u64
//! clients-by-seen  key  seen u64, source                          value  empty
//! meta          "layout" u32; "next-event" u64; "retention" u64 (milliseconds); "removing" u32 (day);
//!               "clearing" empty
//! ```

mod ban;
mod client;
mod key;
mod old;
mod place;
mod sums;

pub use ban::{ban_key, ban_value, event_value, offences_value, parse_ban, parse_event, parse_offences};
pub(crate) use ban::{ban_until, event_at};
pub(crate) use client::client_seen;
pub use client::{
    FINDINGS_MAX, client_key, client_seen_key, client_value, is_storable, parse_client, parse_client_seen_key,
};
pub use key::{Key, ScanKey, Subject, Target};
pub(crate) use old::parse_old_scan;
pub use place::{PLACE_UNKNOWN, PlaceBytes, encode_place, folded_text, parse_place};
pub use sums::{DAYS_BACK, DaySum, PortSum, SourceSum, Tally, grade, hits_at_least, hits_at_most};

/// Raised with every change that an older version would misread.
pub const LAYOUT_VERSION: u32 = 2;
/// The one that is upgraded in place.
pub(crate) const LAYOUT_BEFORE: u32 = 1;

pub(crate) const META_LAYOUT: &[u8] = b"layout";
pub(crate) const META_NEXT_EVENT: &[u8] = b"next-event";
pub(crate) const META_RETENTION: &[u8] = b"retention";
pub(crate) const META_REMOVING: &[u8] = b"removing";
pub(crate) const META_CLEARING: &[u8] = b"clearing";

pub(crate) const DAY_MILLIS: u64 = 86_400_000;

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

/// Reads fields off the front of a key or a value.
pub(crate) struct Fields<'a> {
    what: &'static str,
    all: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, all: bytes.len(), rest: bytes }
    }

    fn length_error(&self) -> RecordError {
        RecordError::Length { what: self.what, bytes: self.all }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.length_error())?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.length_error())?;
        self.rest = rest;
        Ok(head)
    }

    pub fn wrong(&self, field: &'static str, value: u64) -> RecordError {
        RecordError::Field { what: self.what, field, value }
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub fn end(self) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.length_error()) }
    }
}

pub(crate) fn parse_u32(what: &'static str, bytes: &[u8]) -> Result<u32, RecordError> {
    let mut fields = Fields::of(what, bytes);
    let number = fields.u32()?;
    fields.end().map(|()| number)
}

pub(crate) fn parse_u64(what: &'static str, bytes: &[u8]) -> Result<u64, RecordError> {
    match split_u64(what, bytes)? {
        (number, []) => Ok(number),
        _ => Err(RecordError::Length { what, bytes: bytes.len() }),
    }
}

fn split_u64<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), RecordError> {
    let mut fields = Fields::of(what, bytes);
    let number = fields.u64()?;
    Ok((number, fields.rest()))
}
