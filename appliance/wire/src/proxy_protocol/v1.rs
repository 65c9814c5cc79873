//! Version 1: one line, `PROXY TCP4 192.0.2.1 198.51.100.2 40000 443`.

use super::{Header, Parsed, ProxyHeaderError, V1_BYTES_MAX, as_ipv6, begins, canonical};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
const LINE_END: &[u8] = b"\r\n";
const UNKNOWN: &[u8] = b"UNKNOWN";
const TCP4: &[u8] = b"TCP4 ";
const TCP6: &[u8] = b"TCP6 ";

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    if !begins(bytes, SIGNATURE)? {
        return Ok(Parsed::Incomplete);
    }
    let start = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let end = start.windows(LINE_END.len()).position(|pair| pair == LINE_END);
    let line = &start[SIGNATURE.len()..end.unwrap_or(start.len())];
    check_so_far(line, end.is_some())?;
    let Some(end) = end else {
        return if start.len() == V1_BYTES_MAX {
            Err(ProxyHeaderError::LineTooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    Ok(Parsed::Complete { header: header(line)?, bytes: end + LINE_END.len() })
}

/// Refuses what no further byte can mend: an unknown protocol, or a byte that is not in a line of text.
fn check_so_far(line: &[u8], ended: bool) -> Result<(), ProxyHeaderError> {
    let known = [UNKNOWN, TCP4, TCP6].iter().any(|protocol| {
        let length = protocol.len().min(line.len());
        line[..length] == protocol[..length]
    });
    if !known {
        return Err(ProxyHeaderError::UnknownProtocol);
    }
    let text = match line {
        // To be ignored up to the line's end (section 2.1).
        [b'U', ..] => return Ok(()),
        // Perhaps the first byte of a line end that is not here yet.
        [text @ .., b'\r'] if !ended => text,
        text => text,
    };
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(())
    } else {
        Err(ProxyHeaderError::WrongLine)
    }
}

fn header(line: &[u8]) -> Result<Option<Header>, ProxyHeaderError> {
    if let Some(rest) = line.strip_prefix(UNKNOWN) {
        // Whatever follows is to be ignored (section 2.1).
        return match rest.first() {
            None | Some(b' ') => Ok(None),
            Some(_) => Err(ProxyHeaderError::UnknownProtocol),
        };
    }
    let header = if let Some(rest) = line.strip_prefix(TCP4) {
        ends::<Ipv4Addr>(rest)
    } else if let Some(rest) = line.strip_prefix(TCP6) {
        ends::<Ipv6Addr>(rest)
    } else {
        return Err(ProxyHeaderError::UnknownProtocol);
    };
    header.map(Some).ok_or(ProxyHeaderError::WrongLine)
}

/// Four fields with exactly one space between them.
fn ends<A: FromStr + Into<IpAddr>>(fields: &[u8]) -> Option<Header> {
    let mut fields = std::str::from_utf8(fields).ok()?.split(' ');
    let mut address = || fields.next()?.parse::<A>().ok().map(Into::into);
    let (source, destination): (IpAddr, IpAddr) = (address()?, address()?);
    let (source_port, destination_port) = (port(fields.next()?)?, port(fields.next()?)?);
    fields.next().is_none().then(|| Header {
        source: canonical(SocketAddr::new(source, source_port)),
        destination: canonical(SocketAddr::new(destination, destination_port)),
    })
}

/// Decimal without a sign or leading zeros (section 2.1).
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

pub(super) fn encode(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ports = format!("{} {}", source.port(), destination.port());
    match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            format!("PROXY TCP4 {} {} {ports}\r\n", source.ip(), destination.ip())
        }
        _ => format!("PROXY TCP6 {} {} {ports}\r\n", as_ipv6(source), as_ipv6(destination)),
    }
    .into_bytes()
}
