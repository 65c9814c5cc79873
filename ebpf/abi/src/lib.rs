//! Records and map layouts shared by the TC program and user space.
//!
//! Every record is `repr(C)`, free of padding and valid for any bits. What comes from the wire stays in
//! network order as a byte array; what the kernel or user space makes is a native integer. Times are
//! nanoseconds of `CLOCK_MONOTONIC`, which the program reads once a tick (1 to 10 ms) and CPU. A change to any layout,
//! clock, map name or map size here raises [`LAYOUT`].
#![no_std]

mod budget;
mod cookie;
mod counter;
mod kind;
mod map;
mod record;

pub use budget::{Budget, Source, Spent};
pub use cookie::CookieInput;
pub use counter::Counter;
pub use kind::ProbeKind;
pub use map::{
    BAN_PREFIXES_MAX, BANS_MAX, DROP, EGRESS, EVENT_RING_BYTES, FLOWS_MAX, INGRESS, LINK_HEADER, MAPS, NEXT,
    PORT_WORDS, PRIORITY_RING_BYTES, PROBES_MAX, PROVEN_MAX, Protocol, SOURCES_MAX, port_bit, port_word,
};
pub use record::{Ban, Cpu, FlowKey, ProbeCount, ProbeEvent, ProbeKey, Proof, Settings, SourceKey};

/// Version of everything in this crate; part of the path below which maps are pinned, so that a program
/// never meets a map of another shape.
pub const LAYOUT: u32 = 5;
