//! One direction of a relay: from a socket, by way of a buffer or a pipe, to another.

use crate::pipe::Pipe;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{SpliceFlags, splice};
use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
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
    Bytes { bytes: Box<[u8]>, taken: usize },
    Piped(Pipe),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Exchange,
    Bulk,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    End,
}

impl Direction {
    /// With bytes that go before all others.
    pub(crate) fn new(first: Vec<u8>) -> Self {
        let held = if first.is_empty() {
            Held::Nothing
        } else {
            Held::Bytes { bytes: first.into_boxed_slice(), taken: 0 }
        };
        Self { held, pace: Pace::Exchange, ended: false, stalled: false, passed: 0, told: 0 }
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
        let receiver = |error| Broken { socket: Socket::To, error };
        let start = self.passed;
        self.stalled = false;
        for _ in 0..TURN_READS_MAX {
            ready!(self.poll_deliver(cx, to)).map_err(receiver)?;
            if self.passed - start >= TURN_BYTES_MAX {
                break;
            }
            let sender = |error| Broken { socket: Socket::From, error };
            match ready!(self.poll_read(cx, from, to)).map_err(sender)? {
                Read::Some => {}
                Read::End => {
                    self.ended = true;
                    if farewell == Farewell::Shutdown {
                        rustix::net::shutdown(to, Shutdown::Write).map_err(|errno| receiver(errno.into()))?;
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
        // Behind all that is ready, and behind what the network has ready by then.
        pin!(tokio::task::yield_now()).poll(cx).map(Ok)
    }

    /// Ready when nothing is held.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        loop {
            let done = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes { bytes, taken } => {
                    let rest = &bytes[*taken..];
                    let sent = transfer(to, Interest::WRITABLE, rest.len(), || send(to, rest))?.unwrap_or(0);
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
                self.held = Held::Nothing;
            } else if to.poll_write_ready(cx)?.is_pending() {
                self.stalled = true;
                return Poll::Pending;
            }
        }
    }

    /// Reads once. Of copied bytes the receiver has at once what it takes; the rest is held.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<io::Result<Read>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            // A receiver that broke is found out by sending to it.
            if to.poll_write_ready(cx).is_pending() {
                self.stalled = true;
                return Poll::Pending;
            }
            let pipe = if self.pace == Pace::Bulk { Pipe::borrow() } else { None };
            let read = match pipe {
                Some(pipe) => self.fill(from, pipe)?,
                None => BUFFER.with_borrow_mut(|buffer| self.copy(from, to, buffer))?,
            };
            if let Some(read) = read {
                return Poll::Ready(Ok(read));
            }
        }
    }

    /// `None` when nothing is there yet.
    fn copy(&mut self, from: &TcpStream, to: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Read>> {
        buffer.resize(BUFFER_BYTES, 0);
        let received = transfer(from, Interest::READABLE, BUFFER_BYTES, || {
            Ok(rustix::net::recv(from, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?.1)
        });
        Ok(received?.map(|received| {
            if received == 0 {
                return Read::End;
            }
            self.pace = if received == BUFFER_BYTES { Pace::Bulk } else { Pace::Exchange };
            let bytes = &buffer[..received];
            // An error shows again when the rest is sent.
            let sent = transfer(to, Interest::WRITABLE, received, || send(to, bytes));
            let sent = sent.ok().flatten().unwrap_or(0);
            self.passed += sent as u64;
            if sent < received {
                self.held = Held::Bytes { bytes: bytes[sent..].into(), taken: 0 };
            }
            Read::Some
        }))
    }

    /// `None` when nothing is there yet.
    fn fill(&mut self, from: &TcpStream, mut pipe: Pipe) -> io::Result<Option<Read>> {
        // The pipe is empty, so only the socket can make it block. A full pipe says nothing about the socket.
        let filled = transfer(from, Interest::READABLE, 1, || {
            Ok(splice(from, None, pipe.write_end(), None, pipe.capacity(), SPLICE)?)
        });
        Ok(filled?.map(|filled| {
            if filled == 0 {
                return Read::End;
            }
            if filled < BULK_BYTES_MIN {
                self.pace = Pace::Exchange;
            }
            pipe.filled = filled;
            self.held = Held::Piped(pipe);
            Read::Some
        }))
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

fn send(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
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
