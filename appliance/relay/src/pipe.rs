//! Pipes through which bulk passes, borrowed from the thread while bytes are in transit.

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Asked for each pipe; what the kernel grants may be less.
pub const PIPE_BYTES: usize = 1 << 20;
/// Most pipes of one thread. Bulk beyond is copied: streams whose reader is slow hold a pipe for long.
pub const PIPES_MAX: usize = 32;
/// Kept open while nobody needs them.
const PIPES_KEPT_MAX: usize = 8;
/// A pipe smaller than the kernel's default costs more calls than copying. The kernel makes such ones for users that
/// have too many (`fs.pipe-user-pages-soft`).
const PIPE_BYTES_MIN: usize = 64 << 10;
/// Pause after a pipe could not be had.
const RETRY_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: Pool = const {
        Pool { free: RefCell::new(Vec::new()), borrowed: Cell::new(0), refused: Cell::new(None) }
    };
}

struct Pool {
    free: RefCell<Vec<Ends>>,
    borrowed: Cell<usize>,
    refused: Cell<Option<Instant>>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

/// A pipe on loan. It goes back when it is dropped empty; else its bytes go with it.
pub(crate) struct Pipe {
    /// `None` only while it is being dropped.
    ends: Option<Ends>,
    pub(crate) filled: usize,
}

impl Pipe {
    /// An empty pipe, or `None` when there is none to be had now.
    pub(crate) fn borrow() -> Option<Self> {
        POOL.with(|pool| {
            if pool.borrowed.get() >= PIPES_MAX {
                return None;
            }
            let kept = pool.free.borrow_mut().pop();
            let ends = kept.or_else(|| pool.open())?;
            pool.borrowed.set(pool.borrowed.get() + 1);
            Some(Self { ends: Some(ends), filled: 0 })
        })
    }

    pub(crate) fn read_end(&self) -> &OwnedFd {
        &self.ends().read
    }

    pub(crate) fn write_end(&self) -> &OwnedFd {
        &self.ends().write
    }

    pub(crate) fn capacity(&self) -> usize {
        self.ends().capacity
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("the ends are there until the drop")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        // At the end of the thread the pool may be gone before the last relay; then the ends just close.
        let _ = POOL.try_with(|pool| {
            pool.borrowed.set(pool.borrowed.get() - 1);
            let mut free = pool.free.borrow_mut();
            if self.filled == 0 && free.len() < PIPES_KEPT_MAX {
                free.push(ends);
            }
        });
    }
}

impl Pool {
    /// Any failure is a shortage (descriptors, memory, the user's share of pipe pages), so it is not told but waited out.
    fn open(&self) -> Option<Ends> {
        if self.refused.get().is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return None;
        }
        let ends = Self::try_open();
        self.refused.set(if ends.is_some() { None } else { Some(Instant::now()) });
        ends
    }

    fn try_open() -> Option<Ends> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Above `fs.pipe-max-size` or the user's share it stays as it is.
        let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&write)).ok()?;
        (capacity >= PIPE_BYTES_MIN).then_some(Ends { read, write, capacity })
    }
}
