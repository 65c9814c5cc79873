//! The records themselves.

use crate::Protocol;
use core::mem::size_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source address: 16 bytes in network order, IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey {
    pub addr: [u8; 16],
}

impl SourceKey {
    /// Leading bits that every IPv4 address shares: a `/n` of IPv4 is a `/(96 + n)` here.
    pub const V4_BITS: u8 = 96;
    /// Bits of a whole address.
    pub const BITS: u32 = 128;

    #[inline]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] }
    }

    #[inline]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        Self { addr: octets }
    }
}

impl From<IpAddr> for SourceKey {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

impl From<SourceKey> for IpAddr {
    fn from(key: SourceKey) -> Self {
        Ipv6Addr::from(key.addr).to_canonical()
    }
}

/// What a source probes: 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeKey {
    pub source: SourceKey,
    /// Network order.
    pub port: [u8; 2],
    /// IANA number.
    pub protocol: u8,
    /// 4 or 6: tells IPv4 from an IPv4-mapped address on an IPv6 wire.
    pub family: u8,
}

impl ProbeKey {
    pub fn new(source: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self {
            source: source.into(),
            port: port.to_be_bytes(),
            protocol: protocol as u8,
            family: if source.is_ipv4() { 4 } else { 6 },
        }
    }

    pub fn source(&self) -> IpAddr {
        if self.family == 4 {
            let [.., a, b, c, d] = self.source.addr;
            Ipv4Addr::new(a, b, c, d).into()
        } else {
            Ipv6Addr::from(self.source.addr).into()
        }
    }

    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// `None` for a protocol that the program does not count.
    pub const fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.protocol)
    }
}

/// How often a [`ProbeKey`] was seen since its entry was made: 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProbeCount {
    pub hits: u64,
    /// When the entry was made. Another value than before means that the key was evicted in between and `hits`
    /// began anew; within one tick, only a smaller `hits` shows that.
    pub first: u64,
    pub last: u64,
}

/// Written to the ring when a key's hits reach a power of two (1, 2, 4, …): 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEvent {
    pub key: ProbeKey,
    /// The device that the probe came in by.
    pub ifindex: u32,
    /// [`ProbeCount::first`] of the entry.
    pub first: u64,
    /// When this probe came in.
    pub at: u64,
    /// Cumulative since `first`, this probe included.
    pub hits: u64,
}

/// A banned source: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ban {
    /// The last moment of the ban; 0 is permanent.
    pub until: u64,
    /// Packets dropped by it.
    pub drops: u64,
}

/// What user space may change while the program runs: 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// [`LAYOUT`](crate::LAYOUT) of the writer; 0 in a map that nobody has written yet.
    pub layout: u32,
    /// [`Self::COUNT_PROBES`] and [`Self::BAN_PREFIXES`].
    pub flags: u32,
}

impl Settings {
    /// Count probes of closed ports. Without it the program only drops banned sources.
    pub const COUNT_PROBES: u32 = 1;
    /// The prefix trie has entries. An empty trie costs 40 ns a packet, so it is not asked without this.
    pub const BAN_PREFIXES: u32 = 2;
}

// The fields' sizes add up to the records' sizes, so there is no padding.
const _: () = {
    assert!(size_of::<SourceKey>() == 16);
    assert!(size_of::<ProbeKey>() == 16 + 2 + 1 + 1);
    assert!(size_of::<ProbeCount>() == 3 * 8);
    assert!(size_of::<ProbeEvent>() == 20 + 4 + 3 * 8);
    assert!(size_of::<Ban>() == 2 * 8);
    assert!(size_of::<Settings>() == 2 * 4);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Ban, ProbeCount, ProbeKey, Settings, SourceKey};

    // SAFETY: `repr(C)`, no padding (asserted above), made of integers and byte arrays only.
    unsafe impl aya::Pod for SourceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProbeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProbeCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Ban {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

    #[test]
    fn addresses_round_trip_through_keys() {
        for address in [V4, V6, IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            assert_eq!(IpAddr::from(SourceKey::from(address)), address);
        }
    }

    #[test]
    fn probe_keys_keep_every_field() {
        for source in [V4, V6] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in [0, 1, 80, 0x1234, u16::MAX] {
                    let key = ProbeKey::new(source, protocol, port);
                    assert_eq!((key.source(), key.protocol(), key.port()), (source, Some(protocol), port));
                }
            }
        }
    }

    #[test]
    fn a_mapped_address_on_an_ipv6_wire_stays_ipv6() {
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
        let key = ProbeKey::new(mapped, Protocol::Tcp, 80);
        assert_eq!(key.source(), mapped);
        assert_ne!(key, ProbeKey::new(V4, Protocol::Tcp, 80));
    }

    #[test]
    fn ports_are_in_network_order() {
        assert_eq!(ProbeKey::new(V4, Protocol::Tcp, 0x1234).port, [0x12, 0x34]);
    }
}
