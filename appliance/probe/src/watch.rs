//! The sockets of one look in one epoll set, which the runtime watches as a whole.
//!
//! The runtime would make, wake and free a registration for each socket; like this it does so once for a look, and a
//! socket leaves the set by being closed. The sockets are edge-triggered.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most events taken at once; more are taken right after.
const EVENTS_MAX: usize = 64;
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Sockets that are watched, each known by a key of the caller's.
pub(crate) struct Watch {
    epoll: OwnedFd,
}

/// A [`Watch`] that the runtime watches. Sockets can still be added, at the price of a check for loops of epoll sets.
pub(crate) struct Watching {
    epoll: AsyncFd<OwnedFd>,
}

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// The socket must be connecting already: an idle one tells of a hang-up at once.
    pub(crate) fn add(&self, socket: impl AsFd, key: u64) -> io::Result<()> {
        add(&self.epoll, socket, key)
    }

    pub(crate) fn begin(self) -> io::Result<Watching> {
        // SAFETY: an `OwnedFd` stays open and the same until it is dropped, which is after `AsyncFd` let go of it.
        let epoll = unsafe { AsyncFd::register_with_interest(self.epoll, Interest::READABLE)? };
        Ok(Watching { epoll })
    }
}

impl Watching {
    pub(crate) fn add(&self, socket: impl AsFd, key: u64) -> io::Result<()> {
        add(self.epoll.get_ref(), socket, key)
    }

    /// Returns when [`Self::events`] may have something to tell. Can be cancelled without losing anything.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        // Cleared before the events are taken: what happens meanwhile wakes once more instead of being missed.
        self.epoll.readable().await?.clear_ready();
        Ok(())
    }

    /// Tells `each` key and flags of every event there is, without waiting.
    pub(crate) fn events(&self, mut each: impl FnMut(u64, EventFlags)) -> io::Result<()> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
        loop {
            let count = epoll::wait(self.epoll.get_ref(), &mut events[..], Some(&NO_WAIT))?;
            for event in &events[..count] {
                each(event.data.u64(), event.flags);
            }
            if count < EVENTS_MAX {
                return Ok(());
            }
        }
    }
}

fn add(epoll: &OwnedFd, socket: impl AsFd, key: u64) -> io::Result<()> {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    Ok(epoll::add(epoll, socket, EventData::new_u64(key), flags)?)
}
