//! The databases, and single reads and writes in them inside a transaction that someone else owns.

use crate::OffenceChange;
use crate::batch::Tallies;
use crate::error::Fault;
use crate::layout::{self, META_LAYOUT, META_NEXT_EVENT, META_RETENTION, META_REVISION, ScanKey, Tally};
use glacis_control::scan_query::Location;
use glacis_control::{Ban, Event, EventKind, UnixMillis};
use heed::types::Bytes;
use heed::{Database, RoTxn, RwTxn};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::Bound;

pub(crate) type Table = Database<'static, Bytes, Bytes>;

/// Databases of one environment.
pub(crate) const TABLE_COUNT: u32 = 6;
pub(crate) const SCANS: &str = "scans";
pub(crate) const BANS: &str = "bans";
pub(crate) const EVENTS: &str = "events";
pub(crate) const META: &str = "meta";
pub(crate) const OFFENCES: &str = "offences";
pub(crate) const PLACES: &str = "places";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables {
    pub scans: Table,
    pub bans: Table,
    pub events: Table,
    pub meta: Table,
    pub offences: Table,
    pub places: Table,
}

/// Records that a walk may pass for each one that it is for.
const WALK_PER_RECORD: usize = 4;

/// Whether a walk over all ports between the first and the last costs less than looking them up.
fn is_dense(run: &[(ScanKey, Tally)]) -> bool {
    let ([(first, _), ..], [.., (last, _)]) = (run, run) else { return false };
    let span = usize::from(last.port() - first.port()) + 1;
    run.len() > 1 && span <= run.len() * WALK_PER_RECORD
}

impl Tables {
    /// Ports of one source that lie close together are met by one walk; others are looked up one by one.
    pub fn add_scans(
        &self,
        txn: &mut RwTxn<'_>,
        tallies: &Tallies,
        locate: &dyn Fn(IpAddr) -> Location,
    ) -> Result<(), Fault> {
        let mut to_put = Vec::new();
        for run in tallies.runs() {
            if let Some((key, _)) = run.first() {
                self.locate(txn, key, locate)?;
            }
            to_put.clear();
            if is_dense(run) {
                self.merge_run(txn, run, &mut to_put)?;
            } else {
                for (key, tally) in run {
                    let stored = self.scans.get(txn, key.bytes())?.map(Tally::parse).transpose()?;
                    to_put.push((*key, stored.map_or(*tally, |stored| stored.merged(*tally))));
                }
            }
            for (key, tally) in &to_put {
                self.scans.put(txn, key.bytes(), &tally.bytes())?;
            }
        }
        Ok(())
    }

    fn locate(
        &self,
        txn: &mut RwTxn<'_>,
        key: &ScanKey,
        locate: &dyn Fn(IpAddr) -> Location,
    ) -> Result<(), Fault> {
        if self.places.get(txn, key.day_and_source())?.is_none() {
            let location = locate(key.source());
            self.places.put(txn, key.day_and_source(), &layout::location_value(&location)?)?;
        }
        Ok(())
    }

    pub fn change_offences(&self, txn: &mut RwTxn<'_>, change: &OffenceChange) -> Result<(), Fault> {
        match change {
            OffenceChange::Put(offences) => {
                self.offences.put(
                    txn,
                    &layout::ban_key(&offences.source),
                    &layout::offences_value(offences),
                )?;
            }
            OffenceChange::Remove(source) => {
                self.offences.delete(txn, &layout::ban_key(source))?;
            }
        }
        Ok(())
    }

    pub fn retention(&self, txn: &RoTxn<'_>) -> Result<Option<u64>, Fault> {
        let stored = self.meta.get(txn, META_RETENTION)?;
        Ok(stored.map(|bytes| layout::parse_u64("the retention", bytes)).transpose()?)
    }

    pub fn set_retention(&self, txn: &mut RwTxn<'_>, millis: u64) -> Result<(), Fault> {
        self.set_counter(txn, META_RETENTION, millis)
    }

    /// Adds to the records that are there, in one walk from the run's first to its last; the new ones go to `to_put`.
    fn merge_run(
        &self,
        txn: &mut RwTxn<'_>,
        run: &[(ScanKey, Tally)],
        to_put: &mut Vec<(ScanKey, Tally)>,
    ) -> Result<(), Fault> {
        let ([(first, _), ..], [.., (last, _)]) = (run, run) else { return Ok(()) };
        let bounds = (Bound::Included(first.bytes()), Bound::Included(last.bytes()));
        let mut walk = self.scans.range_mut(txn, &bounds)?;
        let mut wanted = run.iter().peekable();
        while let Some((key, value)) = walk.next().transpose()? {
            let (stored_key, stored) = (ScanKey::parse(key)?, Tally::parse(value)?);
            while let Some(missing) = wanted.next_if(|(key, _)| *key < stored_key) {
                to_put.push(*missing);
            }
            if let Some((key, tally)) = wanted.next_if(|(key, _)| *key == stored_key) {
                let sum = stored.merged(*tally).bytes();
                // SAFETY: nothing borrowed from the database is used here or afterwards: key and sum are copies,
                // and the key is the one that the walk stands at.
                unsafe { walk.put_current(key.bytes(), &sum)? };
            }
        }
        to_put.extend(wanted);
        Ok(())
    }

    pub fn put_ban(&self, txn: &mut RwTxn<'_>, ban: &Ban) -> Result<(), Fault> {
        Ok(self.bans.put(txn, &layout::ban_key(&ban.source), &layout::ban_value(ban)?)?)
    }

    pub fn take_ban(&self, txn: &mut RwTxn<'_>, source: &IpNet) -> Result<Option<Ban>, Fault> {
        let key = layout::ban_key(source);
        let Some(value) = self.bans.get(txn, &key)? else { return Ok(None) };
        let ban = layout::parse_ban(&key, value)?;
        self.bans.delete(txn, &key)?;
        Ok(Some(ban))
    }

    /// Bans whose time is up, in the order of their keys.
    pub fn bans_over(&self, txn: &RoTxn<'_>, now: UnixMillis) -> Result<Vec<Ban>, Fault> {
        let mut over = Vec::new();
        for entry in self.bans.iter(txn)? {
            let (key, value) = entry?;
            if layout::ban_until(value)?.is_some_and(|until| until <= now) {
                over.push(layout::parse_ban(key, value)?);
            }
        }
        Ok(over)
    }

    pub fn append_event(
        &self,
        txn: &mut RwTxn<'_>,
        at: UnixMillis,
        kind: &EventKind,
    ) -> Result<Event, Fault> {
        let id = self.counter(txn, META_NEXT_EVENT)?;
        self.events.put(txn, &id.to_be_bytes(), &layout::event_value(at, kind)?)?;
        self.set_counter(txn, META_NEXT_EVENT, id + 1)?;
        Ok(Event { id, at, kind: kind.clone() })
    }

    /// Removes the oldest events above the bound.
    pub fn trim_events(&self, txn: &mut RwTxn<'_>, events_max: u64) -> Result<(), Fault> {
        while self.events.len(txn)? > events_max {
            let Some((key, _)) = self.events.first(txn)? else { break };
            let key = key.to_vec();
            self.events.delete(txn, &key)?;
        }
        Ok(())
    }

    /// Zero when it was never set.
    fn counter(&self, txn: &RoTxn<'_>, name: &[u8]) -> Result<u64, Fault> {
        let stored = self.meta.get(txn, name)?;
        Ok(stored.map(|bytes| layout::parse_u64("a counter", bytes)).transpose()?.unwrap_or(0))
    }

    fn set_counter(&self, txn: &mut RwTxn<'_>, name: &[u8], value: u64) -> Result<(), Fault> {
        Ok(self.meta.put(txn, name, &value.to_be_bytes())?)
    }

    pub fn revision(&self, txn: &RoTxn<'_>) -> Result<u64, Fault> {
        self.counter(txn, META_REVISION)
    }

    pub fn set_revision(&self, txn: &mut RwTxn<'_>, revision: u64) -> Result<(), Fault> {
        self.set_counter(txn, META_REVISION, revision)
    }

    pub fn layout(&self, txn: &RoTxn<'_>) -> Result<Option<u32>, Fault> {
        let stored = self.meta.get(txn, META_LAYOUT)?;
        Ok(stored.map(layout::parse_version).transpose()?)
    }

    pub fn set_layout(&self, txn: &mut RwTxn<'_>, version: u32) -> Result<(), Fault> {
        Ok(self.meta.put(txn, META_LAYOUT, &version.to_be_bytes())?)
    }

    /// Bytes in pages that hold data; pages that a later transaction may reuse do not count.
    pub fn bytes_used(&self, txn: &RoTxn<'_>) -> Result<u64, Fault> {
        let mut bytes = 0;
        for table in [self.scans, self.bans, self.events, self.meta, self.offences, self.places] {
            let stat = table.stat(txn)?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            bytes += pages as u64 * u64::from(stat.page_size);
        }
        Ok(bytes)
    }
}
