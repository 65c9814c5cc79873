//! The way down: everything ends, everything is on disk, nothing is mounted, the machine stops.

use super::console::{say, since_boot};
use super::reap;
use super::signals::Asked;
use super::{DATA_DIR, POLICY_DIR};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};
use std::fmt;
use std::thread;
use std::time::Duration;

/// Time for processes to end after SIGTERM, and again after SIGKILL.
const END_MAX: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    PowerOff,
    Restart,
}

impl Ending {
    /// What the signals ask for, if they ask for an end. The first one counts.
    pub fn asked(signals: &[Asked]) -> Option<Self> {
        signals.iter().find_map(|asked| match asked {
            Asked::PowerOff => Some(Self::PowerOff),
            Asked::Restart => Some(Self::Restart),
            Asked::Reap => None,
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "powering off",
            Self::Restart => "restarting",
        })
    }
}

/// Ends everything that runs and then the machine. The firewall stands until the kernel is gone.
pub fn stop(ending: Ending) -> ! {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        // SAFETY: sends a signal to every process but this one and touches no memory. Without children there may be
        // nobody to send to.
        unsafe { libc::kill(-1, signal) };
        if all_ended() {
            break;
        }
    }
    rustix::fs::sync();
    for target in [DATA_DIR, POLICY_DIR] {
        // What cannot be unmounted is at least written out and closed for writing.
        if unmount(target, UnmountFlags::empty()).is_err() {
            let _ = mount_remount(target, MountFlags::RDONLY, c"");
        }
    }
    rustix::fs::sync();
    let command = match ending {
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Restart => RebootCommand::Restart,
    };
    let error = reboot(command);
    // Only reached when the kernel refuses.
    say(format_args!("{ending} failed: {error:?}. It is safe to switch the machine off"));
    loop {
        thread::sleep(Duration::from_mins(1));
    }
}

fn all_ended() -> bool {
    let deadline = since_boot() + END_MAX;
    while reap::any_left() {
        if since_boot() >= deadline {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_that_asks_for_an_end_counts() {
        assert_eq!(Ending::asked(&[Asked::Reap]), None);
        assert_eq!(Ending::asked(&[]), None);
        assert_eq!(Ending::asked(&[Asked::Reap, Asked::Restart, Asked::PowerOff]), Some(Ending::Restart));
        assert_eq!(Ending::asked(&[Asked::PowerOff]), Some(Ending::PowerOff));
    }
}
