//! What fails on our side of a look.

use crate::PROOFS_MAX;
use std::io;
use thiserror::Error;

/// An error of ours: it says nothing about the client, and the port where it happened has no outcome.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("cannot watch the sockets of a look: {0} (is the limit of open files too low?)")]
    Watch(#[source] io::Error),
    #[error("no socket to look at port {port} with: {cause} (is the limit of open files too low?)")]
    Socket { port: u16, cause: io::Error },
    #[error(
        "cannot set out for port {port}: {cause} (is there a route, a free local port, and leave to connect?)"
    )]
    Connect { port: u16, cause: io::Error },
    #[error("the look at port {port} failed on our side: {cause} (does the next hop answer?)")]
    Local { port: u16, cause: io::Error },

    #[error("no random numbers for a token to port {port}: {cause}")]
    Random { port: u16, cause: io::Error },
    #[error("port {port} is open and was not asked: {PROOFS_MAX} tokens are on their way already")]
    ProofsSpent { port: u16 },
}
