//! What a person reads on the page and in the terminal: times, spans, sizes, counts, bans, clients and happenings.

use glacis_control::gate::{ClientRecord, Finding, GateStatus, Histogram};
use glacis_control::scan_query::Distinct;
use glacis_control::{BanReason, Day, EventKind, Evidence, PortOutcome, UnixMillis};
use ipnet::IpNet;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The largest one or two units: `52 s`, `14 min`, `3 h 20 min`, `12 d 4 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let pair = |unit, unit_name, small, small_name| match (seconds / unit, seconds % unit / small) {
        (large, 0) => format!("{large} {unit_name}"),
        (large, rest) => format!("{large} {unit_name} {rest} {small_name}"),
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => pair(HOUR, "h", MINUTE, "min"),
        _ => pair(DAY, "d", HOUR, "h"),
    }
}

/// A short span to three digits: `85 µs`, `12.3 ms`, `1.52 s`.
pub fn brief(span: Duration) -> String {
    let micros = span.as_micros();
    let (unit, name) = match micros {
        0..1_000 => return format!("{micros} µs"),
        1_000..1_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let (whole, hundredths) = (micros / unit, micros % unit * 100 / unit);
    match (whole, hundredths) {
        (_, 0) | (100.., _) => format!("{whole} {name}"),
        (10.., _) => format!("{whole}.{} {name}", hundredths / 10),
        _ => format!("{whole}.{hundredths:02} {name}"),
    }
}

/// How long before `now`: `just now`, `14 min ago`.
pub fn ago(at: UnixMillis, now: UnixMillis) -> String {
    let passed = now.since(at);
    if passed < Duration::from_secs(5) { "just now".into() } else { format!("{} ago", span(passed)) }
}

/// RFC 3339 in UTC, to the second.
pub fn timestamp(at: UnixMillis) -> String {
    in_utc(at, format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
}

/// `2026-11-21 12:00:05 UTC`.
pub fn date_time(at: UnixMillis) -> String {
    in_utc(at, format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC"))
}

/// `2026-11-21`.
pub fn day(day: Day) -> String {
    in_utc(day.start(), format_description!("[year]-[month]-[day]"))
}

fn in_utc(at: UnixMillis, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
    i64::try_from(at.0 / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(format).ok())
        // Past the year 9999.
        .unwrap_or_else(|| "out of range".into())
}

/// A number of distinct things; an estimate says so.
pub fn distinct(number: Distinct) -> String {
    let count = count(number.count);
    if number.exact { count } else { format!("about {count}") }
}

/// Thousands apart: `1 204 311`, with spaces that do not break.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 port`, `27 ports`.
pub fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number), if number == 1 { singular } else { plural })
}

/// `512 KiB`, `1.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let tenths = |unit: u64, name| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        MIB..GIB => tenths(MIB, "MiB"),
        _ => tenths(GIB, "GiB"),
    }
}

/// Why a source is blocked.
pub fn reason(reason: &BanReason) -> String {
    match reason {
        BanReason::Scan { hits, window_seconds, evidence: Evidence { ports, .. }, .. } => format!(
            "{} at {} within {}",
            counted(*hits, "probe", "probes"),
            counted((*ports).into(), "port", "ports"),
            span(Duration::from_secs(*window_seconds))
        ),
        BanReason::Gate { gate, port, outcome } => {
            format!("port {port} is {}; gate {gate}", open_port(*outcome))
        }
        BanReason::Manual { note } if note.is_empty() => "by hand".into(),
        BanReason::Manual { note } => format!("by hand: {note}"),
    }
}

/// What a gate found at a port.
pub const fn open_port(outcome: PortOutcome) -> &'static str {
    match outcome {
        PortOutcome::Refused => "closed",
        PortOutcome::Unreachable => "unreachable",
        PortOutcome::Silent => "silent",
        PortOutcome::Open => "open",
        PortOutcome::Service => "open, but no proxy",
        PortOutcome::HttpProxy => "an open HTTP proxy",
        PortOutcome::Socks4Proxy => "an open SOCKS4 proxy",
        PortOutcome::Socks5Proxy => "an open SOCKS5 proxy",
    }
}

/// What a gate counted under a name; 0 where it counts no such thing.
pub fn gate_count(gate: &GateStatus, name: &str) -> u64 {
    gate.counters.iter().find(|(counted, _)| counted == name).map_or(0, |(_, count)| *count)
}

/// So many percent of the observations are no longer: `≤ 25 ms`; `None` without an observation.
pub fn quantile(histogram: &Histogram, percent: u64) -> Option<String> {
    let wanted = (histogram.count() * percent).div_ceil(100);
    let mut seen = 0;
    let place = histogram.counts.iter().position(|count| {
        seen += count;
        *count > 0 && seen >= wanted
    })?;
    let bound = |place: usize| brief(Duration::from_micros(Histogram::BOUNDS_MICROS[place]));
    let last = Histogram::BOUNDS_MICROS.len();
    Some(if place == last { format!("> {}", bound(last - 1)) } else { format!("≤ {}", bound(place)) })
}

/// What everything that is known of a client comes to. A gate judges by its own ports and its own proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientVerdict {
    /// A port is open; a proxy, or nobody asked.
    Open,
    /// A port is open, and what is behind it is no proxy: gates that want one proven admit the client.
    NoProxy,
    Clean,
}

impl ClientVerdict {
    pub const ALL: [Self; 3] = [Self::Open, Self::NoProxy, Self::Clean];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NoProxy => "no proxy",
            Self::Clean => "clean",
        }
    }
}

/// A client's record in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub verdict: ClientVerdict,
    /// The open port that says most: a proxy, then one that nobody asked, then another; of equals the lowest.
    pub proof: Option<Finding>,
    /// Until the proof ends; without one, until the first port is unknown again.
    pub until: UnixMillis,
    pub ports: u32,
}

impl Known {
    pub fn of(record: &ClientRecord) -> Self {
        let weight = |finding: &&Finding| match finding.outcome {
            outcome if outcome.is_proxy() => 2,
            PortOutcome::Open => 1,
            _ => 0,
        };
        let open = record.findings.iter().filter(|finding| finding.outcome.is_open());
        // Of equals the last one is taken.
        let proof = open.rev().max_by_key(weight).copied();
        let verdict = match proof.map(|proof| proof.outcome) {
            None => ClientVerdict::Clean,
            Some(PortOutcome::Service) => ClientVerdict::NoProxy,
            Some(_) => ClientVerdict::Open,
        };
        let first = record.findings.iter().map(|finding| finding.until).min();
        let until = proof.map(|proof| proof.until).or(first).unwrap_or(record.seen);
        Self { verdict, proof, until, ports: record.findings.len() as u32 }
    }

    /// `port 3128 is an open HTTP proxy`; `6 ports, none open`.
    pub fn evidence(&self) -> String {
        match self.proof {
            Some(Finding { port, outcome, .. }) => format!("port {port} is {}", open_port(outcome)),
            None => format!("{}, none open", counted(self.ports.into(), "port", "ports")),
        }
    }
}

/// What happened, in one sentence.
pub fn happening(kind: &EventKind) -> String {
    match kind {
        EventKind::CoreStarted { version } => format!("Core {version} started"),
        EventKind::PolicyApplied { revision, changes } => {
            format!("Policy revision {revision} applied, {}", counted((*changes).into(), "change", "changes"))
        }
        EventKind::PolicyRefused { message } => format!("Policy refused: {message}"),
        EventKind::SourceBlocked { ban } => {
            format!("{} blocked by {}: {}", source(ban.source), ban.author, reason(&ban.reason))
        }
        EventKind::WouldBlock { ban } => {
            format!("{} would be blocked: {}; observing only", source(ban.source), reason(&ban.reason))
        }
        EventKind::SourceUnblocked { source: net, author } => {
            format!("{} unblocked by {author}", source(*net))
        }
        EventKind::BanExpired { source: net } => {
            format!("{} is no longer blocked: its time is up", source(*net))
        }
        EventKind::ScansCleared { records, author } => {
            format!("{} removed by {author}", counted(*records, "scan record", "scan records"))
        }
        EventKind::ClockStepped { seconds } => {
            let span = span(Duration::from_secs(seconds.unsigned_abs()));
            format!("The clock was put {} by {span}", if *seconds < 0 { "back" } else { "forward" })
        }
        EventKind::WorkerRestarted { worker, cause } => format!("Worker {worker} restarted: {cause}"),
        EventKind::ClientFound { gate, client, port, outcome, admitted } => {
            let then = if *admitted { "admitted all the same" } else { "refused" };
            format!("Gate {gate}: port {port} of {client} is {}; {then}", open_port(*outcome))
        }
        EventKind::ClientsForgotten { clients, author } => {
            format!("Gates forgot {}, by {author}", counted(*clients, "client", "clients"))
        }
        EventKind::BackendDown { gate, backend, cause } => {
            format!("Gate {gate}: backend {backend} is out of service: {cause}")
        }
        EventKind::BackendUp { gate, backend } => format!("Gate {gate}: backend {backend} serves again"),
        EventKind::LinkChanged { device, up } => {
            format!("Link {device} is {}", if *up { "up" } else { "down" })
        }
    }
}

/// A single address without its prefix length.
pub fn source(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::{Ban, ScanShape};

    #[test]
    fn spans_show_their_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (86_400 * 12 + 4 * 3600 + 59, "12 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_are_utc_and_never_panic() {
        assert_eq!(date_time(UnixMillis(1_763_726_405_999)), "2025-11-21 12:00:05 UTC");
        assert_eq!(timestamp(UnixMillis(0)), "1970-01-01T00:00:00Z");
        assert_eq!(date_time(UnixMillis(u64::MAX)), "out of range");
        assert_eq!(day(Day(20_778)), "2026-11-21");
        assert_eq!(day(Day(u32::MAX)), "out of range");
        assert_eq!(ago(UnixMillis(10_000), UnixMillis(9_000)), "just now");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_rounded_down() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_204_311), "1\u{202f}204\u{202f}311");
        assert_eq!(counted(1, "port", "ports"), "1 port");
        assert_eq!(counted(0, "port", "ports"), "0 ports");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn bans_and_happenings_are_told_in_a_sentence() {
        let scan = BanReason::Scan {
            shape: ScanShape::Volume,
            hits: 412,
            window_seconds: 300,
            evidence: Evidence { ports: 1, ..Evidence::default() },
        };
        assert_eq!(reason(&scan), "412 probes at 1 port within 5 min");
        assert_eq!(reason(&BanReason::Manual { note: String::new() }), "by hand");
        let ban = Ban {
            source: "203.0.113.9/32".parse().unwrap(),
            since: UnixMillis(0),
            until: None,
            reason: BanReason::Manual { note: "abuse".into() },
            author: "root".into(),
        };
        assert_eq!(
            happening(&EventKind::SourceBlocked { ban: ban.clone() }),
            "203.0.113.9 blocked by root: by hand: abuse"
        );
        assert_eq!(
            happening(&EventKind::BanExpired { source: ban.source }),
            "203.0.113.9 is no longer blocked: its time is up"
        );
    }

    #[test]
    fn single_addresses_lose_their_prefix_length() {
        assert_eq!(source("203.0.113.9/32".parse().unwrap()), "203.0.113.9");
        assert_eq!(source("2001:db8::/64".parse().unwrap()), "2001:db8::/64");
    }

    #[test]
    fn short_spans_have_three_digits() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1 ms"),
            (1_050, "1.05 ms"),
            (2_500, "2.50 ms"),
            (12_345, "12.3 ms"),
            (250_999, "250 ms"),
            (1_520_000, "1.52 s"),
            (10_000_000, "10 s"),
        ] {
            assert_eq!(brief(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn b14_quantiles_are_bounds_that_hold() {
        let mut histogram = Histogram::default();
        assert_eq!(quantile(&histogram, 50), None);
        for _ in 0..98 {
            histogram.observe(400);
        }
        histogram.observe(30_000);
        assert_eq!(quantile(&histogram, 50).as_deref(), Some("≤ 500 µs"));
        assert_eq!(quantile(&histogram, 99).as_deref(), Some("≤ 50 ms"));
        assert_eq!(quantile(&histogram, 98).as_deref(), Some("≤ 500 µs"));
        histogram.observe(11_000_000);
        assert_eq!(quantile(&histogram, 100).as_deref(), Some("> 10 s"));
    }

    #[test]
    fn b15_a_record_is_as_bad_as_its_worst_port() {
        use PortOutcome::{HttpProxy, Open, Refused, Service, Silent, Socks5Proxy};
        let known = |outcomes: &[PortOutcome]| {
            let finding = |(place, outcome): (usize, &PortOutcome)| Finding {
                port: 80 + place as u16,
                outcome: *outcome,
                until: UnixMillis(100 - place as u64),
            };
            let findings = outcomes.iter().enumerate().map(finding).collect();
            let client = "203.0.113.9".parse().unwrap();
            let known = Known::of(&ClientRecord { client, seen: UnixMillis(1), findings });
            (known.verdict.name(), known.evidence(), known.until.0)
        };
        assert_eq!(known(&[Refused, Silent]), ("clean", "2 ports, none open".into(), 99));
        assert_eq!(known(&[Service, Refused]), ("no proxy", "port 80 is open, but no proxy".into(), 100));
        assert_eq!(known(&[Service, Open, Open]), ("open", "port 81 is open".into(), 99));
        assert_eq!(
            known(&[Open, Service, HttpProxy, Socks5Proxy]),
            ("open", "port 82 is an open HTTP proxy".into(), 98)
        );
    }
}
