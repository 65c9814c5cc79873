//! What the appliance remembers: scans, bans, events and the clients of gates, in one LMDB environment.
//!
//! Owns the layout on disk, the one [`Store`] that writes, the [`Writer`] thread in front of it and the
//! [`StoreReader`] that the status worker and the command line read with. It decides nothing: who is banned
//! and for how long is the core's business.
//!
//! A commit that adds to a record adds in the same transaction to everything that is counted from it, so that
//! questions over a year are answered from roll-ups. Every byte is described in [`layout`] and in `docs/store.md`.
//!
//! **Durability.** What a call returned as committed is on disk: LMDB runs with its defaults, without `NOSYNC`
//! and `NOMETASYNC`. Killing the process at any moment loses nothing that was committed.
//!
//! **Bounds.** The file grows by doubling up to [`Bounds::bytes_max`]. Scans and clients may fill it up to
//! [`RESERVE_BYTES`] below that; from there on they are refused and counted in `dropped`, while bans, events
//! and the removal of old days use the reserve. Retention makes room again.

mod batch;
mod changes;
mod clearing;
mod clients;
mod environment;
mod error;
pub mod layout;
mod query;
mod queue;
mod reader;
mod retention;
mod rollup;
mod sketch;
mod store;
mod tables;
mod upgrade;
mod writer;

pub use batch::{Applied, BanChange, Batch, OffenceChange};
pub use clients::CLIENTS_MAX;
pub use error::StoreError;
pub use queue::{
    Acknowledge, COMMIT_CLIENTS, COMMIT_HITS, COMMIT_INTERVAL, QUEUE_CLIENTS_MAX, QUEUE_HITS_MAX,
};
pub use reader::{StoreReader, Totals};
pub use store::{Locate, RETENTION_DEFAULT, Store};
pub use writer::{QueueFull, Writer, WriterHandle};

/// Kept free of scans, in bytes, so that a store full of them still takes bans and can delete.
pub const RESERVE_BYTES: usize = 8 << 20;

/// How far a store may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Size of the map of a new store; rounded up to whole pages.
    pub bytes_initial: usize,
    /// Size that the file never exceeds; at least twice [`RESERVE_BYTES`].
    pub bytes_max: usize,
    /// The oldest events go when there are more.
    pub events_max: u64,
}

impl Default for Bounds {
    /// 64 MiB at first, 2 GiB at most, 100,000 events.
    fn default() -> Self {
        Self { bytes_initial: 64 << 20, bytes_max: 2 << 30, events_max: 100_000 }
    }
}

impl Bounds {
    /// Where the growth for scans ends.
    fn scan_bytes_max(&self) -> usize {
        self.bytes_max - RESERVE_BYTES
    }

    fn checked(self) -> Result<Self, StoreError> {
        let whole = |bytes: usize| bytes.next_multiple_of(environment::PAGE_BYTES);
        let bounds = Self {
            bytes_initial: whole(self.bytes_initial),
            bytes_max: whole(self.bytes_max),
            events_max: self.events_max,
        };
        if bounds.bytes_max < 2 * RESERVE_BYTES || bounds.bytes_initial > bounds.scan_bytes_max() {
            return Err(StoreError::Bounds(self));
        }
        Ok(bounds)
    }
}
