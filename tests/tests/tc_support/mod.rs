//! A BPF file system of the test's own, and frames byte by byte.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use glacis_loader::{Event, EventStream, ProbeEvent};
use glacis_tests::netns::run;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_IPV6: u16 = 0x86dd;

/// A BPF file system, unmounted with everything pinned in it on drop.
pub struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    pub fn mount() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()));
        Self { directory }
    }

    /// Where to pin; made by the loader.
    pub fn pins(&self) -> PathBuf {
        self.directory.path().join("glacis")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.directory.path()).status();
    }
}

/// At most `limit` events, none of which may be an echo.
pub fn probes(events: &mut EventStream, limit: usize) -> Vec<ProbeEvent> {
    let mut probes = Vec::new();
    events.drain(limit, |event| match event {
        Event::Probe(probe) => probes.push(probe),
        Event::Echo { source, .. } => panic!("{source} sent an echo of nothing"),
    });
    probes
}

pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// One 802.1Q or 802.1ad tag: its control field and the type of what it wraps.
pub fn tagged(vlan: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes(), &ethertype.to_be_bytes(), payload].concat()
}

pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("test packets are small");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("test packets are small");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// An IPv6 options header of eight bytes: hop-by-hop, destination options.
pub fn options(next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

/// An IPv6 authentication header of 16 bytes; its length counts words, less two.
pub fn authentication(next_header: u8, payload: &[u8]) -> Vec<u8> {
    [&[next_header, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], payload].concat()
}

/// An IPv6 fragment header; the offset in units of eight bytes.
pub fn fragment(next_header: u8, offset: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (offset << 3 | 1).to_be_bytes();
    [&[next_header, 0, high, low, 0, 0, 0, 9], payload].concat()
}

pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    segment
}

pub fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut datagram = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    datagram.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    datagram
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Everything that goes over the loopback device of this thread's namespace.
pub struct Loopback {
    socket: OwnedFd,
}

impl Loopback {
    pub fn open() -> Self {
        let all = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all) };
        assert!(fd >= 0, "packet sockets need root: {}", std::io::Error::last_os_error());
        let wait = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
        // SAFETY: a descriptor that the kernel just made and nobody else knows.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the kernel reads `wait`, of the size that it is told.
        let code = unsafe {
            let (value, bytes) = ((&raw const wait).cast(), size_of_val(&wait) as u32);
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, bytes)
        };
        assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
        Self { socket }
    }

    /// The next frame, seen once: the device shows each as it leaves and as it comes back.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let [left, back] = [self.receive(), self.receive()];
        assert_eq!(left, back, "a frame comes back as it left");
        left
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4096];
        // SAFETY: the kernel writes at most as many bytes as the frame has.
        let bytes = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(bytes).ok()?);
        Some(frame)
    }
}

/// Puts a frame on a device of this thread's namespace.
pub fn send_frame(device: &str, frame: &[u8]) {
    let name = std::ffi::CString::new(device).expect("device names have no zeros");
    // SAFETY: the name is terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "there is no {device}");
    // SAFETY: the structure is integers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index.cast_signed();
    // SAFETY: a system call without pointers; the descriptor is one that the kernel just made and nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)) };
    // SAFETY: the kernel reads the frame and the address, of the sizes that it is told.
    let sent = unsafe {
        let (data, address) = (frame.as_ptr().cast(), (&raw const to).cast());
        libc::sendto(socket.as_raw_fd(), data, frame.len(), 0, address, size_of_val(&to) as u32)
    };
    assert_eq!(sent, frame.len().cast_signed(), "{}", std::io::Error::last_os_error());
}
