//! What the core, its workers and the command line say to each other.
//!
//! Owns the message types, the records that are stored and shown, and the framing on a stream socket.
//! It opens no socket and keeps no state. Messages are JSON behind a length, so that a command line of
//! another version gets a clear answer instead of garbage.

pub mod ban;
pub mod event;
pub mod frame;
pub mod gate;
pub mod message;
pub mod report;
pub mod scan;
pub mod scan_query;
mod time;

pub use ban::{Ban, BanReason, Evidence, Offences, ScanShape};
pub use event::{Event, EventKind};
pub use gate::{ClientRecord, Finding, PortOutcome, Verdict};
pub use message::{Refusal, Reply, Request};
pub use report::StatusReport;
pub use scan::{Day, ProbeKind, ProbeKinds, Protocol, ScanHit, ScanRecord};
pub use time::UnixMillis;
