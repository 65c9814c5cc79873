//! What the program counted of whom: events as they come, and the whole table when asked.

use crate::{LoaderError, TcProgram};
use aya::maps::{MapData, RingBuf};
use glacis_abi::{PROBES_MAX, ProbeCount, ProbeEvent, ProbeKey};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Steps of one sweep. Keys that go while the table is walked make the kernel begin anew, so a walk under a flood
/// may be longer than the table and must not be endless.
const SWEEP_STEPS_MAX: usize = 2 * PROBES_MAX;

/// Events of the program: one when the hits of a key reach 1, 2, 4, 8 and so on.
///
/// The descriptor becomes readable when an event comes to a drained stream, so it fits
/// `tokio::io::unix::AsyncFd`. An event that finds the ring full is counted as `events_lost`; hits are
/// cumulative, so the key's next event or a sweep makes up for it.
pub struct EventStream {
    ring: RingBuf<MapData>,
}

impl EventStream {
    pub(crate) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Hands over at most `limit` events and returns how many there were. Fewer than `limit` means that the
    /// stream is drained: only then may readiness be cleared.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(ProbeEvent)) -> usize {
        for taken in 0..limit {
            let Some(item) = self.ring.next() else {
                return taken;
            };
            each(decode(&item));
        }
        limit
    }
}

impl AsFd for EventStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventStream {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// # Panics
/// When the record is not of the event's size, which the layout version in the pin path rules out.
fn decode(item: &[u8]) -> ProbeEvent {
    assert_eq!(item.len(), size_of::<ProbeEvent>(), "a ring of this layout holds whole events only");
    // SAFETY: the length was just checked; the record is integers and byte arrays, so any bits are a value.
    unsafe { item.as_ptr().cast::<ProbeEvent>().read_unaligned() }
}

impl TcProgram {
    /// The events of the program; `None` once they have been taken. One reader at a time: the kernel hands each
    /// event out once.
    pub fn take_events(&mut self) -> Option<EventStream> {
        self.events.take()
    }

    /// Hands over every key that is counted, with its hits so far; returns how many there were. Under a flood a key
    /// may come twice and one that is evicted meanwhile not at all.
    pub fn sweep_counts(&self, mut each: impl FnMut(ProbeKey, ProbeCount)) -> Result<usize, LoaderError> {
        let mut swept = 0;
        for entry in self.probes.iter().take(SWEEP_STEPS_MAX) {
            let (key, count) = entry.map_err(LoaderError::map("PROBES", "read"))?;
            each(key, count);
            swept += 1;
        }
        Ok(swept)
    }
}
