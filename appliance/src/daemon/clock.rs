//! Steps of the wall clock, and what follows from them.
//!
//! The kernel ends bans by its own clock, which nobody sets; the book and the store know their ends in wall time. When the
//! wall clock is put forward or back, all ends move with it, so every block keeps the time that it had left.

use super::{Daemon, now};
use glacis_control::{Day, EventKind, UnixMillis};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Differences below this are no steps: clocks are slewed, and two readings are never of one moment.
const STEP_MIN: Duration = Duration::from_secs(2);
/// A clock that was put forward this far may be wrong; nothing is removed for its age until it has stood for a while.
const FORWARD_MAX: Duration = Duration::from_secs(3_600);
/// How long it must stand.
const SETTLE: Duration = Duration::from_secs(3_600);
/// Data that ends at most so many days ago says that the clock of this start is plausible.
const PLAUSIBLE_DAYS: u32 = 2;

/// The wall clock against the one that only runs.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// Wall time at boot, in milliseconds since 1970.
    offset_ms: i64,
    /// Time since boot from which on the wall clock is believed.
    believed_from: Duration,
}

impl ClockWatch {
    /// `newest`: the newest day that the store has data of.
    pub(super) fn start(newest: Option<Day>) -> Self {
        let (wall, running) = readings();
        let plausible =
            newest.is_none_or(|newest| Day::of(wall).0 <= newest.0.saturating_add(PLAUSIBLE_DAYS));
        let believed_from = if plausible { Duration::ZERO } else { running + SETTLE };
        Self { offset_ms: offset(wall, running), believed_from }
    }

    /// By how many milliseconds the wall clock was put forward (or back) since the last look.
    fn step(&mut self, (wall, running): (UnixMillis, Duration)) -> Option<i64> {
        let offset = offset(wall, running);
        let step = offset - self.offset_ms;
        if step.unsigned_abs() < STEP_MIN.as_millis() as u64 {
            return None;
        }
        self.offset_ms = offset;
        if step > FORWARD_MAX.as_millis() as i64 {
            self.believed_from = running + SETTLE;
        }
        Some(step)
    }

    /// Whether things may be removed for their age: a clock that says 2099 for a moment must not empty the store.
    pub(super) fn is_believed(&self) -> bool {
        readings().1 >= self.believed_from
    }
}

fn readings() -> (UnixMillis, Duration) {
    let since_boot = clock_gettime(ClockId::Boottime);
    (now(), Duration::new(since_boot.tv_sec.unsigned_abs(), since_boot.tv_nsec.unsigned_abs() as u32))
}

fn offset(wall: UnixMillis, running: Duration) -> i64 {
    wall.0.cast_signed() - (running.as_millis() as i64)
}

impl Daemon {
    /// Looks whether the wall clock was set, and moves the ends of all blocks with it.
    pub(super) async fn follow_clock(&mut self) {
        let Some(step) = self.clock.step(readings()) else { return };
        tracing::warn!(
            milliseconds = step,
            "the wall clock was set; blocks keep the time that they had left"
        );
        self.note(EventKind::ClockStepped { seconds: step / 1_000 });
        let (moved, offences) = (self.bans.shift(step), self.offences.shift(step));
        if let Err(error) = self.store.move_bans(moved, offences).await {
            tracing::error!(%error, "after a restart, blocks end by the clock as it was");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: UnixMillis = UnixMillis(1_795_000_000_000);

    fn at(wall_ms: i64, running: u64) -> (UnixMillis, Duration) {
        (UnixMillis(BOOT.0.strict_add_signed(wall_ms)), Duration::from_millis(running))
    }

    fn watch() -> ClockWatch {
        ClockWatch { offset_ms: offset(BOOT, Duration::ZERO), believed_from: Duration::ZERO }
    }

    #[test]
    fn a_clock_that_runs_makes_no_step() {
        let mut watch = watch();
        assert_eq!(watch.step(at(5_000, 5_000)), None);
        assert_eq!(watch.step(at(86_401_000, 86_400_000)), None, "a second of slewing");
    }

    #[test]
    fn a_step_is_told_once_in_both_directions() {
        let mut watch = watch();
        assert_eq!(watch.step(at(65_000, 5_000)), Some(60_000));
        assert_eq!(watch.step(at(66_000, 6_000)), None);
        assert_eq!(watch.step(at(-3_600_000, 7_000)), Some(-3_667_000));
        assert_eq!(watch.believed_from, Duration::ZERO, "neither was far forward");
    }

    #[test]
    fn a_clock_far_forward_must_stand_before_it_is_believed() {
        let mut watch = watch();
        assert!(watch.step(at(40 * 365 * 86_400_000, 5_000)).is_some());
        assert_eq!(watch.believed_from, Duration::from_secs(5) + SETTLE);
    }

    #[test]
    fn a_start_long_after_the_newest_data_waits() {
        let today = Day::of(now());
        let believed = |newest: Option<Day>| ClockWatch::start(newest).believed_from == Duration::ZERO;
        assert!(believed(None) && believed(Some(today)) && believed(Some(Day(today.0 - PLAUSIBLE_DAYS))));
        assert!(believed(Some(Day(today.0 + 900))), "a clock that is behind removes nothing");
        assert!(!believed(Some(Day(today.0 - PLAUSIBLE_DAYS - 1))));
    }
}
