//! Addresses as rtnetlink messages.

use super::RTPROT_GLACIS;
use glacis_plan::changes::ObservedAddress;
use ipnet::IpNet;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The message that adds an address to a link as ours.
pub(super) fn message(link: &LinkMessage, address: IpNet) -> AddressMessage {
    let mut message = identity(link.header.index, address);
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(RTPROT_GLACIS)));
    if address.addr().is_loopback() {
        message.header.scope = AddressScope::Host;
    }
    if skips_duplicate_detection(link, address) {
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    message
}

/// The message that names an address for its removal. The kernel does not look at the protocol
/// here, so the caller must have seen that the address is ours.
pub(super) fn identity(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => {
            let builder = AddressMessageBuilder::<Ipv4Addr>::new();
            builder.index(index).address(net.addr(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new();
            builder.index(index).address(net.addr(), net.prefix_len()).build()
        }
    }
}

/// Duplicate address detection delays an IPv6 address by about a second and is a duty (RFC 4862
/// section 5.4) where neighbours may have the same one; a link without neighbours has none to ask.
fn skips_duplicate_detection(link: &LinkMessage, address: IpNet) -> bool {
    let without_neighbours = LinkFlags::Loopback | LinkFlags::Noarp | LinkFlags::Pointopoint;
    matches!(address, IpNet::V6(_)) && link.header.flags.intersects(without_neighbours)
}

/// Reads one message of an address dump: the interface's index and the address. `None` for
/// link-local addresses of the kernel's or others' making.
pub(super) fn observed(message: &AddressMessage) -> Option<(u32, ObservedAddress)> {
    let mut local = None;
    let mut peer = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the local end; IPv6 gives it only there.
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == RTPROT_GLACIS,
            _ => {}
        }
    }
    let address: IpAddr = local.or(peer)?;
    let net = IpNet::new(address, message.header.prefix_len).ok()?;
    let wanted =
        matches!(message.header.scope, AddressScope::Universe | AddressScope::Host | AddressScope::Site);
    (wanted || ours).then_some((message.header.index, ObservedAddress { net, ours }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn link(flags: LinkFlags) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.header.flags = flags;
        link
    }

    #[test]
    fn what_we_add_is_read_back_as_ours() {
        for text in ["192.0.2.1/24", "127.0.0.2/8", "2001:db8::1/64", "fe80::1/64"] {
            let message = message(&link(LinkFlags::Up), net(text));
            assert_eq!(
                observed(&message),
                Some((7, ObservedAddress { net: net(text), ours: true })),
                "{text}"
            );
        }
    }

    #[test]
    fn without_our_protocol_an_address_is_foreign_and_a_link_local_one_left_out() {
        let foreign = identity(7, net("192.0.2.1/24"));
        assert_eq!(observed(&foreign), Some((7, ObservedAddress { net: net("192.0.2.1/24"), ours: false })));
        let mut link_local = identity(7, net("fe80::1/64"));
        link_local.header.scope = AddressScope::Link;
        assert_eq!(observed(&link_local), None);
    }

    #[test]
    fn duplicates_are_looked_for_only_where_there_are_neighbours() {
        let skips = |flags, text: &str| {
            message(&link(flags), net(text)).header.flags.contains(AddressHeaderFlags::Nodad)
        };
        assert!(!skips(LinkFlags::Broadcast, "2001:db8::1/64"));
        assert!(skips(LinkFlags::Pointopoint, "2001:db8::1/64"));
        assert!(skips(LinkFlags::Loopback, "2001:db8::1/128"));
        assert!(!skips(LinkFlags::Loopback, "192.0.2.1/32"));
    }
}
