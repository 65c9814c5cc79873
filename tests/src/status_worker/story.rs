//! A fortnight on the edge of a network, made up and always the same: what the status page is shown and tested with.

use super::now;
use glacis_control::Protocol::{self, Sctp, Tcp, Udp};
use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use glacis_control::scan_query::Location;
use glacis_control::{
    Ban, BanReason, EventKind, Evidence, ProbeKind, ProbeKinds, ScanHit, ScanShape, UnixMillis,
};
use glacis_store::Store;
use std::net::IpAddr;
use std::time::Duration;

const MINUTES_PER_DAY: u64 = 24 * 60;
/// How far back it goes; twice the range that a page shows.
const DAYS: u64 = 14;

/// Source, port, protocol, how, hits on a usual day.
type Habit = (&'static str, u16, Protocol, ProbeKind, u64);

const HABITS: [Habit; 24] = [
    ("203.0.113.41", 3389, Tcp, ProbeKind::Syn, 214),
    ("203.0.113.41", 445, Tcp, ProbeKind::Syn, 198),
    ("203.0.113.41", 22, Tcp, ProbeKind::Fin, 31),
    ("198.51.100.200", 23, Tcp, ProbeKind::Syn, 604),
    ("198.51.100.200", 2323, Tcp, ProbeKind::Syn, 91),
    ("198.51.100.23", 5060, Udp, ProbeKind::Datagram, 46),
    ("198.51.100.23", 8080, Tcp, ProbeKind::Syn, 12),
    ("2001:db8:bad:7::51", 22, Tcp, ProbeKind::Syn, 68),
    ("2001:db8:bad:7::51", 443, Tcp, ProbeKind::Xmas, 23),
    ("2001:db8:bad:7::51", 8443, Tcp, ProbeKind::Null, 11),
    ("192.0.2.177", 1900, Udp, ProbeKind::Datagram, 9),
    ("192.0.2.14", 161, Udp, ProbeKind::Datagram, 7),
    ("203.0.113.9", 6379, Tcp, ProbeKind::Syn, 25),
    ("203.0.113.9", 9200, Tcp, ProbeKind::Maimon, 24),
    ("203.0.113.77", 3389, Tcp, ProbeKind::Ack, 19),
    ("203.0.113.78", 3389, Tcp, ProbeKind::Syn, 17),
    ("203.0.113.79", 3389, Tcp, ProbeKind::Syn, 13),
    ("198.51.100.5", 36412, Sctp, ProbeKind::Init, 6),
    ("198.51.100.61", 123, Udp, ProbeKind::Datagram, 5),
    ("198.51.100.62", 53, Udp, ProbeKind::Datagram, 4),
    ("2001:db8:cafe::9", 25, Tcp, ProbeKind::OddFlags, 4),
    ("192.0.2.201", 5900, Tcp, ProbeKind::Syn, 3),
    ("192.0.2.202", 5432, Tcp, ProbeKind::Syn, 2),
    ("192.0.2.203", 1433, Tcp, ProbeKind::Fragment, 1),
];

/// Fills a new store. Returns how many sources are blocked.
pub fn fill(store: &Store) -> u64 {
    let now = now();
    let ago = |minutes: u64| UnixMillis(now.0.saturating_sub(minutes * 60_000));
    store.record_located(&probes(&ago), &locate).expect("a new store takes records");
    let note = |kind: EventKind, minutes| {
        store.append_event(&kind, ago(minutes)).expect("a new store takes records");
    };
    note(EventKind::CoreStarted { version: env!("CARGO_PKG_VERSION").into() }, 18_075);
    for day in (1..DAYS).rev() {
        let source = format!("192.0.2.{}/32", 30 + day).parse().expect("written as an address");
        note(EventKind::BanExpired { source }, day * MINUTES_PER_DAY + 55);
        note(
            EventKind::LinkChanged { device: "eth2".into(), up: day.is_multiple_of(2) },
            day * MINUTES_PER_DAY,
        );
    }
    note(EventKind::PolicyApplied { revision: 12, changes: 3 }, 207);
    store.learn(&clients(now)).expect("a new store takes records");
    note(
        EventKind::BackendDown {
            gate: "web".into(),
            backend: "10.0.2.12:443".parse().expect("written as an address"),
            cause: "connection refused".into(),
        },
        31,
    );
    let bans = bans(now);
    for ban in &bans {
        store.put_ban(ban.clone()).expect("a new store takes records");
        if ban.author == "auto" {
            let minutes = now.since(ban.since).as_secs() / 60;
            note(EventKind::SourceBlocked { ban: ban.clone() }, minutes);
        }
    }
    note(EventKind::LinkChanged { device: "eth2".into(), up: false }, 2);
    bans.len() as u64
}

fn probes(ago: &dyn Fn(u64) -> UnixMillis) -> Vec<ScanHit> {
    let mut probes = Vec::new();
    let mut seed = 0x9e37_79b9_u32;
    let mut chance = |below: u64| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from(seed >> 16) % below
    };
    for day in (0..DAYS).rev() {
        for (index, (source, port, protocol, kind, usual)) in HABITS.into_iter().enumerate() {
            // Not everyone comes every day, and the second week is the busier one.
            let comes_later = day >= DAYS / 2 && index % 6 == 5;
            if comes_later || day > 0 && chance(3) == 0 {
                continue;
            }
            let hits = (usual * (40 + chance(100)) / if day >= DAYS / 2 { 150 } else { 100 }).max(1);
            let last = day * MINUTES_PER_DAY + 1 + index as u64 * 3;
            let hit = |hits, minutes| ScanHit {
                source: source.parse().expect("written as an address"),
                port,
                protocol,
                kinds: ProbeKinds::of(kind),
                at: ago(minutes),
                hits,
            };
            probes.extend([hit(1, last + 95), hit(hits, last)]);
        }
    }
    probes
}

fn locate(source: IpAddr) -> Location {
    let place = |code: &str, country: &str, region: &str, city: &str, isp: &str, asn| Location {
        country_code: code.into(),
        country: country.into(),
        region: region.into(),
        city: city.into(),
        isp: isp.into(),
        asn,
    };
    match source.to_string() {
        text if text.starts_with("203.0.113.4") => {
            place("NL", "Netherlands", "North Holland", "Amsterdam", "Example Hosting", 64_496)
        }
        text if text.starts_with("203.0.113") => {
            place("US", "United States", "New York", "New York", "Example Cloud", 64_500)
        }
        text if text.starts_with("198.51.100") => place("BR", "Brazil", "", "", "Example Telecom", 64_511),
        text if text.starts_with("2001:db8:bad") => {
            place("DE", "Germany", "Hesse", "Frankfurt am Main", "", 64_502)
        }
        _ => Location::default(),
    }
}

/// What gates found at clients: seventy of them, and every outcome.
pub fn clients(now: UnixMillis) -> Vec<ClientRecord> {
    use PortOutcome::{HttpProxy, Open, Refused, Service, Silent, Socks4Proxy, Socks5Proxy, Unreachable};
    let ports = [22, 80, 443, 3128, 8000, 8080];
    let record = |address: String, minutes: u64, outcomes: [PortOutcome; 6]| {
        let seen = UnixMillis(now.0.saturating_sub(minutes * 60_000));
        let until = seen.plus(Duration::from_hours(24));
        let finding = |(port, outcome)| Finding { port, outcome, until };
        let client = address.parse().expect("written as an address");
        ClientRecord { client, seen, findings: ports.into_iter().zip(outcomes).map(finding).collect() }
    };
    let mut clients = vec![
        record("203.0.113.201".into(), 1, [Refused, Refused, Refused, HttpProxy, Refused, Refused]),
        record("198.51.100.14".into(), 2, [Refused; 6]),
        record("2001:db8:cafe:1:5054:ff:fe12:3456".into(), 3, [Silent; 6]),
        record("198.51.100.77".into(), 4, [Service, Service, Service, Refused, Refused, Refused]),
        record("203.0.113.222".into(), 6, [Silent, Silent, Silent, Silent, Silent, Socks5Proxy]),
        record("192.0.2.99".into(), 7, [Unreachable; 6]),
        record("203.0.113.230".into(), 9, [Refused, Open, Refused, Refused, Refused, Refused]),
        record("2001:db8:bad:9::4".into(), 11, [Silent, Silent, Silent, Silent, Socks4Proxy, Silent]),
    ];
    let (quiet, closed) = ([Silent; 6], [Refused; 6]);
    let others = (0..62_u64).map(|number| {
        let outcomes = if number % 3 == 0 { quiet } else { closed };
        record(format!("198.51.100.{}", 100 + number), 12 + number * 9, outcomes)
    });
    clients.extend(others);
    clients
}

fn bans(now: UnixMillis) -> Vec<Ban> {
    let scan = |shape, hits, ports, hosts, echoes, kinds: &[ProbeKind], earlier_blocks| BanReason::Scan {
        shape,
        hits,
        window_seconds: 300,
        evidence: Evidence { ports, hosts, echoes, kinds: kinds.iter().copied().collect(), earlier_blocks },
    };
    let vertical = scan(ScanShape::Vertical, 412, 27, 1, 38, &[ProbeKind::Syn, ProbeKind::Fin], 2);
    let volume = scan(ScanShape::Volume, 1204, 2, 3, 64, &[ProbeKind::Syn], 0);
    let horizontal = scan(ScanShape::Horizontal, 131, 3, 64, 12, &[ProbeKind::Syn, ProbeKind::Xmas], 0);
    [
        ("203.0.113.41/32", 18, Some(42), vertical, "auto"),
        ("198.51.100.200/32", 9, Some(51), volume, "auto"),
        ("2001:db8:bad:7::/64", 6, Some(54), horizontal, "auto"),
        ("192.0.2.128/25", 4320, None, BanReason::Manual { note: "abuse report 4711".into() }, "root"),
    ]
    .into_iter()
    .map(|(source, since, until, reason, author)| Ban {
        source: source.parse().expect("written as an address"),
        since: UnixMillis(now.0 - since * 60_000),
        until: until.map(|minutes| now.plus(Duration::from_mins(minutes))),
        reason,
        author: author.into(),
    })
    .collect()
}
