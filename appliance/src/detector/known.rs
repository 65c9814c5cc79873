//! Cumulative counts to differences: what the kernel told of each key the last time.

use super::ProbeKey;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

/// Probe keys per generation: the size of the kernel's own table, so that one sweep of it never pushes out what
/// it is about to ask for.
const KEYS_PER_GENERATION: usize = 65_536;
/// Sources whose echoes are remembered, per generation.
const ECHOES_PER_GENERATION: usize = 16_384;

/// A map that remembers what was touched last: everything of the younger generation, and what is left of the one
/// before. When the younger is full, the older is forgotten whole, so forgetting costs each entry the same little.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Copy> Recent<K, V> {
    /// What is known of a key; [`Self::put`] is to follow.
    fn take(&mut self, key: &K) -> Option<V> {
        self.young.get(key).copied().or_else(|| self.old.remove(key))
    }

    /// Remembers, and hands each value that is forgotten for it to `forgotten`.
    fn put(&mut self, key: K, value: V, per_generation: usize, forgotten: impl FnMut(&V)) {
        if self.young.len() >= per_generation && !self.young.contains_key(&key) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.values().for_each(forgotten);
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// What the kernel counted for a key since it made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// When the kernel made the key: tells it from a later one of the same name.
    pub first: u64,
    pub hits: u64,
    /// When the last hit came.
    pub at: Duration,
}

/// Last counts of the keys that were probed lately.
#[derive(Debug, Default)]
pub(super) struct KnownCounts {
    counts: Recent<ProbeKey, Count>,
    /// The newest making and the newest hit of a forgotten key: what is not newer may have been counted already.
    forgotten: Option<(u64, Duration)>,
    undercounted: u64,
}

impl KnownCounts {
    /// Hits since the last count of the key. Counts may come late: a sweep can overtake an event.
    pub fn difference(&mut self, key: ProbeKey, count: Count) -> u64 {
        let (new, kept) = match (self.counts.take(&key), self.forgotten) {
            (Some(known), _) if count.first < known.first => (0, known),
            (Some(known), _) if count.first == known.first => {
                let (hits, at) = (count.hits.max(known.hits), count.at.max(known.at));
                (hits - known.hits, Count { hits, at, ..count })
            }
            // What it had when it was forgotten is not known. A hit since then is one at least; the rest is lost.
            (None, Some((first, at))) if count.first <= first => {
                self.undercounted += u64::from(count.hits > 1);
                (u64::from(count.at > at), count)
            }
            _ => (count.hits, count),
        };
        self.learn(key, kept);
        new
    }

    /// Takes a count as already told.
    pub fn learn(&mut self, key: ProbeKey, count: Count) {
        let forgotten = &mut self.forgotten;
        self.counts.put(key, count, KEYS_PER_GENERATION, |gone| {
            let (first, at) = forgotten.unwrap_or_default();
            *forgotten = Some((first.max(gone.first), at.max(gone.at)));
        });
    }

    /// How often hits of a forgotten key could not be told from those that were counted before.
    pub fn undercounted(&self) -> u64 {
        self.undercounted
    }
}

/// Last echo counts of the sources that answered challenges.
#[derive(Debug, Default)]
pub(super) struct KnownEchoes {
    counts: Recent<IpAddr, (u64, Duration)>,
    forgot: bool,
}

impl KnownEchoes {
    /// Echoes since the last count. A smaller count that is no older is of a key that was made anew.
    pub fn difference(&mut self, source: IpAddr, echoes: u64, at: Duration) -> u64 {
        let (new, kept) = match self.counts.take(&source) {
            Some((known, known_at)) if echoes >= known => (echoes - known, (echoes, at.max(known_at))),
            Some(known) if at <= known.1 => (0, known),
            None if self.forgot => (echoes.min(1), (echoes, at)),
            _ => (echoes, (echoes, at)),
        };
        self.learn(source, kept.0, kept.1);
        new
    }

    /// Takes a count as already told.
    pub fn learn(&mut self, source: IpAddr, echoes: u64, at: Duration) {
        let forgot = &mut self.forgot;
        self.counts.put(source, (echoes, at), ECHOES_PER_GENERATION, |_| *forgot = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::Protocol;
    use std::net::Ipv4Addr;

    fn key(n: u32) -> ProbeKey {
        ProbeKey { source: Ipv4Addr::from(n).into(), port: 1, protocol: Protocol::Tcp }
    }

    fn count(first: u64, hits: u64, at_ms: u64) -> Count {
        Count { first, hits, at: Duration::from_millis(at_ms) }
    }

    #[test]
    fn cumulative_counts_become_differences() {
        let mut known = KnownCounts::default();
        assert_eq!(known.difference(key(1), count(7, 1, 10)), 1);
        assert_eq!(known.difference(key(1), count(7, 8, 20)), 7);
        assert_eq!(known.difference(key(1), count(7, 8, 20)), 0, "told twice");
        assert_eq!(known.difference(key(1), count(7, 4, 15)), 0, "an event that a sweep overtook");
        assert_eq!(known.difference(key(1), count(7, 9, 30)), 1);
        assert_eq!(known.difference(key(1), count(40, 2, 41)), 2, "evicted and made anew");
        assert_eq!(known.difference(key(1), count(7, 16, 35)), 0, "late, of the key's earlier life");
        assert_eq!(known.difference(key(1), count(40, 3, 42)), 1);
    }

    #[test]
    fn a_sweep_of_the_whole_table_finds_every_key_known() {
        let mut known = KnownCounts::default();
        let keys = 0..KEYS_PER_GENERATION as u32;
        for n in keys.clone() {
            known.difference(key(n), count(u64::from(n), 1, u64::from(n)));
        }
        for _ in 0..3 {
            let new: u64 =
                keys.clone().map(|n| known.difference(key(n), count(u64::from(n), 1, u64::from(n)))).sum();
            assert_eq!((new, known.undercounted()), (0, 0));
        }
    }

    #[test]
    fn a30_memory_of_keys_is_bounded_and_forgotten_ones_are_never_counted_twice() {
        let mut known = KnownCounts::default();
        for n in 0..200_000 {
            assert_eq!(known.difference(key(n), count(u64::from(n), 1, u64::from(n))), 1);
        }
        assert!(known.counts.len() <= 2 * KEYS_PER_GENERATION);
        assert_eq!(known.difference(key(0), count(0, 1, 0)), 0, "a sweep repeats what was told");
        assert_eq!(known.undercounted(), 0);
        assert_eq!(known.difference(key(1), count(1, 900, 300_000)), 1, "at least one hit is new");
        assert_eq!(known.undercounted(), 1);
        assert_eq!(known.difference(key(1), count(1, 901, 300_001)), 1);
        assert_eq!(known.difference(key(0xffff_ffff), count(1 << 40, 4, 300_002)), 4, "made since");
    }

    #[test]
    fn echo_counts_begin_anew_after_an_eviction_only() {
        let mut known = KnownEchoes::default();
        let source = key(1).source;
        let at = Duration::from_secs;
        assert_eq!(known.difference(source, 3, at(1)), 3);
        assert_eq!(known.difference(source, 5, at(3)), 2);
        assert_eq!(known.difference(source, 4, at(2)), 0, "late");
        assert_eq!(known.difference(source, 5, at(3)), 0);
        assert_eq!(known.difference(source, 2, at(9)), 2, "made anew");
        for n in 0..3 * ECHOES_PER_GENERATION as u32 {
            known.difference(key(100 + n).source, 1, at(10));
        }
        assert!(known.counts.len() <= 2 * ECHOES_PER_GENERATION);
        assert_eq!(known.difference(source, 500, at(11)), 1, "forgotten: what of it is new is not known");
        assert_eq!(known.difference(source, 502, at(12)), 2);
    }
}
