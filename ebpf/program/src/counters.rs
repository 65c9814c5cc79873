//! One number per counter and CPU.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use glacis_abi::Counter;

#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

#[inline(always)]
pub fn add(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own, and TC programs of one CPU do not interrupt each other.
        unsafe { *slot += 1 }
    }
}
