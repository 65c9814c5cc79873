//! The records themselves.

use crate::{Counter, ProbeKind, Protocol};
use core::mem::size_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source address: 16 bytes in network order, IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`). Aligned, so that the
/// program copies words and not bytes.
#[repr(C, align(4))]
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
        Self::from_words([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes(octets)])
    }

    #[inline]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        Self { addr: octets }
    }

    /// What [`Self::words`] gives.
    #[inline]
    pub const fn from_words(words: [u32; 4]) -> Self {
        // SAFETY: both are 16 bytes without padding, and any bits are octets.
        unsafe { core::mem::transmute(words) }
    }

    /// As the kernel's structures have IPv6 addresses: four words, each in network order; IPv4 is the last.
    #[inline]
    pub const fn words(self) -> [u32; 4] {
        // SAFETY: both are 16 bytes without padding, and any bits are integers.
        unsafe { core::mem::transmute(self) }
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
        address(self.source, self.family)
    }

    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// `None` for a protocol that the program does not count.
    pub const fn protocol(&self) -> Option<Protocol> {
        Protocol::from_number(self.protocol)
    }
}

/// The address as it stood in a packet of that family: a mapped one on an IPv6 wire stays IPv6.
fn address(key: SourceKey, family: u8) -> IpAddr {
    if family == 4 {
        let [.., a, b, c, d] = key.addr;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from(key.addr).into()
    }
}

/// How often a [`ProbeKey`] was seen since its entry was made: 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeCount {
    pub hits: u64,
    /// When the entry was made. Another value than before means that the key was evicted in between and `hits`
    /// began anew; within one tick, only a smaller `hits` shows that.
    pub first: u64,
    pub last: u64,
    /// Where the latest probe went.
    pub destination: SourceKey,
    /// Every kind of probe seen, as [`ProbeKind::bit`]s.
    pub kinds: u16,
    /// Always zero.
    pub reserved: [u8; 6],
}

impl ProbeCount {
    /// Hits after which user space is told: 1, 2, 4, 8, 16 and every 16th from there on. A probe of a new kind, or
    /// of another address than the one before it, is told in any case.
    #[inline]
    pub const fn is_told(hits: u64) -> bool {
        hits.is_multiple_of(16) || matches!(hits, 1 | 2 | 4 | 8)
    }
}

/// Written to a ring when user space is to know of a probe, or of an echo: 80 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEvent {
    pub key: ProbeKey,
    /// The device that the packet came in by.
    pub ifindex: u32,
    /// [`ProbeCount::first`] of the entry; [`Proof::first`] for an echo.
    pub first: u64,
    /// When this packet came in.
    pub at: u64,
    /// Cumulative since `first`, this probe included; 0 for an echo.
    pub hits: u64,
    /// Of the source, since [`Proof::first`]; 0 for one that never echoed.
    pub echoes: u64,
    pub destination: SourceKey,
    /// Every kind of probe that the key was seen with, as [`ProbeKind::bit`]s.
    pub kinds: u16,
    /// A [`ProbeKind`], or [`Self::ECHO`].
    pub kind: u8,
    /// [`Self::BANNED`], [`Self::PROVEN`] and [`Self::CHALLENGED`].
    pub flags: u8,
    /// Always zero.
    pub reserved: [u8; 4],
}

impl ProbeEvent {
    /// In `kind`: not a probe, but the echo of a challenge.
    pub const ECHO: u8 = 0xff;

    /// The source is banned.
    pub const BANNED: u8 = 1;
    /// The source has echoed.
    pub const PROVEN: u8 = 2;
    /// This probe is answered with a challenge.
    pub const CHALLENGED: u8 = 4;

    /// `None` for an echo.
    pub const fn kind(&self) -> Option<ProbeKind> {
        ProbeKind::from_number(self.kind)
    }

    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where the packet went.
    pub fn destination(&self) -> IpAddr {
        address(self.destination, self.key.family)
    }
}

/// What a source has shown by its echoes: 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Proof {
    /// Challenges that it sent back, since `first`.
    pub echoes: u64,
    /// When the entry was made. Another value than before means that it was evicted in between.
    pub first: u64,
    pub last: u64,
}

/// A flow out of this host, as the answers to it are addressed: 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who answers, and the port here that is answered to.
    pub key: ProbeKey,
    /// Where the answer comes from, in network order.
    pub source_port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}

/// What one CPU keeps for itself: found by one look-up, because every packet needs some of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The kernel's number of the tick that `nanoseconds` was read in; 0 before the first.
    pub tick: u64,
    /// `CLOCK_MONOTONIC`.
    pub nanoseconds: u64,
    /// Probes of banned sources that may still be counted.
    pub banned_left: u64,
    pub counters: [u64; Counter::ALL.len()],
}

impl Cpu {
    /// Probes of banned sources are counted up to one per 2¹⁸ ns, 3 800 a second and CPU; the rest is only dropped.
    pub const BANNED_SHIFT: u32 = 18;
    /// Those that may come at once.
    pub const BANNED_BURST: u64 = 64;
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

/// What user space may change while the program runs: 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// [`LAYOUT`](crate::LAYOUT) of the writer; 0 in a map that nobody has written yet.
    pub layout: u32,
    /// The constants below.
    pub flags: u32,
    /// Key of the cookies, random; zeros in a map that nobody has written yet.
    pub secret: [u64; 2],
}

impl Settings {
    /// Count probes of closed ports. Without it the program only drops banned sources.
    pub const COUNT_PROBES: u32 = 1;
    /// The prefix trie has entries. An empty trie costs 40 ns a packet, so it is not asked without this.
    pub const BAN_PREFIXES: u32 = 2;
    /// Look for stealth probes too: TCP that neither begins nor belongs to a connection.
    pub const STEALTH: u32 = 4;
    /// Challenge the senders of TCP probes.
    pub const CHALLENGE: u32 = 8;
    /// Drop nothing of banned sources: what they began before stays, and nftables, which knows connections, drops
    /// the rest.
    pub const KEEP_ESTABLISHED: u32 = 16;
}

// The fields' sizes add up to the records' sizes, so there is no padding.
const _: () = {
    assert!(size_of::<SourceKey>() == 16);
    assert!(size_of::<ProbeKey>() == 16 + 2 + 1 + 1);
    assert!(size_of::<ProbeCount>() == 3 * 8 + 16 + 2 + 6);
    assert!(size_of::<ProbeEvent>() == 20 + 4 + 4 * 8 + 16 + 2 + 1 + 1 + 4);
    assert!(size_of::<Proof>() == 3 * 8);
    assert!(size_of::<FlowKey>() == 20 + 2 + 2);
    assert!(size_of::<Cpu>() == (3 + Counter::ALL.len()) * 8);
    assert!(size_of::<Ban>() == 2 * 8);
    assert!(size_of::<Settings>() == 2 * 4 + 2 * 8);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Ban, Cpu, FlowKey, ProbeCount, ProbeKey, Proof, Settings, SourceKey};

    // SAFETY: `repr(C)`, no padding (asserted above), made of integers and byte arrays only.
    unsafe impl aya::Pod for SourceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProbeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProbeCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Proof {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Cpu {}
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
    fn hits_are_told_ever_less_often_and_never_stop_being_told() {
        let told: [u64; 8] = [1, 2, 4, 8, 16, 32, 48, 64];
        for hits in 1..=64 {
            assert_eq!(ProbeCount::is_told(hits), told.contains(&hits), "{hits}");
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
