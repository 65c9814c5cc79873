//! Targets of a day, and its port numbers.

use super::{Adding, SKETCH_FROM, raise, rank, rank_key, sketch_key};
use crate::error::Fault;
use crate::layout::{Key, PortSum, ScanKey, Subject, Target};
use crate::sketch::Mark;
use heed::RwTxn;
use std::net::IpAddr;

/// Ports whose bits share a value.
pub(crate) const PART_PORTS: u16 = 4096;
/// Bytes of such a value.
pub(crate) const PART_BYTES: usize = PART_PORTS as usize / 8;

impl Adding<'_> {
    /// Carries out what the day's records asked of its ports.
    pub(super) fn add_ports(&mut self, txn: &mut RwTxn<'_>) -> Result<(), Fault> {
        let super::Changes { mut hits, mut fresh } = std::mem::take(&mut self.changes);
        fresh.sort_unstable();
        for (target, source) in &fresh {
            let key = ScanKey { day: self.day, source: *source, target: *target };
            self.tables.by_port.put(txn, &key.by_port(), &[])?;
        }
        hits.sort_unstable();
        let mut fresh = &fresh[..];
        let mut new_ports = Vec::new();
        for of_target in hits.chunk_by(|(a, _), (b, _)| a == b) {
            let (target, _) = of_target[0];
            let count = fresh.iter().take_while(|(fresh, _)| *fresh == target).count();
            let (of_this, others) = fresh.split_at(count);
            fresh = others;
            let added = of_target.iter().fold(0u64, |sum, (_, hits)| sum.saturating_add(*hits));
            if self.add_port(txn, target, added, of_this)? {
                new_ports.push(target.port);
            }
        }
        self.add_port_numbers(txn, &mut new_ports)
    }

    /// Returns whether the target is new on this day.
    fn add_port(
        &self,
        txn: &mut RwTxn<'_>,
        target: Target,
        hits: u64,
        fresh: &[(Target, IpAddr)],
    ) -> Result<bool, Fault> {
        let key = Key::of_day(self.day).with_target(target);
        let stored = self.tables.ports.get(txn, &key)?.map(PortSum::parse).transpose()?;
        let before = stored.unwrap_or_default();
        let sum = PortSum {
            hits: before.hits.saturating_add(hits),
            sources: before.sources.saturating_add(fresh.len() as u32),
        };
        self.tables.ports.put(txn, &key, &sum.bytes())?;
        let ranked = |grade| rank_key(self.day, Subject::Target, grade).with_target(target);
        rank(self.tables, txn, ranked, (before.hits, sum.hits))?;
        if sum.sources > SKETCH_FROM && !fresh.is_empty() {
            let mut marks: Vec<_> = if before.sources > SKETCH_FROM {
                fresh.iter().map(|(_, source)| Mark::of_source(*source)).collect()
            } else {
                let records = self.tables.by_port.prefix_iter(txn, &key)?;
                let marks = records
                    .map(|entry| Ok::<_, Fault>(Mark::of_source(ScanKey::parse_by_port(entry?.0)?.source)));
                marks.collect::<Result<_, _>>()?
            };
            let key = sketch_key(self.day, Subject::Target).with_target(target);
            raise(self.tables.sketches, txn, key, &mut marks)?;
        }
        Ok(stored.is_none())
    }

    /// Sets the bits of port numbers, whatever their protocol.
    fn add_port_numbers(&self, txn: &mut RwTxn<'_>, ports: &mut [u16]) -> Result<(), Fault> {
        ports.sort_unstable();
        for of_part in ports.chunk_by(|a, b| a / PART_PORTS == b / PART_PORTS) {
            let part = (of_part[0] / PART_PORTS) as u8;
            let key = Key::of_day(self.day).with(&[part]);
            let mut bits = [0u8; PART_BYTES];
            if let Some(stored) = self.tables.port_numbers.get(txn, &key)? {
                for (to, from) in bits.iter_mut().zip(stored) {
                    *to = *from;
                }
            }
            for port in of_part {
                let bit = port % PART_PORTS;
                bits[usize::from(bit / 8)] |= 1 << (bit % 8);
            }
            self.tables.port_numbers.put(txn, &key, &bits)?;
        }
        Ok(())
    }
}
