//! Asks the kernel whether a socket would take the packet, which beats any list of listening ports.

use crate::probes::Probe;
use aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6;
use aya_ebpf::bindings::{__sk_buff, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use core::mem::{MaybeUninit, size_of};
use glacis_abi::Protocol;

/// `BPF_F_CURRENT_NETNS`: the namespace of the device.
const CURRENT_NETNS: u64 = u64::MAX;

/// True when a listener, a connection or a bound socket of this namespace takes the packet. The kernel tells the
/// families apart by the tuple's size.
#[inline(always)]
pub fn serve(skb: *mut __sk_buff, probe: &Probe, protocol: Protocol) -> bool {
    let mut tuple = MaybeUninit::<bpf_sock_tuple>::uninit();
    let sport = u16::from_ne_bytes(probe.flow.source_port);
    let dport = u16::from_ne_bytes(probe.flow.key.port);
    let (source, destination) = (probe.flow.key.source.words(), probe.destination.words());
    let size = if probe.flow.key.family == 4 {
        let v4 = TupleV4 { saddr: source[3], daddr: destination[3], sport, dport };
        // SAFETY: the tuple is a union that holds a `TupleV4` at its start.
        unsafe { tuple.as_mut_ptr().cast::<TupleV4>().write(v4) };
        size_of::<TupleV4>()
    } else {
        let v6 = TupleV6 { saddr: source, daddr: destination, sport, dport };
        // SAFETY: the tuple is a union that holds a `TupleV6` at its start.
        unsafe { tuple.as_mut_ptr().cast::<TupleV6>().write(v6) };
        size_of::<TupleV6>()
    };
    let (context, tuple, size) = (skb.cast(), tuple.as_mut_ptr(), size as u32);
    // SAFETY: the first `size` bytes of the tuple are written; the verifier sees to it that a socket found is
    // released.
    unsafe {
        let socket = match protocol {
            Protocol::Tcp => bpf_skc_lookup_tcp(context, tuple, size, CURRENT_NETNS, 0),
            Protocol::Udp => bpf_sk_lookup_udp(context, tuple, size, CURRENT_NETNS, 0),
            // There is no helper for SCTP.
            Protocol::Sctp => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}
