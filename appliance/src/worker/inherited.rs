//! What a worker is born with: the feed as descriptor 3, listening sockets from 4 on, nothing else.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The feed; listeners follow it.
pub const FEED_FD: RawFd = 3;
/// Most listening sockets that one worker takes.
pub const LISTENERS_MAX: usize = 16;

#[derive(Debug)]
pub struct Inherited {
    pub feed: UnixStream,
    pub listeners: Vec<TcpListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error(
        "{} must say how many listeners were passed, at most {LISTENERS_MAX}; it says {found:?}",
        super::LISTEN_FDS_VARIABLE
    )]
    Count { found: Option<String> },
    #[error("descriptor {fd} must be a socket; workers are started by the core, not by hand")]
    NotASocket { fd: RawFd },
    #[error("cannot close the descriptors that were not passed: {0}")]
    Close(#[source] io::Error),
    #[error("cannot make descriptor {fd} non-blocking: {source}")]
    Nonblocking { fd: RawFd, source: io::Error },
}

impl Inherited {
    /// Takes the passed descriptors, all non-blocking, and closes every other one above standard error.
    ///
    /// Call it once, before anything else opens a descriptor.
    pub fn take() -> Result<Self, InheritError> {
        let count = listener_count()?;
        close_from(FEED_FD + 1 + count as RawFd).map_err(InheritError::Close)?;
        let feed = UnixStream::from(socket(FEED_FD)?);
        feed.set_nonblocking(true).map_err(|source| InheritError::Nonblocking { fd: FEED_FD, source })?;
        let listeners = (0..count as RawFd)
            .map(|index| {
                let fd = FEED_FD + 1 + index;
                let listener = TcpListener::from(socket(fd)?);
                listener.set_nonblocking(true).map_err(|source| InheritError::Nonblocking { fd, source })?;
                Ok(listener)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { feed, listeners })
    }
}

fn listener_count() -> Result<usize, InheritError> {
    let found = std::env::var(super::LISTEN_FDS_VARIABLE).ok();
    found
        .as_deref()
        .and_then(|text| text.parse().ok())
        .filter(|count| *count <= LISTENERS_MAX)
        .ok_or(InheritError::Count { found })
}

/// Owns `fd` when it is an open socket.
fn socket(fd: RawFd) -> Result<OwnedFd, InheritError> {
    use std::os::unix::fs::FileTypeExt;

    // SAFETY: the descriptors from `FEED_FD` on are this function's alone: the core passed them, and nothing
    // else has opened one yet. A number that is not open makes `metadata` fail and is given up without a close.
    let file = unsafe { File::from_raw_fd(fd) };
    match file.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(OwnedFd::from(file)),
        Ok(_) => Err(InheritError::NotASocket { fd }),
        Err(_) => {
            std::mem::forget(file);
            Err(InheritError::NotASocket { fd })
        }
    }
}

/// Closes `first` and every descriptor above it.
fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above the passed ones yet.
    match unsafe { libc::close_range(first as libc::c_uint, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
