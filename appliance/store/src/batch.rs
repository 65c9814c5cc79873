//! What is committed together.

use crate::layout::{ScanKey, Tally};
use crate::queue::{COMMIT_HITS, COMMIT_PORTS, COMMIT_SOURCES};
use glacis_control::gate::ClientRecord;
use glacis_control::{Ban, Event, EventKind, Offences, ScanHit, UnixMillis};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

/// Changes that reach the disk together or not at all. Hits and client records are the exception: a full store drops
/// and counts them, and commits the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub hits: Vec<ScanHit>,
    /// In this order.
    pub bans: Vec<BanChange>,
    /// In this order.
    pub offences: Vec<OffenceChange>,
    /// Get ascending ids in this order.
    pub events: Vec<(UnixMillis, EventKind)>,
    /// Before `client_records`.
    pub forgotten_clients: Vec<IpAddr>,
    /// Each takes the place of all that was known of its client.
    pub client_records: Vec<ClientRecord>,
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
    /// Scan and client records that found no room.
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

    /// Takes as much as one commit may hold, in the order of the keys; the rest waits for the next.
    pub fn take(&mut self) -> Tallies {
        let rest = match self.first_beyond_a_commit() {
            Some(key) => self.0.split_off(&key),
            None => BTreeMap::new(),
        };
        Tallies(std::mem::replace(&mut self.0, rest).into_iter().collect())
    }

    /// The first record that is one too many, or whose source or port is.
    fn first_beyond_a_commit(&self) -> Option<ScanKey> {
        let (mut sources, mut ports) = (0, HashSet::new());
        let mut source = None;
        for (records, key) in self.0.keys().enumerate() {
            if source != Some((key.day, key.source)) {
                source = Some((key.day, key.source));
                sources += 1;
            }
            ports.insert((key.target.protocol, key.target.port));
            if records == COMMIT_HITS || sources > COMMIT_SOURCES || ports.len() > COMMIT_PORTS {
                return Some(*key);
            }
        }
        None
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
    fn a_commit_takes_so_many_sources_and_ports_and_the_rest_waits() {
        let from =
            |source: u32, port| ScanHit { source: std::net::Ipv4Addr::from(source).into(), ..hit(port, 4) };
        let mut pending = Pending::default();
        for source in 0..COMMIT_SOURCES as u32 + 5 {
            assert!(pending.add(&from(source, 53), usize::MAX));
        }
        assert_eq!((pending.take().len(), pending.take().len()), (COMMIT_SOURCES, 5));
        assert!(pending.is_empty());
        for port in 0..COMMIT_PORTS as u16 + 7 {
            assert!(pending.add(&from(1, port), usize::MAX));
        }
        assert_eq!((pending.take().len(), pending.take().len()), (COMMIT_PORTS, 7));
        for (source, port) in (0..64).flat_map(|source| (0..600).map(move |port| (source, port))) {
            assert!(pending.add(&from(source, port), usize::MAX));
        }
        assert_eq!((pending.take().len(), pending.take().len()), (COMMIT_HITS, 64 * 600 - COMMIT_HITS));
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
