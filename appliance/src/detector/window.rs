//! What fell into a rolling time: counts by sixtieths of it, and the newest distinct things.
//!
//! Times are the kernel's monotonic clock. Neither type ever counts what is older than the window; what it may miss at
//! the window's far edge is named with it.

use smallvec::SmallVec;
use std::time::Duration;

/// Slices of a rolling count.
const SLICES: u32 = 60;
/// Steps of the clock by which distinct things are dated; numbered in 32 bits they last for thirteen years of uptime.
const TICK_MS: u64 = 100;

/// A span that ends now. At least ten seconds by the policy, so that a slice is longer than a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    length: Duration,
    slice_ns: u64,
}

impl Window {
    pub fn new(length: Duration) -> Self {
        Self { length, slice_ns: (length.as_nanos() as u64 / u64::from(SLICES)).max(1) }
    }

    pub fn length(self) -> Duration {
        self.length
    }

    pub fn holds(self, at: Duration, now: Duration) -> bool {
        now.saturating_sub(at) < self.length
    }

    fn slice_of(self, at: Duration) -> u32 {
        u32::try_from(at.as_nanos() as u64 / self.slice_ns).unwrap_or(u32::MAX)
    }

    fn oldest_slice(self, now: Duration) -> u32 {
        self.slice_of(now).saturating_add(1).saturating_sub(SLICES)
    }

    fn oldest_tick(self, now: Duration) -> u32 {
        let ticks = u32::try_from(self.length.as_millis() as u64 / TICK_MS).unwrap_or(u32::MAX);
        tick_of(now).saturating_add(1).saturating_sub(ticks)
    }
}

fn tick_of(at: Duration) -> u32 {
    u32::try_from(at.as_millis() as u64 / TICK_MS).unwrap_or(u32::MAX)
}

/// A rolling sum. It has everything of the last 59 sixtieths of the window, part of the sixtieth before, and nothing
/// older. At most [`SLICES`] entries; one slice holds at most `u32::MAX`.
#[derive(Debug, Default)]
pub(super) struct Rolling {
    /// Oldest first.
    slices: SmallVec<[Slice; 2]>,
    sum: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    number: u32,
    count: u32,
}

impl Rolling {
    /// Counts what came at a moment, which may be earlier than what was counted before.
    pub fn add(&mut self, window: Window, at: Duration, count: u64, now: Duration) {
        let (number, oldest) = (window.slice_of(at), window.oldest_slice(now));
        self.expire(oldest);
        if count == 0 || number < oldest {
            return;
        }
        let place = self.slices.iter().rposition(|slice| slice.number <= number);
        let index = match place {
            Some(index) if self.slices[index].number == number => index,
            before => {
                let index = before.map_or(0, |index| index + 1);
                self.slices.insert(index, Slice { number, count: 0 });
                index
            }
        };
        let slice = &mut self.slices[index];
        let added = u32::try_from(count).unwrap_or(u32::MAX).min(u32::MAX - slice.count);
        slice.count += added;
        self.sum += u64::from(added);
    }

    pub fn sum(&mut self, window: Window, now: Duration) -> u64 {
        if !self.slices.is_empty() {
            self.expire(window.oldest_slice(now));
        }
        self.sum
    }

    /// Entries that take up memory.
    pub fn len(&self) -> usize {
        self.slices.len()
    }

    fn expire(&mut self, oldest: u32) {
        let over = self.slices.iter().take_while(|slice| slice.number < oldest).count();
        if over > 0 {
            self.sum -= self.slices.drain(..over).map(|slice| u64::from(slice.count)).sum::<u64>();
        }
    }
}

/// The newest distinct things, each with the tick of its last touch. It answers for any window how many were touched
/// within it: exactly up to its bound, because whatever was pushed out was touched before everything that is left.
/// A touch within the first tick of the window may be missed; none from before the window is counted.
#[derive(Debug)]
pub(super) struct Newest<T> {
    /// Longest untouched first.
    touches: SmallVec<[Touch<T>; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Touch<T> {
    what: T,
    tick: u32,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { touches: SmallVec::new() }
    }
}

impl<T: Copy + Eq> Newest<T> {
    /// Dates a thing; keeps at most `bound` of them. A touch that comes late does not make a thing older.
    pub fn touch(&mut self, what: T, at: Duration, bound: usize) {
        let tick = tick_of(at);
        if let Some(known) = self.touches.iter().rposition(|touch| touch.what == what) {
            if self.touches[known].tick >= tick {
                return;
            }
            self.touches.remove(known);
        }
        let place = self.touches.partition_point(|touch| touch.tick <= tick);
        self.touches.insert(place, Touch { what, tick });
        let excess = self.touches.len().saturating_sub(bound);
        self.touches.drain(..excess);
    }

    /// How many were touched within the window.
    pub fn within(&self, window: Window, now: Duration) -> usize {
        let oldest = window.oldest_tick(now);
        self.touches.len() - self.touches.partition_point(|touch| touch.tick < oldest)
    }

    /// Drops what no window up to this one will ask for again.
    pub fn expire(&mut self, longest: Window, now: Duration) {
        let over = self.touches.len() - self.within(longest, now);
        self.touches.drain(..over);
    }

    pub fn len(&self) -> usize {
        self.touches.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::tests::Dice;

    const MINUTE: Duration = Duration::from_secs(60);
    const SLICE: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(TICK_MS);

    /// Moments that go forward, now and then with a leap, with some that come late.
    fn moments(dice: &mut Dice, count: usize) -> Vec<(Duration, Duration)> {
        let mut now = Duration::from_secs(1_000);
        let mut moments = vec![];
        for _ in 0..count {
            let leap = if dice.below(200) == 0 { 90_000 } else { 900 };
            now += Duration::from_millis(dice.below(leap));
            let late = if dice.below(5) == 0 { dice.below(70_000) } else { 0 };
            moments.push((now.saturating_sub(Duration::from_millis(late)), now));
        }
        moments
    }

    #[test]
    fn a14_a_rolling_sum_is_within_a_sixtieth_of_the_naive_one() {
        let mut dice = Dice::new(14);
        let (mut rolling, mut naive) = (Rolling::default(), vec![]);
        for (at, now) in moments(&mut dice, 2_500) {
            let count = dice.below(9);
            rolling.add(Window::new(MINUTE), at, count, now);
            // What comes too late for the window never counts, here or there.
            naive.push((at, count));
            let sum = |span: Duration| -> u64 {
                naive.iter().filter(|(at, _)| now.saturating_sub(*at) < span).map(|(_, count)| count).sum()
            };
            let found = rolling.sum(Window::new(MINUTE), now);
            assert!(sum(MINUTE.saturating_sub(SLICE)) <= found && found <= sum(MINUTE), "{found} at {now:?}");
            assert!(rolling.len() <= SLICES as usize);
        }
    }

    #[test]
    fn a27_distinct_things_are_those_of_a_naive_count_up_to_the_bound() {
        const BOUND: usize = 40;
        let windows = [Duration::from_secs(10), MINUTE].map(Window::new);
        let mut dice = Dice::new(27);
        let (mut newest, mut naive) = (Newest::default(), vec![]);
        let (mut at_bound, mut below) = (0, 0);
        for (at, now) in moments(&mut dice, 2_500) {
            let what = dice.below(90) as u16;
            newest.touch(what, at, BOUND);
            if now.as_secs().is_multiple_of(7) {
                newest.expire(Window::new(MINUTE), now);
            }
            naive.push((at, what));
            for window in windows {
                let distinct = |span: Duration| {
                    let within =
                        naive.iter().filter(|(at, _)| now.saturating_sub(*at) < span).map(|(_, what)| what);
                    within.collect::<std::collections::BTreeSet<_>>().len().min(BOUND)
                };
                let found = newest.within(window, now);
                assert!(
                    distinct(window.length.saturating_sub(TICK)) <= found && found <= distinct(window.length),
                    "{found} {now:?}"
                );
                *(if found == BOUND { &mut at_bound } else { &mut below }) += 1;
            }
            assert!(newest.len() <= BOUND);
        }
        assert!(at_bound > 300 && below > 300, "both sides of the bound were walked: {at_bound}, {below}");
    }

    #[test]
    fn one_slice_counts_no_further_than_its_field() {
        let mut rolling = Rolling::default();
        for _ in 0..3 {
            rolling.add(Window::new(MINUTE), SLICE, u64::MAX, SLICE);
        }
        assert_eq!(rolling.sum(Window::new(MINUTE), SLICE), u64::from(u32::MAX));
        assert_eq!(rolling.sum(Window::new(MINUTE), SLICE + MINUTE), 0);
    }
}
