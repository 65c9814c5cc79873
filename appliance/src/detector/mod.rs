//! The scan detector: from the kernel's cumulative counts to records, and to sources that scanned.
//!
//! Pure: it is handed counts and times and returns what follows. It bans nobody and writes nothing. Its windows run
//! on the kernel's monotonic clock, so a step of the wall clock neither keeps a hit nor loses one.

mod known;
mod roster;
mod rules;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use glacis_control::{BanReason, ProbeKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_plan::{AutoBlock, Shapes};
use ipnet::IpNet;
use known::{Count, KnownCounts, KnownEchoes};
use roster::Roster;
use rules::{Rule, Rules};
use source::Source;
use std::net::IpAddr;
use std::time::Duration;

/// What the kernel tells of one source's probes of one port: by an event, of the packet that caused it, or by a sweep,
/// of the last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub source: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// Of this packet.
    pub kind: ProbeKind,
    /// Of the key so far.
    pub kinds: ProbeKinds,
    /// The address of ours that this packet went to, where it is known.
    pub destination: Option<IpAddr>,
    /// When the kernel made the key, in nanoseconds of its monotonic clock.
    pub first: u64,
    /// Cumulative since `first`.
    pub hits: u64,
    /// When this packet came, on the kernel's monotonic clock.
    pub at: Duration,
    /// Likewise on the wall clock, for the record.
    pub wall: UnixMillis,
    /// Whether the source is blocked: it is recorded, and counts for nothing.
    pub banned: bool,
}

/// Challenges that a source answered.
#[expect(clippy::struct_field_names, reason = "the echoes of a source are echoes")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echoes {
    pub source: IpAddr,
    /// Cumulative; begins anew when the kernel evicted the source.
    pub echoes: u64,
    /// When the last one came, on the kernel's monotonic clock.
    pub at: Duration,
}

/// A source that scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub source: IpNet,
    /// Always [`BanReason::Scan`].
    pub reason: BanReason,
}

/// What one observation leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub hit: Option<ScanHit>,
    pub trigger: Option<Trigger>,
}

/// What was lost at a bound, since the detector was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Losses {
    /// Sources that were forgotten while something of theirs still counted.
    pub sources: u64,
    /// Counts of forgotten keys, of which one hit at most was taken.
    pub undercounted: u64,
}

/// One source's probes of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ProbeKey {
    source: IpAddr,
    port: u16,
    protocol: Protocol,
}

/// Watches sources. Hits between two counts of a key count at the moment of the later one.
#[derive(Debug, Default)]
pub struct Detector {
    /// None: nobody is to be blocked, so nobody is watched.
    rules: Option<Rules>,
    counts: KnownCounts,
    echoes: KnownEchoes,
    roster: Roster,
    /// The latest moment that it was told of.
    now: Duration,
}

impl Detector {
    /// Takes new settings. What was counted goes on unless the grouping or a window changed.
    pub fn configure(&mut self, block: Option<&AutoBlock>, shapes: Shapes) {
        let rules = block.map(|block| Rules::new(block, shapes));
        let alike = match (&self.rules, &rules) {
            (Some(old), Some(new)) => old.count_alike(new),
            _ => false,
        };
        if !alike {
            self.roster = Roster::after(self.roster.forgotten());
        }
        self.rules = rules;
    }

    /// Takes a count. It may come late: a sweep can overtake an event.
    ///
    /// With a trigger the evidence is spent: the source begins anew, whatever becomes of the trigger.
    pub fn observe(&mut self, seen: &Observation) -> Findings {
        self.now = self.now.max(seen.at);
        let hits = self.counts.difference(key_of(seen), count_of(seen));
        let hit = (hits > 0).then(|| ScanHit {
            source: seen.source,
            port: seen.port,
            protocol: seen.protocol,
            kinds: seen.kinds.with(ProbeKinds::of(seen.kind)),
            at: seen.wall,
            hits,
        });
        // An event that a sweep overtook brings no hit, but the address that its packet went to.
        if seen.banned || (hits == 0 && seen.destination.is_none()) {
            return Findings { hit, trigger: None };
        }
        let now = self.now;
        let probed = |source: &mut Source, rules: &Rules| source.probed(rules, seen, now, |_: Rule| hits);
        Findings { hit, trigger: self.watch(seen.source, probed) }
    }

    /// Takes the echo count of a source, which may be what was missing for a trigger.
    pub fn echoed(&mut self, seen: &Echoes) -> Option<Trigger> {
        self.now = self.now.max(seen.at);
        let echoes = self.echoes.difference(seen.source, seen.echoes, seen.at);
        if echoes == 0 {
            return None;
        }
        let now = self.now;
        self.watch(seen.source, |source, rules| source.echoed(rules, echoes, seen.at, now))
    }

    /// Takes over a count from before this process began. It was recorded then and is not again, but it counts in the
    /// windows: all of it where the key was made within the window, else its last hit. A key whose source was blocked
    /// or forgiven meanwhile is to be flagged as banned.
    pub fn resume(&mut self, seen: &Observation, now: Duration) {
        self.now = self.now.max(now);
        self.counts.learn(key_of(seen), count_of(seen));
        let (Some(rules), false) = (&self.rules, seen.banned) else { return };
        let (now, first) = (self.now, Duration::from_nanos(seen.first));
        if !rules.longest().holds(seen.at, now) {
            return;
        }
        let counted = |rule: Rule| if rule.window.holds(first, now) { seen.hits } else { 1 };
        let group = rules.group_of(seen.source);
        self.roster.visit(group, now, rules.longest(), |source| source.probed(rules, seen, now, counted));
    }

    /// Takes over an echo count from before this process began; after the probes of its source.
    pub fn resume_echoes(&mut self, seen: &Echoes, now: Duration) {
        self.now = self.now.max(now);
        self.echoes.learn(seen.source, seen.echoes, seen.at);
        let Some(rules) = &self.rules else { return };
        let (now, group) = (self.now, rules.group_of(seen.source));
        if rules.longest().holds(seen.at, now) && self.roster.contains(&group) {
            let echoed = |source: &mut Source| source.echoed_before(rules, seen.echoes, seen.at, now);
            self.roster.visit(group, now, rules.longest(), echoed);
        }
    }

    /// Forgets what a source did, after it was blocked or unblocked by hand.
    pub fn forgive(&mut self, source: &IpNet) {
        let Some(rules) = &self.rules else { return };
        let group = rules.group_of(source.addr());
        if group.prefix_len() <= source.prefix_len() {
            // A part of a group cannot be told from the rest of it.
            if group == *source {
                self.roster.remove(&group);
            }
        } else {
            self.roster.remove_within(source);
        }
    }

    pub fn losses(&self) -> Losses {
        Losses { sources: self.roster.forgotten(), undercounted: self.counts.undercounted() }
    }

    /// Sources that are watched.
    pub fn watched(&self) -> usize {
        self.roster.len()
    }

    fn watch(&mut self, address: IpAddr, taken: impl FnOnce(&mut Source, &Rules)) -> Option<Trigger> {
        let rules = self.rules.as_ref()?;
        let (group, now) = (rules.group_of(address), self.now);
        let judged = self.roster.visit(group, now, rules.longest(), |source| {
            taken(source, rules);
            source.judge(rules, now)
        });
        let reason = judged?;
        self.roster.remove(&group);
        Some(Trigger { source: group, reason })
    }
}

fn key_of(seen: &Observation) -> ProbeKey {
    ProbeKey { source: seen.source, port: seen.port, protocol: seen.protocol }
}

fn count_of(seen: &Observation) -> Count {
    Count { first: seen.first, hits: seen.hits, at: seen.at }
}
