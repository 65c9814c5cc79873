//! The clock that bans and probes are timed by.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Nanoseconds since boot, time asleep not included (`CLOCK_MONOTONIC`): the clock of the TC program, which no clock
/// change moves. The program reads it once a tick, so its times are up to 10 ms old.
///
/// The timeouts of nftables sets count ticks, which do not come while asleep either: both end a ban together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MonotonicTime(pub u64);

impl MonotonicTime {
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    /// Saturates after 584 years.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let before = MonotonicTime::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(MonotonicTime::now().since(before) >= Duration::from_millis(2));
    }

    #[test]
    fn sums_and_differences_saturate() {
        assert_eq!(MonotonicTime(u64::MAX).plus(Duration::from_secs(1)), MonotonicTime(u64::MAX));
        assert_eq!(MonotonicTime(1).plus(Duration::MAX), MonotonicTime(u64::MAX));
        assert_eq!(MonotonicTime(1).since(MonotonicTime(2)), Duration::ZERO);
        assert_eq!(
            MonotonicTime(1).plus(Duration::from_nanos(2)).since(MonotonicTime(1)),
            Duration::from_nanos(2)
        );
    }
}
