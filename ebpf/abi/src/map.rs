//! Names and sizes of the program, its constants and its maps, and the layout of the port bitmaps.

/// The classifiers' names in the object: the one that packets come in by, and the one that they leave by.
pub const INGRESS: &str = "glacis_ingress";
pub const EGRESS: &str = "glacis_egress";

/// Load-time constant of both, a `u32`: bytes before the network header, 14 for Ethernet and 0 for
/// devices without a link layer (tun, `WireGuard`).
pub const LINK_HEADER: &str = "LINK_HEADER";

/// The program's answer for a packet that others decide about: `TC_ACT_UNSPEC` and `TCX_NEXT`.
pub const NEXT: i32 = -1;
/// The program's answer for a packet of a banned source: `TC_ACT_SHOT` and `TCX_DROP`.
pub const DROP: i32 = 2;

/// Every pinned map, by its name in the object and in the pin directory.
///
/// | map | type | key | value |
/// |---|---|---|---|
/// | `SETTINGS` | array of one | 0 | `Settings` |
/// | `BANS` | hash | `SourceKey` | `Ban` |
/// | `BAN_PREFIXES` | LPM trie | prefix bits, `SourceKey` | `Ban` |
/// | `EXPOSED` | array | [`port_word`] | 64 ports |
/// | `UDP_REPLY_PORTS` | array | [`port_word`] of TCP, that is from 0 | 64 ports |
/// | `PROBES` | LRU hash | `ProbeKey` | `ProbeCount` |
/// | `FLOWS` | LRU hash | `FlowKey` | `u64`, when a packet was last seen leaving, to a second |
/// | `SOURCES` | LRU hash | `SourceKey` | `Source` |
/// | `PROVEN` | LRU hash | `SourceKey` | `Proof` |
/// | `BUDGETS` | array | `Budget` | `Spent` |
/// | `CPU` | per-CPU array of one | 0 | `Cpu` |
/// | `EVENTS` | ring buffer | | `ProbeEvent` |
/// | `PRIORITY` | ring buffer | | `ProbeEvent` of sources that have echoed, and of their echoes |
pub const MAPS: [&str; 13] = [
    "SETTINGS",
    "BANS",
    "BAN_PREFIXES",
    "EXPOSED",
    "UDP_REPLY_PORTS",
    "PROBES",
    "FLOWS",
    "SOURCES",
    "PROVEN",
    "BUDGETS",
    "CPU",
    "EVENTS",
    "PRIORITY",
];

/// Single addresses that can be banned at a time.
pub const BANS_MAX: usize = 65_536;
/// Prefixes that can be banned at a time.
pub const BAN_PREFIXES_MAX: usize = 16_384;
/// Source, port and protocol combinations counted at a time; past it the least recently used goes.
pub const PROBES_MAX: usize = 65_536;
/// Flows out of this host that are remembered at a time; past it the least recently used goes.
pub const FLOWS_MAX: usize = 65_536;
/// Sources that are being challenged at a time; past it the least recently used goes.
pub const SOURCES_MAX: usize = 32_768;
/// Sources that have echoed and are remembered at a time; past it the least recently used goes.
pub const PROVEN_MAX: usize = 16_384;
/// Room for about 11 900 events; a power of two and a multiple of the page size, as the kernel asks.
pub const EVENT_RING_BYTES: usize = 1 << 20;
/// Room for about 2 900 events of sources that have echoed.
pub const PRIORITY_RING_BYTES: usize = 1 << 18;
/// 64-bit words that hold one bit per port.
pub const PORT_WORDS: usize = 1024;

/// Transport protocols that are counted, by their IANA numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Index of the word that holds a port's bit in `EXPOSED`: TCP first, UDP after it; SCTP, which the policy exposes no
/// ports of, lies past the end.
#[inline]
pub const fn port_word(protocol: Protocol, port: u16) -> u32 {
    let base = match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => PORT_WORDS as u32,
        Protocol::Sctp => 2 * PORT_WORDS as u32,
    };
    base + (port >> 6) as u32
}

/// The port's bit within its word.
#[inline]
pub const fn port_bit(port: u16) -> u64 {
    1 << (port & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        extern crate std;
        let mut seen = std::collections::BTreeSet::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for port in 0..=u16::MAX {
                let word = port_word(protocol, port);
                assert!((word as usize) < 2 * PORT_WORDS);
                assert_eq!(port_bit(port).count_ones(), 1);
                assert!(seen.insert((word, port_bit(port))), "{protocol:?} {port} shares its bit");
            }
        }
    }

    #[test]
    fn protocols_round_trip_through_their_numbers() {
        for number in 0..=u8::MAX {
            if let Some(protocol) = Protocol::from_number(number) {
                assert_eq!(protocol as u8, number);
            } else {
                assert!(![6, 17, 132].contains(&number));
            }
        }
    }
}
