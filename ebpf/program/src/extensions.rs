//! From the network header to the transport header: IPv4 options, IPv6 extension headers, fragments.

use crate::packet::{Ipv6, Malformed, Network, Packet};
use core::mem::size_of;

/// IPv6 extension headers that are followed; RFC 8200 section 4.1 lists seven that a packet may have once.
const EXTENSIONS_MAX: u32 = 8;

/// Offset bits of the fragment fields of IPv4 (RFC 791) and IPv6 (RFC 8200 section 4.5).
const V4_FRAGMENT_OFFSET: u16 = 0x1fff;
const V6_FRAGMENT_OFFSET: u16 = 0xfff8;

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
pub struct Transport {
    /// IANA number.
    pub protocol: u8,
    /// From the outermost network header.
    pub offset: u32,
}

/// Finds the transport header; `None` for a fragment after the first.
#[inline(always)]
pub fn transport(packet: &Packet, network: &Network) -> Result<Option<Transport>, Malformed> {
    match network {
        Network::V4 { header, offset } => {
            if u16::from_be_bytes(header.fragment) & V4_FRAGMENT_OFFSET != 0 {
                return Ok(None);
            }
            let length = u32::from(header.version_length & 15) * 4;
            Ok(Some(Transport { protocol: header.protocol, offset: offset + length }))
        }
        Network::V6 { header, offset } => follow(
            packet,
            Transport { protocol: header.next_header, offset: offset + size_of::<Ipv6>() as u32 },
        ),
    }
}

/// Walks IPv6 extension headers.
#[inline(always)]
fn follow(packet: &Packet, mut at: Transport) -> Result<Option<Transport>, Malformed> {
    for _ in 0..EXTENSIONS_MAX {
        let (next, length) = match at.protocol {
            next_header::HOP_BY_HOP
            | next_header::ROUTING
            | next_header::DESTINATION_OPTIONS
            | next_header::MOBILITY
            | next_header::HIP
            | next_header::SHIM6 => {
                let [next, length]: [u8; 2] = packet.copy(at.offset)?;
                (next, (u32::from(length) + 1) * 8)
            }
            next_header::AUTHENTICATION => {
                let [next, length]: [u8; 2] = packet.copy(at.offset)?;
                (next, (u32::from(length) + 2) * 4)
            }
            next_header::FRAGMENT => {
                let [next, _, high, low]: [u8; 4] = packet.copy(at.offset)?;
                if u16::from_be_bytes([high, low]) & V6_FRAGMENT_OFFSET != 0 {
                    return Ok(None);
                }
                (next, 8)
            }
            _ => return Ok(Some(at)),
        };
        at = Transport { protocol: next, offset: at.offset + length };
    }
    Err(Malformed)
}
