//! A packet simulator: what the kernel would do with the first packet of a connection.
//!
//! Walks the very ruleset that is loaded, hook by hook in order of priority, so that `expect`, `explain` and
//! `trace` speak of what runs and not of what the compiler meant. What it cannot follow is an error, never a
//! guess. Limits count as under their rate. Packets of the host are those of its superuser.

mod evaluate;
mod expect;
mod network;
mod walk;

pub use expect::{ExpectFailure, run_expects};
pub use network::Network;
pub use walk::{Decision, Outcome, Packet, Path, Step, Transport, Verdict, WalkError, walk};
