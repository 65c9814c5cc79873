//! One connection being attempted, and what its end says about the port.

use crate::ProbeError;
use crate::errqueue;
use glacis_control::gate::PortOutcome;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A socket on its way to a client's port. Dropping it leaves nothing behind: an open connection is reset, so no local port
/// rests in `TIME_WAIT`.
pub(crate) struct Attempt {
    socket: OwnedFd,
    to: SocketAddr,
    /// The kernel has given the connection up already.
    failed: bool,
}

/// What an event at an [`Attempt`] came to.
pub(crate) enum Answer {
    /// It goes on.
    Nothing,
    Connected,
    /// Never an open port.
    Told(PortOutcome),
    Ours(ProbeError),
}

impl Attempt {
    /// Sets out. Whatever the kernel refuses right away is an error of ours: nothing came from the client yet.
    pub(crate) fn begin(to: SocketAddr) -> Result<Self, ProbeError> {
        let lacking = |cause: io::Error| ProbeError::Socket { port: to.port(), cause };
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None);
        let socket = socket.map_err(|e| lacking(e.into()))?;
        errqueue::keep_errors(&socket, to.ip()).map_err(lacking)?;
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self { socket, to, failed: false }),
            Err(cause) => Err(ProbeError::Connect { port: to.port(), cause: cause.into() }),
        }
    }

    pub(crate) const fn to(&self) -> SocketAddr {
        self.to
    }

    /// Reads what an event means while the connection is not there yet.
    pub(crate) fn answer(&mut self, flags: EventFlags) -> Answer {
        let may_have_ended = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if let Some(end) = may_have_ended.then(|| self.end()).flatten() {
            return end;
        }
        let is_there = flags.contains(EventFlags::OUT) && !flags.contains(EventFlags::HUP);
        if is_there { Answer::Connected } else { Answer::Nothing }
    }

    /// What it came to when nothing came within the time.
    pub(crate) fn give_up(&mut self) -> Answer {
        self.end().unwrap_or(Answer::Told(PortOutcome::Silent))
    }

    /// `None`: it has not ended.
    fn end(&mut self) -> Option<Answer> {
        match errqueue::take_icmp_error(&self.socket) {
            Ok(Some(error)) if self.is_own(error.sender) => {
                return Some(self.ours(io::Error::from_raw_os_error(error.errno)));
            }
            Ok(Some(_)) => {
                self.failed = true;
                return Some(Answer::Told(PortOutcome::Unreachable));
            }
            Ok(None) => {}
            Err(cause) => return Some(self.ours(cause)),
        }
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => None,
            // The connection was there and is gone: `tcp_reset` in the kernel's net/ipv4/tcp_input.c.
            Ok(Err(Errno::CONNRESET | Errno::PIPE)) => Some(Answer::Connected),
            Ok(Err(Errno::CONNREFUSED)) => {
                self.failed = true;
                Some(Answer::Told(PortOutcome::Refused))
            }
            // The kernel was told to send fewer SYNs than fit into our time.
            Ok(Err(Errno::TIMEDOUT)) => {
                self.failed = true;
                Some(Answer::Told(PortOutcome::Silent))
            }
            Ok(Err(cause)) | Err(cause) => Some(self.ours(cause.into())),
        }
    }

    /// When a next hop does not answer, this host sends itself an ICMP "host unreachable", from the address that the
    /// connection comes from (`ipv4_link_failure`, `ip6_link_failure`).
    fn is_own(&self, sender: IpAddr) -> bool {
        let local = net::getsockname(&self.socket).ok().and_then(|local| SocketAddr::try_from(local).ok());
        local.is_none_or(|local| local.ip() == sender)
    }

    fn ours(&self, cause: io::Error) -> Answer {
        Answer::Ours(ProbeError::Local { port: self.to.port(), cause })
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.failed {
            // It fails for no socket of ours; if it did, a local port would rest for a minute.
            let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
    }
}
