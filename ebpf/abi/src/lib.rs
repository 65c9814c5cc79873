//! Records and map layouts shared by the TC program and user space.
//!
//! Every record is `repr(C)`, free of padding and valid for any bits. What comes from the wire stays in
//! network order as a byte array; what the kernel or user space makes is a native integer. Times are
//! nanoseconds of `CLOCK_MONOTONIC`, which the program reads once a tick (1 to 10 ms) and CPU. A change to any layout,
//! clock, map name or map size here raises [`LAYOUT`].
#![no_std]

mod counter;
mod map;
mod record;

pub use counter::Counter;
pub use map::{
    BAN_PREFIXES_MAX, BANS_MAX, DROP, EVENT_RING_BYTES, LINK_HEADER, MAPS, NEXT, PORT_WORDS, PROBES_MAX,
    PROGRAM, Protocol, port_bit, port_word,
};
pub use record::{Ban, ProbeCount, ProbeEvent, ProbeKey, Settings, SourceKey};

/// Version of everything in this crate; part of the path below which maps are pinned, so that a program
/// never meets a map of another shape.
pub const LAYOUT: u32 = 2;
