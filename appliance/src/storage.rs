//! The store as the daemon's loop uses it: orders are awaited, hits and notes are not.

use glacis_control::report::StoreStatus;
use glacis_control::scan_query::Location;
use glacis_control::{Ban, Event, EventKind, ScanHit, UnixMillis};
use glacis_store::{Applied, BanChange, Batch, QueueFull, Store, StoreError, Writer, WriterHandle};
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueFull),
    #[error("the store's thread has ended")]
    Gone,
}

/// The owner of the store's thread; what waits is committed when it is dropped.
pub struct Storage {
    /// Keeps the thread.
    _writer: Writer,
    handle: WriterHandle,
}

impl Storage {
    pub fn start(store: Store) -> Result<Self, StoreError> {
        let writer = Writer::spawn(store, |_| Location::default())?;
        let handle = writer.handle();
        Ok(Self { _writer: writer, handle })
    }

    /// Never waits; a hit that finds no place is counted by the store.
    pub fn record(&self, hit: &ScanHit) {
        self.handle.try_record(hit);
    }

    /// Writes an event down without waiting for it.
    pub fn note(&self, kind: EventKind, now: UnixMillis) {
        let batch = Batch { events: vec![(now, kind)], ..Batch::default() };
        let queued = self.handle.commit(batch, |done| {
            if let Err(error) = done {
                tracing::error!(%error, "an event was not stored");
            }
        });
        if let Err(error) = queued {
            tracing::error!(%error, "an event was not stored");
        }
    }

    /// A ban, what it swallows and its event, together. Returns when they are on disk.
    pub async fn put_ban(&self, ban: Ban, swallowed: &[IpNet], now: UnixMillis) -> Result<(), StorageError> {
        let mut bans: Vec<BanChange> = swallowed.iter().map(|source| BanChange::Remove(*source)).collect();
        bans.push(BanChange::Put(ban.clone()));
        let events = vec![(now, EventKind::SourceBlocked { ban })];
        self.commit(Batch { bans, events, ..Batch::default() }).await.map(drop)
    }

    /// Removes bans and tells why, together. Returns when it is on disk.
    pub async fn remove_bans(
        &self,
        removals: impl Iterator<Item = (IpNet, EventKind)>,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        let (bans, events) = removals.map(|(source, kind)| (BanChange::Remove(source), (now, kind))).unzip();
        self.commit(Batch { bans, events, ..Batch::default() }).await.map(drop)
    }

    /// Newest first.
    pub fn events(&self, limit: usize) -> Result<Vec<Event>, StorageError> {
        Ok(self.handle.reader().events(limit)?)
    }

    /// Removes scan records that are past the retention, in the background.
    pub fn retain(&self, now: UnixMillis, retention: Duration) {
        let queued = self.handle.retain(now, Some(retention), |done| match done {
            Ok(removed) => tracing::debug!(removed, "old scan records removed"),
            Err(error) => tracing::error!(%error, "old scan records stay"),
        });
        if let Err(error) = queued {
            tracing::warn!(%error, "old scan records stay for now");
        }
    }

    pub fn stats(&self) -> StoreStatus {
        self.handle.stats().unwrap_or_else(|error| {
            tracing::warn!(%error, "the store could not be measured");
            StoreStatus::default()
        })
    }

    async fn commit(&self, batch: Batch) -> Result<Applied, StorageError> {
        let (done, result) = oneshot::channel();
        self.handle.commit(batch, |applied| {
            let _ = done.send(applied);
        })?;
        Ok(result.await.map_err(|_| StorageError::Gone)??)
    }
}
