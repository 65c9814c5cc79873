//! Bitmaps of ports: those that the policy exposes, and those that UDP replies come from.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use glacis_abi::{PORT_WORDS, Protocol, port_bit, port_word};

#[btf_map]
static EXPOSED: Array<u64, { 2 * PORT_WORDS }> = Array::new();
#[btf_map]
static UDP_REPLY_PORTS: Array<u64, PORT_WORDS> = Array::new();

#[inline(always)]
pub fn is_exposed(protocol: Protocol, port: u16) -> bool {
    EXPOSED.get(port_word(protocol, port)).is_some_and(|word| word & port_bit(port) != 0)
}

#[inline(always)]
pub fn is_udp_reply(source_port: u16) -> bool {
    UDP_REPLY_PORTS
        .get(port_word(Protocol::Tcp, source_port))
        .is_some_and(|word| word & port_bit(source_port) != 0)
}
