//! A blocking `NETLINK_NETFILTER` socket.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The kernel's answers wait here; one error a message, should each of a large batch fail.
const RECEIVE_BYTES: libc::c_int = 4 << 20;
/// What the kernel fills per datagram of a dump, at most.
pub const DATAGRAM_BYTES: usize = 64 << 10;
/// The kernel's share of a message's buffer, which `SO_SNDBUF` counts as well.
const SEND_OVERHEAD_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    send_bytes: usize,
}

/// Whether to wait for a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Yes,
    No,
}

impl Socket {
    pub fn open() -> io::Result<Self> {
        // SAFETY: creates a descriptor and touches no memory of ours.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and belongs to no one else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut socket = Self { fd, send_bytes: 0 };
        socket.bind()?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        socket.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BYTES)?;
        socket.make_room(0)?;
        Ok(socket)
    }

    /// Takes a port that the kernel chooses.
    fn bind(&self) -> io::Result<()> {
        // SAFETY: all zeroes is a valid `sockaddr_nl`.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` is a `sockaddr_nl` of the length given and outlives the call.
        let code = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is a `c_int` of the length given and outlives the call.
        let code =
            unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, (&raw const value).cast(), length) };
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sets a buffer's size past the host's bound; within it where the privilege over the host is missing, as in a
    /// container that owns its network namespace only. A transaction that does not fit is then refused by `send`.
    fn set_buffer(&self, forced: libc::c_int, plain: libc::c_int, bytes: libc::c_int) -> io::Result<()> {
        match self.set_option(libc::SOL_SOCKET, forced, bytes) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                self.set_option(libc::SOL_SOCKET, plain, bytes)
            }
            result => result,
        }
    }

    /// Lets one datagram of this size be sent: a transaction is one.
    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let wanted = bytes + SEND_OVERHEAD_BYTES;
        if wanted > self.send_bytes {
            let value =
                libc::c_int::try_from(wanted).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
            self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, value)?;
            self.send_bytes = wanted;
        }
        Ok(())
    }

    /// Sends all of it as one datagram. The kernel works it off before this returns.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len())?;
        loop {
            // SAFETY: the pointer and the length are those of a live slice.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // Interrupted while waiting for memory: nothing was handed over.
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// One datagram, at most as long as the buffer; `None` when there is none and `wait` says not to.
    pub fn receive(&self, buffer: &mut [u8], wait: Wait) -> io::Result<Option<usize>> {
        let flags = if wait == Wait::No { libc::MSG_DONTWAIT } else { 0 };
        loop {
            // SAFETY: the pointer and the length are those of a live slice that is ours to write.
            let got =
                unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
            if let Ok(got) = usize::try_from(got) {
                return Ok(Some(got));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}
