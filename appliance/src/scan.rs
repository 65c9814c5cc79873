//! The scan detector: from cumulative probe counts to records, and to sources that scanned enough.
//!
//! Pure: it is handed counts and times and returns what follows. It bans nobody and writes nothing.

use glacis_control::{BanReason, Evidence, ProbeKinds, Protocol, ScanHit, ScanShape, UnixMillis};
use glacis_plan::{AutoBlock, SourceGroup};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// Slices of the rolling window: the window's edge is exact to a sixtieth of it.
const SLICES: u64 = 60;
/// Sources watched at once. Past it, those that have been silent longest are forgotten and counted.
const SOURCES_MAX: usize = 16_384;
/// How many are forgotten together, so that a flood of sources costs each of them little.
const SOURCES_FORGOTTEN: usize = SOURCES_MAX / 8;
/// Distinct ports remembered per source; enough to say "many".
const PORTS_MAX: usize = 256;
/// Probe keys whose last cumulative count is remembered: the size of the kernel's own table.
const KEYS_MAX: usize = 65_536;

/// What the kernel counted for a key since it made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// When the kernel made the key, on its own clock: tells a key from a later one of the same name.
    pub first: u64,
    pub hits: u64,
}

/// The last count of a key, and when it came.
#[derive(Debug, Clone, Copy)]
struct Seen {
    count: Count,
    at: UnixMillis,
}

/// One source's probes of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeKey {
    pub source: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

/// A source whose hits within the window reached the threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub source: IpNet,
    pub reason: BanReason,
}

/// What one observation leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub hit: Option<ScanHit>,
    pub trigger: Option<Trigger>,
}

#[derive(Debug, Default)]
pub struct Detector {
    settings: Option<AutoBlock>,
    seen: HashMap<ProbeKey, Seen>,
    /// Keys made at or before this moment may have been forgotten here while the kernel still counts them.
    forgotten_to: u64,
    sources: BTreeMap<IpNet, Source>,
    forgotten: u64,
}

impl Detector {
    /// Takes new settings; counts go on where they were unless the grouping changed.
    pub fn configure(&mut self, settings: Option<AutoBlock>) {
        let group = |s: &Option<AutoBlock>| s.as_ref().map(|s| (s.group, s.window));
        if group(&settings) != group(&self.settings) {
            self.sources.clear();
        }
        self.settings = settings;
    }

    /// Sources that were forgotten because the table was full.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes the cumulative count of a key. Counts may come late: a sweep can overtake an event.
    pub fn observe(&mut self, key: ProbeKey, count: Count, at: UnixMillis) -> Findings {
        let known = self.seen.get(&key).map(|seen| seen.count).filter(|known| known.first == count.first);
        let hits = match known {
            Some(known) => count.hits.saturating_sub(known.hits),
            // What it had when it was forgotten is not known; this hit is.
            None if count.first <= self.forgotten_to => 1,
            None => count.hits,
        };
        if hits == 0 {
            return Findings::default();
        }
        self.remember(key, Seen { count, at });
        let hit = ScanHit {
            source: key.source,
            port: key.port,
            protocol: key.protocol,
            kinds: ProbeKinds::default(),
            at,
            hits,
        };
        Findings { hit: Some(hit), trigger: self.count(&hit) }
    }

    /// Forgets what a source did, after it was blocked or unblocked.
    pub fn forgive(&mut self, source: &IpNet) {
        self.sources.retain(|known, _| !source.contains(known));
    }

    /// Takes over what the kernel counted before this process began, as already known: it was recorded then.
    pub fn resume(&mut self, key: ProbeKey, count: Count, at: UnixMillis) {
        self.remember(key, Seen { count, at });
    }

    fn remember(&mut self, key: ProbeKey, seen: Seen) {
        if self.seen.len() >= KEYS_MAX && !self.seen.contains_key(&key) {
            self.forget_the_oldest();
        }
        self.seen.insert(key, seen);
    }

    /// The kernel's table is no larger, so most of the older half is about keys that it has evicted.
    fn forget_the_oldest(&mut self) {
        let mut times: Vec<UnixMillis> = self.seen.values().map(|seen| seen.at).collect();
        let (_, edge, _) = times.select_nth_unstable(KEYS_MAX / 2);
        let edge = *edge;
        let mut left = KEYS_MAX / 2;
        let mut forgotten_to = self.forgotten_to;
        self.seen.retain(|_, seen| {
            let forget = left > 0 && seen.at <= edge;
            if forget {
                left -= 1;
                forgotten_to = forgotten_to.max(seen.count.first);
            }
            !forget
        });
        self.forgotten_to = forgotten_to;
    }

    fn forget_the_silent(&mut self) {
        let mut times: Vec<UnixMillis> = self.sources.values().map(|s| s.last).collect();
        let (_, edge, _) = times.select_nth_unstable(SOURCES_FORGOTTEN - 1);
        let edge = *edge;
        let mut left = SOURCES_FORGOTTEN;
        self.sources.retain(|_, source| {
            let forget = left > 0 && source.last <= edge;
            left -= usize::from(forget);
            !forget
        });
        self.forgotten += SOURCES_FORGOTTEN as u64;
    }

    fn count(&mut self, hit: &ScanHit) -> Option<Trigger> {
        let (group, window, threshold) = {
            let settings = self.settings.as_ref()?;
            (group_of(hit.source, settings.group), settings.window, settings.threshold)
        };
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&group) {
            self.forget_the_silent();
        }
        let source = self.sources.entry(group).or_default();
        source.add(hit, window);
        let hits = source.hits(hit.at, window);
        (hits >= u64::from(threshold)).then_some(Trigger {
            source: group,
            reason: BanReason::Scan {
                shape: ScanShape::Volume,
                hits,
                window_seconds: window.as_secs(),
                evidence: Evidence { ports: source.ports.len() as u32, ..Evidence::default() },
            },
        })
    }
}

/// The prefix by which an address is counted.
pub fn group_of(address: IpAddr, group: SourceGroup) -> IpNet {
    let bits = match address {
        IpAddr::V4(_) => group.v4.min(32),
        IpAddr::V6(_) => group.v6.min(128),
    };
    IpNet::new(address, bits).expect("the prefix length is within the family's").trunc()
}

#[derive(Debug, Default)]
struct Source {
    /// Hits by slice number, oldest first; at most [`SLICES`] of them.
    slices: BTreeMap<u64, u64>,
    /// Probed ports with the slice of their last probe; at most [`PORTS_MAX`] of them.
    ports: BTreeMap<u16, u64>,
    last: UnixMillis,
}

impl Source {
    fn add(&mut self, hit: &ScanHit, window: Duration) {
        let slice = slice_of(hit.at, window);
        *self.slices.entry(slice).or_default() += hit.hits;
        self.last = self.last.max(hit.at);
        if self.ports.len() < PORTS_MAX || self.ports.contains_key(&hit.port) {
            self.ports.insert(hit.port, slice);
        }
    }

    fn hits(&mut self, now: UnixMillis, window: Duration) -> u64 {
        let oldest = slice_of(now, window).saturating_sub(SLICES - 1);
        self.slices = self.slices.split_off(&oldest);
        self.ports.retain(|_, slice| *slice >= oldest);
        self.slices.values().sum()
    }
}

fn slice_of(at: UnixMillis, window: Duration) -> u64 {
    let slice_ms = (window.as_millis() as u64 / SLICES).max(1);
    at.0 / slice_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_plan::{AutoBlockMode, EstablishedFlows, EvidenceRule};

    fn settings(threshold: u32, window_seconds: u64) -> AutoBlock {
        AutoBlock {
            mode: AutoBlockMode::Enforce,
            threshold,
            window: Duration::from_secs(window_seconds),
            duration: None,
            evidence: EvidenceRule::Any,
            ladder: None,
            group: SourceGroup::default(),
            never: vec![],
            established: EstablishedFlows::Drop,
        }
    }

    fn key(source: &str, port: u16) -> ProbeKey {
        ProbeKey { source: source.parse().unwrap(), port, protocol: Protocol::Tcp }
    }

    const ONE: Count = Count { first: 7, hits: 1 };

    fn detector(threshold: u32, window_seconds: u64) -> Detector {
        let mut detector = Detector::default();
        detector.configure(Some(settings(threshold, window_seconds)));
        detector
    }

    #[test]
    fn the_threshold_is_the_hit_that_triggers() {
        let mut d = detector(3, 60);
        assert_eq!(d.observe(key("192.0.2.1", 1), ONE, UnixMillis(1_000)).trigger, None);
        assert_eq!(d.observe(key("192.0.2.1", 2), ONE, UnixMillis(1_001)).trigger, None);
        let trigger = d.observe(key("192.0.2.1", 3), ONE, UnixMillis(1_002)).trigger.unwrap();
        assert_eq!(trigger.source, "192.0.2.1/32".parse().unwrap());
        assert_eq!(
            trigger.reason,
            BanReason::Scan {
                shape: ScanShape::Volume,
                hits: 3,
                window_seconds: 60,
                evidence: Evidence { ports: 3, ..Evidence::default() }
            }
        );
    }

    #[test]
    fn cumulative_counts_become_deltas_and_eviction_begins_anew() {
        let mut d = detector(1_000, 60);
        let hits = |d: &mut Detector, first, hits| {
            d.observe(key("192.0.2.1", 80), Count { first, hits }, UnixMillis(5)).hit.map(|h| h.hits)
        };
        assert_eq!(hits(&mut d, 7, 1), Some(1));
        assert_eq!(hits(&mut d, 7, 4), Some(3));
        assert_eq!(hits(&mut d, 7, 2), None);
        assert_eq!(hits(&mut d, 9, 4), Some(4));
    }

    #[test]
    fn what_was_counted_before_a_restart_is_not_counted_again() {
        let mut d = detector(10, 60);
        d.resume(key("192.0.2.1", 80), Count { first: 7, hits: 50 }, UnixMillis(5));
        assert_eq!(
            d.observe(key("192.0.2.1", 80), Count { first: 7, hits: 50 }, UnixMillis(6)),
            Findings::default()
        );
        let found = d.observe(key("192.0.2.1", 80), Count { first: 7, hits: 52 }, UnixMillis(7));
        assert_eq!(found.hit.map(|hit| hit.hits), Some(2));
        assert_eq!(found.trigger, None);
    }

    #[test]
    fn a_key_that_was_forgotten_here_counts_one_hit_and_not_all_it_ever_had() {
        let mut d = Detector::default();
        for n in 0..=KEYS_MAX as u64 {
            let source = IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32));
            d.observe(
                ProbeKey { source, port: 1, protocol: Protocol::Tcp },
                Count { first: n, hits: 1 },
                UnixMillis(n),
            );
        }
        assert_eq!(d.seen.len(), KEYS_MAX / 2 + 1);
        let mut hits =
            |source: &str, count| d.observe(key(source, 1), count, UnixMillis(99)).hit.map(|h| h.hits);
        assert_eq!(hits("10.0.0.0", Count { first: 0, hits: 900 }), Some(1));
        assert_eq!(hits("10.0.0.0", Count { first: 0, hits: 901 }), Some(1));
        assert_eq!(hits("10.9.9.9", Count { first: 1 << 40, hits: 4 }), Some(4));
    }

    #[test]
    fn a14_window_is_rolling() {
        let mut d = detector(10, 60);
        for n in 0..9 {
            assert_eq!(d.observe(key("192.0.2.1", n), ONE, UnixMillis(u64::from(n) * 1_000)).trigger, None);
        }
        // 59 s after the first, one more is the tenth within the window.
        let mut same = detector(10, 60);
        for n in 0..9 {
            same.observe(key("192.0.2.1", n), ONE, UnixMillis(u64::from(n) * 1_000));
        }
        assert!(same.observe(key("192.0.2.1", 99), ONE, UnixMillis(59_000)).trigger.is_some());
        // 64 s after the first, the first five are out of it.
        assert_eq!(d.observe(key("192.0.2.1", 99), ONE, UnixMillis(64_000)).trigger, None);
    }

    #[test]
    fn a29_ipv6_sources_count_by_64() {
        let mut d = detector(2, 60);
        assert_eq!(d.observe(key("2001:db8::1", 1), ONE, UnixMillis(1)).trigger, None);
        let trigger = d.observe(key("2001:db8::2", 2), ONE, UnixMillis(2)).trigger.unwrap();
        assert_eq!(trigger.source, "2001:db8::/64".parse().unwrap());
        assert_eq!(d.observe(key("2001:db8:0:1::1", 1), ONE, UnixMillis(3)).trigger, None);
    }

    #[test]
    fn a_flood_of_sources_forgets_the_silent_ones_and_counts_them() {
        let mut d = detector(100, 60);
        for n in 0..=SOURCES_MAX as u32 {
            let source = IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + n));
            d.observe(ProbeKey { source, port: 1, protocol: Protocol::Tcp }, ONE, UnixMillis(u64::from(n)));
        }
        assert_eq!(d.forgotten(), SOURCES_FORGOTTEN as u64);
        assert_eq!(d.sources.len(), SOURCES_MAX - SOURCES_FORGOTTEN + 1);
        assert!(!d.sources.contains_key(&"10.0.0.0/32".parse().unwrap()));
    }

    #[test]
    fn without_auto_block_hits_are_still_recorded() {
        let mut d = Detector::default();
        let found = d.observe(key("192.0.2.1", 1), Count { first: 7, hits: 5 }, UnixMillis(1));
        assert_eq!(found.hit.unwrap().hits, 5);
        assert_eq!(found.trigger, None);
    }
}
