//! Workers: the same binary, re-executed, that parses what a network sends and may do nothing else.
//!
//! The core spawns a worker with its end of a feed as descriptor 3 and listening sockets from 4 on
//! ([`spawn`]); the worker takes them ([`inherited`]), closes its sandbox ([`sandbox`], as its [`profile`]
//! says) and only then reads a byte that is not the core's. Starting it again when it dies is the business of the
//! daemon's `workers` module.

mod filter;
pub mod inherited;
pub mod profile;
pub mod sandbox;
mod selftest;
pub mod spawn;

pub use crate::backoff::Backoff;
pub use spawn::{SpawnError, WorkerProcess, WorkerSpec, spawn};

use std::ffi::OsString;
use std::process::ExitCode;

/// How many listening sockets follow the feed.
pub const LISTEN_FDS_VARIABLE: &str = "GLACIS_LISTEN_FDS";
/// The folder of the store, for workers that read it.
pub const STORE_VARIABLE: &str = "GLACIS_STORE";
/// What to log; the core's own choice is passed on.
const LOG_VARIABLE: &str = "GLACIS_LOG";

/// Runs the worker that the arguments after `glacis worker` name, until its feed ends.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    crate::log::start();
    let name = arguments.next();
    match name.as_deref().and_then(|name| name.to_str()) {
        Some("status") => crate::status::run(),
        Some("gate") => crate::gate::run(),
        Some("selftest") => selftest::run(arguments),
        _ => {
            tracing::error!(name = ?name, "no such worker; there are `status`, `gate` and `selftest`");
            ExitCode::from(2)
        }
    }
}
