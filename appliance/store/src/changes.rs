//! Bans, offences, events and clients inside a transaction that someone else owns.

use crate::error::Fault;
use crate::layout;
use crate::tables::Tables;
use crate::{Applied, BanChange, Batch, OffenceChange};
use glacis_control::{Ban, Event, EventKind, UnixMillis};
use heed::{RoTxn, RwTxn};
use ipnet::IpNet;

/// What a transaction may take room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Everything.
    Open,
    /// Not for client records: only the reserve is left.
    Reserve,
}

impl Tables {
    /// All of a batch but its hits.
    pub fn change(&self, txn: &mut RwTxn<'_>, batch: &Batch, room: Room) -> Result<Applied, Fault> {
        let mut applied = Applied::default();
        for change in &batch.bans {
            match change {
                BanChange::Put(ban) => self.put_ban(txn, ban)?,
                BanChange::Remove(source) => applied.removed.extend(self.take_ban(txn, source)?),
            }
        }
        for change in &batch.offences {
            self.change_offences(txn, change)?;
        }
        for (at, kind) in &batch.events {
            applied.events.push(self.append_event(txn, *at, kind)?);
        }
        for client in &batch.forgotten_clients {
            self.forget_client(txn, *client)?;
        }
        applied.dropped = match room {
            Room::Open => self.put_clients(txn, &batch.client_records)?,
            Room::Reserve => batch.client_records.len() as u64,
        };
        Ok(applied)
    }

    fn put_ban(&self, txn: &mut RwTxn<'_>, ban: &Ban) -> Result<(), Fault> {
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

    fn change_offences(&self, txn: &mut RwTxn<'_>, change: &OffenceChange) -> Result<(), Fault> {
        match change {
            OffenceChange::Put(offences) => {
                let key = layout::ban_key(&offences.source);
                self.offences.put(txn, &key, &layout::offences_value(offences))?;
            }
            OffenceChange::Remove(source) => {
                self.offences.delete(txn, &layout::ban_key(source))?;
            }
        }
        Ok(())
    }

    pub fn append_event(
        &self,
        txn: &mut RwTxn<'_>,
        at: UnixMillis,
        kind: &EventKind,
    ) -> Result<Event, Fault> {
        let id = self.next_event(txn)?;
        self.events.put(txn, &id.to_be_bytes(), &layout::event_value(at, kind)?)?;
        self.set_next_event(txn, id + 1)?;
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
}
