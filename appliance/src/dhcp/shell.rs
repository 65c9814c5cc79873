//! The loop: packets, carrier and time in, packets and events out.

use super::DhcpEvent;
use glacis_netlink::dhcp_socket::{ChecksumState, DhcpSocket, Neighbour, Received};
use glacis_netlink::links::{LinkEvent, LinkWatch};
use glacis_plan::Mac;
use glacis_wire::dhcp4::{CLIENT_PORT, Client, Destination, Input, MESSAGE_BYTES_MAX, Output, SERVER_PORT};
use glacis_wire::udp4::{self, Checksum, Datagram};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// The longest message with the longest IPv4 header and a UDP header before it.
const PACKET_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 60 + 8;
/// After an error on the socket, as while the interface is down.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Whether the client can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Ends,
}

/// What the interface last told about its lower layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Present,
    Absent,
}

pub(super) struct Shell {
    device: String,
    index: u32,
    client: Client,
    socket: DhcpSocket,
    events: mpsc::Sender<DhcpEvent>,
    begun: Instant,
    timer: Instant,
    carrier: Carrier,
    /// Who brought the current lease, to whom renewals go without asking by ARP: the address they
    /// are sent from may not be configured yet. A neighbour that changed is found by rebinding.
    neighbour: Neighbour,
}

impl Shell {
    pub(super) fn new(
        device: String,
        index: u32,
        Mac(mac): Mac,
        socket: DhcpSocket,
        events: mpsc::Sender<DhcpEvent>,
    ) -> Self {
        let begun = Instant::now();
        Self {
            device,
            index,
            client: Client::new(mac),
            socket,
            events,
            begun,
            timer: begun,
            carrier: Carrier::Present,
            neighbour: Neighbour::All,
        }
    }

    pub(super) async fn run(mut self, mut links: LinkWatch) {
        let mut buffer = [0; PACKET_BYTES_MAX];
        let mut fate = Fate::Goes;
        while fate == Fate::Goes {
            tokio::select! {
                received = self.socket.receive(&mut buffer) => match received {
                    Ok(received) => fate = self.packet(&buffer[..received.bytes], &received).await,
                    Err(error) => self.pause(&error).await,
                },
                () = sleep_until(self.timer) => fate = self.step(Input::Timer, Neighbour::All).await,
                event = links.next() => match event {
                    Ok(event) => fate = self.link(event).await,
                    Err(error) => {
                        tracing::warn!(device = self.device, %error, "carrier is not followed");
                        sleep(ERROR_PAUSE).await;
                    }
                },
            }
        }
        tracing::debug!(device = self.device, "the DHCP client ended");
    }

    async fn packet(&mut self, packet: &[u8], received: &Received) -> Fate {
        let checksum = match received.checksum {
            ChecksumState::Complete => Checksum::Complete,
            ChecksumState::NotReady => Checksum::NotReady,
        };
        match udp4::decode(packet, checksum) {
            Ok(datagram) if datagram.source.port() == SERVER_PORT => {
                self.step(Input::Packet(datagram.payload), Neighbour::One(received.from)).await
            }
            Ok(_) => Fate::Goes,
            Err(error) => {
                tracing::trace!(device = self.device, %error, "packet ignored");
                Fate::Goes
            }
        }
    }

    async fn link(&mut self, event: LinkEvent) -> Fate {
        match event {
            LinkEvent::Link { index, carrier, .. } if index == self.index => {
                let before = self.carrier;
                self.carrier = if carrier { Carrier::Present } else { Carrier::Absent };
                match (before, self.carrier) {
                    (Carrier::Absent, Carrier::Present) => self.step(Input::LinkUp, Neighbour::All).await,
                    _ => Fate::Goes,
                }
            }
            LinkEvent::LinkGone { index, .. } if index == self.index => {
                if self.client.lease().is_some() {
                    self.tell(DhcpEvent::Lost { device: self.device.clone() }).await;
                }
                Fate::Ends
            }
            // What was lost may have been a carrier: to ask once too often costs one packet.
            LinkEvent::Overrun => self.step(Input::LinkUp, Neighbour::All).await,
            _ => Fate::Goes,
        }
    }

    /// Steps the client and does what it says. `from` is who caused the step.
    async fn step(&mut self, input: Input<'_>, from: Neighbour) -> Fate {
        let now = self.begun.elapsed();
        for output in self.client.handle(input, now, random_word()) {
            let fate = match output {
                Output::SetTimer(at) => {
                    self.timer = self.begun + at;
                    Fate::Goes
                }
                Output::Send { payload, to } => {
                    self.send(&payload, to).await;
                    Fate::Goes
                }
                Output::Configure(lease) => {
                    self.neighbour = from;
                    self.tell(DhcpEvent::Bound { device: self.device.clone(), lease }).await
                }
                Output::Deconfigure(loss) => {
                    tracing::warn!(device = self.device, %loss, "lease lost");
                    self.tell(DhcpEvent::Lost { device: self.device.clone() }).await
                }
                Output::Ignored(rejection) => {
                    tracing::debug!(device = self.device, %rejection, "message ignored");
                    Fate::Goes
                }
            };
            if fate == Fate::Ends {
                return fate;
            }
        }
        Fate::Goes
    }

    async fn tell(&self, event: DhcpEvent) -> Fate {
        match self.events.send(event).await {
            Ok(()) => Fate::Goes,
            Err(_) => Fate::Ends,
        }
    }

    /// A message that cannot be sent is lost like one on the wire: the timer repeats it.
    async fn send(&self, payload: &[u8], to: Destination) {
        let (source, destination, neighbour) = match to {
            Destination::Broadcast { source } => (source, Ipv4Addr::BROADCAST, Neighbour::All),
            Destination::Unicast { source, server } => (source, server, self.neighbour),
        };
        let datagram = Datagram {
            source: SocketAddrV4::new(source, CLIENT_PORT),
            destination: SocketAddrV4::new(destination, SERVER_PORT),
            payload,
        };
        let packet = match udp4::encode(&datagram) {
            Ok(packet) => packet,
            Err(error) => return tracing::error!(device = self.device, %error, "message not encoded"),
        };
        if let Err(error) = self.socket.send(&packet, neighbour).await {
            tracing::debug!(device = self.device, %error, %destination, "message not sent");
        }
    }

    /// Waits out an error such as ENETDOWN, which is reported once for each time the interface
    /// goes down, so that no error can make the loop spin.
    async fn pause(&self, error: &io::Error) {
        tracing::debug!(device = self.device, %error, "nothing received");
        sleep(ERROR_PAUSE).await;
    }
}

/// A word nobody on the network can guess: the standard library keys every hasher from the
/// kernel's generator, and counts on from there.
fn random_word() -> u64 {
    RandomState::new().build_hasher().finish()
}
