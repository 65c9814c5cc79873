//! One source: what it did within the windows of the rules, and which rule that breaks.

use super::Observation;
use super::rules::{RULES_MAX, Rule, Rules};
use super::window::{Newest, Rolling};
use glacis_control::{BanReason, Evidence, ProbeKinds, Protocol, ScanShape};
use std::net::IpAddr;
use std::time::Duration;

/// Hits after which a source counts as busy.
const BUSY_HITS: u32 = 16;

/// How much would be lost with a source: those of the first standing go first when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Standing {
    /// At most one hit: what every forged packet brings.
    #[default]
    Passing,
    /// A few hits.
    Returning,
    /// More than [`BUSY_HITS`].
    Busy,
    /// It answered a challenge, so it is no forgery.
    Proven,
}

impl Standing {
    pub const COUNT: usize = 4;
}

#[derive(Debug, Default)]
pub(super) struct Source {
    /// By the rules' order, each over its own window.
    hits: [Rolling; RULES_MAX],
    /// Likewise; none before the first.
    echoes: Option<Box<[Rolling; RULES_MAX]>>,
    ports: Newest<(Protocol, u16)>,
    hosts: Newest<IpAddr>,
    kinds: ProbeKinds,
    /// Ever since it is watched; stays at its largest number.
    hits_ever: u32,
}

impl Source {
    /// Takes in a probe: `counted` tells how many hits of it fell into a rule's window.
    pub fn probed(
        &mut self,
        rules: &Rules,
        probe: &Observation,
        now: Duration,
        counted: impl Fn(Rule) -> u64,
    ) {
        let mut most = 0;
        for (index, rule) in rules.iter() {
            let hits = counted(rule);
            most = most.max(hits);
            self.hits[index].add(rule.window, probe.at, hits, now);
        }
        self.hits_ever = self.hits_ever.saturating_add(u32::try_from(most).unwrap_or(u32::MAX));
        self.kinds = self.kinds.with(probe.kinds).with(ProbeKinds::of(probe.kind));
        let longest = rules.longest();
        if !longest.holds(probe.at, now) {
            return;
        }
        self.ports.expire(longest, now);
        self.ports.touch((probe.protocol, probe.port), probe.at, rules.ports_max());
        if let Some(host) = probe.destination {
            self.hosts.expire(longest, now);
            self.hosts.touch(host, probe.at, rules.hosts_max());
        }
    }

    /// Takes in answered challenges.
    pub fn echoed(&mut self, rules: &Rules, echoes: u64, at: Duration, now: Duration) {
        let windows = self.echoes.get_or_insert_default();
        for (index, rule) in rules.iter() {
            windows[index].add(rule.window, at, echoes, now);
        }
    }

    /// Takes in the echo count that the kernel held from before. It does not tell when each came, but each answered a
    /// challenge and each challenge a hit, so no more fell into a window than hits did.
    pub fn echoed_before(&mut self, rules: &Rules, echoes: u64, at: Duration, now: Duration) {
        let windows = self.echoes.get_or_insert_default();
        for (index, rule) in rules.iter() {
            let hits = self.hits[index].sum(rule.window, now);
            windows[index].add(rule.window, at, echoes.min(hits), now);
        }
    }

    /// The first rule that what counts of its probes breaks.
    pub fn judge(&mut self, rules: &Rules, now: Duration) -> Option<BanReason> {
        for (index, rule) in rules.iter() {
            let window = rule.window;
            let hits = self.hits[index].sum(window, now);
            let seen = match rule.shape {
                ScanShape::Volume => hits,
                ScanShape::Vertical | ScanShape::Slow => self.ports.within(window, now) as u64,
                ScanShape::Horizontal => self.hosts.within(window, now) as u64,
            };
            if seen < rule.count {
                continue;
            }
            let echoes = self.echoes.as_mut().map_or(0, |windows| windows[index].sum(window, now));
            if rules.vouched(seen, echoes) < rule.count {
                continue;
            }
            return Some(BanReason::Scan {
                shape: rule.shape,
                hits,
                window_seconds: window.length().as_secs(),
                evidence: Evidence {
                    ports: self.ports.within(window, now) as u32,
                    hosts: self.hosts.within(window, now) as u32,
                    echoes: u32::try_from(echoes).unwrap_or(u32::MAX),
                    kinds: self.kinds,
                    earlier_blocks: 0,
                },
            });
        }
        None
    }

    pub fn standing(&self) -> Standing {
        match self.hits_ever {
            _ if self.echoes.is_some() => Standing::Proven,
            0 | 1 => Standing::Passing,
            hits if hits <= BUSY_HITS => Standing::Returning,
            _ => Standing::Busy,
        }
    }

    /// Entries that take up memory.
    pub fn elements(&self) -> usize {
        let slices = |windows: &[Rolling]| windows.iter().map(Rolling::len).sum::<usize>();
        let echoes = self.echoes.as_ref().map_or(0, |windows| slices(&windows[..]));
        slices(&self.hits) + echoes + self.ports.len() + self.hosts.len()
    }
}
