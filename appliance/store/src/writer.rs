//! The thread in front of the store.
//!
//! Hits are added up in memory and committed together, and so are records of clients; orders (bans, events) are committed
//! at once, those that wait at the same time in one transaction, and acknowledged afterwards. Nothing here blocks the caller: a queue
//! that is full says so.

use crate::batch::{Pending, Tallies};
use crate::clearing::Clearing;
use crate::queue::{
    Acknowledge, COMMIT_CLIENTS, COMMIT_HITS, COMMIT_INTERVAL, COMMIT_ORDERS, Order, QUEUE_CLIENTS_MAX,
    QUEUE_HITS_MAX, QUEUE_ORDERS_MAX, Queue,
};
use crate::retention::Retained;
use crate::store::Locate;
use crate::upgrade::Upgraded;
use crate::{Applied, Batch, Store, StoreError, StoreReader, layout};
use glacis_control::gate::ClientRecord;
use glacis_control::report::StoreStatus;
use glacis_control::scan_query::Location;
use glacis_control::{Ban, ScanHit, UnixMillis};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the slots of dead readers are looked for.
const STALE_READERS_INTERVAL: Duration = Duration::from_secs(60);

/// As many orders wait as may, or the writer has stopped. Nothing was queued, nothing will be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot keep up or has stopped; the order was not queued")]
pub struct QueueFull;

/// Owner of the writer's thread. Dropping it commits what waits and ends the thread.
#[derive(Debug)]
pub struct Writer {
    handle: WriterHandle,
    thread: Option<JoinHandle<()>>,
}

/// Gives work to the writer; cheap to clone.
#[derive(Debug, Clone)]
pub struct WriterHandle {
    shared: Arc<Shared>,
    reader: StoreReader,
}

impl Writer {
    /// `locate` is called on the writer's thread, for a source that is new on its day.
    pub fn spawn(
        store: Store,
        locate: impl Fn(IpAddr) -> Location + Send + 'static,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            store,
            queue: Mutex::default(),
            wake: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let reader = shared.store.reader();
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(&locate))
            .map_err(StoreError::Thread)?;
        Ok(Self { handle: WriterHandle { shared, reader }, thread: Some(thread) })
    }

    pub fn handle(&self) -> WriterHandle {
        self.handle.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.handle.shared.lock().stopping = true;
        self.handle.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

impl WriterHandle {
    /// Whether the hit was taken. It is committed within [`COMMIT_INTERVAL`]; one that is not taken is counted.
    pub fn try_record(&self, hit: &ScanHit) -> bool {
        let mut queue = self.shared.lock();
        let before = queue.hits.len();
        let taken = !queue.stopping && queue.hits.add(hit, QUEUE_HITS_MAX);
        let waiting = queue.hits.len();
        if waiting > before && before == 0 {
            queue.hits_due = Some(Instant::now() + COMMIT_INTERVAL);
        }
        drop(queue);
        if !taken {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // The first hit starts the clock, the last one that a commit waits for ends it.
        if waiting > before && (before == 0 || waiting == COMMIT_HITS) {
            self.shared.wake.notify_one();
        }
        taken
    }

    /// Whether the record was taken: not when too many wait, or when no gate makes such a record. It is committed within
    /// [`COMMIT_INTERVAL`], unless a newer one of its client comes first; one that is not taken is counted.
    pub fn try_learn(&self, record: ClientRecord) -> bool {
        let mut queue = self.shared.lock();
        let before = queue.clients.len();
        let room = before < QUEUE_CLIENTS_MAX || queue.clients.contains_key(&record.client);
        let taken = !queue.stopping && room && layout::is_storable(&record);
        if taken {
            queue.clients.insert(record.client, record);
        }
        let waiting = queue.clients.len();
        if waiting > before && before == 0 {
            queue.clients_due = Some(Instant::now() + COMMIT_INTERVAL);
        }
        drop(queue);
        if !taken {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if waiting > before && (before == 0 || waiting == COMMIT_CLIENTS) {
            self.shared.wake.notify_one();
        }
        taken
    }

    /// Queues changes that belong together. `done` learns when they are on disk. Records that wait of clients that the
    /// batch speaks of are older than it, and go.
    pub fn commit(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<Applied, Arc<StoreError>>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        self.order(Order::Apply(batch, Box::new(done)))
    }

    /// Queues [`Store::expire_bans`].
    pub fn expire_bans(
        &self,
        now: UnixMillis,
        done: impl FnOnce(Result<Vec<Ban>, Arc<StoreError>>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        self.order(Order::Expire(now, Box::new(done)))
    }

    /// Queues [`Store::retain`]. It goes in steps, with other orders and hits between them.
    pub fn retain(
        &self,
        now: UnixMillis,
        retention: Option<Duration>,
        done: impl FnOnce(Result<u64, Arc<StoreError>>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        self.order(Order::Retain { now, retention, removed: 0, done: Box::new(done) })
    }

    /// Queues [`Store::clear_scans`]. It goes in steps, with other orders between them. Hits that wait when it begins go
    /// too; those that come later are kept, and wait until it is done.
    pub fn clear_scans(
        &self,
        done: impl FnOnce(Result<u64, Arc<StoreError>>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        self.order(Order::Clear { begun: None, done: Box::new(done) })
    }

    /// Reads in this process; does not wait for the writer.
    pub fn reader(&self) -> &StoreReader {
        &self.reader
    }

    /// `dropped` includes what the queue refused.
    pub fn stats(&self) -> Result<StoreStatus, StoreError> {
        let mut status = self.shared.store.stats()?;
        status.dropped += self.shared.dropped.load(Ordering::Relaxed);
        Ok(status)
    }

    fn order(&self, order: Order) -> Result<(), QueueFull> {
        let mut queue = self.shared.lock();
        if queue.stopping || queue.orders.len() >= QUEUE_ORDERS_MAX {
            return Err(QueueFull);
        }
        if let Order::Apply(batch, _) = &order {
            queue.drop_records_before(batch);
        }
        queue.orders.push_back(order);
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }
}

#[derive(Debug)]
struct Shared {
    store: Store,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Hits and client records that the queue refused.
    dropped: AtomicU64,
}

/// What the thread does next.
enum Work {
    Orders(Vec<Order>),
    Waiting(Tallies, Vec<ClientRecord>),
    StaleReaders,
    Upgrade,
    Stop,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No step between two changes of the queue can panic and leave it half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, locate: Locate<'_>) {
        let mut stale_readers_due = Instant::now();
        let mut upgrading = true;
        loop {
            match self.next_work(stale_readers_due, upgrading) {
                Work::Upgrade => upgrading = self.upgrade(locate),
                Work::Orders(orders) => self.carry_out(orders, locate),
                Work::Waiting(tallies, clients) => {
                    self.record(&tallies, locate);
                    self.learn(&clients);
                }
                Work::StaleReaders => {
                    self.clear_stale_readers();
                    stale_readers_due = Instant::now() + STALE_READERS_INTERVAL;
                }
                Work::Stop => return,
            }
        }
    }

    /// Waits for work.
    fn next_work(&self, stale_readers_due: Instant, upgrading: bool) -> Work {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            if let Some((hits, clients)) = queue.take_waiting(now) {
                return Work::Waiting(hits, clients);
            }
            if !queue.orders.is_empty() {
                queue.waiting_went_last = false;
                let count = queue.orders.len().min(COMMIT_ORDERS);
                return Work::Orders(queue.orders.drain(..count).collect());
            }
            if queue.stopping {
                return Work::Stop;
            }
            if stale_readers_due <= now {
                return Work::StaleReaders;
            }
            if upgrading {
                return Work::Upgrade;
            }
            let due = queue.due().map_or(stale_readers_due, |due| due.min(stale_readers_due));
            let wait = due.saturating_duration_since(now);
            queue = self.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn record(&self, tallies: &Tallies, locate: Locate<'_>) {
        match self.store.record_tallies(tallies, locate) {
            Ok(0) => {}
            Ok(dropped) => tracing::warn!(dropped, "store full, scan records dropped"),
            Err(error) => tracing::error!(%error, records = tallies.len(), "scan records lost"),
        }
    }

    fn learn(&self, records: &[ClientRecord]) {
        match self.store.learn(records) {
            Ok(0) => {}
            Ok(dropped) => tracing::warn!(dropped, "store full, client records dropped"),
            Err(error) => tracing::error!(%error, records = records.len(), "client records lost"),
        }
    }

    /// Neighbouring batches share a transaction and keep their order with the other orders.
    fn carry_out(&self, orders: Vec<Order>, locate: Locate<'_>) {
        let mut batches = Vec::new();
        let mut waiting = Vec::new();
        for order in orders {
            if let Order::Apply(batch, done) = order {
                batches.push(batch);
                waiting.push(done);
            } else {
                self.apply(&std::mem::take(&mut batches), std::mem::take(&mut waiting), locate);
                self.carry_out_one(order, locate);
            }
        }
        self.apply(&batches, waiting, locate);
    }

    fn carry_out_one(&self, order: Order, locate: Locate<'_>) {
        match order {
            Order::Apply(batch, done) => self.apply(&[batch], vec![done], locate),
            Order::Clear { begun, done } => self.clear(begun, done),
            Order::Expire(now, done) => done(self.store.expire_bans(now).map_err(Arc::new)),
            Order::Retain { now, retention, removed, done } => match self.store.retain_step(now, retention) {
                Ok(Retained::All(records)) => done(Ok(removed + records)),
                Ok(Retained::Some(records)) => {
                    let removed = removed + records;
                    self.lock().orders.push_back(Order::Retain { now, retention, removed, done });
                }
                Err(error) => done(Err(Arc::new(error))),
            },
        }
    }

    /// One step of a clearing, with other orders before the next one.
    fn clear(&self, begun: Option<u64>, done: Acknowledge<u64>) {
        let outcome = match begun {
            None => {
                let mut queue = self.lock();
                queue.hits = Pending::default();
                queue.hits_due = None;
                drop(queue);
                self.store.begin_clearing().map(|records| (records, Clearing::Some))
            }
            Some(records) => self.store.clear_step().map(|clearing| (records, clearing)),
        };
        let mut queue = self.lock();
        queue.clearing = matches!(outcome, Ok((_, Clearing::Some)));
        match outcome {
            Ok((records, Clearing::Some)) => {
                queue.orders.push_back(Order::Clear { begun: Some(records), done });
            }
            Ok((records, Clearing::Done)) => {
                drop(queue);
                done(Ok(records));
            }
            Err(error) => {
                drop(queue);
                done(Err(Arc::new(error)));
            }
        }
    }

    fn apply(&self, batches: &[Batch], waiting: Vec<Acknowledge<Applied>>, locate: Locate<'_>) {
        if batches.is_empty() {
            return;
        }
        match self.store.apply_all(batches, locate) {
            Ok(applied) => {
                for (done, applied) in waiting.into_iter().zip(applied) {
                    done(Ok(applied));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for done in waiting {
                    done(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// One step, with other work before the next one. Returns whether there is more to do.
    fn upgrade(&self, locate: Locate<'_>) -> bool {
        match self.store.upgrade_step(locate) {
            Ok(Upgraded::Some) => return true,
            Ok(Upgraded::All) => {}
            Ok(Upgraded::Lost(records)) => {
                tracing::warn!(records, "store full, its oldest scan records dropped");
            }
            Err(error) => tracing::error!(%error, "scan records of layout 1 stay until the next start"),
        }
        false
    }

    fn clear_stale_readers(&self) {
        match self.store.clear_stale_readers() {
            Ok(0) => {}
            Ok(readers) => tracing::info!(readers, "slots of dead readers freed"),
            Err(error) => tracing::warn!(%error, "dead readers not looked for"),
        }
    }
}
