//! The databases of one environment.

use crate::error::Fault;
use crate::layout::{self, META_CLEARING, META_LAYOUT, META_NEXT_EVENT, META_REMOVING, META_RETENTION};
use glacis_control::Day;
use heed::types::Bytes;
use heed::{Database, RoTxn, RwTxn};
use std::time::Duration;

pub(crate) type Table = Database<'static, Bytes, Bytes>;

/// In the order of the fields of [`Tables`].
pub(crate) const TABLE_NAMES: [&str; 18] = [
    "records",
    "by-port",
    "by-place",
    "sources",
    "ports",
    "ranks",
    "sketches",
    "port-numbers",
    "days",
    "seen",
    "recent",
    "places",
    "place-ids",
    "bans",
    "offences",
    "events",
    "clients",
    "clients-by-seen",
];
pub(crate) const META: &str = "meta";
/// Records of layout 1.
pub(crate) const OLD_SCANS: &str = "scans";
/// What an environment may hold: the named ones, `meta` and the records of layout 1.
pub(crate) const TABLE_COUNT: u32 = TABLE_NAMES.len() as u32 + 2;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables {
    pub records: Table,
    pub by_port: Table,
    pub by_place: Table,
    pub sources: Table,
    pub ports: Table,
    pub ranks: Table,
    pub sketches: Table,
    pub port_numbers: Table,
    pub days: Table,
    pub seen: Table,
    pub recent: Table,
    pub places: Table,
    pub place_ids: Table,
    pub bans: Table,
    pub offences: Table,
    pub events: Table,
    pub clients: Table,
    pub clients_by_seen: Table,
    pub meta: Table,
    /// Of a store that comes from layout 1; the upgrade empties it.
    pub old_scans: Option<Table>,
}

impl Tables {
    /// `named` in the order of [`TABLE_NAMES`].
    pub fn new(named: &[Table; TABLE_NAMES.len()], meta: Table, old_scans: Option<Table>) -> Self {
        let [
            records,
            by_port,
            by_place,
            sources,
            ports,
            ranks,
            sketches,
            port_numbers,
            days,
            seen,
            recent,
            places,
            place_ids,
            bans,
            offences,
            events,
            clients,
            clients_by_seen,
        ] = *named;
        Self {
            records,
            by_port,
            by_place,
            sources,
            ports,
            ranks,
            sketches,
            port_numbers,
            days,
            seen,
            recent,
            places,
            place_ids,
            bans,
            offences,
            events,
            clients,
            clients_by_seen,
            meta,
            old_scans,
        }
    }

    /// Those that begin with the day, without `days` itself; `sources` first, since removing from it needs others.
    pub fn by_day(&self) -> [Table; 8] {
        [
            self.sources,
            self.records,
            self.by_port,
            self.by_place,
            self.ports,
            self.ranks,
            self.sketches,
            self.port_numbers,
        ]
    }

    /// All that comes from scans.
    pub fn of_scans(&self) -> impl Iterator<Item = Table> {
        let others = [self.days, self.seen, self.recent, self.places, self.place_ids];
        self.by_day().into_iter().chain(others).chain(self.old_scans)
    }

    /// Bytes in pages that hold data; pages that a later transaction may reuse do not count.
    pub fn bytes_used(&self, txn: &RoTxn<'_>) -> Result<u64, Fault> {
        let mut bytes = 0;
        let others = [self.bans, self.offences, self.events, self.clients, self.clients_by_seen, self.meta];
        for table in self.of_scans().chain(others) {
            let stat = table.stat(txn)?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            bytes += pages as u64 * u64::from(stat.page_size);
        }
        Ok(bytes)
    }

    pub fn layout(&self, txn: &RoTxn<'_>) -> Result<Option<u32>, Fault> {
        let stored = self.meta.get(txn, META_LAYOUT)?;
        Ok(stored.map(|bytes| layout::parse_u32("the layout's version", bytes)).transpose()?)
    }

    pub fn set_layout(&self, txn: &mut RwTxn<'_>, version: u32) -> Result<(), Fault> {
        Ok(self.meta.put(txn, META_LAYOUT, &version.to_be_bytes())?)
    }

    /// Zero before the first event.
    pub fn next_event(&self, txn: &RoTxn<'_>) -> Result<u64, Fault> {
        let stored = self.meta.get(txn, META_NEXT_EVENT)?;
        Ok(stored.map(|bytes| layout::parse_u64("the next event's id", bytes)).transpose()?.unwrap_or(0))
    }

    pub fn set_next_event(&self, txn: &mut RwTxn<'_>, id: u64) -> Result<(), Fault> {
        Ok(self.meta.put(txn, META_NEXT_EVENT, &id.to_be_bytes())?)
    }

    /// The one given last.
    pub fn retention(&self, txn: &RoTxn<'_>) -> Result<Option<Duration>, Fault> {
        let stored = self.meta.get(txn, META_RETENTION)?;
        let millis = stored.map(|bytes| layout::parse_u64("the retention", bytes)).transpose()?;
        Ok(millis.map(Duration::from_millis))
    }

    pub fn set_retention(&self, txn: &mut RwTxn<'_>, retention: Duration) -> Result<(), Fault> {
        Ok(self.meta.put(txn, META_RETENTION, &(retention.as_millis() as u64).to_be_bytes())?)
    }

    /// The last of the days that are being removed: readers see neither it nor any before it.
    pub fn removing(&self, txn: &RoTxn<'_>) -> Result<Option<Day>, Fault> {
        let stored = self.meta.get(txn, META_REMOVING)?;
        Ok(stored.map(|bytes| layout::parse_u32("the removed day", bytes)).transpose()?.map(Day))
    }

    /// Whether all scans are being removed: readers see none.
    pub fn is_clearing(&self, txn: &RoTxn<'_>) -> Result<bool, Fault> {
        Ok(self.meta.get(txn, META_CLEARING)?.is_some())
    }

    pub fn set_clearing(&self, txn: &mut RwTxn<'_>, clearing: bool) -> Result<(), Fault> {
        if clearing {
            self.meta.put(txn, META_CLEARING, &[])?;
        } else {
            self.meta.delete(txn, META_CLEARING)?;
        }
        Ok(())
    }

    /// Those that are not being removed with all others; those of single days that are being removed count.
    pub fn scan_records(&self, txn: &RoTxn<'_>) -> Result<u64, Fault> {
        if self.is_clearing(txn)? { Ok(0) } else { Ok(self.records.len(txn)?) }
    }

    pub fn set_removing(&self, txn: &mut RwTxn<'_>, day: Option<Day>) -> Result<(), Fault> {
        match day {
            Some(day) => self.meta.put(txn, META_REMOVING, &day.0.to_be_bytes())?,
            None => drop(self.meta.delete(txn, META_REMOVING)?),
        }
        Ok(())
    }
}
