//! A month of scans, made up as they come: few sources with most of the probes, many with a few.

use glacis_control::scan_query::Location;
use glacis_control::{ProbeKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const RECORDS: u64 = 10_000_000;
pub const DAYS: u32 = 30;
/// 2026-05-31.
pub const LAST_DAY: u32 = 20_604;
const DAY_MILLIS: u64 = 86_400_000;

/// Ports that most probes are for, the most wanted first.
const PORTS: [u16; 16] =
    [23, 22, 80, 443, 445, 3389, 8080, 5555, 6379, 8443, 2323, 81, 5900, 1433, 3306, 60_023];
pub const PORT_COMMON: u16 = 22;
/// Only those who try all ports try this one.
pub const PORT_RARE: u16 = 47_123;
/// Part of the network of a scanner that comes every day.
pub const ADDRESS_BEGIN: &str = "198.51.";
pub const ADDRESS_PART: &str = ".77.";
/// A page does not look at enough sources to be filled with these.
pub const ADDRESS_PART_RARE: &str = "1.77.7";
pub const COUNTRY_COMMON: &str = "Country 0";
pub const COUNTRY_RARE: &str = "Country 193";

/// Scanners a day that try a third of all ports; they come once.
const VERTICAL: u64 = 3;
const VERTICAL_PORTS: u64 = 20_000;
/// Scanners that come every day and try a few hundred ports each.
const STEADY: u64 = 300;
const STEADY_PORTS: u64 = 300;
/// Everyone else comes from so many addresses, the low numbers more often.
const POOL: u64 = 600_000;

/// Of a fixed seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Small numbers are likely: each doubling is half as likely as the one before.
    fn tail(&mut self, bound: u64) -> u64 {
        let part = self.below(u64::MAX >> 11).trailing_ones().min(20);
        (self.below(1 << part) + (1 << part) - 1).min(bound - 1)
    }
}

/// The hits of one day, one for each record, ordered by source as a scanner's probes come.
pub fn day(number: u32) -> Vec<ScanHit> {
    let mut random =
        Random(0x9e37_79b9_7f4a_7c15 ^ (u64::from(number) + 1).wrapping_mul(0xd134_2543_de82_ef95));
    let wanted =
        (RECORDS / u64::from(DAYS) + u64::from(u64::from(number) < RECORDS % u64::from(DAYS))) as usize;
    let start = u64::from(LAST_DAY - DAYS + 1 + number) * DAY_MILLIS;
    let mut hits = Vec::with_capacity(wanted);
    let mut known = HashSet::with_capacity(wanted);
    let mut add = |hits: &mut Vec<ScanHit>, random: &mut Random, source: u64, port: u16, count: u64| {
        let udp = port.is_multiple_of(7);
        if hits.len() < wanted && known.insert((source, port)) {
            hits.push(ScanHit {
                source: address(source),
                port,
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                kinds: ProbeKinds::of(if udp { ProbeKind::Datagram } else { ProbeKind::Syn }),
                at: UnixMillis(start + random.below(DAY_MILLIS)),
                hits: count,
            });
        }
    };
    for scanner in 0..VERTICAL {
        let source = POOL + STEADY + u64::from(number) * VERTICAL + scanner;
        let first = random.below(65_536);
        for step in 0..VERTICAL_PORTS {
            add(&mut hits, &mut random, source, (first + step * 3) as u16, 1);
        }
    }
    for scanner in 0..STEADY {
        for _ in 0..STEADY_PORTS {
            let (port, count) = (random.below(65_536) as u16, 1 + random.tail(1 << 12) * (1 + scanner % 9));
            add(&mut hits, &mut random, POOL + scanner, port, count);
        }
    }
    while hits.len() < wanted {
        // The square makes low numbers likelier.
        let source = random.below(POOL) * random.below(POOL) / POOL;
        for _ in 0..=random.tail(40) {
            let port = if random.below(10) == 0 {
                1 + random.below(10_000) as u16
            } else {
                PORTS[random.tail(PORTS.len() as u64) as usize]
            };
            let count = 1 + random.tail(500);
            add(&mut hits, &mut random, source, port, count);
        }
    }
    hits
}

/// Every eighth one is IPv6; neighbouring numbers are far apart, but steady scanners live in one network.
fn address(number: u64) -> IpAddr {
    if (POOL..POOL + STEADY).contains(&number) {
        let host = number - POOL;
        return Ipv4Addr::new(198, 51, (host / 4) as u8, (host % 4) as u8).into();
    }
    let spread = (number as u32).wrapping_mul(2_654_435_761);
    if number.is_multiple_of(8) {
        IpAddr::V6(Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(spread) << 32) | 1))
    } else {
        IpAddr::V4(Ipv4Addr::from(spread))
    }
}

/// About 6000 places in 200 countries, the low ones with most of the addresses.
pub fn locate(source: IpAddr) -> Location {
    let bits = match source {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 32) as u64,
    };
    let mut random = Random(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.below(2);
    let (a, b) = (random.below(200), random.below(200));
    let (country, city, isp) = (a * b / 200, random.below(6), random.below(5));
    Location {
        country_code: format!(
            "{}{}",
            char::from(b'A' + (country % 26) as u8),
            char::from(b'A' + (country / 26) as u8)
        ),
        country: format!("Country {country:03}"),
        region: format!("Region {}", city / 2),
        city: format!("City {country}-{city}"),
        isp: format!("Provider {country}-{isp}"),
        asn: (country * 10 + isp) as u32 + 1,
    }
}
