//! UDP over IPv4 as it lies in a packet socket: from the IP header on, no link header.
//!
//! For sockets that work before the host has an address, so that no kernel stack adds or checks
//! the headers. Options and fragments are refused: nothing sent to a DHCP client needs them.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Length of the IPv4 header that [`encode`] writes, in bytes.
const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const TTL: u8 = 64;
/// Low delay and network control, as DHCP clients send it: DSCP CS6.
const TOS_NETWORK_CONTROL: u8 = 0xc0;

/// Largest payload one datagram can carry (RFC 791: total length is 16 bits).
pub const PAYLOAD_BYTES_MAX: usize = u16::MAX as usize - IP_HEADER_BYTES - UDP_HEADER_BYTES;

/// Whether the UDP checksum of a received datagram can be trusted to be there.
///
/// A sender on the same machine may leave it to hardware that was never passed; the kernel then
/// reports `TP_STATUS_CSUMNOTREADY` with the packet (packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    Complete,
    NotReady,
}

/// One datagram, borrowed from the packet it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub payload: &'a [u8],
}

/// Why a packet is not a datagram to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Udp4Error {
    #[error("packet ends before its headers or its stated length")]
    Truncated,
    #[error("not UDP over IPv4 with a header of at least 20 bytes")]
    NotUdp4,
    #[error("a fragment")]
    Fragment,
    #[error("the IP header checksum is wrong")]
    IpChecksum,
    #[error("the UDP checksum is wrong")]
    UdpChecksum,
    #[error("a payload of {0} bytes does not fit in one datagram")]
    TooLong(usize),
}

/// Writes the IPv4 and UDP headers, both with checksums, and the payload.
pub fn encode(datagram: &Datagram<'_>) -> Result<Vec<u8>, Udp4Error> {
    let payload = datagram.payload;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Udp4Error::TooLong(payload.len()));
    }
    let udp_bytes = UDP_HEADER_BYTES + payload.len();
    let total_bytes = IP_HEADER_BYTES + udp_bytes;

    let mut packet = Vec::with_capacity(total_bytes);
    packet.extend_from_slice(&[0x45, TOS_NETWORK_CONTROL]);
    packet.extend_from_slice(&(total_bytes as u16).to_be_bytes());
    // Identification 0 is valid for an atomic datagram (RFC 6864 section 4.1): DF set, offset 0.
    packet.extend_from_slice(&[0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0]);
    packet.extend_from_slice(&datagram.source.ip().octets());
    packet.extend_from_slice(&datagram.destination.ip().octets());
    let ip_checksum = !ones_complement_sum(0, &packet);
    packet[10..12].copy_from_slice(&ip_checksum.to_be_bytes());

    packet.extend_from_slice(&datagram.source.port().to_be_bytes());
    packet.extend_from_slice(&datagram.destination.port().to_be_bytes());
    packet.extend_from_slice(&(udp_bytes as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    let udp = &packet[IP_HEADER_BYTES..];
    let sum = !udp_sum(*datagram.source.ip(), *datagram.destination.ip(), udp);
    // A checksum of zero means none (RFC 768); all ones is the same number.
    let udp_checksum = if sum == 0 { 0xffff } else { sum };
    packet[IP_HEADER_BYTES + 6..IP_HEADER_BYTES + 8].copy_from_slice(&udp_checksum.to_be_bytes());
    Ok(packet)
}

/// Reads one packet; bytes behind the stated total length (Ethernet padding) are ignored.
pub fn decode(packet: &[u8], checksum: Checksum) -> Result<Datagram<'_>, Udp4Error> {
    let first = *packet.first().ok_or(Udp4Error::Truncated)?;
    let header_bytes = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_bytes < IP_HEADER_BYTES {
        return Err(Udp4Error::NotUdp4);
    }
    let header = packet.get(..header_bytes).ok_or(Udp4Error::Truncated)?;
    if header[9] != PROTOCOL_UDP {
        return Err(Udp4Error::NotUdp4);
    }
    // Bits 0x2000 (more fragments) and 0x1fff (offset).
    if be16(header, 6) & 0x3fff != 0 {
        return Err(Udp4Error::Fragment);
    }
    if ones_complement_sum(0, header) != 0xffff {
        return Err(Udp4Error::IpChecksum);
    }
    let total_bytes = usize::from(be16(header, 2));
    let segment = packet.get(header_bytes..total_bytes).ok_or(Udp4Error::Truncated)?;
    if segment.len() < UDP_HEADER_BYTES {
        return Err(Udp4Error::Truncated);
    }
    let udp_bytes = usize::from(be16(segment, 4));
    let udp = segment.get(..udp_bytes).ok_or(Udp4Error::Truncated)?;
    let payload = udp.get(UDP_HEADER_BYTES..).ok_or(Udp4Error::Truncated)?;

    let source = ipv4(header, 12);
    let destination = ipv4(header, 16);
    let carries_checksum = be16(udp, 6) != 0;
    if checksum == Checksum::Complete && carries_checksum && udp_sum(source, destination, udp) != 0xffff {
        return Err(Udp4Error::UdpChecksum);
    }
    Ok(Datagram {
        source: SocketAddrV4::new(source, be16(udp, 0)),
        destination: SocketAddrV4::new(destination, be16(udp, 2)),
        payload,
    })
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn ipv4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// Sum over the pseudo header (RFC 768) and the whole UDP datagram.
fn udp_sum(source: Ipv4Addr, destination: Ipv4Addr, udp: &[u8]) -> u16 {
    let mut pseudo = [0_u8; 12];
    pseudo[..4].copy_from_slice(&source.octets());
    pseudo[4..8].copy_from_slice(&destination.octets());
    pseudo[9] = PROTOCOL_UDP;
    pseudo[10..].copy_from_slice(&(udp.len() as u16).to_be_bytes());
    ones_complement_sum(ones_complement_sum(0, &pseudo), udp)
}

/// RFC 1071. A packet has at most 65,535 bytes, so the 32-bit sum cannot overflow.
fn ones_complement_sum(start: u16, bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum = u32::from(start) + pairs.iter().map(|p| u32::from(u16::from_be_bytes(*p))).sum::<u32>();
    if let [last] = rest {
        sum += u32::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram {
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            payload,
        }
    }

    /// Laid out and summed by hand: 0.0.0.0:68 to 255.255.255.255:67 carrying `hi!`.
    #[test]
    fn headers_are_laid_out_as_the_rfcs_say() {
        let packet = encode(&datagram(b"hi!")).unwrap();
        let expected = [
            0x45, 0xc0, 0x00, 0x1f, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x3a, 0x0f, 0, 0, 0, 0, 255, 255,
            255, 255, // IP
            0x00, 0x44, 0x00, 0x43, 0x00, 0x0b, 0x75, 0xe8, // UDP
            b'h', b'i', b'!',
        ];
        assert_eq!(packet, expected);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for payload in [&b""[..], b"odd", b"even", &[0xff; 1472]] {
            let packet = encode(&datagram(payload)).unwrap();
            assert_eq!(decode(&packet, Checksum::Complete), Ok(datagram(payload)));
        }
    }

    #[test]
    fn ethernet_padding_is_not_payload() {
        let mut packet = encode(&datagram(b"x")).unwrap();
        packet.resize(46, 0xee);
        assert_eq!(decode(&packet, Checksum::Complete).unwrap().payload, b"x");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let packet = encode(&datagram(b"payload")).unwrap();
        for bit in 0..packet.len() * 8 {
            let mut broken = packet.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&broken, Checksum::Complete).is_err(), "bit {bit}");
        }
        for length in 0..packet.len() {
            assert!(decode(&packet[..length], Checksum::Complete).is_err(), "length {length}");
        }
    }

    #[test]
    fn an_unfinished_checksum_is_accepted_only_when_the_kernel_says_so() {
        let mut packet = encode(&datagram(b"payload")).unwrap();
        packet[26] ^= 0x5a;
        assert_eq!(decode(&packet, Checksum::Complete), Err(Udp4Error::UdpChecksum));
        assert!(decode(&packet, Checksum::NotReady).is_ok());
        packet[26..28].fill(0);
        assert!(decode(&packet, Checksum::Complete).is_ok(), "zero: the sender computed none");
    }

    #[test]
    fn fragments_and_other_protocols_are_refused() {
        let packet = encode(&datagram(b"payload")).unwrap();
        let with = |at: usize, value: u8| {
            let mut packet = packet.clone();
            packet[at] = value;
            packet[10..12].fill(0);
            let sum = !ones_complement_sum(0, &packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            decode(&packet, Checksum::Complete).map(|_| ())
        };
        assert_eq!(with(6, 0x20), Err(Udp4Error::Fragment));
        assert_eq!(with(7, 1), Err(Udp4Error::Fragment));
        assert_eq!(with(9, 6), Err(Udp4Error::NotUdp4));
        assert_eq!(with(0, 0x65), Err(Udp4Error::NotUdp4));
        assert_eq!(with(0, 0x44), Err(Udp4Error::NotUdp4));
        assert_eq!(with(3, 27), Err(Udp4Error::Truncated));
    }

    #[test]
    fn a_payload_beyond_sixteen_bits_is_refused() {
        let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
        assert_eq!(encode(&datagram(&payload)), Err(Udp4Error::TooLong(payload.len())));
        assert!(encode(&datagram(&payload[1..])).is_ok());
    }
}
