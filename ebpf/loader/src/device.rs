//! Devices of this network namespace: index, name, and the length of the link header.

use crate::LoaderError;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketType, socket};
use std::io;
use std::os::fd::AsRawFd;

/// Link types of `linux/if_arp.h` whose packets carry an Ethernet header.
const ETHERNET: [u16; 2] = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK];
/// Link types whose packets begin with the network header when TC sees them.
const HEADERLESS: [u16; 8] = [
    libc::ARPHRD_NONE,
    ARPHRD_RAWIP,
    libc::ARPHRD_PPP,
    libc::ARPHRD_TUNNEL,
    libc::ARPHRD_TUNNEL6,
    libc::ARPHRD_SIT,
    libc::ARPHRD_IPGRE,
    ARPHRD_IP6GRE,
];
// linux/if_arp.h; missing in `libc`.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;

/// What stands before the network header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkHeader {
    Ethernet,
    Absent,
}

impl LinkHeader {
    pub(crate) const fn bytes(self) -> u32 {
        match self {
            Self::Ethernet => 14,
            Self::Absent => 0,
        }
    }
}

/// A device that the program can be attached to.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) header: LinkHeader,
}

impl Device {
    pub(crate) fn find(name: &str) -> Result<Self, LoaderError> {
        let missing = |source| LoaderError::NoDevice { device: name.to_owned(), source };
        let index = index_of(name)?;
        let kind = link_type(name).map_err(missing)?;
        let header = if ETHERNET.contains(&kind) {
            LinkHeader::Ethernet
        } else if HEADERLESS.contains(&kind) {
            LinkHeader::Absent
        } else {
            return Err(LoaderError::UnknownLink { device: name.to_owned(), kind });
        };
        Ok(Self { name: name.to_owned(), index, header })
    }
}

pub(crate) fn index_of(name: &str) -> Result<u32, LoaderError> {
    any_socket()
        .and_then(|socket| Ok(name_to_index(socket, name)?))
        .map_err(|source| LoaderError::NoDevice { device: name.to_owned(), source })
}

/// `None` when the device is gone.
pub(crate) fn name_of(index: u32) -> Option<String> {
    index_to_name(any_socket().ok()?, index).ok()
}

/// The `ARPHRD_*` number of a device. Asked by ioctl and not in `/sys`, which may show another namespace.
fn link_type(name: &str) -> io::Result<u16> {
    let socket = any_socket()?;
    // SAFETY: `ifreq` is integers, arrays and unions of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request reads a terminated name and writes a `sockaddr`, both within `request`.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful SIOCGIFHWADDR has filled this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr }.sa_family)
}

/// Device requests want a socket, of any kind.
fn any_socket() -> io::Result<std::os::fd::OwnedFd> {
    Ok(socket(AddressFamily::INET, SocketType::DGRAM, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_ethernet_header() {
        let device = Device::find("lo").unwrap();
        assert_eq!((device.name.as_str(), device.header), ("lo", LinkHeader::Ethernet));
        assert_eq!(name_of(device.index).as_deref(), Some("lo"));
    }

    #[test]
    fn names_that_no_device_has_are_an_error() {
        for name in ["", "nosuch0", "a-name-longer-than-the-kernel-allows"] {
            assert!(matches!(Device::find(name), Err(LoaderError::NoDevice { .. })), "{name}");
        }
    }
}
