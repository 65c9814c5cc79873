//! Packets that no ordinary tool sends: floods of forged sources, and single crafted frames.
//!
//! Frames are put together by [`Packet`] and leave through a [`Wire`], a raw socket on one end of a veth pair, so
//! nothing between here and the other end changes them. Everything is bounded by count, rate and time.

mod flood;
mod packet;

pub use flood::{Flood, Probes, Sent, Sources};
pub use packet::{Extension, Packet, flags};

use crate::netns::Namespace;
use serde_json::Value;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A hardware address.
pub type Mac = [u8; 6];

/// One end of a veth pair, open for raw frames.
pub struct Wire {
    socket: OwnedFd,
    source: Mac,
    destination: Mac,
}

impl Wire {
    /// Opens a device whose other end is `peer_device` in `peer`; frames bear the hardware addresses of both.
    ///
    /// # Panics
    /// When a device is missing or the socket cannot be opened: this needs root.
    pub fn open(namespace: &Namespace, device: &str, peer: &Namespace, peer_device: &str) -> Self {
        let (index, source) = link(namespace, device);
        let (_, destination) = link(peer, peer_device);
        let socket = namespace.enter(|| packet_socket(index)).unwrap_or_else(|e| {
            panic!("cannot open {device} in {} for raw frames: {e}", namespace.name());
        });
        Self { socket, source, destination }
    }

    /// Sends one packet, whole.
    pub fn send(&self, packet: &Packet) {
        self.send_frame(&self.frame(packet));
    }

    /// Sends one packet as IP fragments of at most so many bytes of payload each, in their order.
    pub fn send_fragments(&self, packet: &Packet, payload_bytes_max: usize) {
        for ip in packet.fragments(payload_bytes_max) {
            self.send_frame(&packet.framed(self.source, self.destination, &ip));
        }
    }

    /// Sends a frame as it is, hardware addresses included.
    ///
    /// # Panics
    /// When the kernel does not take it.
    pub fn send_frame(&self, frame: &[u8]) {
        let sent = rustix::net::send(&self.socket, frame, rustix::net::SendFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "a frame of {} bytes does not leave", frame.len());
    }

    fn frame(&self, packet: &Packet) -> Vec<u8> {
        packet.framed(self.source, self.destination, &packet.ip())
    }
}

/// Index and hardware address of a device.
fn link(namespace: &Namespace, device: &str) -> (i32, Mac) {
    let text = namespace.stdout(["ip", "-json", "link", "show", "dev", device]);
    let links: Value = serde_json::from_str(&text).expect("ip prints JSON");
    let index = links[0]["ifindex"].as_i64().expect("every link has an index");
    let address = links[0]["address"].as_str().expect("a veth has a hardware address");
    let mut mac = Mac::default();
    for (byte, digits) in mac.iter_mut().zip(address.split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("ip prints hardware addresses in hexadecimal");
    }
    (i32::try_from(index).expect("indices are positive and small"), mac)
}

/// A packet socket that is bound to one device and receives nothing.
fn packet_socket(index: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address lives across the call, and its length is told.
    let code = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if code == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};
    use std::process::Stdio;
    use std::time::Duration;

    struct Scene {
        wire: Wire,
        far: Namespace,
        _near: Namespace,
    }

    fn scene() -> Scene {
        let (near, far) = (Namespace::new("near"), Namespace::new("far"));
        near.veth("n0", &far, "f0");
        far.address("f0", "192.0.2.1/24");
        far.address("f0", "2001:db8::1/64");
        Scene { wire: Wire::open(&near, "n0", &far, "f0"), far, _near: near }
    }

    /// What tcpdump makes of everything that `send` sends.
    fn dissected(scene: &Scene, filter: &str, count: usize, send: impl FnOnce(&Wire)) -> String {
        let mut tcpdump = scene.far.command([
            "timeout",
            "20",
            "tcpdump",
            "-i",
            "f0",
            "-n",
            "-e",
            "-l",
            "-vv",
            "-c",
            &count.to_string(),
            filter,
        ]);
        let mut tcpdump = tcpdump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut errors = io::BufReader::new(tcpdump.stderr.take().unwrap());
        io::BufRead::read_line(&mut errors, &mut first).unwrap();
        assert!(first.contains("listening"), "{first}");
        send(&scene.wire);
        let output = tcpdump.wait_with_output().unwrap();
        assert!(output.status.success(), "tcpdump did not see {count} of `{filter}`");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ends(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
        (source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn crafted_packets_are_what_tcpdump_takes_them_for() {
        let scene = scene();
        let (from, to) = ends("192.0.2.66:40000", "192.0.2.1:81");
        let text = dissected(&scene, "tcp or udp or sctp or vlan", 5, |wire| {
            wire.send(&Packet::tcp(from, to, flags::FIN | flags::PSH | flags::URG));
            wire.send(&Packet::udp(from, to, b"hello"));
            wire.send(&Packet::sctp_init(from, to));
            wire.send(&Packet::tcp(from, to, flags::SYN).tagged(7));
            wire.send(&Packet::tcp(from, to, flags::RST).answering(17, 23));
        });
        assert!(text.contains("Flags [FPU], cksum") && !text.contains("incorrect"), "{text}");
        assert!(text.contains("[udp sum ok] UDP, length 5"), "{text}");
        assert!(text.contains("sctp") && text.contains("[INIT]") && !text.contains("bad cksum"), "{text}");
        assert!(text.contains("vlan 7"), "{text}");
        assert!(text.contains("Flags [R]") && text.contains("seq 17"), "{text}");
    }

    #[test]
    fn ipv6_extension_headers_precede_the_transport() {
        let scene = scene();
        let (from, to) = ends("[2001:db8::66]:40000", "[2001:db8::1]:81");
        let text = dissected(&scene, "src 2001:db8::66", 2, |wire| {
            let syn = Packet::tcp(from, to, flags::SYN);
            wire.send(&syn.clone().extended(Extension::HopByHop).extended(Extension::Destination));
            wire.send(&syn.extended(Extension::Routing));
        });
        assert!(text.contains("HBH") && text.contains("DSTOPT") && text.contains("segleft=0"), "{text}");
        assert_eq!(text.matches("Flags [S], cksum").count(), 2, "{text}");
        assert!(!text.contains("incorrect"), "{text}");
    }

    #[test]
    fn fragments_are_put_together_by_a_real_stack() {
        let scene = scene();
        for (from, to) in
            [ends("192.0.2.66:4000", "192.0.2.1:81"), ends("[2001:db8::66]:4000", "[2001:db8::1]:81")]
        {
            let socket = scene.far.enter(|| std::net::UdpSocket::bind(to)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            scene.wire.send_fragments(&Packet::udp(from, to, &[7; 41]), 8);
            let mut buffer = [0; 64];
            let (bytes, sender) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..bytes], sender), (&[7; 41][..], from));
        }
    }

    #[test]
    fn a_flood_keeps_its_bounds_and_every_source_has_its_turn() {
        let scene = scene();
        for (first, target, named) in
            [("198.51.100.0", "192.0.2.1", "192.0.2.254"), ("2001:db8:f::", "2001:db8::1", "2001:db8::fe")]
        {
            let target: IpAddr = target.parse().unwrap();
            let sources = Sources::forged(first.parse().unwrap(), 50).with(&[named.parse().unwrap()]);
            let flood = Flood { packets_max: 160, ..Flood::syn(sources, target) };
            let text = dissected(&scene, &format!("tcp and dst {target}"), 160, |wire| {
                let sent = wire.flood(&flood);
                assert_eq!((sent.packets, sent.refused), (160, 0));
            });
            assert!(!text.contains("incorrect"), "{text}");
            let heads = text.split_whitespace().zip(text.split_whitespace().skip(1));
            let sources: Vec<&str> =
                heads.filter(|(_, next)| *next == ">").map(|(source, _)| source).collect();
            // Hardware addresses also point at each other, and have no port.
            let mut distinct: Vec<&str> =
                sources.iter().filter_map(|source| Some(source.rsplit_once('.')?.0)).collect();
            assert_eq!(distinct.iter().filter(|source| **source == named).count(), 20, "{text}");
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 51, "{distinct:?}");
        }
    }

    #[test]
    fn a_flood_is_paced_and_ends_by_its_time() {
        let scene = scene();
        let sources = Sources::forged("198.51.100.0".parse().unwrap(), 256);
        let flood = Flood {
            packets_per_second: Some(2_000),
            time_max: Duration::from_secs(1),
            ..Flood::syn(sources, "192.0.2.1".parse().unwrap())
        };
        let sent = scene.wire.flood(&flood);
        // Pacing may lag behind on a busy machine, and never runs ahead by more than one batch.
        assert!((1..=2_064).contains(&sent.packets), "{sent:?}");
        assert!(sent.took >= Duration::from_millis(900), "{sent:?}");
    }
}
