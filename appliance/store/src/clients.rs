//! What gates know of clients, inside a transaction that someone else owns.
//!
//! `clients` holds the records by their address, `clients-by-seen` their order in time. Both change together.

use crate::error::Fault;
use crate::layout;
use crate::tables::Tables;
use glacis_control::UnixMillis;
use glacis_control::gate::ClientRecord;
use heed::{RoTxn, RwTxn};
use ipnet::IpNet;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::ops::Bound;

/// Clients that the store remembers; one more takes the place of the one that was seen longest ago.
pub const CLIENTS_MAX: u64 = 65_536;

impl Tables {
    /// Replaces what is known of these clients. Returns how many records were none, which are left out.
    pub fn put_clients(&self, txn: &mut RwTxn<'_>, records: &[ClientRecord]) -> Result<u64, Fault> {
        let mut refused = 0;
        for record in records {
            if layout::is_storable(record) {
                self.put_client(txn, record)?;
            } else {
                refused += 1;
            }
        }
        while self.clients.len(txn)? > CLIENTS_MAX {
            let Some((key, _)) = self.clients_by_seen.first(txn)? else { break };
            let (_, client) = layout::parse_client_seen_key(key)?;
            self.forget_client(txn, client)?;
        }
        Ok(refused)
    }

    fn put_client(&self, txn: &mut RwTxn<'_>, record: &ClientRecord) -> Result<(), Fault> {
        let key = layout::client_key(record.client);
        if let Some(value) = self.clients.get(txn, &key)? {
            let seen = layout::client_seen(value)?;
            self.clients_by_seen.delete(txn, &layout::client_seen_key(seen, record.client))?;
        }
        self.clients.put(txn, &key, &layout::client_value(record))?;
        self.clients_by_seen.put(txn, &layout::client_seen_key(record.seen, record.client), &[])?;
        Ok(())
    }

    pub fn forget_client(&self, txn: &mut RwTxn<'_>, client: IpAddr) -> Result<(), Fault> {
        let key = layout::client_key(client);
        let Some(value) = self.clients.get(txn, &key)? else { return Ok(()) };
        let seen = layout::client_seen(value)?;
        self.clients_by_seen.delete(txn, &layout::client_seen_key(seen, client))?;
        self.clients.delete(txn, &key)?;
        Ok(())
    }

    /// `None` when nothing is known, or nothing any more.
    pub fn client(
        &self,
        txn: &RoTxn<'_>,
        now: UnixMillis,
        client: IpAddr,
    ) -> Result<Option<ClientRecord>, Fault> {
        let key = layout::client_key(client);
        let Some(value) = self.clients.get(txn, &key)? else { return Ok(None) };
        Ok(live(layout::parse_client(&key, value)?, now))
    }

    /// In the order of their addresses.
    pub fn live_clients(&self, txn: &RoTxn<'_>, now: UnixMillis) -> Result<Vec<ClientRecord>, Fault> {
        let mut clients = Vec::new();
        for entry in self.clients.iter(txn)? {
            let (key, value) = entry?;
            clients.extend(live(layout::parse_client(key, value)?, now));
        }
        Ok(clients)
    }

    /// Clients of which nothing is known any more, at most so many.
    pub fn clients_over(&self, txn: &RoTxn<'_>, now: UnixMillis, limit: usize) -> Result<Vec<IpAddr>, Fault> {
        let mut over = Vec::new();
        for entry in self.clients.iter(txn)? {
            let (key, value) = entry?;
            let record = layout::parse_client(key, value)?;
            if record.findings.iter().all(|finding| finding.until <= now) {
                over.push(record.client);
                if over.len() == limit {
                    break;
                }
            }
        }
        Ok(over)
    }

    pub fn newest_clients(
        &self,
        txn: &RoTxn<'_>,
        now: UnixMillis,
        limit: usize,
        passes: impl Fn(&ClientRecord) -> bool,
    ) -> Result<Vec<ClientRecord>, Fault> {
        let mut newest = Vec::new();
        for entry in self.clients_by_seen.rev_iter(txn)? {
            if newest.len() == limit {
                break;
            }
            let (_, client) = layout::parse_client_seen_key(entry?.0)?;
            newest.extend(self.client(txn, now, client)?.filter(|record| passes(record)));
        }
        Ok(newest)
    }

    /// The addresses of a network lie together, their times do not: all of them are ordered, and the first ones read.
    pub fn newest_clients_within(
        &self,
        txn: &RoTxn<'_>,
        now: UnixMillis,
        limit: usize,
        within: IpNet,
    ) -> Result<Vec<ClientRecord>, Fault> {
        let first = layout::client_key(within.network());
        let last = layout::client_key(within.broadcast());
        let range = (Bound::Included(&*first), Bound::Included(&*last));
        let mut entries = Vec::new();
        for entry in self.clients.range(txn, &range)? {
            let (key, value) = entry?;
            entries.push((Reverse(layout::client_seen(value)?), Reverse(key), value));
        }
        entries.sort_unstable();
        let mut newest = Vec::new();
        for (_, Reverse(key), value) in entries {
            if newest.len() == limit {
                break;
            }
            newest.extend(live(layout::parse_client(key, value)?, now));
        }
        Ok(newest)
    }
}

/// What still holds of a record; `None` when nothing does.
fn live(mut record: ClientRecord, now: UnixMillis) -> Option<ClientRecord> {
    record.findings.retain(|finding| finding.until > now);
    (!record.findings.is_empty()).then_some(record)
}
