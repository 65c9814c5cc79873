//! Lines for people: on the console, and in the kernel's log, which is the bounded memory of them.

use rustix::time::{ClockId, clock_gettime};
use std::fmt::Arguments;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Time since the machine started, with the time that it slept.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The clock starts at zero and only goes up.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Makes `/dev/console` the standard streams of PID 1, which its children inherit, and lifts the kernel's rate limit on
/// `/dev/kmsg`, at which lines of a fast boot would be lost.
pub fn attach() {
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        for stream in 0..=2 {
            // SAFETY: both are descriptors of this process; nothing in it owns the three standard ones.
            unsafe { libc::dup2(console.as_raw_fd(), stream) };
        }
    }
    // A kernel without it keeps the limit.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
}

/// Writes one line. A console that fails cannot be told anywhere else, so failures are passed over.
pub fn say(text: Arguments<'_>) {
    let line = line(since_boot(), text);
    let _ = std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush());
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // Of priority "debug", which the kernel keeps in its log and does not put on the console a second time.
        let _ = log.write_all(format!("<7>{line}").as_bytes());
    }
}

fn line(at: Duration, text: Arguments<'_>) -> String {
    format!("glacis[{:>7} ms] {text}\n", at.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_milliseconds_since_boot() {
        let at = Duration::from_micros(812_999);
        assert_eq!(line(at, format_args!("firewall closed")), "glacis[    812 ms] firewall closed\n");
    }
}
