//! The decisions about the core's life, on a clock that is handed in.

use crate::backoff::Backoff;
use std::time::Duration;

/// A core that starts has so long until its first heartbeat: it compiles the policy and fills the kernel before that.
pub const START_MAX: Duration = Duration::from_mins(1);
/// A core that beat once and then says nothing for so long is killed.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A core that lived so long has earned the shortest wait again.
pub const STABLE_AFTER: Duration = Duration::from_mins(1);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Start,
    Kill,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    Ended {
        start_at: Duration,
    },
    Running {
        since: Duration,
        silent_at: Duration,
    },
    /// Killed and not yet reaped.
    Killed {
        since: Duration,
    },
}

/// The core as PID 1 sees it. All times are since boot.
#[derive(Debug)]
pub struct Watch {
    core: Core,
    backoff: Backoff,
    last_beat: Option<Duration>,
    /// Until the first beat ever, this is how long the machine counts as alive.
    grace_until: Duration,
}

impl Watch {
    /// The core is to be started at once.
    pub fn new(now: Duration) -> Self {
        Self {
            core: Core::Ended { start_at: now },
            backoff: Backoff::new(STABLE_AFTER),
            last_beat: None,
            grace_until: now + START_MAX,
        }
    }

    pub fn due(&self, now: Duration) -> Due {
        match self.core {
            Core::Ended { start_at } if now >= start_at => Due::Start,
            Core::Running { silent_at, .. } if now >= silent_at => Due::Kill,
            _ => Due::Nothing,
        }
    }

    /// When [`due`](Self::due) may change by itself.
    pub fn next_due(&self) -> Option<Duration> {
        match self.core {
            Core::Ended { start_at } => Some(start_at),
            Core::Running { silent_at, .. } => Some(silent_at),
            Core::Killed { .. } => None,
        }
    }

    pub fn started(&mut self, now: Duration) {
        self.core = Core::Running { since: now, silent_at: now + START_MAX };
    }

    pub fn beat(&mut self, now: Duration) {
        self.last_beat = Some(now);
        if let Core::Running { silent_at, .. } = &mut self.core {
            *silent_at = now + SILENCE_MAX;
        }
    }

    pub fn killed(&mut self) {
        if let Core::Running { since, .. } = self.core {
            self.core = Core::Killed { since };
        }
    }

    /// The core ended, or could not be started. Returns the wait before the next start.
    pub fn ended(&mut self, now: Duration) -> Duration {
        let lived = match self.core {
            Core::Running { since, .. } | Core::Killed { since } => now.saturating_sub(since),
            Core::Ended { .. } => Duration::ZERO,
        };
        let wait = self.backoff.delay(lived);
        self.core = Core::Ended { start_at: now + wait };
        wait
    }

    /// Whether the hardware's watchdog may be fed: a heart beats, or the machine just booted. A core that is started over
    /// and over without ever beating does not count as alive.
    pub fn is_alive(&self, now: Duration) -> bool {
        match self.last_beat {
            Some(beat) => now < beat + SILENCE_MAX,
            None => now < self.grace_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn just_before(moment: Duration) -> Duration {
        moment.saturating_sub(ms(1))
    }

    const BOOT: Duration = ms(800);

    fn running() -> Watch {
        let mut watch = Watch::new(BOOT);
        assert_eq!(watch.due(BOOT), Due::Start);
        watch.started(BOOT);
        watch
    }

    #[test]
    fn a_core_that_never_beats_is_killed_after_its_start_time() {
        let watch = running();
        assert_eq!(watch.due(just_before(BOOT + START_MAX)), Due::Nothing);
        assert_eq!(watch.due(BOOT + START_MAX), Due::Kill);
    }

    #[test]
    fn a_beat_moves_the_deadline_and_silence_kills() {
        let mut watch = running();
        watch.beat(ms(2_000));
        watch.beat(ms(3_000));
        assert_eq!(watch.next_due(), Some(ms(3_000) + SILENCE_MAX));
        assert_eq!(watch.due(just_before(ms(3_000) + SILENCE_MAX)), Due::Nothing);
        assert_eq!(watch.due(ms(3_000) + SILENCE_MAX), Due::Kill);
        watch.killed();
        assert_eq!(watch.due(ms(99_000)), Due::Nothing, "killed twice");
        assert_eq!(watch.next_due(), None);
    }

    #[test]
    fn a_restart_is_due_when_its_wait_is_over() {
        let mut watch = running();
        let mut now = BOOT;
        let mut waits = Vec::new();
        for _ in 0..3 {
            let wait = watch.ended(now);
            assert_eq!(watch.due(just_before(now + wait)), Due::Nothing);
            now += wait;
            assert_eq!(watch.due(now), Due::Start);
            watch.started(now);
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [100, 200, 400]);
    }

    #[test]
    fn a_long_life_earns_the_shortest_wait() {
        let mut watch = running();
        watch.ended(BOOT);
        watch.started(BOOT);
        assert_eq!(watch.ended(just_before(BOOT + STABLE_AFTER)), ms(200));
        watch.started(BOOT);
        assert_eq!(watch.ended(BOOT + STABLE_AFTER), ms(100));
    }

    #[test]
    fn a_failed_start_waits_like_a_death() {
        let mut watch = Watch::new(BOOT);
        assert_eq!(watch.ended(BOOT), ms(100));
        assert_eq!(watch.ended(BOOT + ms(100)), ms(200));
    }

    #[test]
    fn the_watchdog_is_fed_by_beats_and_not_by_restarts() {
        let mut watch = running();
        assert!(watch.is_alive(just_before(BOOT + START_MAX)));
        assert!(!watch.is_alive(BOOT + START_MAX));
        watch.beat(ms(90_000));
        assert!(watch.is_alive(just_before(ms(90_000) + SILENCE_MAX)));
        watch.ended(ms(91_000));
        watch.started(ms(92_000));
        assert!(!watch.is_alive(ms(90_000) + SILENCE_MAX), "a start is no beat");
    }
}
