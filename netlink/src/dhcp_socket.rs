//! A packet socket for a DHCPv4 client: works before the interface has an address, and beneath a
//! ruleset that drops everything, because the kernel hands packets to it ahead of netfilter's
//! prerouting and takes them from it behind output.
//!
//! Owns the socket and its filter and knows nothing of DHCP but its port. Whoever holds one needs
//! no privilege to use it: the capability goes into [`DhcpSocket::open`] alone, and
//! [`DhcpSocket::from_fd`] takes a socket that another process opened.

use glacis_plan::Mac;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// UDP port of DHCP clients.
const CLIENT_PORT: u32 = 68;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ancillary data of one packet fits: one `tpacket_auxdata` and its header.
const CONTROL_BYTES: usize = 64;
/// Bits of a tag that number the VLAN; 0 is a priority tag on our own network.
const VLAN_ID_MASK: u16 = 0x0fff;

/// One packet, from its IP header on, in the buffer it was received into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub bytes: usize,
    /// The neighbour that sent it: the server itself, or the router on the way to it.
    pub from: Mac,
    pub checksum: ChecksumState,
}

/// Whether the sender's UDP checksum is in the packet (`TP_STATUS_CSUMNOTREADY` in packet(7)): a
/// sender on this machine leaves it to hardware that the packet never meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumState {
    Complete,
    NotReady,
}

/// Which neighbour a packet goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    All,
    One(Mac),
}

/// The socket, bound to one interface.
pub struct DhcpSocket {
    fd: AsyncFd<OwnedFd>,
    index: u32,
}

impl DhcpSocket {
    /// Opens a socket on an interface; needs `CAP_NET_RAW`.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn open(index: u32) -> io::Result<Self> {
        Self::from_fd(open_fd(index)?, index)
    }

    /// Takes over a socket that is bound to the interface, filtered and non-blocking.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn from_fd(fd: OwnedFd, index: u32) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self { fd, index })
    }

    /// Waits for a packet to UDP port 68 that is for this interface. Longer ones than the buffer
    /// are cut, which their own length field gives away. May be cancelled without loss.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        loop {
            let mut guard = self.fd.readable().await?;
            match guard.try_io(|fd| receive_one(fd.get_ref(), buffer)) {
                Ok(Ok(Some(received))) => return Ok(received),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Sends a packet that begins with its IP header.
    pub async fn send(&self, packet: &[u8], to: Neighbour) -> io::Result<()> {
        let address = link_address(self.index, to);
        loop {
            let mut guard = self.fd.writable().await?;
            // SAFETY: the pointers and lengths are those of `packet` and `address`, which live on.
            let sent = guard.try_io(|fd| unsafe {
                let length = libc::sendto(
                    fd.as_raw_fd(),
                    packet.as_ptr().cast(),
                    packet.len(),
                    0,
                    (&raw const address).cast(),
                    size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                );
                if length < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
            if let Ok(result) = sent {
                return result;
            }
        }
    }
}

/// A filtered socket bound to an interface.
fn open_fd(index: u32) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is received until the filter is in place and `bind` names a protocol.
    // SAFETY: no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut filter = client_port_filter();
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    set_option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    let on: libc::c_int = 1;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
    let address = link_address(index, Neighbour::All);
    // SAFETY: the pointer and length are those of `address`.
    let bound = unsafe {
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length are those of `value`; the kernel copies what it keeps.
    let code = unsafe {
        let length = size_of::<T>() as libc::socklen_t;
        libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Passes unfragmented IPv4 UDP packets to port 68. Offsets count from the IP header, since a
/// `SOCK_DGRAM` packet socket's filter does not see the link header.
fn client_port_filter() -> [libc::sock_filter; 9] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const MORE_FRAGMENTS_OR_OFFSET: u32 = 0x3fff;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, 9),
        step(JUMP_IF_EQUAL, 0, 6, libc::IPPROTO_UDP as u32),
        step(LOAD_HALF, 0, 0, 6),
        step(JUMP_IF_ANY_BIT, 4, 0, MORE_FRAGMENTS_OR_OFFSET),
        step(LOAD_HEADER_LENGTH, 0, 0, 0),
        step(LOAD_HALF_BEHIND_HEADER, 0, 0, 2),
        step(JUMP_IF_EQUAL, 0, 1, CLIENT_PORT),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

fn link_address(index: u32, to: Neighbour) -> libc::sockaddr_ll {
    let Mac(mac) = match to {
        Neighbour::All => Mac([0xff; 6]),
        Neighbour::One(mac) => mac,
    };
    let mut bytes = [0; 8];
    bytes[..mac.len()].copy_from_slice(&mac);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_IPV4.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: mac.len() as u8,
        sll_addr: bytes,
    }
}

/// Takes one packet off the queue; `None` when it is not for this interface: another host's, an
/// own one on its way out, or one of a VLAN above.
fn receive_one(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    /// Aligned as `cmsghdr` asks.
    #[repr(align(8))]
    struct Control([u8; CONTROL_BYTES]);

    // SAFETY: all zero is a valid value of these plain C structures.
    let (mut from, mut header) = unsafe { (zeroed::<libc::sockaddr_ll>(), zeroed::<libc::msghdr>()) };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    // SAFETY: every pointer in `header` is to a live object of the length given beside it.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) };
    let bytes = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;

    let status = auxiliary(&header);
    let on_vlan =
        status.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && status.tp_vlan_tci & VLAN_ID_MASK != 0;
    let for_us = matches!(from.sll_pkttype, libc::PACKET_HOST | libc::PACKET_BROADCAST);
    if on_vlan || !for_us || from.sll_halen != 6 {
        return Ok(None);
    }
    let [a, b, c, d, e, f, ..] = from.sll_addr;
    let not_ready = status.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
    let checksum = if not_ready { ChecksumState::NotReady } else { ChecksumState::Complete };
    Ok(Some(Received { bytes, from: Mac([a, b, c, d, e, f]), checksum }))
}

/// What the kernel says about a received packet beside its bytes; all zero when it says nothing.
fn auxiliary(header: &libc::msghdr) -> libc::tpacket_auxdata {
    // SAFETY: the kernel filled `header`, so the control messages in it are well formed, and the
    // data of one is as long as its length says; it may be unaligned.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        let long_enough = libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize;
        if !first.is_null()
            && (*first).cmsg_level == libc::SOL_PACKET
            && (*first).cmsg_type == libc::PACKET_AUXDATA
            && (*first).cmsg_len >= long_enough
        {
            return libc::CMSG_DATA(first).cast::<libc::tpacket_auxdata>().read_unaligned();
        }
        zeroed()
    }
}
