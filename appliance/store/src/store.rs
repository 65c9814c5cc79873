//! The one writer.

use crate::batch::Tallies;
use crate::changes::Room;
use crate::clearing::{self, Clearing};
use crate::environment::Environment;
use crate::error::Fault;
use crate::retention::{self, Retained};
use crate::tables::Tables;
use crate::upgrade::{self, Upgraded};
use crate::{Applied, BanChange, Batch, Bounds, StoreError, StoreReader, rollup};
use glacis_control::gate::ClientRecord;
use glacis_control::report::StoreStatus;
use glacis_control::scan_query::Location;
use glacis_control::{Ban, Event, EventKind, ScanHit, UnixMillis};
use heed::RwTxn;
use ipnet::IpNet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Locked by the process that writes, for as long as it lives.
const WRITER_LOCK: &str = "writer.lock";

/// Until another one is given.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 86_400);

/// Tells where an address is. Asked once for a source and a day, while a transaction is open: it must not block.
pub type Locate<'a> = &'a dyn Fn(IpAddr) -> Location;

fn nowhere(_: IpAddr) -> Location {
    Location::default()
}

/// An open store that can write. All calls block on the disk; [`Writer`](crate::Writer) runs one on a thread.
#[derive(Debug)]
pub struct Store {
    environment: Arc<Environment>,
    bounds: Bounds,
    /// Scan and client records that found no room since the store was opened.
    dropped: AtomicU64,
    /// Held, not used: the kernel lets go of the lock when the process dies.
    _writer_lock: File,
}

impl Store {
    /// Opens the store in `dir`, which is created with mode 0700 when it is missing.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let bounds = bounds.checked()?;
        let directory_error = |source| StoreError::Directory { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(directory_error)?;
        let writer_lock = lock_for_writing(dir)?;
        let environment = Environment::create(dir, bounds.bytes_initial)?;
        environment.establish_layout(bounds.bytes_max)?;
        Ok(Self {
            environment: Arc::new(environment),
            bounds,
            dropped: AtomicU64::new(0),
            _writer_lock: writer_lock,
        })
    }

    /// Reads in the process that writes. Another process opens a [`StoreReader`] of its own.
    pub fn reader(&self) -> StoreReader {
        StoreReader::of(Arc::clone(&self.environment))
    }

    /// Commits the batch in one transaction. When it does not fit, its hits and client records are dropped and counted
    /// and the rest is committed from the reserve; [`StoreError::Full`] when even that has no room.
    pub fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        let mut applied = self.apply_all(std::slice::from_ref(batch), &nowhere)?;
        // One batch gives one outcome.
        Ok(applied.pop().unwrap_or_default())
    }

    /// Commits all batches in one transaction, with one outcome for each.
    pub(crate) fn apply_all(
        &self,
        batches: &[Batch],
        locate: Locate<'_>,
    ) -> Result<Vec<Applied>, StoreError> {
        let step = "committing a batch";
        let tallies: Vec<Tallies> = batches.iter().map(|batch| batch.hits.iter().collect()).collect();
        let has_hits = tallies.iter().any(|tallies| !tallies.is_empty());
        if has_hits || batches.iter().any(|batch| !batch.client_records.is_empty()) {
            let outcome = self.environment.write(step, self.bounds.scan_bytes_max(), |tables, txn| {
                let refused = tallies.iter().map(|tallies| rollup::add(tables, txn, tallies, locate));
                let refused = refused.collect::<Result<Vec<_>, Fault>>()?;
                Ok((self.change_all(tables, txn, batches, Room::Open)?, refused))
            });
            match outcome {
                Ok((applied, refused)) => return Ok(self.with_dropped(applied, refused)),
                Err(StoreError::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let applied = self.environment.write(step, self.bounds.bytes_max, |tables, txn| {
            self.change_all(tables, txn, batches, Room::Reserve)
        })?;
        Ok(self.with_dropped(applied, tallies.iter().map(|tallies| tallies.len() as u64)))
    }

    /// `dropped`: hits that were dropped.
    fn with_dropped(
        &self,
        mut applied: Vec<Applied>,
        dropped: impl IntoIterator<Item = u64>,
    ) -> Vec<Applied> {
        for (applied, dropped) in applied.iter_mut().zip(dropped) {
            applied.dropped = self.count_dropped(applied.dropped + dropped);
        }
        applied
    }

    fn change_all(
        &self,
        tables: &Tables,
        txn: &mut RwTxn<'_>,
        batches: &[Batch],
        room: Room,
    ) -> Result<Vec<Applied>, Fault> {
        let applied =
            batches.iter().map(|batch| tables.change(txn, batch, room)).collect::<Result<_, _>>()?;
        tables.trim_events(txn, self.bounds.events_max)?;
        Ok(applied)
    }

    /// Commits hits in one transaction: counts add up, first and last widen. Returns how many records were dropped
    /// because the store is full or their day is being removed. No location is asked for.
    pub fn record(&self, hits: &[ScanHit]) -> Result<u64, StoreError> {
        self.record_tallies(&hits.iter().collect(), &nowhere)
    }

    /// [`Self::record`] that asks for the location of every source that is new on its day.
    pub fn record_located(&self, hits: &[ScanHit], locate: Locate<'_>) -> Result<u64, StoreError> {
        self.record_tallies(&hits.iter().collect(), locate)
    }

    pub(crate) fn record_tallies(&self, tallies: &Tallies, locate: Locate<'_>) -> Result<u64, StoreError> {
        if tallies.is_empty() {
            return Ok(0);
        }
        let outcome =
            self.environment.write("recording scans", self.bounds.scan_bytes_max(), |tables, txn| {
                rollup::add(tables, txn, tallies, locate)
            });
        match outcome {
            Ok(refused) => Ok(self.count_dropped(refused)),
            Err(StoreError::Full { .. }) => Ok(self.count_dropped(tallies.len() as u64)),
            Err(error) => {
                self.count_dropped(tallies.len() as u64);
                Err(error)
            }
        }
    }

    /// Commits client records in one transaction; each takes the place of all that was known of its client. Returns how
    /// many were dropped because the store is full, or because no gate makes such a record.
    pub fn learn(&self, records: &[ClientRecord]) -> Result<u64, StoreError> {
        if records.is_empty() {
            return Ok(0);
        }
        let step = "remembering clients";
        let bytes_max = self.bounds.scan_bytes_max();
        match self.environment.write(step, bytes_max, |tables, txn| tables.put_clients(txn, records)) {
            Ok(refused) => Ok(self.count_dropped(refused)),
            Err(StoreError::Full { .. }) => Ok(self.count_dropped(records.len() as u64)),
            Err(error) => {
                self.count_dropped(records.len() as u64);
                Err(error)
            }
        }
    }

    fn count_dropped(&self, records: u64) -> u64 {
        self.dropped.fetch_add(records, Ordering::Relaxed);
        records
    }

    /// Replaces the ban of the same prefix.
    pub fn put_ban(&self, ban: Ban) -> Result<(), StoreError> {
        self.apply(&Batch { bans: vec![BanChange::Put(ban)], ..Batch::default() }).map(|_| ())
    }

    /// The ban that was there.
    pub fn remove_ban(&self, source: IpNet) -> Result<Option<Ban>, StoreError> {
        let batch = Batch { bans: vec![BanChange::Remove(source)], ..Batch::default() };
        Ok(self.apply(&batch)?.removed.pop())
    }

    /// Removes the bans whose time is up and appends [`EventKind::BanExpired`] for each, in one transaction.
    /// Looks at the first bytes of every ban, about 0.1 µs each.
    pub fn expire_bans(&self, now: UnixMillis) -> Result<Vec<Ban>, StoreError> {
        let step = "expiring bans";
        if self.environment.read(step, |tables, txn| tables.bans_over(txn, now))?.is_empty() {
            return Ok(Vec::new());
        }
        self.environment.write(step, self.bounds.bytes_max, |tables, txn| {
            let over = tables.bans_over(txn, now)?;
            for ban in &over {
                tables.take_ban(txn, &ban.source)?;
                tables.append_event(txn, now, &EventKind::BanExpired { source: ban.source })?;
            }
            tables.trim_events(txn, self.bounds.events_max)?;
            Ok(over)
        })
    }

    /// Every ban, also those whose time is up.
    pub fn bans(&self) -> Result<Vec<Ban>, StoreError> {
        self.reader().bans()
    }

    pub fn append_event(&self, kind: &EventKind, now: UnixMillis) -> Result<Event, StoreError> {
        self.environment.write("appending an event", self.bounds.bytes_max, |tables, txn| {
            let event = tables.append_event(txn, now, kind)?;
            tables.trim_events(txn, self.bounds.events_max)?;
            Ok(event)
        })
    }

    /// Removes the scans of days that ended, and the events that happened, `retention` ago or earlier; without one, the
    /// one that was given last, or [`RETENTION_DEFAULT`]. Removes clients of which nothing is known any more, too. Works in bounded transactions. Returns how many went.
    ///
    /// Days after that are never touched, be they today or in the future: a clock that fell back removes nothing. One
    /// that leaps ahead removes what is old by its time; whether to believe it is the caller's to decide, for whom
    /// [`StoreReader::newest_day`] tells how far the records go.
    pub fn retain(&self, now: UnixMillis, retention: Option<Duration>) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            match self.retain_step(now, retention)? {
                Retained::Some(records) => removed += records,
                Retained::All(records) => return Ok(removed + records),
            }
        }
    }

    pub(crate) fn retain_step(
        &self,
        now: UnixMillis,
        retention: Option<Duration>,
    ) -> Result<Retained, StoreError> {
        let retention = self.remembered_retention(retention)?;
        retention::step(&self.environment, self.bounds.bytes_max, now, retention)
    }

    /// The given one, which is remembered; without one, the remembered one.
    fn remembered_retention(&self, retention: Option<Duration>) -> Result<Duration, StoreError> {
        let step = "remembering the retention";
        let stored = self.environment.read(step, Tables::retention)?;
        let Some(given) = retention else { return Ok(stored.unwrap_or(RETENTION_DEFAULT)) };
        if stored != Some(given) {
            self.environment
                .write(step, self.bounds.bytes_max, |tables, txn| tables.set_retention(txn, given))?;
        }
        Ok(given)
    }

    /// Removes every scan record and all that comes from them; readers see none from the first of several transactions
    /// on. Bans, offences, events and settings stay. Returns how many records there were.
    pub fn clear_scans(&self) -> Result<u64, StoreError> {
        let records = self.begin_clearing()?;
        while self.clear_step()? == Clearing::Some {}
        Ok(records)
    }

    pub(crate) fn begin_clearing(&self) -> Result<u64, StoreError> {
        self.environment.write("clearing scans", self.bounds.bytes_max, clearing::begin)
    }

    pub(crate) fn clear_step(&self) -> Result<Clearing, StoreError> {
        self.environment.write("clearing scans", self.bounds.bytes_max, clearing::step)
    }

    /// Moves all records of a store that was of layout 1 to this one, in bounded transactions.
    pub fn upgrade(&self, locate: Locate<'_>) -> Result<(), StoreError> {
        while self.upgrade_step(locate)? == Upgraded::Some {}
        Ok(())
    }

    pub(crate) fn upgrade_step(&self, locate: Locate<'_>) -> Result<Upgraded, StoreError> {
        let (scan_bytes_max, bytes_max) = (self.bounds.scan_bytes_max(), self.bounds.bytes_max);
        let upgraded = upgrade::step(&self.environment, scan_bytes_max, bytes_max, locate)?;
        if let Upgraded::Lost(records) = upgraded {
            self.dropped.fetch_add(records, Ordering::Relaxed);
        }
        Ok(upgraded)
    }

    /// Takes the slots of dead readers away, whose snapshots keep the file growing. Returns how many there were.
    pub fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        self.environment.clear_stale_readers()
    }

    pub fn stats(&self) -> Result<StoreStatus, StoreError> {
        let totals = self.reader().totals()?;
        Ok(StoreStatus {
            bytes_used: totals.bytes_used,
            bytes_max: self.bounds.bytes_max as u64,
            scan_records: totals.scan_records,
            events: totals.events,
            dropped: self.dropped.load(Ordering::Relaxed),
        })
    }
}

fn lock_for_writing(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(WRITER_LOCK);
    let directory_error = |source| StoreError::Directory { path: dir.to_owned(), source };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(directory_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::AlreadyOpen { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(directory_error(source)),
    }
}
