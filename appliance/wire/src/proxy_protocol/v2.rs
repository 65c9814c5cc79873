//! Version 2: a binary block.
//!
//! Twelve bytes of signature, one of version and command, one of family and transport, two of length, big-endian; then
//! as many bytes: addresses and ports of the family, then extensions, each of one byte kind and two of length.

use super::{Header, Parsed, ProxyHeaderError, as_ipv6, begins, canonical};
use crc::{CRC_32_ISCSI, Crc};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of the fixed part.
const FIXED_BYTES: usize = 16;
/// Longest header taken. The format allows 64 KiB; addresses and every known extension with the details of a TLS client
/// certificate fit in a fraction, and each connection that waits may hold so much.
pub const V2_BYTES_MAX: usize = 4096;

const VERSION_2_LOCAL: u8 = 0x20;
const VERSION_2_PROXY: u8 = 0x21;
const FAMILY_UNSPECIFIED: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_TCP6: u8 = 0x21;
/// Two addresses, two ports.
const TCP4_BYTES: usize = 2 * 4 + 2 * 2;
const TCP6_BYTES: usize = 2 * 16 + 2 * 2;
/// `PP2_TYPE_CRC32C`.
const EXTENSION_CRC32C: u8 = 0x03;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What the addresses of a block are.
#[derive(Clone, Copy)]
enum Family {
    /// Of the proxy's own connection, or not said.
    None,
    Tcp4,
    Tcp6,
}

impl Family {
    const fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Tcp4 => TCP4_BYTES,
            Self::Tcp6 => TCP6_BYTES,
        }
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    if !begins(bytes, SIGNATURE)? {
        return Ok(Parsed::Incomplete);
    }
    let Some(command) = bytes.get(12).copied() else { return Ok(Parsed::Incomplete) };
    if !matches!(command, VERSION_2_LOCAL | VERSION_2_PROXY) {
        return Err(ProxyHeaderError::UnknownCommand(command));
    }
    let Some(family) = bytes.get(13).copied() else { return Ok(Parsed::Incomplete) };
    let family = match (command, family) {
        // The family of a local connection is to be ignored (section 2.2).
        (VERSION_2_LOCAL, _) | (_, FAMILY_UNSPECIFIED) => Family::None,
        (_, FAMILY_TCP4) => Family::Tcp4,
        (_, FAMILY_TCP6) => Family::Tcp6,
        // UDP and Unix sockets, too, which may be refused (section 2.2): they are no client that a gate could judge.
        (_, other) => return Err(ProxyHeaderError::UnsupportedFamily(other)),
    };
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(Parsed::Incomplete) };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong(length));
    }
    if length < FIXED_BYTES + family.bytes() {
        return Err(ProxyHeaderError::TooShort);
    }
    let Some(block) = bytes.get(..length) else { return Ok(Parsed::Incomplete) };
    let (addresses, _) = block[FIXED_BYTES..].split_at(family.bytes());
    let header = match family {
        // Where addresses may lie that are to be ignored, nobody knows where extensions begin.
        Family::None => return Ok(Parsed::Complete { header: None, bytes: length }),
        Family::Tcp4 => tcp4(addresses),
        Family::Tcp6 => tcp6(addresses),
    };
    check_extensions(block, FIXED_BYTES + family.bytes())?;
    Ok(Parsed::Complete { header, bytes: length })
}

fn tcp4(addresses: &[u8]) -> Option<Header> {
    let (source, rest) = addresses.split_first_chunk::<4>()?;
    let (destination, ports) = rest.split_first_chunk::<4>()?;
    header(Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), ports)
}

fn tcp6(addresses: &[u8]) -> Option<Header> {
    let (source, rest) = addresses.split_first_chunk::<16>()?;
    let (destination, ports) = rest.split_first_chunk::<16>()?;
    header(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), ports)
}

fn header(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<Header> {
    let [source_high, source_low, destination_high, destination_low] = *ports else { return None };
    let source_port = u16::from_be_bytes([source_high, source_low]);
    let destination_port = u16::from_be_bytes([destination_high, destination_low]);
    Some(Header {
        source: canonical(SocketAddr::new(source, source_port)),
        destination: canonical(SocketAddr::new(destination, destination_port)),
    })
}

/// Extensions are skipped but for the checksum, which a receiver that knows it must check (section 2.2.3).
fn check_extensions(block: &[u8], mut at: usize) -> Result<(), ProxyHeaderError> {
    while at < block.len() {
        let Some(&[kind, high, low]) = block[at..].first_chunk() else {
            return Err(ProxyHeaderError::ExtensionTooLong);
        };
        let value_at = at + 3;
        at = value_at + usize::from(u16::from_be_bytes([high, low]));
        let value = block.get(value_at..at).ok_or(ProxyHeaderError::ExtensionTooLong)?;
        if kind == EXTENSION_CRC32C {
            let stated = u32::from_be_bytes(value.try_into().map_err(|_| ProxyHeaderError::Checksum)?);
            if checksum(block, value_at) != stated {
                return Err(ProxyHeaderError::Checksum);
            }
        }
    }
    Ok(())
}

/// Over the whole block, with the four bytes of the checksum itself taken as zero.
fn checksum(block: &[u8], value_at: usize) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&block[..value_at]);
    digest.update(&[0; 4]);
    digest.update(&block[value_at + 4..]);
    digest.finalize()
}

pub(super) fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut block = Vec::with_capacity(FIXED_BYTES + TCP6_BYTES);
    block.extend_from_slice(SIGNATURE);
    block.push(VERSION_2_PROXY);
    if let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) {
        block.push(FAMILY_TCP4);
        block.extend_from_slice(&(TCP4_BYTES as u16).to_be_bytes());
        block.extend_from_slice(&source.ip().octets());
        block.extend_from_slice(&destination.ip().octets());
    } else {
        block.push(FAMILY_TCP6);
        block.extend_from_slice(&(TCP6_BYTES as u16).to_be_bytes());
        block.extend_from_slice(&as_ipv6(source).octets());
        block.extend_from_slice(&as_ipv6(destination).octets());
    }
    block.extend_from_slice(&source.port().to_be_bytes());
    block.extend_from_slice(&destination.port().to_be_bytes());
    block
}
