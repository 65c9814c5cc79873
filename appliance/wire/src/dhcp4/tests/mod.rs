//! A scripted server and clock for the client's tests; no randomness but fixed words.

mod exchange;
mod hostile;
mod renewal;

use super::{Client, Destination, Input, Lease, Output};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
pub(super) const BROADCAST: Destination = Destination::Broadcast { source: Ipv4Addr::UNSPECIFIED };
pub(super) const LEASE_SECONDS: u32 = 3600;

/// A client, its clock and what it did last.
pub(super) struct Bench {
    pub client: Client,
    pub now: Duration,
    /// Middle of the jitter range in the upper half, so waits are the nominal ones.
    pub random: u64,
    pub timer: Duration,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            client: Client::new(MAC),
            now: Duration::from_secs(100),
            random: (1000 << 32) | 0x1234_5678,
            timer: Duration::ZERO,
        }
    }

    /// Steps the client and remembers the timer it asked for.
    pub(super) fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        let outputs = self.client.handle(input, self.now, self.random);
        assert!(outputs.len() <= super::OUTPUTS_MAX, "{outputs:?}");
        self.random += 1;
        for output in &outputs {
            if let Output::SetTimer(at) = output {
                self.timer = *at;
            }
        }
        outputs
    }

    /// Lets time pass to the timer and fires it.
    pub(super) fn fire(&mut self) -> Vec<Output> {
        self.now = self.timer.max(self.now);
        self.step(Input::Timer)
    }

    pub(super) fn receive(&mut self, message: &Message) -> Vec<Output> {
        self.step(Input::Packet(&bytes(message)))
    }

    /// Runs the exchange to a lease of [`LEASE_SECONDS`], with an answer after one second each.
    pub(super) fn bound() -> (Self, Lease) {
        let mut bench = Self::new();
        let (discover, _) = sent(&bench.fire());
        bench.now += Duration::from_secs(1);
        let (request, _) = sent(&bench.receive(&answer(&discover, MessageType::Offer)));
        bench.now += Duration::from_secs(1);
        let outputs = bench.receive(&answer(&request, MessageType::Ack));
        let lease = configured(&outputs).expect("an ACK gives a lease");
        (bench, lease)
    }
}

/// The one message among the outputs.
pub(super) fn sent(outputs: &[Output]) -> (Message, Destination) {
    let mut messages = outputs.iter().filter_map(|output| match output {
        Output::Send { payload, to } => Some((payload, *to)),
        _ => None,
    });
    let (payload, to) = messages.next().unwrap_or_else(|| panic!("nothing sent: {outputs:?}"));
    assert!(messages.next().is_none(), "more than one message: {outputs:?}");
    assert!(payload.len() >= 300, "shorter than BOOTP's minimum");
    (Message::decode(&mut Decoder::new(payload)).unwrap(), to)
}

pub(super) fn configured(outputs: &[Output]) -> Option<Lease> {
    outputs.iter().find_map(|output| match output {
        Output::Configure(lease) => Some(lease.clone()),
        _ => None,
    })
}

pub(super) fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().expect("every DHCP message has a type")
}

pub(super) fn requested(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    }
}

pub(super) fn server_of(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

/// What a good server answers.
pub(super) fn answer(question: &Message, kind: MessageType) -> Message {
    let mut reply = Message::new_with_id(
        question.xid(),
        Ipv4Addr::UNSPECIFIED,
        if kind == MessageType::Nak { Ipv4Addr::UNSPECIFIED } else { ADDRESS },
        SERVER,
        Ipv4Addr::UNSPECIFIED,
        question.chaddr(),
    );
    reply.set_opcode(Opcode::BootReply);
    let options = reply.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(SERVER));
    if kind != MessageType::Nak {
        options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
        options.insert(DhcpOption::Router(vec![SERVER]));
        options.insert(DhcpOption::DomainNameServer(vec![SERVER, OTHER_SERVER]));
        options.insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
    }
    reply
}

pub(super) fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}
