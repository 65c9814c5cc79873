//! Answers that visitors share, and the time that making them may take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One answer serves everyone for at least this long,
const FRESH_FOR_MIN: Duration = Duration::from_secs(1);
/// and for this many times as long as it took to make, so that no question takes all the time of the others.
const FRESH_FOR_FACTOR: u32 = 200;
/// Of the worker's time, reading may take one part in so many, however many different questions are asked.
const SHARE: u32 = 20;
/// Reading that may run ahead of that share, so that one visitor's page is read at once.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// Answers kept of one kind of question unless they are large; the one asked for least recently goes first.
const KEPT_MAX: usize = 32;

/// How much reading has run ahead of its share.
#[derive(Debug)]
pub struct Ration {
    ahead: Duration,
    as_of: Instant,
}

impl Ration {
    pub fn new(now: Instant) -> Self {
        Self { ahead: Duration::ZERO, as_of: now }
    }

    /// Whether something may be read now.
    pub fn allows(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.as_of) / SHARE;
        self.ahead = self.ahead.saturating_sub(earned);
        self.as_of = now;
        self.ahead < AHEAD_MAX
    }

    pub fn spend(&mut self, time: Duration) {
        self.ahead = self.ahead.saturating_add(time);
    }
}

/// The newest answers to one kind of question, at most so many.
#[derive(Debug)]
pub struct Shelf<Q, A, const KEPT: usize = KEPT_MAX>(Mutex<Vec<Kept<Q, A>>>);

#[derive(Debug)]
struct Kept<Q, A> {
    question: Q,
    answer: Arc<A>,
    stale_at: Instant,
}

/// An answer that was given before.
pub struct Known<A> {
    pub answer: Arc<A>,
    pub fresh: bool,
}

impl<Q, A, const KEPT: usize> Default for Shelf<Q, A, KEPT> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Q: PartialEq, A, const KEPT: usize> Shelf<Q, A, KEPT> {
    pub fn find(&self, question: &Q, now: Instant) -> Option<Known<A>> {
        let mut kept = self.lock();
        let index = kept.iter().position(|kept| kept.question == *question)?;
        // The least recently asked for stays in front.
        let found = kept.remove(index);
        let known = Known { answer: found.answer.clone(), fresh: now < found.stale_at };
        kept.push(found);
        Some(known)
    }

    /// Keeps an answer that took this long, up to `now`.
    pub fn put(&self, question: Q, answer: Arc<A>, now: Instant, took: Duration) {
        let mut kept = self.lock();
        kept.retain(|kept| kept.question != question);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        let stale_at = now + FRESH_FOR_MIN.max(took * FRESH_FOR_FACTOR);
        kept.push(Kept { question, answer, stale_at });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept<Q, A>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn reading_takes_a_twentieth_of_the_time_whatever_is_asked() {
        let start = Instant::now();
        let mut ration = Ration::new(start);
        let (mut now, mut read) = (start, Duration::ZERO);
        while now < start + Duration::from_mins(10) {
            if ration.allows(now) {
                ration.spend(10 * MILLI);
                read += 10 * MILLI;
                now += 10 * MILLI;
            } else {
                now += MILLI;
            }
        }
        let share = (now - start) / SHARE;
        assert!(read >= share && read <= share + AHEAD_MAX + 10 * MILLI, "{read:?} of {:?}", now - start);
    }

    #[test]
    fn an_answer_is_fresh_for_a_second_or_two_hundred_times_its_cost() {
        let now = Instant::now();
        let shelf: Shelf<_, _> = Shelf::default();
        shelf.put("cheap", Arc::new(1), now, MILLI);
        shelf.put("dear", Arc::new(2), now, 30 * MILLI);
        let fresh = |question, after| shelf.find(&question, now + after).map(|known| known.fresh);
        assert_eq!(fresh("cheap", 999 * MILLI), Some(true));
        assert_eq!(fresh("cheap", 1000 * MILLI), Some(false));
        assert_eq!(fresh("dear", 5999 * MILLI), Some(true));
        assert_eq!(fresh("dear", 6000 * MILLI), Some(false));
        assert_eq!(fresh("unknown", MILLI), None);
    }

    #[test]
    fn the_answer_asked_for_least_recently_gives_way() {
        let now = Instant::now();
        let shelf: Shelf<_, _> = Shelf::default();
        for question in 0..KEPT_MAX {
            shelf.put(question, Arc::new(()), now, MILLI);
        }
        assert!(shelf.find(&0, now).is_some());
        shelf.put(KEPT_MAX, Arc::new(()), now, MILLI);
        assert!(shelf.find(&0, now).is_some(), "asked for a moment ago");
        assert!(shelf.find(&1, now).is_none());
        assert_eq!(shelf.lock().len(), KEPT_MAX);
    }
}
