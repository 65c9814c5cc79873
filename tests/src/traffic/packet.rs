//! IP packets, put together field by field.

use super::Mac;
use std::net::{IpAddr, SocketAddr};

/// Control bits of a TCP header (RFC 9293, 3.1).
pub mod flags {
    pub const NONE: u8 = 0;
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const FRAGMENT_HEADER: u8 = 44;

const HOP_LIMIT: u8 = 64;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

/// An IPv6 header between the first one and the transport's, with no effect of its own: options are padding, and a
/// routing header has no segments left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    HopByHop,
    Routing,
    Destination,
}

impl Extension {
    fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::Destination => 60,
        }
    }

    /// Eight bytes; the first, which names the next header, stays zero.
    fn body(self) -> [u8; 8] {
        match self {
            // PadN with four bytes of padding.
            Self::HopByHop | Self::Destination => [0, 0, 1, 4, 0, 0, 0, 0],
            // Type 0 (RFC 2460, 4.4): where no segment is left, every node goes on to the next header.
            Self::Routing => [0; 8],
        }
    }
}

/// One IP packet with its transport and, in front of it, VLAN tags.
#[derive(Debug, Clone)]
pub struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    transport: Transport,
    tags: Vec<u16>,
    extensions: Vec<Extension>,
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp { flags: u8, sequence: u32, acknowledgment: u32 },
    Udp { data: Vec<u8> },
    SctpInit,
}

impl Packet {
    /// A TCP segment without data or options and with any control bits; its sequence number is 1.
    ///
    /// # Panics
    /// Here and in the other constructors, when source and destination are of different families.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self::new(source, destination, Transport::Tcp { flags, sequence: 1, acknowledgment: 0 })
    }

    pub fn udp(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Self {
        Self::new(source, destination, Transport::Udp { data: data.to_vec() })
    }

    /// An SCTP packet with one INIT chunk, as a host sends it that opens an association.
    pub fn sctp_init(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, Transport::SctpInit)
    }

    fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "both ends of a packet are of one family");
        Self { source, destination, transport, tags: vec![], extensions: vec![] }
    }

    /// Sets both numbers of a TCP segment; without effect on other packets.
    #[must_use]
    pub fn answering(mut self, new_sequence: u32, new_acknowledgment: u32) -> Self {
        if let Transport::Tcp { sequence, acknowledgment, .. } = &mut self.transport {
            (*sequence, *acknowledgment) = (new_sequence, new_acknowledgment);
        }
        self
    }

    /// Adds a VLAN tag (802.1Q) behind those that are there.
    #[must_use]
    pub fn tagged(mut self, vlan: u16) -> Self {
        self.tags.push(vlan);
        self
    }

    /// Adds an IPv6 extension header behind those that are there.
    #[must_use]
    pub fn extended(mut self, extension: Extension) -> Self {
        assert!(self.source.is_ipv6(), "extension headers belong to IPv6");
        self.extensions.push(extension);
        self
    }

    /// The packet from its IP header on, whole.
    pub fn ip(&self) -> Vec<u8> {
        let payload = self.extended_payload(self.protocol(), &self.transport_bytes());
        let mut ip = self.ip_header(payload.0, payload.1.len());
        ip.extend(payload.1);
        ip
    }

    /// The packet as IP fragments with at most so many bytes of the transport each; extension headers stay in front
    /// of the fragment header.
    pub fn fragments(&self, payload_bytes_max: usize) -> Vec<Vec<u8>> {
        const IDENTIFICATION: u32 = 0x0000_6c61;
        let step = payload_bytes_max / 8 * 8;
        assert!(step > 0, "every fragment but the last carries a multiple of eight bytes");
        let transport = self.transport_bytes();
        let pieces = transport.chunks(step).enumerate();
        pieces
            .map(|(index, piece)| {
                let offset = (index * step) as u16;
                let more = usize::from(offset) + piece.len() < transport.len();
                if self.source.is_ipv4() {
                    let mut ip = self.ip_header(self.protocol(), piece.len());
                    ip[4..6].copy_from_slice(&(IDENTIFICATION as u16).to_be_bytes());
                    ip[6..8].copy_from_slice(&((u16::from(more) << 13) | (offset / 8)).to_be_bytes());
                    set_ipv4_checksum(&mut ip);
                    ip.extend(piece);
                    return ip;
                }
                let mut body = vec![self.protocol(), 0];
                body.extend((offset | u16::from(more)).to_be_bytes());
                body.extend(IDENTIFICATION.to_be_bytes());
                body.extend(piece);
                let (first, payload) = self.extended_payload(FRAGMENT_HEADER, &body);
                let mut ip = self.ip_header(first, payload.len());
                ip.extend(payload);
                ip
            })
            .collect()
    }

    /// An Ethernet frame around bytes of this packet, with its VLAN tags.
    pub(super) fn framed(&self, source: Mac, destination: Mac, ip: &[u8]) -> Vec<u8> {
        let mut frame = [destination, source].concat();
        for tag in &self.tags {
            frame.extend((libc::ETH_P_8021Q as u16).to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        let ethertype = if self.source.is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        frame.extend((ethertype as u16).to_be_bytes());
        frame.extend(ip);
        frame
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp { .. } => UDP,
            Transport::SctpInit => SCTP,
        }
    }

    /// The number of the first header after the IP header, and everything from there on.
    fn extended_payload(&self, last: u8, body: &[u8]) -> (u8, Vec<u8>) {
        let numbers = self.extensions.iter().map(|e| e.number()).chain([last]);
        let mut payload = vec![];
        for (extension, next) in self.extensions.iter().zip(numbers.clone().skip(1)) {
            let mut header = extension.body();
            header[0] = next;
            payload.extend(header);
        }
        payload.extend(body);
        (numbers.into_iter().next().unwrap_or(last), payload)
    }

    fn ip_header(&self, next: u8, payload_bytes: usize) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = (IPV4_HEADER_BYTES + payload_bytes) as u16;
                let mut ip = vec![0x45, 0];
                ip.extend(total.to_be_bytes());
                ip.extend([0, 0, 0, 0, HOP_LIMIT, next, 0, 0]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                set_ipv4_checksum(&mut ip);
                ip
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut ip = Vec::with_capacity(IPV6_HEADER_BYTES + payload_bytes);
                ip.extend([0x60, 0, 0, 0]);
                ip.extend((payload_bytes as u16).to_be_bytes());
                ip.extend([next, HOP_LIMIT]);
                ip.extend(source.octets());
                ip.extend(destination.octets());
                ip
            }
            _ => unreachable!("checked when the packet was made"),
        }
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        match &self.transport {
            Transport::Tcp { flags, sequence, acknowledgment } => {
                let mut tcp = ports;
                tcp.extend(sequence.to_be_bytes());
                tcp.extend(acknowledgment.to_be_bytes());
                tcp.extend([5 << 4, *flags, 4, 0, 0, 0, 0, 0]);
                let sum = self.checksum(TCP, &tcp);
                tcp[16..18].copy_from_slice(&sum);
                tcp
            }
            Transport::Udp { data } => {
                let mut udp = ports;
                udp.extend((8 + data.len() as u16).to_be_bytes());
                udp.extend([0, 0]);
                udp.extend(data);
                let sum = self.checksum(UDP, &udp);
                udp[6..8].copy_from_slice(&sum);
                udp
            }
            Transport::SctpInit => {
                let mut sctp = ports;
                // Verification tag 0, checksum, then the chunk: type 1, length 20, tag, window, streams, TSN.
                sctp.extend([0; 8]);
                sctp.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
                let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&sctp);
                // RFC 9260, appendix A: least significant byte first.
                sctp[8..12].copy_from_slice(&sum.to_le_bytes());
                sctp
            }
        }
    }

    /// Internet checksum of the transport with the pseudo-header of its family.
    fn checksum(&self, protocol: u8, transport: &[u8]) -> [u8; 2] {
        let mut sum = OnesComplement::default();
        for end in [self.source.ip(), self.destination.ip()] {
            match end {
                IpAddr::V4(address) => sum.add(&address.octets()),
                IpAddr::V6(address) => sum.add(&address.octets()),
            }
        }
        sum.add(&[0, protocol]);
        sum.add(&(transport.len() as u16).to_be_bytes());
        sum.add(transport);
        sum.finish()
    }
}

fn set_ipv4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let mut sum = OnesComplement::default();
    sum.add(&header[..IPV4_HEADER_BYTES]);
    header[10..12].copy_from_slice(&sum.finish());
}

/// The Internet checksum (RFC 1071), in the making.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OnesComplement(u32);

impl OnesComplement {
    /// Adds bytes that stand at an even offset.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            self.0 += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }

    /// Takes away bytes that were added, an even number of them.
    pub(super) fn subtract(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(2) {
            self.0 += u32::from(!u16::from_be_bytes([pair[0], pair[1]]));
        }
    }

    pub(super) fn finish(self) -> [u8; 2] {
        let folded = (self.0 & 0xffff) + (self.0 >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        (!(folded as u16)).to_be_bytes()
    }
}
