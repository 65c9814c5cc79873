//! Asks the routing table whether a packet is for this host or goes on to another.

use crate::packet::{Network, Packet};
use crate::sockets::words;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup as fib_lookup;
use core::mem::{MaybeUninit, size_of};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// True when a router forwards the packet: what hosts behind it do with their ports is not for it to judge. Only
/// asked once nothing else explains the packet, because it costs more than everything before.
#[inline(always)]
pub fn lead_onwards(packet: &Packet, network: &Network) -> bool {
    // SAFETY: the structure is integers and unions of integers, for which zero is a value.
    let mut route = unsafe { MaybeUninit::<bpf_fib_lookup>::zeroed().assume_init() };
    route.ifindex = packet.ifindex();
    match network {
        Network::V4 { header, .. } => {
            route.family = AF_INET;
            route.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(header.source);
            route.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(header.destination);
        }
        Network::V6 { header, .. } => {
            route.family = AF_INET6;
            route.__bindgen_anon_3.ipv6_src = words(&header.source);
            route.__bindgen_anon_4.ipv6_dst = words(&header.destination);
        }
    }
    // SAFETY: the helper reads and writes within the structure, whose size it is told.
    let answer = unsafe {
        fib_lookup(
            packet.context().cast(),
            &raw mut route,
            size_of::<bpf_fib_lookup>() as i32,
            BPF_FIB_LOOKUP_SKIP_NEIGH,
        )
    };
    // Negative is an error, as for a family that the host does not speak: then the packet is not forwarded either.
    answer >= 0
        && answer != i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
        && answer != i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED)
}
