//! Loads, attaches, pins and drains the TC program.
//!
//! Owns the program's maps and links in the kernel, nothing else: it decides neither whom to ban nor which
//! devices to watch. Everything is pinned below one directory of a BPF file system, so bans, counts and the
//! program itself outlive the process; the next one takes them over without a gap. A pin directory belongs to
//! one network namespace and one process at a time. All calls block, for microseconds; loading takes longer.

mod attach;
mod bans;
mod clock;
mod counters;
mod device;
mod error;
mod pins;
mod ports;
mod probes;
mod program;
mod settings;
mod trial;

pub use attach::{Attachment, Hook};
pub use bans::KernelBan;
pub use clock::MonotonicTime;
pub use error::LoaderError;
pub use glacis_abi::{
    BAN_PREFIXES_MAX, BANS_MAX, Counter, PROBES_MAX, PROVEN_MAX, ProbeCount, ProbeEvent, ProbeKey, ProbeKind,
    Proof, Protocol,
};
pub use probes::{Event, EventStream};
pub use program::TcProgram;
pub use settings::{Detection, Options, Settings};
pub use trial::{Trial, Verdict};
