//! How long a process that died stays down: a worker, or the core itself.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const WORKER_HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Doubling delays between restarts, from 100 ms to 5 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    healthy_after: Duration,
}

/// A worker's.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(WORKER_HEALTHY_AFTER)
    }
}

impl Backoff {
    /// For a process that was healthy when it lived for `healthy_after`: its next death starts from the first delay
    /// again.
    pub const fn new(healthy_after: Duration) -> Self {
        Self { next: FIRST, healthy_after }
    }

    /// The delay before the restart of a process that lived for `lived`.
    pub fn delay(&mut self, lived: Duration) -> Duration {
        if lived >= self.healthy_after {
            self.next = FIRST;
        }
        let delay = self.next;
        self.next = (self.next * 2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| backoff.delay(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn only_a_healthy_life_starts_over() {
        let healthy = Duration::from_secs(7);
        let mut backoff = Backoff::new(healthy);
        backoff.delay(Duration::ZERO);
        assert_eq!(backoff.delay(healthy.saturating_sub(Duration::from_millis(1))).as_millis(), 200);
        assert_eq!(backoff.delay(healthy).as_millis(), 100);
    }
}
