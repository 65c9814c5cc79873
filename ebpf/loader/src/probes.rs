//! What the program counted of whom: events as they come, and the whole table when asked.

use crate::{LoaderError, MonotonicTime, TcProgram};
use aya::maps::{MapData, RingBuf};
use glacis_abi::{PROBES_MAX, PROVEN_MAX, ProbeCount, ProbeEvent, ProbeKey, Proof};
use rustix::event::epoll;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Steps of one sweep. Keys that go while the table is walked make the kernel begin anew, so a walk under a flood
/// may be longer than the table and must not be endless.
const SWEEP_STEPS_MAX: usize = 2 * PROBES_MAX;
const PROOF_STEPS_MAX: usize = 2 * PROVEN_MAX;

/// What the program tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A probe; its hits are cumulative.
    Probe(ProbeEvent),
    /// A source sent a challenge back, and thereby showed that it receives what we send.
    Echo {
        source: IpAddr,
        /// Cumulative since `first`.
        echoes: u64,
        /// When the source's first echo came; another value than before means that it was forgotten in between.
        first: MonotonicTime,
        at: MonotonicTime,
    },
}

impl From<ProbeEvent> for Event {
    fn from(event: ProbeEvent) -> Self {
        if event.kind == ProbeEvent::ECHO {
            return Self::Echo {
                source: event.key.source(),
                echoes: event.echoes,
                first: MonotonicTime(event.first),
                at: MonotonicTime(event.at),
            };
        }
        Self::Probe(event)
    }
}

/// Events of the program: probes when the hits of a key reach 1, 2, 4, 8, 16 and every 16th, or when the kind or our
/// address is another than before; and every echo. What comes of sources that have echoed is handed out first, from a
/// ring of its own, which no forged source can fill.
///
/// The descriptor becomes readable when an event comes to a drained stream, so it fits
/// `tokio::io::unix::AsyncFd`. An event that finds its ring full is counted as `events_lost`, and one that its source
/// or the total has no ration for as `events_over_budget`; hits are cumulative, so the key's next event or a sweep
/// makes up for it.
pub struct EventStream {
    priority: RingBuf<MapData>,
    others: RingBuf<MapData>,
    /// Readable when one of them is.
    either: OwnedFd,
}

impl EventStream {
    pub(crate) fn new(priority: RingBuf<MapData>, others: RingBuf<MapData>) -> Result<Self, LoaderError> {
        let watch = || {
            let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for ring in [&priority, &others] {
                epoll::add(&either, ring, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            Ok(either)
        };
        let either = watch().map_err(|e: rustix::io::Errno| LoaderError::Epoll(e.into()))?;
        Ok(Self { priority, others, either })
    }

    /// Hands over at most `limit` events and returns how many there were. Fewer than `limit` means that the
    /// stream is drained: only then may readiness be cleared.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(Event)) -> usize {
        for taken in 0..limit {
            let event = match self.priority.next() {
                Some(item) => decode(&item),
                None => match self.others.next() {
                    Some(item) => decode(&item),
                    None => return taken,
                },
            };
            each(event.into());
        }
        limit
    }
}

impl AsFd for EventStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }
}

impl AsRawFd for EventStream {
    fn as_raw_fd(&self) -> RawFd {
        self.either.as_raw_fd()
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

    /// Hands over every source that has echoed, with its echoes so far; returns how many there were. Under a flood a
    /// source may come twice and one that is evicted meanwhile not at all.
    pub fn sweep_proofs(&self, mut each: impl FnMut(IpAddr, Proof)) -> Result<usize, LoaderError> {
        let mut swept = 0;
        for entry in self.proven.iter().take(PROOF_STEPS_MAX) {
            let (source, proof) = entry.map_err(LoaderError::map("PROVEN", "read"))?;
            each(source.into(), proof);
            swept += 1;
        }
        Ok(swept)
    }
}
