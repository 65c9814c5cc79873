//! Asks the kernel whether a socket would take the packet, which beats any list of listening ports.

use crate::packet::{Network, Packet, Ports};
use aya_ebpf::bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6;
use aya_ebpf::bindings::{bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use core::mem::{MaybeUninit, size_of};
use glacis_abi::Protocol;

/// `BPF_F_CURRENT_NETNS`: the namespace of the device.
const CURRENT_NETNS: u64 = u64::MAX;

/// True when a listener, a connection or a bound socket of this namespace takes packets to these ports. The
/// kernel tells the families apart by the tuple's size.
#[inline(always)]
pub fn serve(packet: &Packet, network: &Network, protocol: Protocol, ports: &Ports) -> bool {
    let mut tuple = MaybeUninit::<bpf_sock_tuple>::uninit();
    let sport = u16::from_ne_bytes(ports.source);
    let dport = u16::from_ne_bytes(ports.destination);
    let size = match network {
        Network::V4 { header, .. } => {
            let v4 = TupleV4 {
                saddr: u32::from_ne_bytes(header.source),
                daddr: u32::from_ne_bytes(header.destination),
                sport,
                dport,
            };
            // SAFETY: the tuple is a union that holds a `TupleV4` at its start.
            unsafe { tuple.as_mut_ptr().cast::<TupleV4>().write(v4) };
            size_of::<TupleV4>()
        }
        Network::V6 { header, .. } => {
            let v6 =
                TupleV6 { saddr: words(&header.source), daddr: words(&header.destination), sport, dport };
            // SAFETY: the tuple is a union that holds a `TupleV6` at its start.
            unsafe { tuple.as_mut_ptr().cast::<TupleV6>().write(v6) };
            size_of::<TupleV6>()
        }
    };
    let (context, tuple, size) = (packet.context().cast(), tuple.as_mut_ptr(), size as u32);
    // SAFETY: the first `size` bytes of the tuple are written; the verifier sees to it that a socket found is
    // released.
    unsafe {
        let socket = match protocol {
            Protocol::Tcp => bpf_skc_lookup_tcp(context, tuple, size, CURRENT_NETNS, 0),
            Protocol::Udp => bpf_sk_lookup_udp(context, tuple, size, CURRENT_NETNS, 0),
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
    }
    true
}

/// An IPv6 address as the kernel's structures have it: four words, each in network order.
#[inline(always)]
pub fn words(address: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}
