//! How much went by.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were handed on while relays run. Many relays may share one, and anybody may read it at any time.
///
/// One for each thread costs least: a counter that two processors write travels between them.
#[derive(Debug, Default)]
pub struct Tally {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Tally {
    pub const fn new() -> Self {
        Self { to_server: AtomicU64::new(0), to_client: AtomicU64::new(0) }
    }

    /// Bytes that servers' sockets took, first bytes given to [`relay`](crate::relay()) included.
    pub fn to_server(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed)
    }

    /// Bytes that clients' sockets took.
    pub fn to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, to_server: u64, to_client: u64) {
        if to_server > 0 {
            self.to_server.fetch_add(to_server, Ordering::Relaxed);
        }
        if to_client > 0 {
            self.to_client.fetch_add(to_client, Ordering::Relaxed);
        }
    }
}
