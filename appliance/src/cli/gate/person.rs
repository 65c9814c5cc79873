//! Answers about gates as a person reads them.

use super::super::table::{Align, Table};
use crate::words::{self, Known};
use glacis_control::gate::{BackendStatus, ClientRecord, GateStatus, GateTest, Verdict};
use std::io::{self, Write};
use std::time::Duration;

pub fn status(out: &mut impl Write, gates: &[GateStatus], clients: u64) -> io::Result<()> {
    use Align::{Left, Right};
    if gates.is_empty() {
        return writeln!(out, "the policy has no gate");
    }
    let rows = gates.iter().map(|gate| {
        [
            gate.name.clone(),
            gate.port.to_string(),
            gate.protocol.clone(),
            gate.mode.clone(),
            words::count(gate.relaying),
            words::count(gate.waiting),
            words::count(words::gate_count(gate, "accepted")),
            words::count(words::gate_count(gate, "denied")),
            backends(&gate.backends),
            latency(gate),
        ]
    });
    Table::new([Left, Right, Left, Left, Right, Right, Right, Right, Left, Left])
        .headed([
            "GATE",
            "PORT",
            "PROTOCOL",
            "MODE",
            "RELAYING",
            "WAITING",
            "ACCEPTED",
            "DENIED",
            "BACKENDS",
            "VERDICTS IN",
        ])
        .print(out, &rows.collect::<Vec<_>>())?;
    for gate in gates {
        for backend in &gate.backends {
            if let Some(why) = &backend.down {
                writeln!(out, "{}: backend {} is down: {why}", gate.name, backend.address)?;
            }
        }
        if let Some(fast) = gate.fast_path {
            writeln!(
                out,
                "{}: fast path: {}, {}, {}",
                gate.name,
                words::counted(fast.clients, "client", "clients"),
                words::counted(fast.connections, "connection", "connections"),
                words::bytes(fast.bytes)
            )?;
        }
    }
    writeln!(out, "{} known", words::counted(clients, "client", "clients"))
}

/// `2 of 3 up`.
fn backends(backends: &[BackendStatus]) -> String {
    let up = backends.iter().filter(|backend| backend.down.is_none()).count();
    format!("{up} of {} up", backends.len())
}

/// The median and the 99th percentile.
fn latency(gate: &GateStatus) -> String {
    match (words::quantile(&gate.latency, 50), words::quantile(&gate.latency, 99)) {
        (Some(median), Some(last)) => format!("{median}, 99 % {last}"),
        _ => "-".into(),
    }
}

pub fn verdicts(out: &mut impl Write, records: &[ClientRecord]) -> io::Result<()> {
    use Align::Left;
    let rows = records.iter().map(|record| {
        let known = Known::of(record);
        [
            record.client.to_string(),
            known.verdict.name().to_owned(),
            known.evidence(),
            words::date_time(record.seen),
            words::date_time(known.until),
        ]
    });
    Table::new([Left; 5])
        .headed(["CLIENT", "VERDICT", "EVIDENCE", "SEEN", "UNTIL"])
        .print(out, &rows.collect::<Vec<_>>())?;
    if records.is_empty() {
        writeln!(out, "no client is known")?;
    }
    Ok(())
}

/// `detects`: the gate admits whoever comes.
pub fn test(out: &mut impl Write, test: &GateTest, detects: bool) -> io::Result<()> {
    let rows: Vec<_> =
        test.ports.iter().map(|(port, outcome)| [port.to_string(), outcome.name().to_owned()]).collect();
    Table::new([Align::Right, Align::Left]).headed(["PORT", "OUTCOME"]).print(out, &rows)?;
    writeln!(out, "looked for {}", words::brief(Duration::from_micros(test.micros)))?;
    let GateTest { gate, client, .. } = test;
    match (&test.ignored, test.verdict) {
        (Some(why), _) => writeln!(out, "gate {gate} admits {client} without a look: {why}"),
        (None, Verdict::Clean) => writeln!(out, "gate {gate} would admit {client}"),
        (None, Verdict::Open { port, outcome }) => {
            let what = words::open_port(outcome);
            let then = if detects { "would refuse, if it did not only detect," } else { "would refuse" };
            writeln!(out, "gate {gate} {then} {client}: port {port} is {what}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::UnixMillis;
    use glacis_control::gate::{FastPathStatus, Finding, Histogram, PortOutcome};

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = vec![];
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap().replace('\u{202f}', "_")
    }

    fn gate() -> GateStatus {
        let backend = |address: &str, down: Option<&str>| BackendStatus {
            address: address.parse().unwrap(),
            down: down.map(str::to_owned),
            relaying: 1,
            connections: 7,
        };
        let mut latency = Histogram::default();
        latency.observe(900);
        latency.observe(400_000);
        GateStatus {
            name: "web".into(),
            port: 443,
            protocol: "tls".into(),
            mode: "enforce".into(),
            relaying: 12,
            waiting: 3,
            counters: vec![("accepted".into(), 2_345), ("denied".into(), 45)],
            backends: vec![
                backend("10.0.0.2:443", None),
                backend("10.0.0.3:443", Some("connection refused")),
            ],
            latency,
            fast_path: Some(FastPathStatus { clients: 8, connections: 90, packets: 5, bytes: 2 << 20 }),
            ..GateStatus::default()
        }
    }

    #[test]
    fn b15_each_gate_has_a_line_and_what_is_down_says_why() {
        assert_eq!(
            printed(|out| status(out, &[gate()], 1_300)),
            "GATE  PORT  PROTOCOL  MODE     RELAYING  WAITING  ACCEPTED  DENIED  BACKENDS   VERDICTS IN\n\
             web    443  tls       enforce        12        3     2_345      45  1 of 2 up  ≤ 1 ms, 99 % ≤ 500 ms\n\
             web: backend 10.0.0.3:443 is down: connection refused\n\
             web: fast path: 8 clients, 90 connections, 2.0 MiB\n\
             1_300 clients known\n"
        );
        assert_eq!(printed(|out| status(out, &[], 0)), "the policy has no gate\n");
    }

    #[test]
    fn b15_verdicts_are_listed_with_their_evidence() {
        let finding = |port, outcome| Finding { port, outcome, until: UnixMillis(1_795_262_400_000) };
        let record = |client: &str, findings| ClientRecord {
            client: client.parse().unwrap(),
            seen: UnixMillis(1_795_262_340_000),
            findings,
        };
        let records = [
            record(
                "203.0.113.9",
                vec![finding(80, PortOutcome::Refused), finding(3128, PortOutcome::HttpProxy)],
            ),
            record("2001:db8::9", vec![finding(80, PortOutcome::Refused)]),
        ];
        assert_eq!(
            printed(|out| verdicts(out, &records)),
            "CLIENT       VERDICT  EVIDENCE                         SEEN                     UNTIL\n\
             203.0.113.9  open     port 3128 is an open HTTP proxy  2026-11-21 11:59:00 UTC  2026-11-21 12:00:00 UTC\n\
             2001:db8::9  clean    1 port, none open                2026-11-21 11:59:00 UTC  2026-11-21 12:00:00 UTC\n"
        );
        assert_eq!(printed(|out| verdicts(out, &[])), "no client is known\n");
    }

    #[test]
    fn a_test_says_what_was_found_and_what_the_gate_would_do() {
        let mut answer = GateTest {
            gate: "web".into(),
            client: "203.0.113.9".parse().unwrap(),
            ignored: None,
            ports: vec![(80, PortOutcome::Refused), (3128, PortOutcome::Open)],
            verdict: Verdict::Open { port: 3128, outcome: PortOutcome::Open },
            micros: 12_345,
        };
        assert_eq!(
            printed(|out| test(out, &answer, false)),
            "PORT  OUTCOME\n  80  refused\n3128  open\nlooked for 12.3 ms\n\
             gate web would refuse 203.0.113.9: port 3128 is open\n"
        );
        assert!(printed(|out| test(out, &answer, true)).contains("if it did not only detect, 203.0.113.9"));
        answer.ignored = Some("a private address".into());
        let text = printed(|out| test(out, &answer, false));
        assert!(text.ends_with("gate web admits 203.0.113.9 without a look: a private address\n"), "{text}");
        answer = GateTest { ignored: None, verdict: Verdict::Clean, ..answer };
        assert!(printed(|out| test(out, &answer, false)).ends_with("gate web would admit 203.0.113.9\n"));
    }
}
