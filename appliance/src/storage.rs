//! The store as the daemon's loop uses it: orders are awaited, hits, notes and long readings are not.

use glacis_control::report::StoreStatus;
use glacis_control::scan_query::Location;
use glacis_control::{Ban, ClientRecord, Event, EventKind, Offences, ScanHit, UnixMillis};
use glacis_store::{
    Applied, BanChange, Batch, OffenceChange, QueueFull, Store, StoreError, StoreReader, Writer, WriterHandle,
};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Long readings at once, each on a thread of its own.
pub const READINGS_MAX: usize = 4;

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
    readings: Arc<Semaphore>,
}

impl Storage {
    /// `locate` is called on the store's thread, for a source that is new on its day.
    pub fn start(
        store: Store,
        locate: impl Fn(IpAddr) -> Location + Send + 'static,
    ) -> Result<Self, StoreError> {
        let writer = Writer::spawn(store, locate)?;
        let handle = writer.handle();
        Ok(Self { _writer: writer, handle, readings: Arc::new(Semaphore::new(READINGS_MAX)) })
    }

    /// Never waits; a hit that finds no place is counted by the store.
    pub fn record(&self, hit: &ScanHit) {
        self.handle.try_record(hit);
    }

    /// Writes an event down without waiting for it.
    pub fn note(&self, kind: EventKind, now: UnixMillis) {
        let batch = Batch { events: vec![(now, kind)], ..Batch::default() };
        self.order(batch, "an event was not stored");
    }

    /// Bans with their events, what they take the place of, and what is known of their sources, all together. They are
    /// queued at once, and nothing that is queued later overtakes them; what comes back is ready when they are on disk.
    pub fn put_bans(
        &self,
        bans: &[Ban],
        lifted: &[IpNet],
        offences: Vec<Offences>,
        now: UnixMillis,
    ) -> impl Future<Output = Result<(), StorageError>> + Send + use<> {
        let lifted = lifted.iter().map(|source| BanChange::Remove(*source));
        let batch = Batch {
            bans: lifted.chain(bans.iter().cloned().map(BanChange::Put)).collect(),
            offences: offences.into_iter().map(OffenceChange::Put).collect(),
            events: bans.iter().map(|ban| (now, EventKind::SourceBlocked { ban: ban.clone() })).collect(),
            ..Batch::default()
        };
        let (done, result) = oneshot::channel();
        let queued = self.handle.commit(batch, |applied| {
            let _ = done.send(applied);
        });
        async move {
            queued?;
            result.await.map_err(|_| StorageError::Gone)??;
            Ok(())
        }
    }

    /// Writes bans and offences whose times moved, without a word in the events. Returns when they are on disk.
    pub async fn move_bans(&self, bans: Vec<Ban>, offences: Vec<Offences>) -> Result<(), StorageError> {
        let bans = bans.into_iter().map(BanChange::Put).collect();
        let offences = offences.into_iter().map(OffenceChange::Put).collect();
        self.commit(Batch { bans, offences, ..Batch::default() }).await.map(drop)
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

    /// Forgets offences that are forgiven, in the background: one that stays is forgiven again at the next start.
    pub fn forgive(&self, sources: Vec<IpNet>) {
        let offences = sources.into_iter().map(OffenceChange::Remove).collect();
        self.order(Batch { offences, ..Batch::default() }, "forgiven offences stay in the store");
    }

    /// What a gate found; never waits. Losing one costs a new look.
    pub fn learn_client(&self, record: ClientRecord) {
        self.handle.try_learn(record);
    }

    /// Forgets what gates knew of clients, in the background: what stays ends by its own time.
    pub fn forget_clients(&self, clients: Vec<IpAddr>) {
        if !clients.is_empty() {
            let batch = Batch { forgotten_clients: clients, ..Batch::default() };
            self.order(batch, "forgotten clients stay in the store");
        }
    }

    /// Newest first.
    pub fn events(&self, limit: usize) -> Result<Vec<Event>, StorageError> {
        Ok(self.handle.reader().events(limit)?)
    }

    /// A place for a reading that may take long; `None` when [`READINGS_MAX`] are taken.
    pub fn reading(&self) -> Option<Reading> {
        let place = Arc::clone(&self.readings).try_acquire_owned().ok()?;
        Some(Reading { store: self.handle.reader().clone(), place })
    }

    /// Removes every scan record and writes down who asked for it. It begins at once and does not need to be awaited;
    /// the number of records comes when all is on disk.
    pub fn clear_scans(
        &self,
        author: String,
        now: UnixMillis,
    ) -> impl Future<Output = Result<u64, StorageError>> + Send + use<> {
        let (done, result) = oneshot::channel();
        let queued = self.handle.clear_scans(|cleared| {
            let _ = done.send(cleared);
        });
        let handle = self.handle.clone();
        async move {
            queued?;
            let records = result.await.map_err(|_| StorageError::Gone)??;
            let events = vec![(now, EventKind::ScansCleared { records, author })];
            if let Err(error) = commit(&handle, Batch { events, ..Batch::default() }).await {
                tracing::error!(%error, "an event was not stored");
            }
            Ok(records)
        }
    }

    /// Removes scan records and events that are past the retention, in the background. `None`: the retention that was
    /// given last, for data that ages out while scan awareness is off.
    pub fn retain(&self, now: UnixMillis, retention: Option<Duration>) {
        let queued = self.handle.retain(now, retention, |done| match done {
            Ok(removed) => tracing::debug!(removed, "old records removed"),
            Err(error) => tracing::error!(%error, "old records stay"),
        });
        if let Err(error) = queued {
            tracing::warn!(%error, "old records stay for now");
        }
    }

    pub fn stats(&self) -> StoreStatus {
        self.handle.stats().unwrap_or_else(|error| {
            tracing::warn!(%error, "the store could not be measured");
            StoreStatus::default()
        })
    }

    async fn commit(&self, batch: Batch) -> Result<Applied, StorageError> {
        commit(&self.handle, batch).await
    }

    /// Commits without waiting; `lost` is what the log says when it fails.
    fn order(&self, batch: Batch, lost: &'static str) {
        let queued = self.handle.commit(batch, move |done| {
            if let Err(error) = done {
                tracing::error!(%error, "{lost}");
            }
        });
        if let Err(error) = queued {
            tracing::error!(%error, "{lost}");
        }
    }
}

async fn commit(handle: &WriterHandle, batch: Batch) -> Result<Applied, StorageError> {
    let (done, result) = oneshot::channel();
    handle.commit(batch, |applied| {
        let _ = done.send(applied);
    })?;
    Ok(result.await.map_err(|_| StorageError::Gone)??)
}

/// The right to read for long.
pub struct Reading {
    store: StoreReader,
    place: OwnedSemaphorePermit,
}

impl Reading {
    /// Reads on a thread of its own, so that the loop goes on.
    pub fn run(self, read: impl FnOnce(&StoreReader) + Send + 'static) {
        tokio::task::spawn_blocking(move || {
            let Self { store, place } = self;
            read(&store);
            drop(place);
        });
    }
}
