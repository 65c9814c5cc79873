//! What this CPU keeps for itself: counters, the clock's last reading, and the ration of banned sources.
//!
//! The clock is `CLOCK_MONOTONIC`, read once a tick. A reading costs as much as everything else that a dropped packet
//! needs, and even the helper for the coarse clock a third of that. The number of the tick is a load from memory,
//! because the verifier replaces the call. It moves with the interrupt that brings a packet, also where idle CPUs have
//! no tick.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use glacis_abi::{Counter, Cpu as State};

#[btf_map]
static CPU: PerCpuArray<State, 1> = PerCpuArray::new();

/// This CPU's state: found once a packet and handed on.
#[derive(Clone, Copy)]
pub struct Cpu(*mut State);

impl Cpu {
    /// Never `None`: the map has an entry 0.
    #[inline(always)]
    pub fn this() -> Option<Self> {
        CPU.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    pub fn count(self, counter: Counter) {
        // SAFETY: the state is this CPU's own. TC programs of one CPU interrupt each other only where one has a
        // packet sent on, which is never within this addition.
        unsafe { (*self.0).counters[counter as usize] += 1 }
    }

    /// Nanoseconds, at most one tick (1 to 10 ms) old.
    #[inline(always)]
    pub fn now(self) -> u64 {
        // SAFETY: the helper takes no arguments and cannot fail.
        let tick = unsafe { bpf_jiffies64() };
        // SAFETY: as in `count`.
        unsafe {
            // No tick has number 0: the kernel counts from 2³² less five minutes.
            if (*self.0).tick != tick {
                let now = bpf_ktime_get_ns();
                let passed = now - (*self.0).nanoseconds;
                let left = (*self.0).banned_left + (passed >> State::BANNED_SHIFT);
                (*self.0).banned_left = if left < State::BANNED_BURST { left } else { State::BANNED_BURST };
                (*self.0).nanoseconds = now;
                (*self.0).tick = tick;
            }
            (*self.0).nanoseconds
        }
    }

    /// Whether a packet of a banned source is worth a look, rather than being dropped at once.
    #[inline(always)]
    pub fn spares_a_look_at_the_banned(self) -> bool {
        self.now();
        // SAFETY: as in `count`.
        unsafe {
            let left = (*self.0).banned_left;
            if left == 0 {
                return false;
            }
            (*self.0).banned_left = left - 1;
        }
        true
    }
}
