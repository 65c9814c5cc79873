//! The clock of bans and probes: `CLOCK_MONOTONIC`, read once a tick and CPU.
//!
//! A reading costs as much as everything else that a dropped packet needs, and even the helper for the coarse clock
//! a third of that. The number of the tick is a load from memory, because the verifier replaces the call. It moves
//! with the interrupt that brings a packet, also where idle CPUs have no tick.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;

/// What the clock said at the first packet of a tick.
#[repr(C)]
#[derive(Clone, Copy)]
struct Reading {
    /// 0 before the first; no tick has that number, because the kernel counts from 2³² less five minutes.
    tick: u64,
    nanoseconds: u64,
}

#[btf_map]
static READING: PerCpuArray<Reading, 1> = PerCpuArray::new();

/// Nanoseconds, at most one tick (1 to 10 ms) old.
#[inline(always)]
pub fn now() -> u64 {
    let Some(reading) = READING.get_ptr_mut(0) else {
        return read();
    };
    // SAFETY: the helper takes no arguments and cannot fail.
    let tick = unsafe { bpf_jiffies64() };
    // SAFETY: the slot is this CPU's own, and TC programs of one CPU do not interrupt each other.
    unsafe {
        if (*reading).tick != tick {
            *reading = Reading { tick, nanoseconds: read() };
        }
        (*reading).nanoseconds
    }
}

#[inline(always)]
fn read() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}
