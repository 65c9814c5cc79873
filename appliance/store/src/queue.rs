//! What waits for the writer's thread: hits and client records, added up in memory, and orders.

use crate::batch::{Pending, Tallies};
use crate::{Applied, Batch, StoreError};
use glacis_control::gate::ClientRecord;
use glacis_control::{Ban, UnixMillis};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hits and client records wait no longer than this.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// So many scan records are committed without waiting longer. Records of one commit share the pages that LMDB copies
/// and writes, so a larger one writes less per record; a ban that comes meanwhile waits for it, some tens of
/// milliseconds.
pub const COMMIT_HITS: usize = 32_768;
/// So many sources' records, and those of so many ports, share a commit at most: every source and every port has roll-ups
/// of its own, and LMDB holds each page that a commit touches in memory until it is written.
pub const COMMIT_SOURCES: usize = 4_096;
pub const COMMIT_PORTS: usize = 4_096;
/// Scan records that wait in memory; a hit that needs one more is dropped and counted.
pub const QUEUE_HITS_MAX: usize = 65_536;
/// So many client records are committed without waiting longer.
pub const COMMIT_CLIENTS: usize = 4_096;
/// Clients whose records wait in memory; the record of one more is dropped and counted.
pub const QUEUE_CLIENTS_MAX: usize = 16_384;
/// Orders that wait in memory; one more is refused.
pub(crate) const QUEUE_ORDERS_MAX: usize = 4096;
/// Orders in one transaction.
pub(crate) const COMMIT_ORDERS: usize = 256;
/// Called on the writer's thread with what came of an order; must not block.
pub type Acknowledge<T> = Box<dyn FnOnce(Result<T, Arc<StoreError>>) + Send>;

/// What is to be done at once, and who hears of it.
pub(crate) enum Order {
    Apply(Batch, Acknowledge<Applied>),
    Expire(UnixMillis, Acknowledge<Vec<Ban>>),
    /// `begun` with the number of records that there were.
    Clear {
        begun: Option<u64>,
        done: Acknowledge<u64>,
    },
    Retain {
        now: UnixMillis,
        retention: Option<Duration>,
        removed: u64,
        done: Acknowledge<u64>,
    },
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Apply(..) => "Apply",
            Self::Expire(..) => "Expire",
            Self::Clear { .. } => "Clear",
            Self::Retain { .. } => "Retain",
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub hits: Pending,
    /// When the hits are to be committed; `None` while there are none.
    pub hits_due: Option<Instant>,
    /// The newest of each client.
    pub clients: HashMap<IpAddr, ClientRecord>,
    /// When the client records are to be committed; `None` while there are none.
    pub clients_due: Option<Instant>,
    pub orders: VecDeque<Order>,
    /// Hits or client records were committed after the last orders were.
    pub waiting_went_last: bool,
    /// A clearing has begun and is among the orders: hits wait for it, or they would have to finish it.
    pub clearing: bool,
    pub stopping: bool,
}

impl Queue {
    /// Records that wait of clients that the batch speaks of are older than it.
    pub fn drop_records_before(&mut self, batch: &Batch) {
        if self.clients.is_empty() {
            return;
        }
        let replaced = batch.client_records.iter().map(|record| &record.client);
        for client in batch.forgotten_clients.iter().chain(replaced) {
            self.clients.remove(client);
        }
        if self.clients.is_empty() {
            self.clients_due = None;
        }
    }

    /// What does not wait longer; it and orders take turns, so that neither starves the other.
    pub fn take_waiting(&mut self, now: Instant) -> Option<(Tallies, Vec<ClientRecord>)> {
        let turn = self.orders.is_empty() || !self.waiting_went_last;
        let is_over = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let hits = is_over(self.hits_due) || self.hits.len() >= COMMIT_HITS;
        let hits = !self.clearing && (hits || (self.stopping && !self.hits.is_empty()));
        let clients = is_over(self.clients_due) || self.clients.len() >= COMMIT_CLIENTS;
        let clients = clients || (self.stopping && !self.clients.is_empty());
        if !turn || !(hits || clients) {
            return None;
        }
        self.waiting_went_last = true;
        let mut tallies = Tallies::default();
        if hits {
            tallies = self.hits.take();
            self.hits_due = (!self.hits.is_empty()).then_some(now);
        }
        let mut records = Vec::new();
        if clients {
            self.clients_due = None;
            records = std::mem::take(&mut self.clients).into_values().collect();
        }
        Some((tallies, records))
    }

    /// When something that waits is to be committed.
    pub fn due(&self) -> Option<Instant> {
        self.hits_due.into_iter().chain(self.clients_due).min()
    }
}
