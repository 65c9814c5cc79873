//! Whom the auto-block blocked before, as far as that is not forgiven.

use super::is_forgiven;
use glacis_control::{Offences, UnixMillis};
use glacis_plan::Ladder;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Sources that are remembered. Past it, an eighth goes: those whose blocks ended first.
const SOURCES_MAX: usize = 131_072;

/// What is remembered of each source. The store holds the same.
#[derive(Debug, Default)]
pub struct OffenceBook {
    sources: BTreeMap<IpNet, Offences>,
}

impl OffenceBook {
    pub fn new(offences: impl IntoIterator<Item = Offences>) -> Self {
        Self { sources: offences.into_iter().map(|offences| (offences.source, offences)).collect() }
    }

    pub fn get(&self, source: &IpNet) -> Option<&Offences> {
        self.sources.get(source)
    }

    /// Remembers, and returns those that had to go for it.
    pub fn enter(&mut self, offences: Offences) -> Vec<IpNet> {
        self.sources.insert(offences.source, offences);
        if self.sources.len() <= SOURCES_MAX {
            return vec![];
        }
        let mut ends: Vec<_> =
            self.sources.values().map(|offences| (end(offences), offences.source)).collect();
        ends.select_nth_unstable(SOURCES_MAX / 8);
        ends.truncate(SOURCES_MAX / 8);
        let gone: Vec<IpNet> = ends.into_iter().map(|(_, source)| source).collect();
        for source in &gone {
            self.sources.remove(source);
        }
        gone
    }

    /// Takes out what is forgiven.
    pub fn take_forgiven(&mut self, ladder: &Ladder, now: UnixMillis) -> Vec<IpNet> {
        let forgiven = self.sources.values().filter(|offences| is_forgiven(offences, ladder, now));
        let gone: Vec<IpNet> = forgiven.map(|offences| offences.source).collect();
        for source in &gone {
            self.sources.remove(source);
        }
        gone
    }

    /// Forgets a source that was unblocked by hand: whoever does that says that the block was wrong.
    pub fn strike(&mut self, source: &IpNet) -> Option<Offences> {
        self.sources.remove(source)
    }

    /// Moves all ends with the wall clock, by so many milliseconds; returns what changed.
    pub fn shift(&mut self, milliseconds: i64) -> Vec<Offences> {
        let ending = self.sources.values_mut().filter(|offences| offences.until.is_some());
        ending
            .map(|offences| {
                offences.until = offences.until.map(|until| until.shifted(milliseconds));
                *offences
            })
            .collect()
    }
}

/// Permanent blocks end last.
fn end(offences: &Offences) -> u64 {
    offences.until.map_or(u64::MAX, |until| until.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn offences(number: u32, until: Option<u64>) -> Offences {
        let source = IpNet::from(std::net::IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)));
        Offences { source, count: 1, until: until.map(UnixMillis) }
    }

    #[test]
    fn at_the_bound_those_that_ended_first_go() {
        let full = SOURCES_MAX as u32;
        let mut book = OffenceBook::new((0..full).map(|n| offences(n, Some(u64::from(n)))));
        let gone = book.enter(offences(full, None));
        assert_eq!(gone.len(), SOURCES_MAX / 8);
        assert!(gone.contains(&offences(0, None).source));
        assert!(book.get(&offences(0, None).source).is_none());
        assert!(book.get(&offences(full, None).source).is_some());
        assert!(book.get(&offences(full - 1, None).source).is_some());
    }

    #[test]
    fn what_is_forgiven_goes_and_a_permanent_block_never_is() {
        let mut book = OffenceBook::new([offences(1, Some(100)), offences(2, Some(101)), offences(3, None)]);
        let ladder = Ladder { steps: vec![None], forgive: Duration::from_millis(50) };
        assert_eq!(book.take_forgiven(&ladder, UnixMillis(150)), [offences(1, None).source]);
        assert!(book.get(&offences(3, None).source).is_some());
    }

    #[test]
    fn ends_move_with_the_clock() {
        let mut book = OffenceBook::new([offences(1, Some(1_000)), offences(2, None)]);
        assert_eq!(book.shift(-400), [offences(1, Some(600))]);
        assert_eq!(book.get(&offences(1, None).source), Some(&offences(1, Some(600))));
    }
}
