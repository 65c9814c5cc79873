//! Many packets of many forged sources, as fast as asked.

use super::packet::{OnesComplement, Packet, flags};
use super::{Mac, Wire};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Packets that one system call hands over; also what a paced flood may run ahead.
const BATCH_PACKETS: usize = 64;
/// Of so many packets, one bears a named source.
const NAMED_EVERY: u64 = 8;
/// Coprime to the number of ports of most ranges, so that a source meets many of them.
const PORT_STRIDE: u64 = 7919;
const ETHERNET_BYTES: usize = 14;

/// Whose addresses a flood forges.
#[derive(Debug, Clone)]
pub struct Sources {
    first: IpAddr,
    count: u32,
    named: Vec<IpAddr>,
}

impl Sources {
    /// So many distinct sources from this one on, taken in turn: IPv4 addresses in a row, IPv6 addresses each in a
    /// /64 of its own.
    pub fn forged(first: IpAddr, count: u32) -> Self {
        assert!(count > 0, "a flood needs a source");
        Self { first, count, named: vec![] }
    }

    /// Beside them, every eighth packet bears one of these, such as the gateway's address.
    #[must_use]
    pub fn with(mut self, named: &[IpAddr]) -> Self {
        assert!(named.iter().all(|a| a.is_ipv4() == self.first.is_ipv4()), "a flood is of one family");
        self.named.extend(named);
        self
    }

    /// The source of a packet, and how many packets it sent before that one.
    fn of(&self, packet: u64) -> (IpAddr, u64) {
        if !self.named.is_empty() && packet.is_multiple_of(NAMED_EVERY) {
            let turn = packet / NAMED_EVERY;
            let names = self.named.len() as u64;
            return (self.named[(turn % names) as usize], turn / names);
        }
        let turn = match self.named.len() {
            0 => packet,
            _ => packet - packet / NAMED_EVERY - 1,
        };
        let (index, before) = ((turn % u64::from(self.count)) as u32, turn / u64::from(self.count));
        let address = match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(index)).into(),
            IpAddr::V6(first) => {
                Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(index) << 64)).into()
            }
        };
        (address, before)
    }
}

/// What each packet of a flood is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probes {
    /// TCP segments with these control bits.
    Tcp {
        flags: u8,
    },
    Udp,
}

/// A flood and its bounds; it ends at whichever comes first.
#[derive(Debug, Clone)]
pub struct Flood {
    pub sources: Sources,
    pub target: IpAddr,
    pub ports: RangeInclusive<u16>,
    pub probes: Probes,
    pub packets_max: u64,
    /// `None`: as fast as the kernel takes them.
    pub packets_per_second: Option<u32>,
    pub time_max: Duration,
}

impl Flood {
    /// SYNs to ports 1 to 65535, at most a million packets or a minute, unpaced.
    pub fn syn(sources: Sources, target: IpAddr) -> Self {
        Self {
            sources,
            target,
            ports: 1..=u16::MAX,
            probes: Probes::Tcp { flags: flags::SYN },
            packets_max: 1_000_000,
            packets_per_second: None,
            time_max: Duration::from_secs(60),
        }
    }
}

/// What became of a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    /// Packets that the kernel did not take because the far end's queue was full.
    pub refused: u64,
    pub took: Duration,
}

impl Wire {
    /// Sends a flood to its end.
    pub fn flood(&self, flood: &Flood) -> Sent {
        self.flood_until(flood, &AtomicBool::new(false))
    }

    /// Sends a flood to its end or until it is told to stop.
    ///
    /// # Panics
    /// When sources and target are of different families, or the device is gone.
    pub fn flood_until(&self, flood: &Flood, stop: &AtomicBool) -> Sent {
        let template = Template::new(flood, self.source, self.destination);
        let mut batch = Batch::new(&template.frame);
        let started = Instant::now();
        let mut sent = Sent { packets: 0, refused: 0, took: Duration::ZERO };
        let mut made = 0;
        while made < flood.packets_max && !stop.load(Ordering::Relaxed) {
            if let Some(rate) = flood.packets_per_second {
                let due = Duration::from_secs_f64(made as f64 / f64::from(rate));
                std::thread::sleep(due.min(flood.time_max).saturating_sub(started.elapsed()));
            }
            if started.elapsed() >= flood.time_max {
                break;
            }
            let count = (flood.packets_max - made).min(BATCH_PACKETS as u64) as usize;
            for frame in &mut batch.frames[..count] {
                template.fill(frame, flood, made);
                made += 1;
            }
            let taken = batch.send(self.socket.as_raw_fd(), count);
            sent.packets += taken as u64;
            sent.refused += (count - taken) as u64;
        }
        Sent { took: started.elapsed(), ..sent }
    }
}

/// A frame of the flood in which only the source, the ports and the sums over them change.
struct Template {
    frame: Vec<u8>,
    /// Where things stand in the frame.
    source_at: usize,
    transport_at: usize,
    checksum_at: usize,
}

impl Template {
    fn new(flood: &Flood, source: Mac, destination: Mac) -> Self {
        let from = SocketAddr::new(flood.sources.first, 0);
        let to = SocketAddr::new(flood.target, 0);
        let (packet, checksum_offset) = match flood.probes {
            Probes::Tcp { flags } => (Packet::tcp(from, to, flags), 16),
            Probes::Udp => (Packet::udp(from, to, b"?"), 6),
        };
        let frame = packet.framed(source, destination, &packet.ip());
        let (source_at, header) = if flood.target.is_ipv4() { (12, 20) } else { (8, 40) };
        let transport_at = ETHERNET_BYTES + header;
        Self {
            frame,
            source_at: ETHERNET_BYTES + source_at,
            transport_at,
            checksum_at: transport_at + checksum_offset,
        }
    }

    /// Makes a copy of the template into the packet of this number.
    fn fill(&self, frame: &mut [u8], flood: &Flood, number: u64) {
        let (source, before) = flood.sources.of(number);
        let ports = u64::from(flood.ports.end() - flood.ports.start()) + 1;
        let port = flood.ports.start() + ((before * PORT_STRIDE + number) % ports) as u16;
        let from_port = 1024 + (number % 60_000) as u16;
        frame.copy_from_slice(&self.frame);
        let mut written = [0_u8; 20];
        let address_bytes = match source {
            IpAddr::V4(address) => {
                written[..4].copy_from_slice(&address.octets());
                4
            }
            IpAddr::V6(address) => {
                written[..16].copy_from_slice(&address.octets());
                16
            }
        };
        written[address_bytes..address_bytes + 2].copy_from_slice(&from_port.to_be_bytes());
        written[address_bytes + 2..address_bytes + 4].copy_from_slice(&port.to_be_bytes());
        let (address, port_pair) = written[..address_bytes + 4].split_at(address_bytes);
        let address_at = self.source_at..self.source_at + address_bytes;
        let ports_at = self.transport_at..self.transport_at + 4;
        let moved = [(&self.frame[address_at.clone()], address), (&self.frame[ports_at.clone()], port_pair)];
        put_sum(frame, self.checksum_at, &moved);
        if flood.target.is_ipv4() {
            put_sum(frame, ETHERNET_BYTES + 10, &moved[..1]);
        }
        frame[address_at].copy_from_slice(address);
        frame[ports_at].copy_from_slice(port_pair);
    }
}

/// Mends the checksum at this place for bytes under it that change from the first to the second (RFC 1624, equation 3).
fn put_sum(frame: &mut [u8], at: usize, changes: &[(&[u8], &[u8])]) {
    let mut sum = OnesComplement::default();
    sum.add(&[!frame[at], !frame[at + 1]]);
    for (old, new) in changes {
        sum.subtract(old);
        sum.add(new);
    }
    frame[at..at + 2].copy_from_slice(&sum.finish());
}

/// Frames and the structures by which one call sends them all.
struct Batch {
    frames: Vec<Vec<u8>>,
}

impl Batch {
    fn new(frame: &[u8]) -> Self {
        Self { frames: vec![frame.to_vec(); BATCH_PACKETS] }
    }

    /// Sends the first `count` frames and returns how many the kernel took.
    fn send(&mut self, socket: i32, count: usize) -> usize {
        let mut slices: Vec<libc::iovec> = self.frames[..count]
            .iter_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = slices
            .iter_mut()
            .map(|slice| {
                // SAFETY: zeros are a valid `mmsghdr`: no name, no control data, no flags.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = slice;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let (mut done, mut taken) = (0, 0);
        while done < count {
            let rest = &mut messages[done..];
            // SAFETY: every message points to one slice, and every slice to one frame; all outlive the call.
            let code = unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), rest.len() as u32, 0) };
            if let Ok(sent) = usize::try_from(code) {
                done += sent;
                taken += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            // One frame was refused; those behind it are tried again.
            match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::EAGAIN) => done += 1,
                Some(libc::EINTR) => {}
                _ => panic!("a flood cannot go on: {error}"),
            }
        }
        taken
    }
}
