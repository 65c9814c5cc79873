//! One direction of a relay: from a socket, by way of a buffer or a pipe, to another.

use crate::pipe::Pipe;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};
use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Received at once by copying; a direction that fills it is bulk from then on.
const BUFFER_BYTES: usize = 16 << 10;
/// A direction that hands on less at once is not bulk any more.
const BULK_BYTES_MIN: usize = 16 << 10;
/// Handed on in one turn; then others have theirs.
const TURN_BYTES_MAX: u64 = 1 << 20;
/// Reads in one turn.
const TURN_READS_MAX: usize = 16;

/// Copied bytes that all relays of the process together hold for slow receivers. Beyond it a direction reads
/// [`LEAN_BYTES`] at once, which is then the most that it holds.
const HELD_BYTES_MAX: usize = 64 << 20;
const LEAN_BYTES: usize = 1 << 10;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Which of a direction's two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    From,
    To,
}

/// What befell a socket.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) socket: Socket,
    pub(crate) error: io::Error,
}

/// What to do with the reader's side when the writer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The other direction goes on: end this one.
    Shutdown,
    /// Both sockets are about to be closed, which ends them.
    Close,
}

pub(crate) struct Direction {
    held: Held,
    pace: Pace,
    /// The sender's end was read.
    end_read: bool,
    /// It was passed on.
    ended: bool,
    stalled: bool,
    /// Bytes that the receiving socket took.
    passed: u64,
    /// The part of `passed` that was told already.
    told: u64,
}

/// Bytes that were read and not yet taken.
enum Held {
    Nothing,
    /// What the direction began with.
    First {
        bytes: Box<[u8]>,
        taken: usize,
    },
    Bytes {
        bytes: Copied,
        taken: usize,
    },
    Piped(Pipe),
}

/// Bytes that count among [`HELD_BYTES`].
struct Copied(Box<[u8]>);

impl Copied {
    fn new(bytes: &[u8]) -> Self {
        HELD_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        Self(bytes.into())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

/// Bytes to read at once by copying, as what is held allows.
fn room() -> usize {
    if HELD_BYTES.load(Ordering::Relaxed) < HELD_BYTES_MAX { BUFFER_BYTES } else { LEAN_BYTES }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Exchange,
    Bulk,
}

impl Direction {
    /// With bytes that go before all others.
    pub(crate) fn new(first: Vec<u8>) -> Self {
        let held = if first.is_empty() {
            Held::Nothing
        } else {
            Held::First { bytes: first.into_boxed_slice(), taken: 0 }
        };
        Self { held, pace: Pace::Exchange, end_read: false, ended: false, stalled: false, passed: 0, told: 0 }
    }

    /// The sender's end was reached and passed on.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for the receiver, so the sender's socket is not looked at.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Bytes were read that the receiver has not taken.
    pub(crate) const fn holds_bytes(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// Bytes that the receiver took.
    pub(crate) const fn passed(&self) -> u64 {
        self.passed
    }

    /// The part of them that was not told before.
    pub(crate) const fn progress(&mut self) -> u64 {
        let progress = self.passed - self.told;
        self.told = self.passed;
        progress
    }

    /// Passes on what there is. Ready when the sender's end was reached and passed on, or when a socket broke.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        farewell: Farewell,
    ) -> Poll<Result<(), Broken>> {
        let receiver = |error: io::Error| Broken { socket: Socket::To, error };
        let start = self.passed;
        self.stalled = false;
        for _ in 0..TURN_READS_MAX {
            ready!(self.poll_deliver(cx, to)).map_err(receiver)?;
            if self.end_read {
                self.ended = true;
                if farewell == Farewell::Shutdown {
                    rustix::net::shutdown(to, Shutdown::Write).map_err(|errno| receiver(errno.into()))?;
                }
                return Poll::Ready(Ok(()));
            }
            if self.passed - start >= TURN_BYTES_MAX {
                break;
            }
            ready!(self.poll_read(cx, from, to)).map_err(|error| Broken { socket: Socket::From, error })?;
        }
        // Behind all that is ready, and behind what the network has ready by then.
        pin!(tokio::task::yield_now()).poll(cx).map(Ok)
    }

    /// Ready when nothing is held.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        loop {
            let done = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::First { bytes, taken } | Held::Bytes { bytes: Copied(bytes), taken } => {
                    let rest = &bytes[*taken..];
                    let sent =
                        transfer(to, Interest::WRITABLE, rest.len(), || send(to, rest, SendFlags::empty()))?
                            .unwrap_or(0);
                    *taken += sent;
                    self.passed += sent as u64;
                    *taken == bytes.len()
                }
                Held::Piped(pipe) => {
                    let sent = transfer(to, Interest::WRITABLE, pipe.filled, || {
                        Ok(splice(pipe.read_end(), None, to, None, pipe.filled, SPLICE)?)
                    })?
                    .unwrap_or(0);
                    pipe.filled -= sent;
                    self.passed += sent as u64;
                    pipe.filled == 0
                }
            };
            if done {
                if let Held::First { .. } = self.held {
                    // As `connect_to_speak` leaves it, the kernel would be slow to acknowledge the answer.
                    let _ = sockopt::set_tcp_quickack(to, true);
                }
                self.held = Held::Nothing;
            } else if to.poll_write_ready(cx)?.is_pending() {
                self.stalled = true;
                return Poll::Pending;
            }
        }
    }

    /// Reads once. Of copied bytes the receiver has at once what it takes; the rest is held.
    fn poll_read(&mut self, cx: &mut Context<'_>, from: &TcpStream, to: &TcpStream) -> Poll<io::Result<()>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            // A receiver that broke is found out by sending to it.
            if to.poll_write_ready(cx).is_pending() {
                self.stalled = true;
                return Poll::Pending;
            }
            let pipe = if self.pace == Pace::Bulk { Pipe::borrow() } else { None };
            let something = match pipe {
                Some(pipe) => self.fill(from, pipe)?,
                None => BUFFER.with_borrow_mut(|buffer| self.copy(from, to, buffer))?,
            };
            if something {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// False when nothing is there yet.
    fn copy(&mut self, from: &TcpStream, to: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
        buffer.resize(BUFFER_BYTES, 0);
        let buffer = &mut buffer[..room()];
        let ends = has_ended(from);
        let Some(mut received) = receive(from, buffer)? else { return Ok(false) };
        self.pace = if received == BUFFER_BYTES { Pace::Bulk } else { Pace::Exchange };
        self.end_read = received == 0;
        if ends && received > 0 && received < buffer.len() {
            match receive(from, &mut buffer[received..]) {
                Ok(Some(0)) => self.end_read = true,
                Ok(Some(more)) => received += more,
                Ok(None) => {}
                Err(error) => {
                    self.hand_on(&buffer[..received], to);
                    return Err(error);
                }
            }
        }
        if received > 0 {
            self.hand_on(&buffer[..received], to);
        }
        Ok(true)
    }

    fn hand_on(&mut self, bytes: &[u8], to: &TcpStream) {
        // The end follows at once and travels with the last bytes.
        let more = if self.end_read { SendFlags::MORE } else { SendFlags::empty() };
        // An error shows again when the rest is sent.
        let sent = transfer(to, Interest::WRITABLE, bytes.len(), || send(to, bytes, more));
        let sent = sent.ok().flatten().unwrap_or(0);
        self.passed += sent as u64;
        if sent < bytes.len() {
            self.held = Held::Bytes { bytes: Copied::new(&bytes[sent..]), taken: 0 };
        }
    }

    /// False when nothing is there yet.
    fn fill(&mut self, from: &TcpStream, mut pipe: Pipe) -> io::Result<bool> {
        // The pipe is empty, so only the socket can make it block. A full pipe says nothing about the socket.
        let filled = transfer(from, Interest::READABLE, 1, || {
            Ok(splice(from, None, pipe.write_end(), None, pipe.capacity(), SPLICE)?)
        });
        let Some(filled) = filled? else { return Ok(false) };
        if filled == 0 {
            self.end_read = true;
            return Ok(true);
        }
        if filled < BULK_BYTES_MIN {
            self.pace = Pace::Exchange;
        }
        pipe.filled = filled;
        self.held = Held::Piped(pipe);
        Ok(true)
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn send(to: &TcpStream, bytes: &[u8], more: SendFlags) -> io::Result<usize> {
    Ok(rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL | more)?)
}

/// Bytes received, 0 at the sender's end, or `None` when the runtime has not heard of any.
pub(crate) fn receive(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let wanted = buffer.len();
    transfer(from, Interest::READABLE, wanted, || Ok(rustix::net::recv(from, buffer, RecvFlags::DONTWAIT)?.1))
}

/// Whether the runtime has heard that the sender ended its direction; its last bytes may still be unread.
fn has_ended(socket: &TcpStream) -> bool {
    let told = pin!(socket.ready(Interest::READABLE | Interest::ERROR));
    match told.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.is_read_closed() && !ready.is_error(),
        Poll::Ready(Err(_)) | Poll::Pending => false,
    }
}

/// Bytes transferred, or `None` when the socket is not ready.
///
/// A socket that gives or takes some but less than `wanted` has no more, which saves the call that would say so. Its end
/// is not missed: the event of an end stays set.
fn transfer(
    socket: &TcpStream,
    interest: Interest,
    wanted: usize,
    attempt: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut some = None;
    let result = socket.try_io(interest, || {
        let count = attempt()?;
        some = Some(count);
        if count > 0 && count < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_and_much_of_it_makes_relays_read_little() {
        let before = room();
        let held: Vec<Copied> =
            (0..HELD_BYTES_MAX / BUFFER_BYTES).map(|_| Copied::new(&[7; BUFFER_BYTES])).collect();
        assert_eq!((before, room()), (BUFFER_BYTES, LEAN_BYTES));
        drop(held);
        assert_eq!(room(), BUFFER_BYTES);
    }
}
