//! What is committed together.

use crate::layout::{ScanKey, Tally};
use glacis_control::{Ban, Event, EventKind, ScanHit, UnixMillis};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Changes that reach the disk together or not at all. Hits are the exception: a full store drops and counts
/// them, and commits the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub hits: Vec<ScanHit>,
    /// In this order.
    pub bans: Vec<BanChange>,
    /// Get ascending ids in this order.
    pub events: Vec<(UnixMillis, EventKind)>,
    /// The revision of the policy that now runs.
    pub policy_revision: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanChange {
    /// Replaces the ban of the same prefix.
    Put(Ban),
    Remove(IpNet),
}

/// What came of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    pub events: Vec<Event>,
    /// The bans that were there to be removed, in the order of the batch.
    pub removed: Vec<Ban>,
    /// Scan records that found no room.
    pub dropped: u64,
}

/// Hits, added up per record and in the order of the keys.
#[derive(Debug, Default)]
pub(crate) struct Tallies(BTreeMap<ScanKey, Tally>);

impl Tallies {
    /// Whether the hit was taken: not when it needs a new record and there are `records_max` already.
    pub fn add(&mut self, hit: &ScanHit, records_max: usize) -> bool {
        let key = ScanKey::of(hit);
        let tally = Tally::of(hit);
        if let Some(sum) = self.0.get_mut(&key) {
            *sum = sum.merged(tally);
            return true;
        }
        let room = self.0.len() < records_max;
        if room {
            self.0.insert(key, tally);
        }
        room
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ScanKey, &Tally)> {
        self.0.iter()
    }
}

impl<'a> FromIterator<&'a ScanHit> for Tallies {
    fn from_iter<I: IntoIterator<Item = &'a ScanHit>>(hits: I) -> Self {
        let mut tallies = Self::default();
        for hit in hits {
            tallies.add(hit, usize::MAX);
        }
        tallies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::Protocol;

    fn hit(port: u16, at: u64) -> ScanHit {
        let source = "192.0.2.1".parse().unwrap();
        ScanHit { source, port, protocol: Protocol::Udp, at: UnixMillis(at), hits: 1 }
    }

    #[test]
    fn hits_of_one_record_need_no_further_room() {
        let mut tallies = Tallies::default();
        assert!(tallies.add(&hit(53, 10), 1));
        assert!(tallies.add(&hit(53, 4), 1));
        assert!(!tallies.add(&hit(54, 4), 1));
        let sums: Vec<_> = tallies.iter().map(|(_, tally)| *tally).collect();
        assert_eq!(sums, [Tally { hits: 2, first_ms: 4, last_ms: 10 }]);
    }

    #[test]
    fn midnight_divides_records() {
        let hits = [hit(53, 86_399_999), hit(53, 86_400_000)];
        assert_eq!(hits.iter().collect::<Tallies>().len(), 2);
    }
}
