//! From the network header to the transport header: IPv4 options, IPv6 extension headers, fragments.

use crate::packet::{self, Malformed, Network, Packet};
use aya_ebpf::bindings::__sk_buff;

/// IPv6 extension headers that are followed; RFC 8200 section 4.1 lists seven that a packet may have once.
const EXTENSIONS_MAX: u32 = 8;

/// Offset bits of the fragment fields of IPv4 (RFC 791) and IPv6 (RFC 8200 section 4.5).
const V4_FRAGMENT_OFFSET: u16 = 0x1fff;
const V6_FRAGMENT_OFFSET: u16 = 0xfff8;
const V4_MORE_FRAGMENTS: u16 = 0x2000;
const V6_MORE_FRAGMENTS: u16 = 1;

mod next_header {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// The transport header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Transport {
    /// From the outermost network header, as the next two.
    pub offset: u32,
    /// Where the packet ends.
    pub end: u32,
    /// In the first of several fragments: where this one ends; else 0.
    pub fragment_end: u32,
    /// IANA number.
    pub protocol: u8,
    /// There is an IPv6 routing header.
    pub is_routed: bool,
    pub reserved: [u8; 2],
}

/// Finds the transport header; `None` for a fragment after the first.
#[inline(always)]
pub fn transport(packet: &Packet, network: &Network) -> Result<Option<Transport>, Malformed> {
    if network.fragment & V4_FRAGMENT_OFFSET != 0 {
        return Ok(None);
    }
    let mut transport = Transport {
        offset: network.payload,
        end: network.end,
        fragment_end: if network.fragment & V4_MORE_FRAGMENTS != 0 { network.end } else { 0 },
        protocol: network.protocol,
        is_routed: false,
        reserved: [0; 2],
    };
    if network.family == 6 && is_extension(network.protocol) {
        match follow_extensions(packet.context(), &raw mut transport) {
            FOUND => {}
            LATER_FRAGMENT => return Ok(None),
            _ => return Err(Malformed),
        }
    }
    Ok(Some(transport))
}

const FOUND: i32 = 0;
const LATER_FRAGMENT: i32 = 1;
const MALFORMED: i32 = 2;

/// Walks IPv6 extension headers. Exported, so that the verifier walks it once and not for every way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn follow_extensions(skb: *mut __sk_buff, transport: *mut Transport) -> i32 {
    // SAFETY: whoever calls owns it.
    let Some(at) = (unsafe { transport.as_mut() }) else {
        return MALFORMED;
    };
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(at.protocol) {
            return FOUND;
        }
        let Ok([next, length, high, low]) = packet::copy::<[u8; 4]>(skb, at.offset) else {
            return MALFORMED;
        };
        let bytes = match at.protocol {
            next_header::AUTHENTICATION => (u32::from(length) + 2) * 4,
            next_header::FRAGMENT => {
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & V6_FRAGMENT_OFFSET != 0 {
                    return LATER_FRAGMENT;
                }
                if fragment & V6_MORE_FRAGMENTS != 0 {
                    at.fragment_end = at.end;
                }
                8
            }
            _ => (u32::from(length) + 1) * 8,
        };
        at.is_routed |= at.protocol == next_header::ROUTING;
        at.protocol = next;
        at.offset += bytes;
    }
    if is_extension(at.protocol) { MALFORMED } else { FOUND }
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        next_header::HOP_BY_HOP
            | next_header::ROUTING
            | next_header::FRAGMENT
            | next_header::AUTHENTICATION
            | next_header::DESTINATION_OPTIONS
            | next_header::MOBILITY
            | next_header::HIP
            | next_header::SHIM6
    )
}
