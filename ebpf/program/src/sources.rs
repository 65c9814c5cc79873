//! Who is being challenged, and who has echoed.

use crate::atomic;
use crate::budgets;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use glacis_abi::{Budget, PROVEN_MAX, Proof, SOURCES_MAX, Source, SourceKey};

#[btf_map]
static SOURCES: LruHashMap<SourceKey, Source, SOURCES_MAX> = LruHashMap::new();
/// Apart from `SOURCES`, because no forged source ever gets in here and pushes one out.
#[btf_map]
static PROVEN: LruHashMap<SourceKey, Proof, PROVEN_MAX> = LruHashMap::new();

/// Challenges that came back from a source, 0 when it is not known.
#[inline(always)]
pub fn echoes(source: &SourceKey) -> u64 {
    // SAFETY: the pointer is to a map value, readable until the program returns.
    PROVEN.get_ptr(source).map_or(0, |proof| unsafe { (&raw const (*proof).echoes).read_volatile() })
}

/// Whether a source is being challenged or has echoed, so that it is not one of a flood of forged ones.
#[inline(always)]
pub fn know(source: &SourceKey) -> bool {
    find(source).is_some() || echoes(source) != 0
}

/// Whether a packet is one of too many of unknown sources. It is not looked at then, and goes on: socket, route and
/// table cost several times what telling this does. Who is known is always looked at.
#[inline(always)]
pub fn flood(source: &SourceKey, now: u64) -> bool {
    budgets::is_spent(Budget::Keys, now) && !know(source)
}

/// Notes an echo.
#[inline(always)]
pub fn prove(source: &SourceKey, now: u64) -> Option<Proof> {
    if let Some(proof) = PROVEN.get_ptr_mut(source) {
        // SAFETY: as above, and writable.
        unsafe {
            (&raw mut (*proof).last).write_volatile(now);
            let echoes = atomic::increment_and_fetch(&raw mut (*proof).echoes);
            return Some(Proof { echoes, first: (&raw const (*proof).first).read_volatile(), last: now });
        }
    }
    let proof = Proof { echoes: 1, first: now, last: now };
    PROVEN.insert(source, proof, 0).is_ok().then_some(proof)
}

/// An entry of `SOURCES`. Counts are not atomic unless a guess could profit: CPUs that meet may lose one.
#[derive(Clone, Copy)]
pub struct Entry(*mut Source);

/// A source that is being challenged.
#[inline(always)]
pub fn find(source: &SourceKey) -> Option<Entry> {
    SOURCES.get_ptr_mut(source).map(Entry)
}

/// Lets a source in: at once if it has echoed before, else while there is room for strangers.
#[inline(always)]
pub fn admit(source: &SourceKey, echoes: u64, now: u64) -> Option<Entry> {
    if echoes == 0 && !budgets::take(Budget::Admissions, now) {
        return None;
    }
    // Whether it was this CPU or another that made it, it is there.
    let fresh = Source { window: now / Source::WINDOW_NS, ..EMPTY };
    let _ = SOURCES.insert(source, fresh, u64::from(BPF_NOEXIST));
    find(source)
}

const EMPTY: Source =
    Source { window: 0, window_challenges: 0, window_events: 0, challenges: 0, echoes: 0, wrong: 0 };

impl Entry {
    /// Takes one event out of this source's ration.
    #[inline(always)]
    pub fn takes_event(self, now: u64) -> bool {
        self.turn_to(now);
        // SAFETY: the pointer is to a map value, readable and writable until the program returns.
        unsafe {
            let taken = (&raw const (*self.0).window_events).read_volatile();
            (&raw mut (*self.0).window_events).write_volatile(taken + 1);
            taken < Source::EVENTS_PER_WINDOW
        }
    }

    /// Takes one challenge out of this source's ration, and out of everybody's.
    #[inline(always)]
    pub fn takes_challenge(self, now: u64) -> bool {
        self.turn_to(now);
        // SAFETY: as above.
        unsafe {
            let taken = (&raw const (*self.0).window_challenges).read_volatile();
            if taken >= Source::CHALLENGES_PER_WINDOW || !budgets::take(Budget::Challenges, now) {
                return false;
            }
            (&raw mut (*self.0).window_challenges).write_volatile(taken + 1);
            atomic::increment(&raw mut (*self.0).challenges);
        }
        true
    }

    #[inline(always)]
    fn turn_to(self, now: u64) {
        let window = now / Source::WINDOW_NS;
        // SAFETY: as above.
        unsafe {
            if window > (&raw const (*self.0).window).read_volatile() {
                (&raw mut (*self.0).window).write_volatile(window);
                (&raw mut (*self.0).window_events).write_volatile(0);
                (&raw mut (*self.0).window_challenges).write_volatile(0);
            }
        }
    }

    /// Whether an answer is worth a look: one is owed, and not too many were wrong.
    #[inline(always)]
    pub fn may_echo(self) -> bool {
        // SAFETY: as above.
        unsafe {
            let challenges = (&raw const (*self.0).challenges).read_volatile();
            (&raw const (*self.0).echoes).read_volatile() < challenges
                && (&raw const (*self.0).wrong).read_volatile() < challenges + Source::WRONG_SPARE
        }
    }

    #[inline(always)]
    pub fn note(self, answer: Answer) {
        // SAFETY: as above; both are aligned `u64`s.
        unsafe {
            atomic::increment(match answer {
                Answer::Right => &raw mut (*self.0).echoes,
                Answer::Wrong => &raw mut (*self.0).wrong,
            });
        }
    }
}

/// What a RST held.
pub enum Answer {
    Right,
    Wrong,
}
