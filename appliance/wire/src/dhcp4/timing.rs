//! When to send again.

use std::time::Duration;

/// RFC 2131 section 4.1: 4 seconds, doubling up to 64, each moved by up to a second either way.
const RETRY_FIRST: Duration = Duration::from_secs(4);
const RETRY_DOUBLINGS_MAX: u32 = 4;
/// RFC 2131 section 4.4.5: no more often than once a minute while renewing or rebinding.
const RENEWAL_RETRY_MIN: Duration = Duration::from_secs(60);
/// After the first NAK; each further one without a lease in between doubles it.
const NAK_PAUSE_FIRST: Duration = Duration::from_secs(2);
const NAK_DOUBLINGS_MAX: u32 = 5;

/// How long to wait for an answer to the message of this number, counted from 0.
pub(super) fn retry_after(attempt: u32, random: u64) -> Duration {
    jittered(RETRY_FIRST * (1 << attempt.min(RETRY_DOUBLINGS_MAX)), random)
}

/// How long to stay silent after this many NAKs in a row, counted from 1. Without a pause a server
/// that offers and then refuses would be asked as fast as it answers.
pub(super) fn pause_after_nak(naks: u32, random: u64) -> Duration {
    jittered(NAK_PAUSE_FIRST * (1 << naks.saturating_sub(1).min(NAK_DOUBLINGS_MAX)), random)
}

/// When to send the next renewal: half of the time left until `limit`, but not within a minute,
/// and never past `limit`, where the state changes.
pub(super) fn renewal_retry_at(now: Duration, limit: Duration) -> Duration {
    let half = limit.saturating_sub(now) / 2;
    (now + half.max(RENEWAL_RETRY_MIN)).min(limit)
}

/// Moves a wait by -1 s to +1 s.
fn jittered(wait: Duration, random: u64) -> Duration {
    // The upper half: the lower one makes transaction ids, which go out on the wire.
    let milliseconds = (random >> 32) % 2001;
    wait.saturating_sub(Duration::from_secs(1)) + Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u64 = 1000 << 32;
    const LOWEST: u64 = 0;
    const HIGHEST: u64 = 2000 << 32;

    #[test]
    fn waits_double_from_four_to_sixty_four_seconds() {
        let waits: Vec<u64> = (0..7).map(|n| retry_after(n, MIDDLE).as_secs()).collect();
        assert_eq!(waits, [4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(retry_after(u32::MAX, MIDDLE).as_secs(), 64);
    }

    #[test]
    fn jitter_stays_within_a_second() {
        assert_eq!(retry_after(0, LOWEST).as_secs(), 3);
        assert_eq!(retry_after(0, HIGHEST).as_secs(), 5);
        assert!(retry_after(0, u64::MAX) <= Duration::from_secs(5));
    }

    #[test]
    fn repeated_naks_are_answered_ever_more_slowly() {
        let pauses: Vec<u64> = (1..8).map(|n| pause_after_nak(n, MIDDLE).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn renewals_halve_the_rest_but_keep_a_minute_apart() {
        let at =
            |now, limit| renewal_retry_at(Duration::from_secs(now), Duration::from_secs(limit)).as_secs();
        assert_eq!(at(0, 1000), 500);
        assert_eq!(at(900, 1000), 960);
        assert_eq!(at(960, 1000), 1000);
        assert_eq!(at(1000, 1000), 1000);
    }
}
