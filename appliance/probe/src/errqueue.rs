//! The error queue of a socket: which ICMP message ended a connection, and who sent it.
//!
//! `SO_ERROR` alone does not tell a reset from an ICMP port unreachable (both are `ECONNREFUSED`), nor a router's "host
//! unreachable" from the one that this host sends itself when the next hop does not answer.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

/// Bytes of control messages: a `cmsghdr` (16), a `sock_extended_err` (16) and a `sockaddr_in6` (28), with room to spare.
const CONTROL_BYTES: usize = 128;

/// An ICMP error, of either version, that ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    pub(crate) sender: IpAddr,
    /// What the kernel makes of type and code.
    pub(crate) errno: i32,
}

/// Asks the kernel to keep ICMP errors of this socket, with their source, until they are taken.
pub(crate) fn keep_errors(socket: impl AsFd, client: IpAddr) -> io::Result<()> {
    let (level, option) = match client {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is an `int` that outlives the call, and the length is its length.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes the oldest error. `None`: the queue is empty, or what lay there is none of ICMP. Taking the last one clears
/// `SO_ERROR`, too (`sock_dequeue_err_skb` in the kernel's net/core/skbuff.c).
pub(crate) fn take_icmp_error(socket: impl AsFd) -> io::Result<Option<IcmpError>> {
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: all zeroes is a valid `msghdr`: no name, no payload, no control buffer.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: the only buffer in `message` is `control`, which is as long as it says and outlives the call.
    let code = unsafe {
        libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    if code < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    Ok(icmp_error(&control.0[..message.msg_controllen.min(CONTROL_BYTES)]))
}

/// Control messages are aligned as `cmsghdr` is; here they are only read by offset.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Reads `IP_RECVERR` and `IPV6_RECVERR` messages: a `cmsghdr` {len usize, level i32, type i32}, a `sock_extended_err`
/// {errno u32, origin u8, type u8, code u8, pad u8, info u32, data u32} and the offender's `sockaddr` (`IP_RECVERR` in ip(7)).
fn icmp_error(mut control: &[u8]) -> Option<IcmpError> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const ERROR: usize = size_of::<libc::sock_extended_err>();
    const ORIGIN: usize = mem::offset_of!(libc::sock_extended_err, ee_origin);
    loop {
        let length = usize::from_ne_bytes(*control.first_chunk()?);
        let level = i32::from_ne_bytes(*control.get(8..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*control.get(12..)?.first_chunk()?);
        let body = control.get(HEADER..length)?;
        if matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)) {
            let errno = i32::from_ne_bytes(*body.first_chunk()?);
            let origin = *body.get(ORIGIN)?;
            return match origin {
                libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
                    Some(IcmpError { sender: sender(body.get(ERROR..)?)?, errno })
                }
                _ => None,
            };
        }
        control = control.get(length.next_multiple_of(size_of::<usize>())..)?;
    }
}

/// The address in a `sockaddr_in` {family u16, port u16, address [u8; 4]} or `sockaddr_in6` {family u16, port u16, flow u32,
/// address [u8; 16]}; an IPv4 address written as IPv6 comes back as IPv4.
fn sender(sockaddr: &[u8]) -> Option<IpAddr> {
    let family = i32::from(u16::from_ne_bytes(*sockaddr.first_chunk()?));
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(*sockaddr.get(4..)?.first_chunk::<4>()?).into()),
        libc::AF_INET6 => {
            Some(IpAddr::from(Ipv6Addr::from(*sockaddr.get(8..)?.first_chunk::<16>()?)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, origin: u8, sockaddr: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((16 + 16 + sockaddr.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(libc::ECONNREFUSED.to_ne_bytes());
        bytes.extend([origin, 3, 3, 0]);
        bytes.extend([0; 8]);
        bytes.extend(sockaddr);
        bytes
    }

    fn inet(address: [u8; 4]) -> Vec<u8> {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(address);
        bytes.extend([0; 8]);
        bytes
    }

    fn port_unreachable_from(sender: [u8; 4]) -> IcmpError {
        IcmpError { sender: sender.into(), errno: libc::ECONNREFUSED }
    }

    #[test]
    fn an_icmp_error_names_its_sender() {
        let bytes = message(libc::SOL_IP, libc::IP_RECVERR, libc::SO_EE_ORIGIN_ICMP, &inet([192, 0, 2, 1]));
        assert_eq!(icmp_error(&bytes), Some(port_unreachable_from([192, 0, 2, 1])));
    }

    #[test]
    fn an_error_of_this_host_is_none_of_icmp() {
        let bytes = message(libc::SOL_IP, libc::IP_RECVERR, libc::SO_EE_ORIGIN_LOCAL, &inet([192, 0, 2, 1]));
        assert_eq!(icmp_error(&bytes), None);
    }

    #[test]
    fn a_message_behind_another_one_is_found_and_a_torn_one_is_nothing() {
        let mut bytes = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, 0, &[]);
        let sender = inet([192, 0, 2, 7]);
        bytes.extend(message(libc::SOL_IPV6, libc::IPV6_RECVERR, libc::SO_EE_ORIGIN_ICMP6, &sender));
        assert_eq!(icmp_error(&bytes), Some(port_unreachable_from([192, 0, 2, 7])));
        for end in 0..bytes.len() {
            assert_eq!(icmp_error(&bytes[..end]), None, "cut at {end}");
        }
    }
}
