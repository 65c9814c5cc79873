//! What is committed together.

use crate::layout::{ScanKey, Tally};
use glacis_control::{Ban, Event, EventKind, Offences, ScanHit, UnixMillis};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Changes that reach the disk together or not at all. Hits are the exception: a full store drops and counts
/// them, and commits the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub hits: Vec<ScanHit>,
    /// In this order.
    pub bans: Vec<BanChange>,
    /// In this order.
    pub offences: Vec<OffenceChange>,
    /// Get ascending ids in this order.
    pub events: Vec<(UnixMillis, EventKind)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanChange {
    /// Replaces the ban of the same prefix.
    Put(Ban),
    Remove(IpNet),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffenceChange {
    /// Replaces what is known about the same prefix.
    Put(Offences),
    /// Forgiven.
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
pub(crate) struct Tallies(Vec<(ScanKey, Tally)>);

impl Tallies {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The records of one day after those of another.
    pub fn days(&self) -> impl Iterator<Item = &[(ScanKey, Tally)]> {
        self.0.chunk_by(|(a, _), (b, _)| a.day == b.day)
    }
}

impl<'a> FromIterator<&'a ScanHit> for Tallies {
    fn from_iter<I: IntoIterator<Item = &'a ScanHit>>(hits: I) -> Self {
        hits.into_iter().map(|hit| (ScanKey::of(hit), Tally::of(hit))).collect()
    }
}

impl FromIterator<(ScanKey, Tally)> for Tallies {
    fn from_iter<I: IntoIterator<Item = (ScanKey, Tally)>>(records: I) -> Self {
        let mut tallies: Vec<_> = records.into_iter().collect();
        // A scanner's ports mostly come in order; the stable sort takes such stretches as they are.
        tallies.sort_by_key(|(key, _)| *key);
        tallies.dedup_by(|(key, tally), (kept_key, kept)| {
            let same = key == kept_key;
            if same {
                *kept = kept.merged(*tally);
            }
            same
        });
        Self(tallies)
    }
}

/// Hits that wait, added up per record.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<ScanKey, Tally>);

impl Pending {
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

    pub fn take(&mut self) -> Tallies {
        Tallies(std::mem::take(&mut self.0).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::{ProbeKinds, Protocol};

    fn hit(port: u16, at: u64) -> ScanHit {
        let source = "192.0.2.1".parse().unwrap();
        ScanHit {
            source,
            port,
            protocol: Protocol::Udp,
            kinds: ProbeKinds::default(),
            at: UnixMillis(at),
            hits: 1,
        }
    }

    #[test]
    fn waiting_hits_of_one_record_need_no_further_room() {
        let mut pending = Pending::default();
        assert!(pending.add(&hit(53, 10), 1));
        assert!(pending.add(&hit(53, 4), 1));
        assert!(!pending.add(&hit(54, 4), 1));
        assert_eq!(
            pending.take().0[0].1,
            Tally { hits: 2, first_ms: 4, last_ms: 10, kinds: ProbeKinds::default() }
        );
        assert!(pending.is_empty());
    }

    #[test]
    fn hits_are_sorted_and_added_up_in_whatever_order_they_come() {
        let hits = [hit(54, 1), hit(53, 9), hit(54, 5), hit(53, 2), hit(54, 3)];
        let tallies: Tallies = hits.iter().collect();
        let sums: Vec<_> =
            tallies.0.iter().map(|(_, tally)| (tally.hits, tally.first_ms, tally.last_ms)).collect();
        assert_eq!(sums, [(2, 2, 9), (3, 1, 5)]);
    }

    #[test]
    fn midnight_divides_records() {
        let hits = [hit(53, 86_399_999), hit(53, 86_400_000), hit(54, 86_400_000)];
        let tallies: Tallies = hits.iter().collect();
        let days: Vec<_> = tallies.days().map(<[_]>::len).collect();
        assert_eq!(days, [1, 2]);
    }
}
