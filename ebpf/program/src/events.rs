//! What user space is told, and who is challenged.

use crate::cpu::Cpu;
use crate::probes::Probe;
use crate::sources::{self, Entry};
use crate::{bans, budgets, settings};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::macros::btf_map;
use glacis_abi::{Budget, Counter, EVENT_RING_BYTES, PRIORITY_RING_BYTES, ProbeEvent, Settings};

#[btf_map]
static EVENTS: RingBuf<ProbeEvent, EVENT_RING_BYTES> = RingBuf::new();
/// Of sources that have echoed: forged ones cannot fill it.
#[btf_map]
static PRIORITY: RingBuf<ProbeEvent, PRIORITY_RING_BYTES> = RingBuf::new();

/// Tells user space of a probe, and decides whether its source is to be challenged, each within its ration: not 0 if so.
///
/// Exported, so that the verifier walks it once and not for every way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tell(skb: *mut __sk_buff, probe: *const Probe, hits: u64, first: u64, kinds: u32) -> u32 {
    // SAFETY: whoever calls owns it.
    let (Some(cpu), Some(probe)) = (Cpu::this(), unsafe { probe.as_ref() }) else {
        return 0;
    };
    let now = cpu.now();
    let settings = settings::flags();
    let source = probe.source();
    let echoes = sources::echoes(source);
    let is_banned =
        probe.is_banned || settings & Settings::KEEP_ESTABLISHED != 0 && bans::cover(cpu, source, settings);
    let wants_challenge = settings & Settings::CHALLENGE != 0 && !is_banned && probe.may_be_challenged;
    let entry = match sources::find(source) {
        None if echoes != 0 || wants_challenge => sources::admit(source, echoes, now),
        found => found,
    };
    let is_challenged = wants_challenge && takes_challenge(cpu, entry, now);
    let mut flags = 0;
    if is_banned {
        flags |= ProbeEvent::BANNED;
    }
    if echoes != 0 {
        flags |= ProbeEvent::PROVEN;
    }
    if is_challenged {
        flags |= ProbeEvent::CHALLENGED;
    }
    let has_room = match entry {
        Some(entry) => entry.takes_event(now),
        None => budgets::take(Budget::Events, now),
    };
    if has_room {
        write(
            cpu,
            ProbeEvent {
                key: *probe.key(),
                // SAFETY: the context is valid as long as the program runs.
                ifindex: unsafe { (*skb).ifindex },
                first,
                at: now,
                hits,
                echoes,
                destination: probe.destination,
                kinds: kinds as u16,
                kind: probe.kind as u8,
                flags,
                reserved: [0; 4],
            },
        );
    } else {
        cpu.count(Counter::EventsOverBudget);
    }
    u32::from(is_challenged)
}

#[inline(always)]
fn takes_challenge(cpu: Cpu, entry: Option<Entry>, now: u64) -> bool {
    let taken = entry.is_some_and(|entry| entry.takes_challenge(now));
    if !taken {
        cpu.count(Counter::ChallengesOverBudget);
    }
    taken
}

/// Writes an event to the ring that it belongs to.
#[inline(always)]
pub fn write(cpu: Cpu, event: ProbeEvent) {
    let slot = if event.echoes != 0 { PRIORITY.reserve(0) } else { EVENTS.reserve(0) };
    let Some(mut slot) = slot else {
        return cpu.count(Counter::EventsLost);
    };
    slot.write(event);
    slot.submit(0);
    cpu.count(Counter::Events);
}
