//! What all threads of the worker share.

use super::backend::Change;
use super::banned::Banned;
use super::counter::GateCounter;
use super::flight::Flights;
use super::gate::Gate;
use super::places::{Place, Places};
use crate::book::Book;
use crate::feed::FromWorker;
use glacis_control::UnixMillis;
use glacis_probe::{ProbeError, Proofs};
use rustix::process::Resource;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Messages that wait for the core. Beyond, verdicts are lost, which costs a new look after the next start.
pub const MESSAGES_MAX: usize = 8_192;
/// Connections that wait for a verdict, of all clients. Beyond, there is no budget to look at them.
const WAITING_MAX: usize = 16_384;
/// Connections that are refused with care, each for some seconds at the most. Others are closed as they are, which may
/// reset them: whoever is refused must not take the place of those who are not.
const REFUSED_WITH_CARE_MAX: usize = 1_024;
/// Descriptors of a relayed connection.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Part of the descriptors that is kept for looks, pipes, listening sockets and the rest.
const DESCRIPTORS_RESERVED: u64 = 4;
/// Between two log lines about looks that failed.
const TROUBLE_EVERY: Duration = Duration::from_secs(10);

/// What is known of clients before anybody looks.
#[derive(Debug, Default)]
pub struct Known {
    pub book: Book,
    pub banned: Banned,
}

pub struct Shared {
    known: RwLock<Known>,
    pub flights: Flights,
    pub proofs: Proofs,
    connections: Arc<AtomicUsize>,
    connections_max: usize,
    waiting: Arc<Places>,
    refused: Arc<AtomicUsize>,
    core: mpsc::Sender<FromWorker>,
    /// A backend was taken out of service or in.
    pub backends_changed: Notify,
    began: Instant,
    /// Milliseconds since `began`.
    told_trouble: AtomicU64,
}

impl Shared {
    pub fn new(core: mpsc::Sender<FromWorker>) -> Self {
        let files = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let usable = files - files / DESCRIPTORS_RESERVED;
        Self {
            known: RwLock::default(),
            flights: Flights::default(),
            proofs: Proofs::new(),
            connections: Arc::default(),
            connections_max: usize::try_from(usable / DESCRIPTORS_PER_CONNECTION).unwrap_or(usize::MAX),
            waiting: Places::new(WAITING_MAX),
            refused: Arc::default(),
            core,
            backends_changed: Notify::new(),
            began: Instant::now(),
            told_trouble: AtomicU64::new(0),
        }
    }

    /// A panic ends the process, so a poisoned lock is never met.
    pub fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: as many connections are open as descriptors allow.
    pub fn connection(&self) -> Option<Slot> {
        Slot::take(&self.connections, self.connections_max)
    }

    /// `None`: as many connections wait as may, of all clients or of this one's network.
    pub fn waiting(&self, client: IpAddr) -> Option<Place> {
        self.waiting.take(client)
    }

    /// `None`: there is no care left.
    pub fn refused(&self) -> Option<Slot> {
        Slot::take(&self.refused, REFUSED_WITH_CARE_MAX)
    }

    /// Tells the core what came of a look, or counts that it could not be told.
    pub fn judged(&self, thread: usize, gate: &Gate, message: FromWorker) {
        if self.core.try_send(message).is_err() {
            gate.state.count(thread, GateCounter::JudgedLost);
        }
    }

    /// For messages that are not to be lost and whose sender can wait.
    pub fn core(&self) -> &mpsc::Sender<FromWorker> {
        &self.core
    }

    pub fn backend_changed(&self, change: Change) {
        if change == Change::Turned {
            self.backends_changed.notify_one();
        }
    }

    /// Logs that a look failed by an error of ours; the counter tells how often it did.
    pub fn trouble(&self, gate: &Gate, error: &ProbeError) {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let before = self.told_trouble.load(Ordering::Relaxed);
        let is_due = before == 0 || now.saturating_sub(before) >= TROUBLE_EVERY.as_millis() as u64;
        if is_due
            && self.told_trouble.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let failed = gate.state.counters.total(GateCounter::LooksFailed);
            tracing::warn!(gate = gate.plan.name, %error, failed, "clients cannot be looked at");
        }
    }
}

/// One of a bounded number, until it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Slot {
    pub fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Self(Arc::clone(taken)));
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub fn now() -> UnixMillis {
    UnixMillis::from_system(SystemTime::now())
}
