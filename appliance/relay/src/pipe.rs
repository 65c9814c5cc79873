//! Pipes through which bulk passes, borrowed from the thread while bytes are in transit.

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Asked for each pipe; what the kernel grants may be less.
pub const PIPE_BYTES: usize = 1 << 20;
/// Most pipes of the process. Bulk beyond is copied: streams whose reader is slow hold a pipe for long. So many of
/// [`PIPE_BYTES`] are what the kernel allows a user by default.
pub const PIPES_MAX: usize = 64;
/// Kept open by one thread while nobody needs them.
const PIPES_KEPT_MAX: usize = 8;
/// A pipe smaller than the kernel's default costs more calls than copying. The kernel makes such ones for users that
/// have too many (`fs.pipe-user-pages-soft`).
const PIPE_BYTES_MIN: usize = 64 << 10;
/// Pause after a pipe could not be had.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Pipes of the process that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: Pool = const { Pool { free: RefCell::new(Vec::new()), refused: Cell::new(None) } };
}

struct Pool {
    free: RefCell<Vec<Ends>>,
    refused: Cell<Option<Instant>>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    _place: Place,
}

/// One of [`PIPES_MAX`].
struct Place;

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
            let kept = pool.free.borrow_mut().pop();
            Some(Self { ends: Some(kept.or_else(|| pool.open())?), filled: 0 })
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
        let ends = try_open(Place::take()?);
        self.refused.set(if ends.is_some() { None } else { Some(Instant::now()) });
        ends
    }
}

fn try_open(place: Place) -> Option<Ends> {
    let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
    // Above `fs.pipe-max-size` or the user's share it stays as it is.
    let capacity = fcntl_setpipe_size(&write, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&write)).ok()?;
    (capacity >= PIPE_BYTES_MIN).then_some(Ends { read, write, capacity, _place: place })
}

impl Place {
    fn take() -> Option<Self> {
        let taken = OPEN.fetch_add(1, Ordering::Relaxed);
        // Made before the comparison, so that one too many is given back.
        let place = Self;
        (taken < PIPES_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
