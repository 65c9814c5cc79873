//! What goes out to servers and what comes back, with dhcproto for the encoding.
//!
//! Decoding uses dhcproto's borrowed view: its owned decoder refuses a whole message for one
//! malformed option that we never asked for.

use super::client::Rejection;
use dhcproto::v4::borrowed;
use dhcproto::v4::{DhcpOption, HType, MAGIC, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Encodable, Encoder};
use std::net::Ipv4Addr;

pub const CLIENT_PORT: u16 = 68;
pub const SERVER_PORT: u16 = 67;
/// Largest message that we take and say that we take (option 57): an Ethernet frame's worth.
pub const MESSAGE_BYTES_MAX: usize = 1472;
/// BOOTP's fixed size (RFC 951), below which some relays drop a message.
const MESSAGE_BYTES_MIN: usize = 300;
/// Fixed fields and the magic cookie.
const HEADER_BYTES: usize = 240;
const COOKIE_AT: usize = 236;
/// Ethernet, as in the client identifier's type octet (RFC 2132 section 9.14).
const HARDWARE_ETHERNET: u8 = 1;
const MAC_BYTES: u8 = 6;

/// What the server is asked for, classless routes before the router (RFC 3442).
const PARAMETERS: [OptionCode; 7] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::InterfaceMtu,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// What the messages of one exchange have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    pub mac: [u8; 6],
    pub xid: u32,
    /// Since the exchange began; relays and servers use it to tell impatient clients.
    pub elapsed_seconds: u16,
}

/// The message to send, with the fields that RFC 2131 table 5 fills for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Discover,
    /// Takes up an offer.
    Select {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// Asks whether a held lease is good on the link that just came up.
    Reboot {
        address: Ipv4Addr,
    },
    /// Extends a held lease; the same message renews and rebinds.
    Extend {
        address: Ipv4Addr,
    },
}

/// Encodes one message, at least [`MESSAGE_BYTES_MIN`] long.
pub(super) fn encode(envelope: &Envelope, question: Question) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let (kind, client_address, requested, server) = match question {
        Question::Discover => (MessageType::Discover, none, None, None),
        Question::Select { address, server } => (MessageType::Request, none, Some(address), Some(server)),
        Question::Reboot { address } => (MessageType::Request, none, Some(address), None),
        Question::Extend { address } => (MessageType::Request, address, None, None),
    };
    let mut message = Message::new_with_id(envelope.xid, client_address, none, none, none, &envelope.mac);
    // The broadcast flag stays clear: a packet socket sees what is sent to our hardware address
    // before the kernel has an IP address (RFC 2131 section 4.1).
    message.set_secs(envelope.elapsed_seconds);
    let mut identifier = vec![HARDWARE_ETHERNET];
    identifier.extend_from_slice(&envelope.mac);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClientIdentifier(identifier));
    options.insert(DhcpOption::MaxMessageSize(MESSAGE_BYTES_MAX as u16));
    options.insert(DhcpOption::ParameterRequestList(PARAMETERS.to_vec()));
    if let Some(address) = requested {
        options.insert(DhcpOption::RequestedIpAddress(address));
    }
    if let Some(server) = server {
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES_MIN);
    message
        .encode(&mut Encoder::new(&mut bytes))
        .expect("every option here is shorter than 255 bytes and a Vec takes any length");
    if bytes.len() < MESSAGE_BYTES_MIN {
        bytes.resize(MESSAGE_BYTES_MIN, 0);
    }
    bytes
}

/// The server messages that a client reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Offer,
    Ack,
    Nak,
}

/// A server's message to this client, its options typed but not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub verdict: Verdict,
    /// Unicast; a message without one is refused.
    pub server: Ipv4Addr,
    pub address: Ipv4Addr,
    pub options: Options,
}

/// Options by type. A malformed one counts as absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    pub mask: Option<Ipv4Addr>,
    pub routers: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub mtu: Option<u16>,
    pub lease_seconds: Option<u32>,
    pub renewal_seconds: Option<u32>,
    pub rebinding_seconds: Option<u32>,
    /// Option 121 as it came (RFC 3442).
    pub classless_routes: Option<Vec<u8>>,
}

/// Reads a message and checks that it answers the exchange `xid` of the client with this MAC.
pub(super) fn decode(bytes: &[u8], mac: [u8; 6], xid: u32) -> Result<Reply, Rejection> {
    if bytes.len() < HEADER_BYTES || bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Rejection::Malformed);
    }
    let message = borrowed::Message::new(bytes).map_err(|_| Rejection::Malformed)?;
    if message.opcode() != Opcode::BootReply || bytes[COOKIE_AT..HEADER_BYTES] != MAGIC {
        return Err(Rejection::Malformed);
    }
    if message.xid() != xid {
        return Err(Rejection::OtherExchange);
    }
    // The length comes first: dhcproto 0.15 slices by it and panics when it is larger than 16.
    if message.htype() != HType::Eth || message.hlen() != MAC_BYTES || message.chaddr() != mac {
        return Err(Rejection::OtherClient);
    }
    let mut verdict = None;
    let mut server = None;
    let mut options = Options::default();
    for option in message.opts() {
        let data = option.data();
        match option.code() {
            OptionCode::MessageType => verdict = verdict_from(data),
            OptionCode::ServerIdentifier => server = address(data),
            OptionCode::SubnetMask => options.mask = address(data),
            OptionCode::Router => options.routers = addresses(data),
            OptionCode::DomainNameServer => options.dns = addresses(data),
            OptionCode::InterfaceMtu => options.mtu = data.try_into().ok().map(u16::from_be_bytes),
            OptionCode::AddressLeaseTime => options.lease_seconds = seconds(data),
            OptionCode::Renewal => options.renewal_seconds = seconds(data),
            OptionCode::Rebinding => options.rebinding_seconds = seconds(data),
            OptionCode::ClasslessStaticRoute => options.classless_routes = Some(data.to_vec()),
            _ => {}
        }
    }
    Ok(Reply {
        verdict: verdict.ok_or(Rejection::UnexpectedType)?,
        server: server.filter(|s| is_host(*s)).ok_or(Rejection::NoServer)?,
        address: message.yiaddr(),
        options,
    })
}

/// Whether an address can belong to one host: not in 0/8, loopback, multicast or class E.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn verdict_from(data: &[u8]) -> Option<Verdict> {
    let [code] = data else { return None };
    match MessageType::from(*code) {
        MessageType::Offer => Some(Verdict::Offer),
        MessageType::Ack => Some(Verdict::Ack),
        MessageType::Nak => Some(Verdict::Nak),
        _ => None,
    }
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    data.try_into().ok().map(|octets: [u8; 4]| octets.into())
}

fn addresses(data: &[u8]) -> Vec<Ipv4Addr> {
    match data.as_chunks::<4>() {
        (octets, []) => octets.iter().map(|o| Ipv4Addr::from(*o)).collect(),
        _ => Vec::new(),
    }
}

fn seconds(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_be_bytes)
}
