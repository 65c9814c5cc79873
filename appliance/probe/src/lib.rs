//! Looks at the ports of a client, and finds out whether it is a proxy. Knows neither gates nor policy.
//!
//! Owns the sockets of a look and the tokens that prove a proxy. Needs no privilege: it connects, and never binds, listens
//! or opens a file. It must not remember what it saw, nor make an outcome of an error of ours.
//!
//! A look runs on a tokio runtime with I/O and time. It holds at most one descriptor, and one more for each port
//! ([`SOCKETS_PER_PORT_MAX`] where proxies are asked); dropping it closes them all.

mod attempt;
mod error;
mod errqueue;
mod inquiry;
mod look;
mod proofs;
mod watch;

pub use error::ProbeError;
pub use inquiry::SOCKETS_PER_PORT_MAX;
pub use look::{Look, Seen, Stop, look};
pub use proofs::{Claim, PROOFS_MAX, Proofs};
