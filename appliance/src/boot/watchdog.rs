//! The hardware's watchdog: it resets the machine when PID 1 stops feeding it.

use super::console::say;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

const DEVICE: &str = "/dev/watchdog";
/// The machine is reset so long after the last feeding.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Between feedings; several may fail before it matters.
pub const FEED_INTERVAL: Duration = Duration::from_secs(5);
/// `WDIOC_SETTIMEOUT` of `linux/watchdog.h`: `_IOWR('W', 6, int)`.
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
/// Written before closing, it disarms the watchdog ("magic close").
const DISARM: &[u8] = b"V";
const FEED: &[u8] = b"\0";

/// An armed watchdog.
pub struct Watchdog {
    device: File,
    fed_at: Option<Duration>,
}

impl Watchdog {
    /// Opening arms it. `None` when the machine has none.
    pub fn open() -> Option<Self> {
        let device = match OpenOptions::new().write(true).open(DEVICE) {
            Ok(device) => device,
            Err(error) => {
                if error.raw_os_error() != Some(Errno::NOENT.raw_os_error()) {
                    say(format_args!("{DEVICE} not used: {error}"));
                }
                return None;
            }
        };
        if let Err(error) = set_timeout(&device) {
            say(format_args!("{DEVICE} keeps its own timeout: {error}"));
        }
        say(format_args!("watchdog armed"));
        Some(Self { device, fed_at: None })
    }

    /// Feeds it when the last time is long enough ago.
    pub fn feed(&mut self, now: Duration) {
        if self.fed_at.is_some_and(|fed_at| now < fed_at + FEED_INTERVAL) {
            return;
        }
        // A device that refuses resets the machine, which is its purpose.
        let _ = self.device.write_all(FEED);
        self.fed_at = Some(now);
    }

    /// Closes it so that the machine is not reset.
    pub fn disarm(mut self) {
        let _ = self.device.write_all(DISARM);
    }
}

fn set_timeout(device: &File) -> io::Result<()> {
    let mut seconds = TIMEOUT.as_secs() as libc::c_int;
    // SAFETY: the ioctl reads and writes one int, which lives until the call returns.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn it_is_fed_once_an_interval_and_disarmed_at_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        let mut watchdog = Watchdog { device: file.try_clone().unwrap(), fed_at: None };
        for seconds in [1, 2, 5, 6, 10, 11] {
            watchdog.feed(Duration::from_secs(seconds));
        }
        watchdog.disarm();
        let mut written = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut written).unwrap();
        assert_eq!(written, b"\0\0\0V");
    }
}
