//! Asks the routing table whether a packet is for this host or goes on to another.

use crate::cpu::Cpu;
use crate::packet::put;
use crate::probes::Probe;
use aya_ebpf::bindings::{
    __sk_buff, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LOOKUP_SKIP_NEIGH,
    bpf_fib_lookup,
};
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use aya_ebpf::macros::btf_map;
use core::mem::{MaybeUninit, size_of};
use glacis_abi::SourceKey;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Addresses remembered: a power of two.
const LOCAL_MAX: usize = 16;
/// For how long: a second, nearly.
const LOCAL_AGE_MAX_NS: u64 = 1 << 30;

/// An address that packets are not forwarded to, because it is this host's or forwarding is off. Whoever probes it next
/// need not be looked up.
#[repr(C)]
struct Local {
    address: SourceKey,
    until: u64,
    ifindex: u32,
    reserved: u32,
}

#[btf_map]
static LOCAL: PerCpuArray<Local, LOCAL_MAX> = PerCpuArray::new();

/// True when a router forwards the packet: what hosts behind it do with their ports is not for it to judge. Only
/// asked once nothing else explains the packet, because it costs more than everything before.
#[inline(always)]
pub fn lead_onwards(cpu: Cpu, skb: *mut __sk_buff, probe: &Probe) -> bool {
    let address = probe.destination;
    let now = cpu.now();
    // SAFETY: the context is valid as long as the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    let local = LOCAL.get_ptr_mut(u32::from(address.addr[15]) & (LOCAL_MAX as u32 - 1));
    // SAFETY: the slot is this CPU's own, and only packets that come in use it, one after the other.
    let local = local.map(|local| unsafe { &mut *local });
    if let Some(local) = &local {
        if local.until >= now && local.ifindex == ifindex && local.address.words() == address.words() {
            return false;
        }
    }
    if look_up_route(skb, probe, ifindex) != 0 {
        return true;
    }
    if let Some(local) = local {
        local.until = now + LOCAL_AGE_MAX_NS;
        local.ifindex = ifindex;
        put(&mut local.address, address);
    }
    false
}

/// Not 0 when the routing table leads onwards. Exported, so that the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn look_up_route(skb: *mut __sk_buff, probe: *const Probe, ifindex: u32) -> u32 {
    // SAFETY: whoever calls owns it.
    let Some(probe) = (unsafe { probe.as_ref() }) else {
        return 0;
    };
    // SAFETY: the structure is integers and unions of integers, for which zero is a value.
    let mut route = unsafe { MaybeUninit::<bpf_fib_lookup>::zeroed().assume_init() };
    route.ifindex = ifindex;
    let (source, destination) = (probe.source().words(), probe.destination.words());
    if probe.key().family == 4 {
        route.family = AF_INET;
        route.__bindgen_anon_3.ipv4_src = source[3];
        route.__bindgen_anon_4.ipv4_dst = destination[3];
    } else {
        route.family = AF_INET6;
        route.__bindgen_anon_3.ipv6_src = source;
        route.__bindgen_anon_4.ipv6_dst = destination;
    }
    // SAFETY: the helper reads and writes within the structure, whose size it is told.
    let answer = unsafe {
        fib_lookup(skb.cast(), &raw mut route, size_of::<bpf_fib_lookup>() as i32, BPF_FIB_LOOKUP_SKIP_NEIGH)
    };
    // Negative is an error, as for a family that the host does not speak: then the packet is not forwarded either.
    let stays = answer < 0
        || answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
        || answer == i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED);
    u32::from(!stays)
}
