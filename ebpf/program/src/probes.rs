//! Counts of probes, and the events that tell user space of them.

use crate::{atomic, clock, counters};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::{LruHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use glacis_abi::{Counter, EVENT_RING_BYTES, PROBES_MAX, ProbeCount, ProbeEvent, ProbeKey};

/// Shared and not per CPU: a per-CPU table gained nothing and loses the order of hits.
#[btf_map]
static PROBES: LruHashMap<ProbeKey, ProbeCount, PROBES_MAX> = LruHashMap::new();
#[btf_map]
static EVENTS: RingBuf<ProbeEvent, EVENT_RING_BYTES> = RingBuf::new();

/// Adds one hit and tells user space when the key's hits reach a power of two.
#[inline(always)]
pub fn count(key: &ProbeKey, ifindex: u32) {
    let now = clock::now();
    if let Some(entry) = PROBES.get_ptr_mut(key) {
        return add(entry, key, ifindex, now);
    }
    if PROBES.insert(key, ProbeCount { hits: 1, first: now, last: now }, u64::from(BPF_NOEXIST)).is_ok() {
        counters::add(Counter::NewKeys);
        return announce(ProbeEvent { key: *key, ifindex, first: now, at: now, hits: 1 });
    }
    // Another CPU made the entry meanwhile, or there was no slot.
    match PROBES.get_ptr_mut(key) {
        Some(entry) => add(entry, key, ifindex, now),
        None => counters::add(Counter::ProbesLost),
    }
}

#[inline(always)]
fn add(entry: *mut ProbeCount, key: &ProbeKey, ifindex: u32, now: u64) {
    // SAFETY: `entry` points at a map value, readable and writable until the program returns.
    let (hits, first) = unsafe {
        (&raw mut (*entry).last).write_volatile(now);
        (atomic::increment_and_fetch(&raw mut (*entry).hits), (&raw const (*entry).first).read_volatile())
    };
    // `is_power_of_two` counts bits, which this target has no instruction for.
    if hits & (hits - 1) == 0 {
        announce(ProbeEvent { key: *key, ifindex, first, at: now, hits });
    }
}

#[inline(always)]
fn announce(event: ProbeEvent) {
    let Some(mut slot) = EVENTS.reserve(0) else {
        return counters::add(Counter::EventsLost);
    };
    slot.write(event);
    slot.submit(0);
    counters::add(Counter::Events);
}
