//! Records as rows, with the location of their source.

use crate::error::Fault;
use crate::layout::{Fields, Key, PLACE_UNKNOWN, ScanKey, SourceSum, Tally, parse_place};
use crate::rollup::recent;
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::{Location, ScanRow};
use heed::RoTxn;
use std::collections::HashMap;
use std::net::IpAddr;

/// Locations by their numbers, each read once.
pub(super) struct Places<'a, 'txn> {
    tables: &'a Tables,
    txn: &'a RoTxn<'txn>,
    known: HashMap<u32, Location>,
}

impl<'a, 'txn> Places<'a, 'txn> {
    pub fn new(tables: &'a Tables, txn: &'a RoTxn<'txn>) -> Self {
        Self { tables, txn, known: HashMap::new() }
    }

    /// Of the source on that day.
    pub fn id(&self, day: Day, source: IpAddr) -> Result<u32, Fault> {
        let stored = self.tables.sources.get(self.txn, &Key::of_day(day).with_source(source))?;
        Ok(stored.map(SourceSum::parse).transpose()?.map_or(PLACE_UNKNOWN, |sum| sum.place))
    }

    /// Empty when the place is unknown.
    pub fn location(&mut self, place: u32) -> Result<Location, Fault> {
        if let Some(location) = self.known.get(&place) {
            return Ok(location.clone());
        }
        let location = match self.tables.places.get(self.txn, &place.to_be_bytes())? {
            Some(value) => {
                let mut fields = Fields::of("a place", value);
                let length = fields.u16()?;
                parse_place(fields.bytes(length.into())?)?
            }
            None => Location::default(),
        };
        self.known.insert(place, location.clone());
        Ok(location)
    }

    pub fn row(&mut self, key: &ScanKey, tally: Tally, place: u32) -> Result<ScanRow, Fault> {
        Ok(ScanRow { record: tally.record(key), location: self.location(place)? })
    }
}

/// Last seen first; at most as many as are remembered.
pub(crate) fn newest(tables: &Tables, txn: &RoTxn<'_>, limit: usize) -> Result<Vec<ScanRow>, Fault> {
    let mut places = Places::new(tables, txn);
    let removing = tables.removing(txn)?;
    let mut rows = Vec::new();
    for (_, key) in recent(tables, txn)? {
        if rows.len() == limit {
            break;
        }
        let Some(value) = tables.records.get(txn, &key.bytes())? else { continue };
        if removing.is_none_or(|last| key.day > last) {
            let place = places.id(key.day, key.source)?;
            rows.push(places.row(&key, Tally::parse(value)?, place)?);
        }
    }
    Ok(rows)
}
