//! Asks the daemon: one request, one reply, over its unix socket.

use glacis_control::frame::{self, FrameError, HEADER_BYTES};
use glacis_control::{Refusal, Reply, Request};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for a reply: applying a policy with a list of a million entries takes seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no daemon answers at {socket}: {cause}. Start one with `glacis run`, or name its socket with --socket"
    )]
    NoDaemon { socket: PathBuf, cause: io::Error },
    #[error("the daemon at {socket} may only be asked by root")]
    Forbidden { socket: PathBuf },
    #[error("the connection to the daemon broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{}", with_detail(.0))]
    Refused(Refusal),
}

/// The sentence, and the diagnostics below it.
fn with_detail(refusal: &Refusal) -> String {
    if refusal.detail.is_empty() {
        return refusal.message.clone();
    }
    format!("{}\n{}", refusal.message, refusal.detail.trim_end())
}

/// Sends a request and waits for its reply. A refusal is an error.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|cause| match cause.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden { socket: socket.to_owned() },
        _ => AskError::NoDaemon { socket: socket.to_owned(), cause },
    })?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    stream.write_all(&frame::encode(request)?)?;
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; frame::body_length(header)?];
    stream.read_exact(&mut body)?;
    match frame::decode(&body)? {
        Reply::Refused { refusal } => Err(AskError::Refused(refusal)),
        reply => Ok(reply),
    }
}
