//! Signals as bytes to read: PID 1 has no handlers, so nothing is ever interrupted half-way.

use super::console::say;
use rustix::io::{Errno, read};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

const SIGINFO_BYTES: usize = size_of::<libc::signalfd_siginfo>();
/// Signals taken by one read.
const SIGNALS_PER_READ: usize = 8;

/// What a signal to PID 1 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, and SIGINT, which the kernel sends for ctrl-alt-del.
    PowerOff,
    /// SIGUSR1.
    Restart,
    /// SIGCHLD.
    Reap,
}

/// The signals that PID 1 listens to. Without a descriptor none of them arrives, and the loop looks by the clock.
pub struct Signals {
    descriptor: Option<OwnedFd>,
}

impl Signals {
    /// Blocks them and opens the descriptor. Children begin with an empty mask: the standard library sees to that.
    pub fn take() -> Self {
        match open() {
            Ok(descriptor) => Self { descriptor: Some(descriptor) },
            Err(error) => {
                say(format_args!("signals cannot be heard: {error}"));
                Self { descriptor: None }
            }
        }
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// All that arrived; does not wait.
    pub fn drain(&self) -> Vec<Asked> {
        let mut asked = Vec::new();
        let Some(descriptor) = &self.descriptor else { return asked };
        let mut buffer = [0; SIGINFO_BYTES * SIGNALS_PER_READ];
        loop {
            match read(descriptor, &mut buffer) {
                Ok(0) => return asked,
                Ok(bytes) => asked.extend(buffer[..bytes].chunks_exact(SIGINFO_BYTES).filter_map(parse)),
                Err(Errno::INTR) => {}
                Err(_) => return asked,
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let listened = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1];
    // SAFETY: the set is initialised by `sigemptyset` before anything reads it, and every call gets a valid pointer to
    // it; `signalfd` returns a new descriptor that nothing else owns.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in listened {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// The signal's number comes first (`struct signalfd_siginfo` of `linux/signalfd.h`).
fn parse(info: &[u8]) -> Option<Asked> {
    let number = u32::from_ne_bytes(*info.first_chunk()?);
    match libc::c_int::try_from(number).ok()? {
        libc::SIGTERM | libc::SIGINT => Some(Asked::PowerOff),
        libc::SIGUSR1 => Some(Asked::Restart),
        libc::SIGCHLD => Some(Asked::Reap),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_its_first_four_bytes() {
        let info = |number: i32| {
            let mut info = [0xff; SIGINFO_BYTES];
            info[..4].copy_from_slice(&number.to_ne_bytes());
            parse(&info)
        };
        assert_eq!(info(libc::SIGTERM), Some(Asked::PowerOff));
        assert_eq!(info(libc::SIGINT), Some(Asked::PowerOff));
        assert_eq!(info(libc::SIGUSR1), Some(Asked::Restart));
        assert_eq!(info(libc::SIGCHLD), Some(Asked::Reap));
        assert_eq!(info(libc::SIGHUP), None);
        assert_eq!(parse(&[1, 2, 3]), None);
    }
}
