//! Telling that something changed, without a queue that can grow.
//!
//! Messages wait in the kernel's socket buffer until someone asks for events; what is read is
//! folded together at once. When the buffer overflows the kernel says so, and the answer to that
//! is the same as to any event: observe again.

use super::error::LinksError;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// Interfaces told apart in one batch; with more the batch becomes an [`LinkEvent::Overrun`].
pub const WATCHED_LINKS_MAX: usize = 1024;

/// A batch is complete when nothing came for this long,
const QUIET: Duration = Duration::from_millis(50);
/// or when it has grown for this long.
const BATCH_AGE_MAX: Duration = Duration::from_millis(500);
/// The kernel cuts no notification below this (`NLMSG_GOODSIZE` and large dumps stay within).
const RECEIVE_BYTES: usize = 64 * 1024;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// What changed. Several changes of the same thing come as one event that tells its last state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// An interface appeared or changed.
    Link { index: u32, device: String, up: bool, carrier: bool },
    /// An interface is gone.
    LinkGone { index: u32, device: String },
    /// Addresses of an interface changed.
    Addresses { index: u32 },
    /// Routes of the main table changed. The kernel does not tell of IPv4 routes that go with
    /// their interface; the interface's own event must do for them.
    Routes,
    /// Something changed, and what exactly was lost.
    Overrun,
}

/// A subscription to changes. [`LinkWatch::next`] may be cancelled at any time without loss.
pub struct LinkWatch {
    socket: TokioSocket,
    buffer: Vec<u8>,
    batch: Batch,
    ready: VecDeque<LinkEvent>,
}

impl LinkWatch {
    pub(super) fn open() -> Result<Self, LinksError> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
            socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| LinksError::Open { source })?;
        let buffer = Vec::with_capacity(RECEIVE_BYTES);
        Ok(Self { socket, buffer, batch: Batch::default(), ready: VecDeque::new() })
    }

    /// The next event; waits for one, and then until things are quiet.
    pub async fn next(&mut self) -> Result<LinkEvent, LinksError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if self.batch.is_empty() {
                self.receive().await?;
                continue;
            }
            let settled = timeout(BATCH_AGE_MAX, async {
                while let Ok(received) = timeout(QUIET, self.receive()).await {
                    received?;
                }
                Ok(())
            });
            if let Ok(settled) = settled.await {
                settled?;
            }
            self.ready.extend(std::mem::take(&mut self.batch).into_events());
        }
    }

    /// Reads one datagram into the batch.
    async fn receive(&mut self) -> Result<(), LinksError> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Ok(()) => self.batch.add_datagram(&self.buffer),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.batch.overrun = true,
            Err(source) => return Err(LinksError::List { table: "changes", source }),
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Batch {
    links: BTreeMap<u32, LinkEvent>,
    addresses: BTreeSet<u32>,
    routes: bool,
    overrun: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.links.is_empty() && self.addresses.is_empty() && !self.routes && !self.overrun
    }

    fn add_datagram(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
                // Whatever it was, it told of a change.
                self.overrun = true;
                return;
            };
            // Messages are aligned to four bytes; a length of 0 would not end.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            bytes = bytes.get(length..).unwrap_or_default();
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                self.add(&message);
            }
        }
    }

    fn add(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                let flags = link.header.flags;
                self.add_link(
                    LinkEvent::Link {
                        index: link.header.index,
                        device: name(link),
                        up: flags.contains(LinkFlags::Up),
                        carrier: flags.contains(LinkFlags::LowerUp),
                    },
                    link.header.index,
                );
            }
            RouteNetlinkMessage::DelLink(link) => {
                let index = link.header.index;
                self.add_link(LinkEvent::LinkGone { index, device: name(link) }, index);
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.addresses.insert(address.header.index);
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                self.routes |= is_main(route);
            }
            _ => {}
        }
        if self.addresses.len() > WATCHED_LINKS_MAX {
            self.addresses.clear();
            self.overrun = true;
        }
    }

    fn add_link(&mut self, event: LinkEvent, index: u32) {
        self.links.insert(index, event);
        if self.links.len() > WATCHED_LINKS_MAX {
            self.links.clear();
            self.overrun = true;
        }
    }

    /// An overrun stands for everything that was lost, and comes first; what is known follows.
    fn into_events(self) -> impl Iterator<Item = LinkEvent> {
        let overrun = self.overrun.then_some(LinkEvent::Overrun);
        let addresses = self.addresses.into_iter().map(|index| LinkEvent::Addresses { index });
        let routes = self.routes.then_some(LinkEvent::Routes);
        overrun.into_iter().chain(self.links.into_values()).chain(addresses).chain(routes)
    }
}

fn name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn is_main(route: &RouteMessage) -> bool {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(route.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, flags: LinkFlags) -> RouteNetlinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = flags;
        link.attributes.push(LinkAttribute::IfName(format!("eth{index}")));
        RouteNetlinkMessage::NewLink(link)
    }

    #[test]
    fn many_changes_of_one_link_are_one_event_with_the_last_state() {
        let mut batch = Batch::default();
        for flags in [LinkFlags::empty(), LinkFlags::Up, LinkFlags::Up | LinkFlags::LowerUp] {
            batch.add(&link(3, flags));
        }
        let expected = LinkEvent::Link { index: 3, device: "eth3".into(), up: true, carrier: true };
        assert_eq!(batch.into_events().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn more_links_than_the_bound_become_an_overrun() {
        let mut batch = Batch::default();
        for index in 0..=WATCHED_LINKS_MAX as u32 {
            batch.add(&link(index, LinkFlags::Up));
        }
        assert_eq!(batch.into_events().next(), Some(LinkEvent::Overrun));
    }

    #[test]
    fn a_datagram_that_cannot_be_read_is_an_overrun() {
        let mut batch = Batch::default();
        batch.add_datagram(&[1, 2, 3]);
        assert_eq!(batch.into_events().collect::<Vec<_>>(), [LinkEvent::Overrun]);
    }
}
