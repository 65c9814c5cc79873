//! The sources that are watched, in fixed memory.
//!
//! When there is no room, the source of the lowest [`Standing`] that has been silent longest is forgotten: a flood of
//! forged one-hit sources pushes out one another, not the source that came back or proved itself.

use super::source::{Source, Standing};
use super::window::Window;
use ipnet::IpNet;
use std::collections::HashMap;
use std::time::Duration;

/// Sources watched at once.
pub(super) const SOURCES_MAX: usize = 16_384;
/// Entries that all of them keep together: slices of windows, ports and addresses, 8 to 24 bytes each.
pub(super) const ELEMENTS_MAX: usize = 1 << 20;
/// What one visit adds at most: a slice per window of hits and of echoes, a port, an address.
const ELEMENTS_PER_VISIT: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Roster {
    index: HashMap<IpNet, usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    queues: [Queue; Standing::COUNT],
    elements: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Slot {
    group: IpNet,
    source: Source,
    standing: Standing,
    last: Duration,
    /// Neighbours in the queue of its standing.
    older: Option<usize>,
    newer: Option<usize>,
}

/// Slots of one standing by their last visit.
#[derive(Debug, Default)]
struct Queue {
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl Roster {
    /// An empty one that goes on counting what is forgotten.
    pub fn after(forgotten: u64) -> Self {
        Self { forgotten, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    #[cfg(test)]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Sources that were forgotten for want of room while something of theirs still counted.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub fn contains(&self, group: &IpNet) -> bool {
        self.index.contains_key(group)
    }

    /// Hands out a source, a new one if it is not known. Nothing of a source counts once it was silent for `longest`.
    pub fn visit<R>(
        &mut self,
        group: IpNet,
        now: Duration,
        longest: Window,
        visit: impl FnOnce(&mut Source) -> R,
    ) -> R {
        while self.elements + ELEMENTS_PER_VISIT > ELEMENTS_MAX && self.forget_one(now, longest) {}
        let at = match self.index.get(&group) {
            Some(&at) => {
                self.unlink(at);
                at
            }
            None => self.welcome(group, now, longest),
        };
        let slot = &mut self.slots[at];
        let before = slot.source.elements();
        let result = visit(&mut slot.source);
        slot.last = slot.last.max(now);
        slot.standing = slot.source.standing();
        self.elements = self.elements + slot.source.elements() - before;
        self.link(at);
        result
    }

    pub fn remove(&mut self, group: &IpNet) {
        let Some(at) = self.index.remove(group) else { return };
        self.unlink(at);
        let source = std::mem::take(&mut self.slots[at].source);
        self.elements -= source.elements();
        self.free.push(at);
    }

    /// Removes every source within a prefix. Looks at all of them.
    pub fn remove_within(&mut self, net: &IpNet) {
        let within: Vec<IpNet> = self.index.keys().filter(|group| net.contains(*group)).copied().collect();
        for group in &within {
            self.remove(group);
        }
    }

    /// A slot for a new source, in no queue yet.
    fn welcome(&mut self, group: IpNet, now: Duration, longest: Window) -> usize {
        if self.index.len() >= SOURCES_MAX {
            self.forget_one(now, longest);
        }
        let (source, standing) = (Source::default(), Standing::default());
        let slot = Slot { group, source, standing, last: now, older: None, newer: None };
        let at = if let Some(at) = self.free.pop() {
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.index.insert(group, at);
        at
    }

    /// Forgets whoever is silent for so long that nothing of it counts, else the most silent of the lowest standing.
    fn forget_one(&mut self, now: Duration, longest: Window) -> bool {
        let mut oldest = self.queues.iter().filter_map(|queue| queue.oldest);
        let over = |at: &usize| !longest.holds(self.slots[*at].last, now);
        let Some(at) = oldest.clone().find(over).or_else(|| oldest.next()) else { return false };
        self.forgotten += u64::from(longest.holds(self.slots[at].last, now));
        let group = self.slots[at].group;
        self.remove(&group);
        true
    }

    /// Puts a slot at the end of the queue of its standing.
    fn link(&mut self, at: usize) {
        let queue = &mut self.queues[self.slots[at].standing as usize];
        let before = queue.newest.replace(at);
        if before.is_none() {
            queue.oldest = Some(at);
        }
        self.slots[at].older = before;
        self.slots[at].newer = None;
        if let Some(before) = before {
            self.slots[before].newer = Some(at);
        }
    }

    fn unlink(&mut self, at: usize) {
        let Slot { older, newer, standing, .. } = self.slots[at];
        let queue = &mut self.queues[standing as usize];
        match newer {
            Some(newer) => self.slots[newer].older = older,
            None => queue.newest = older,
        }
        match older {
            Some(older) => self.slots[older].newer = newer,
            None => queue.oldest = newer,
        }
    }
}
