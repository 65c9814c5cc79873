//! The PROXY protocol, versions 1 and 2: the line or block before a relayed connection that says whose it is.
//!
//! After `doc/proxy-protocol.txt` of haproxy. Stricter than that where it leaves a choice: what cannot be a TCP client
//! with an Internet address is refused, so that nobody is taken for somebody else.

mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use v2::V2_BYTES_MAX;

use std::net::{Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its line end (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// A binary block.
    V2,
}

/// Both ends of the connection as the proxy has it. Never an IPv4 address written as IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// How far the bytes of a connection's begin go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A header so far; at most [`V2_BYTES_MAX`] bytes are one.
    Incomplete,
    /// The first `bytes` are the header. `None`: the connection is the proxy's own, as for a health check.
    Complete { header: Option<Header>, bytes: usize },
}

/// Why bytes are no header. Each shows as soon as the byte that proves it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("the connection does not begin with a PROXY header")]
    NotAHeader,
    #[error("the PROXY line does not end within {V1_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("the PROXY line speaks of neither TCP4 nor TCP6 nor UNKNOWN")]
    UnknownProtocol,
    #[error("the PROXY line has something else than two addresses and two ports of its family")]
    WrongLine,
    #[error("the PROXY header has version and command {0:#04x}, which do not exist")]
    UnknownCommand(u8),
    #[error("the PROXY header is of family {0:#04x}, which is not TCP over IPv4 or IPv6")]
    UnsupportedFamily(u8),
    #[error("the PROXY header says that it is {0} bytes long, more than {V2_BYTES_MAX}")]
    TooLong(usize),
    #[error("the PROXY header is too short for the addresses of its family")]
    TooShort,
    #[error("an extension of the PROXY header ends after it")]
    ExtensionTooLong,
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads the header at the begin of a connection.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    match bytes.first() {
        None => Ok(Parsed::Incomplete),
        Some(b'P') => v1::parse(bytes),
        Some(_) => v2::parse(bytes),
    }
}

/// The header for a connection from `source` to `destination`. Where they differ in family, both are written as IPv6.
pub fn encode(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source, destination) = (canonical(source), canonical(destination));
    match version {
        Version::V1 => v1::encode(source, destination),
        Version::V2 => v2::encode(source, destination),
    }
}

/// Whether a connection begins like a PROXY header of either version, right or wrong: from somebody who is no front, it
/// is meant to deceive.
pub fn starts_like_header(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::SIGNATURE) || bytes.starts_with(v2::SIGNATURE)
}

/// An IPv4 address written as IPv6 becomes one; scope and flow label of IPv6 are of this host alone and go.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn as_ipv6(address: SocketAddr) -> Ipv6Addr {
    match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
        SocketAddr::V6(address) => *address.ip(),
    }
}

/// `Ok(true)`: `bytes` begin with `expected`; `Ok(false)`: they end before it does.
fn begins(bytes: &[u8], expected: &[u8]) -> Result<bool, ProxyHeaderError> {
    let length = bytes.len().min(expected.len());
    if bytes[..length] == expected[..length] {
        Ok(length == expected.len())
    } else {
        Err(ProxyHeaderError::NotAHeader)
    }
}
