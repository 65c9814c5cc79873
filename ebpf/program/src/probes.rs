//! Counts of probes, and when user space is to hear of one.

use crate::cpu::Cpu;
use crate::packet::put;
use crate::{atomic, budgets, challenge, events, sources};
use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use core::mem::MaybeUninit;
use glacis_abi::{Budget, Counter, FlowKey, NEXT, PROBES_MAX, ProbeCount, ProbeKey, ProbeKind, SourceKey};

/// Shared and not per CPU: a per-CPU table gained nothing and loses the order of hits.
#[btf_map]
static PROBES: LruHashMap<ProbeKey, ProbeCount, PROBES_MAX> = LruHashMap::new();

/// A packet that may be a probe, and in the end is one.
#[repr(C, align(8))]
pub struct Probe {
    /// As the answer to a flow of this host, which it may be.
    pub flow: FlowKey,
    pub destination: SourceKey,
    /// From the beginning of the data, as the next.
    pub network_offset: u32,
    pub transport_offset: u32,
    pub kind: ProbeKind,
    pub is_banned: bool,
    pub may_be_challenged: bool,
}

impl Probe {
    /// One to be filled in as the packet is read. Written where it is to be, word by word, as in [`put`].
    #[inline(always)]
    pub fn empty(place: &mut MaybeUninit<Self>) -> &mut Self {
        let words = place.as_mut_ptr().cast::<u64>();
        for n in 0..size_of::<Self>() / size_of::<u64>() {
            // SAFETY: the structure is aligned and so many whole words.
            unsafe { words.add(n).write_volatile(0) }
        }
        // SAFETY: every word is zero, which all fields have as a value.
        unsafe { place.assume_init_mut() }
    }

    #[inline(always)]
    pub fn key(&self) -> &ProbeKey {
        &self.flow.key
    }

    #[inline(always)]
    pub fn source(&self) -> &SourceKey {
        &self.flow.key.source
    }
}

/// Adds one hit; tells user space, and challenges the source, when it is time to. Returns the packet's verdict.
#[inline(always)]
pub fn count(cpu: Cpu, skb: *mut __sk_buff, probe: &Probe) -> i32 {
    cpu.count(Counter::Probes);
    if probe.is_banned {
        cpu.count(Counter::BannedProbes);
    }
    let (tally, is_news) = tally(cpu, probe);
    let is_told = is_news || ProbeCount::is_told(tally.hits);
    if is_told && events::tell(skb, probe, tally.hits, tally.first, tally.kinds.into()) != 0 {
        return challenge::send_challenge(skb, probe);
    }
    NEXT
}

/// Adds a probe to its entry, which is made if there is none. Where none can be made, the probe stands alone.
#[inline(always)]
fn tally(cpu: Cpu, probe: &Probe) -> (Tally, bool) {
    if let Some(entry) = PROBES.get_ptr_mut(probe.key()) {
        return add(cpu, entry, probe);
    }
    let (now, kinds) = (cpu.now(), probe.kind.bit());
    if budgets::take(Budget::Keys, now) || sources::know(probe.source()) {
        let fresh = ProbeCount {
            hits: 1,
            first: now,
            last: now,
            destination: probe.destination,
            kinds,
            reserved: [0; 6],
        };
        // Not looked up again: what nobody has looked up since it was made is the first to be evicted, and that is
        // what forged sources leave.
        if PROBES.insert(probe.key(), fresh, u64::from(BPF_NOEXIST)).is_ok() {
            cpu.count(Counter::NewKeys);
        } else if let Some(entry) = PROBES.get_ptr_mut(probe.key()) {
            // Another CPU made it meanwhile.
            return add(cpu, entry, probe);
        } else {
            cpu.count(Counter::ProbesLost);
        }
    } else {
        cpu.count(Counter::ProbesLost);
    }
    (Tally { hits: 1, first: now, kinds }, true)
}

/// What an entry says after a probe was added.
struct Tally {
    hits: u64,
    first: u64,
    kinds: u16,
}

/// Adds a probe to an entry, and says whether there was one like it before.
#[inline(always)]
fn add(cpu: Cpu, entry: *mut ProbeCount, probe: &Probe) -> (Tally, bool) {
    // SAFETY: `entry` points at a map value, readable and writable until the program returns. What CPUs that meet
    // lose of `kinds` and `destination`, the next probe brings again.
    unsafe {
        (&raw mut (*entry).last).write_volatile(cpu.now());
        let hits = atomic::increment_and_fetch(&raw mut (*entry).hits);
        let kinds = (*entry).kinds | probe.kind.bit();
        let is_news = kinds != (*entry).kinds || (*entry).destination.words() != probe.destination.words();
        if is_news {
            (*entry).kinds = kinds;
            put(&mut (*entry).destination, probe.destination);
        }
        (Tally { hits, first: (*entry).first, kinds }, is_news)
    }
}
