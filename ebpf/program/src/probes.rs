//! Counts of probes, and when user space is to hear of one.

use crate::cpu::Cpu;
use crate::{atomic, challenge, events};
use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use glacis_abi::{Counter, FlowKey, NEXT, PROBES_MAX, ProbeCount, ProbeKey, ProbeKind, SourceKey};

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
    /// To be filled in as the packet is read.
    pub const EMPTY: Self = Self {
        flow: FlowKey::EMPTY,
        destination: SourceKey::EMPTY,
        network_offset: 0,
        transport_offset: 0,
        kind: ProbeKind::Syn,
        is_banned: false,
        may_be_challenged: false,
    };

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
    let entry = match PROBES.get_ptr_mut(probe.key()) {
        Some(entry) => entry,
        None => {
            let is_fresh = begin(cpu, probe);
            let Some(entry) = PROBES.get_ptr_mut(probe.key()) else {
                cpu.count(Counter::ProbesLost);
                return NEXT;
            };
            if is_fresh {
                cpu.count(Counter::NewKeys);
            }
            entry
        }
    };
    let (tally, is_news) = add(cpu, entry, probe);
    let is_told = is_news || ProbeCount::is_told(tally.hits);
    if is_told && events::tell(skb, probe, tally.hits, tally.first, tally.kinds.into()) != 0 {
        return challenge::send_challenge(skb, probe);
    }
    NEXT
}

/// Makes an entry without hits, unless another CPU does so meanwhile.
#[inline(always)]
fn begin(cpu: Cpu, probe: &Probe) -> bool {
    let now = cpu.now();
    let fresh = ProbeCount {
        hits: 0,
        first: now,
        last: now,
        destination: probe.destination,
        kinds: probe.kind.bit(),
        reserved: [0; 6],
    };
    PROBES.insert(probe.key(), fresh, u64::from(BPF_NOEXIST)).is_ok()
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
            (*entry).destination = probe.destination;
        }
        (Tally { hits, first: (*entry).first, kinds }, is_news)
    }
}
