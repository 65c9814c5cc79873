//! The reverse-scan gate's worker: takes connections, judges clients, leads them to backends.
//!
//! It runs without privileges. Listening sockets come from the core over the [`feed`], looks at clients go out from
//! here, and what they come to is told to the core, which keeps it, bans, and lets the kernel take over admitted clients.
//! The [`book`] of what is known is the same type on both sides.

pub mod book;
pub mod feed;
mod worker;

pub use worker::{CountriesError, GateCounter, WorkerError, serve};
