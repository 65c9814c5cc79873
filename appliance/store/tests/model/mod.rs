//! Plain lists of records, and the questions answered from them one by one.

use glacis_control::scan_query::{
    Change, DayRange, Distinct, Location, PortTotal, ScanFilter, ScanSummary, SourceTotal, TrendDay,
};
use glacis_control::{Day, ProbeKind, ProbeKinds, Protocol, ScanHit, ScanRecord, UnixMillis};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const DAY_MILLIS: u64 = 86_400_000;

pub fn hit(at: UnixMillis, source: IpAddr, protocol: Protocol, port: u16) -> ScanHit {
    ScanHit { source, port, protocol, kinds: ProbeKinds::of(ProbeKind::Syn), at, hits: 1 }
}

/// Some sources have no location, and those of one network share it.
pub fn location_of(source: IpAddr) -> Location {
    let number = match source {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    if number.is_multiple_of(5) {
        return Location::default();
    }
    let (code, country) = if number.is_multiple_of(2) { ("RT", "Ruritania") } else { ("FR", "France") };
    Location {
        country_code: code.into(),
        country: country.into(),
        region: "Île-de-France".into(),
        city: String::new(),
        isp: format!("Net {}", number % 7),
        asn: 64_496 + u32::from(number),
    }
}

/// Numbers of a fixed seed (xorshift64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Of the sixty days up to this one, mostly the last ones; few sources, so that they come again.
    pub fn hit(&mut self, today: Day) -> ScanHit {
        let back = self.below(60).min(self.below(60));
        let at = UnixMillis((u64::from(today.0) - back) * DAY_MILLIS + self.below(DAY_MILLIS));
        let number = self.below(40).min(self.below(40)) as u8;
        let source = if self.below(3) == 0 {
            Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(number)).into()
        } else {
            Ipv4Addr::new(192, 0, 2, number).into()
        };
        let protocol = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp][self.below(4) as usize];
        let port = [22, 80, 443, self.below(1100) as u16][self.below(4) as usize];
        let kinds = ProbeKinds::of(ProbeKind::ALL[self.below(10) as usize]);
        ScanHit { kinds, hits: 1 + self.below(20) * self.below(20), ..hit(at, source, protocol, port) }
    }
}

type Key = (Reverse<Day>, IpAddr, Protocol, u16);

/// Records in the order of the listing.
#[derive(Default)]
pub struct Model {
    pub records: BTreeMap<Key, ScanRecord>,
}

impl Model {
    pub fn record(&mut self, hits: &[ScanHit]) {
        for hit in hits {
            let ScanHit { source, port, protocol, kinds, at, hits } = *hit;
            let day = Day::of(at);
            let record = self.records.entry((Reverse(day), source, protocol, port)).or_insert(ScanRecord {
                day,
                source,
                port,
                protocol,
                kinds,
                hits: 0,
                first: at,
                last: at,
            });
            record.hits += hits;
            record.kinds = record.kinds.with(kinds);
            record.first = record.first.min(at);
            record.last = record.last.max(at);
        }
    }

    /// Days before this one go.
    pub fn retain(&mut self, oldest: Day) {
        self.records.retain(|_, record| record.day >= oldest);
    }

    fn of(&self, days: DayRange) -> impl Iterator<Item = &ScanRecord> {
        self.records.values().filter(move |record| days.contains(record.day))
    }

    pub fn summary(&self, days: DayRange) -> ScanSummary {
        let period = |days: Option<DayRange>| {
            let records: Vec<_> = days.map(|days| self.of(days).collect()).unwrap_or_default();
            let ports: BTreeSet<_> = records.iter().map(|record| record.port).collect();
            let sources: BTreeSet<_> = records.iter().map(|record| record.source).collect();
            (records.iter().map(|record| record.hits).sum(), exact(ports.len()), exact(sources.len()))
        };
        let (current, previous) = (period(Some(days)), period(days.before()));
        ScanSummary {
            days,
            hits: Change { current: current.0, previous: previous.0 },
            ports: Change { current: current.1, previous: previous.1 },
            sources: Change { current: current.2, previous: previous.2 },
        }
    }

    pub fn trend(&self, days: DayRange) -> Vec<TrendDay> {
        let day = |day| {
            let records: Vec<_> = self.of(DayRange { first: day, last: day }).collect();
            let sources: BTreeSet<_> = records.iter().map(|record| record.source).collect();
            let hits = records.iter().map(|record| record.hits).sum();
            TrendDay { day, hits, sources: sources.len() as u64 }
        };
        days.iter().map(day).collect()
    }

    /// All of them, the most hits first.
    pub fn sources(&self, days: DayRange) -> Vec<SourceTotal> {
        let mut by_source: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for record in self.of(days) {
            by_source.entry(record.source).or_default().push(record);
        }
        let total = |(source, records): (IpAddr, Vec<&ScanRecord>)| {
            let ports: BTreeSet<_> = records.iter().map(|record| (record.protocol, record.port)).collect();
            SourceTotal {
                source,
                location: location_of(source),
                hits: records.iter().map(|record| record.hits).sum(),
                ports: exact(ports.len()),
                kinds: records.iter().fold(ProbeKinds::default(), |all, record| all.with(record.kinds)),
                first: records.iter().map(|record| record.first).min().unwrap_or_default(),
                last: records.iter().map(|record| record.last).max().unwrap_or_default(),
            }
        };
        let mut totals: Vec<_> = by_source.into_iter().map(total).collect();
        totals.sort_by_key(|total| Reverse(total.hits));
        totals
    }

    /// All of them, the most hits first.
    pub fn ports(&self, days: DayRange) -> Vec<PortTotal> {
        let mut by_port: BTreeMap<_, (u64, BTreeSet<_>)> = BTreeMap::new();
        for record in self.of(days) {
            let (hits, sources) = by_port.entry((record.protocol, record.port)).or_default();
            *hits += record.hits;
            sources.insert(record.source);
        }
        let total = |((protocol, port), (hits, sources)): ((Protocol, u16), (u64, BTreeSet<IpAddr>))| {
            PortTotal { port, protocol, hits, sources: exact(sources.len()) }
        };
        let mut totals: Vec<_> = by_port.into_iter().map(total).collect();
        totals.sort_by_key(|total| Reverse(total.hits));
        totals
    }

    pub fn listed(&self, filter: &ScanFilter) -> Vec<ScanRecord> {
        let address = filter.address.to_lowercase();
        let passes = |record: &&ScanRecord| {
            let written = record.source.to_string();
            let at_begin = address.ends_with([':', '.']) && !address.starts_with(['.', ':']);
            let whole = address.parse::<IpAddr>().is_ok();
            let takes_address = match address.as_str() {
                text if at_begin => written.starts_with(text),
                text if whole => written == text,
                text => written.contains(text),
            };
            let location = location_of(record.source);
            let texts =
                [&location.country_code, &location.country, &location.region, &location.city, &location.isp];
            let wanted = filter.location.to_lowercase();
            takes_address
                && filter.port.is_none_or(|port| port == record.port)
                && filter.protocol.is_none_or(|protocol| protocol == record.protocol)
                && texts.iter().any(|text| text.to_lowercase().contains(&wanted))
        };
        self.of(filter.days).filter(passes).copied().collect()
    }
}

fn exact(count: usize) -> Distinct {
    Distinct { count: count as u64, exact: true }
}
