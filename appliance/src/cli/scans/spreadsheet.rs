//! Answers about scans as comma-separated values (RFC 4180).
//!
//! Names of places and providers come out of files that someone else made, and spreadsheets take cells for formulas
//! that begin like one: such a name gets an apostrophe in front.

use crate::words;
use csv::{Terminator, Writer, WriterBuilder};
use glacis_control::scan_query::{
    Change, Distinct, Location, PortTotal, ScanRow, ScanSummary, SourceTotal, Top, TrendDay,
};
use std::io::Write;

/// Columns of a location.
const PLACE: [&str; 6] = ["country_code", "country", "region", "city", "isp", "asn"];

pub fn summary(out: &mut impl Write, summary: &ScanSummary) -> csv::Result<()> {
    let mut rows = writer(out);
    rows.write_record(["figure", "current", "current_exact", "previous", "previous_exact"])?;
    let exact = |count| Distinct { count, exact: true };
    let hits = Change { current: exact(summary.hits.current), previous: exact(summary.hits.previous) };
    for (figure, Change { current, previous }) in
        [("probes", hits), ("ports", summary.ports), ("sources", summary.sources)]
    {
        let [current, previous] = [current, previous].map(|n| [n.count.to_string(), n.exact.to_string()]);
        rows.write_record([figure].into_iter().chain(current.iter().chain(&previous).map(String::as_str)))?;
    }
    Ok(rows.flush()?)
}

pub fn trend(out: &mut impl Write, days: &[TrendDay]) -> csv::Result<()> {
    let mut rows = writer(out);
    rows.write_record(["day", "probes", "sources"])?;
    for TrendDay { day, hits, sources } in days {
        rows.write_record([words::day(*day), hits.to_string(), sources.to_string()])?;
    }
    Ok(rows.flush()?)
}

pub fn sources(out: &mut impl Write, top: &Top<SourceTotal>) -> csv::Result<()> {
    let mut rows = writer(out);
    rows.write_record(
        ["source", "probes", "ports", "ports_exact", "kinds", "first", "last"].into_iter().chain(PLACE),
    )?;
    for row in &top.rows {
        let cells = [
            row.source.to_string(),
            row.hits.to_string(),
            row.ports.count.to_string(),
            row.ports.exact.to_string(),
            row.kinds.to_string(),
            words::timestamp(row.first),
            words::timestamp(row.last),
        ];
        rows.write_record(cells.into_iter().chain(place(&row.location)))?;
    }
    Ok(rows.flush()?)
}

pub fn ports(out: &mut impl Write, top: &Top<PortTotal>) -> csv::Result<()> {
    let mut rows = writer(out);
    rows.write_record(["port", "protocol", "probes", "sources", "sources_exact"])?;
    for PortTotal { port, protocol, hits, sources } in &top.rows {
        rows.write_record([
            port.to_string(),
            protocol.to_string(),
            hits.to_string(),
            sources.count.to_string(),
            sources.exact.to_string(),
        ])?;
    }
    Ok(rows.flush()?)
}

/// `heading`: whether these are the first.
pub fn records(out: &mut impl Write, records: &[ScanRow], heading: bool) -> csv::Result<()> {
    let mut rows = writer(out);
    if heading {
        rows.write_record(
            ["day", "source", "port", "protocol", "kinds", "probes", "first", "last"]
                .into_iter()
                .chain(PLACE),
        )?;
    }
    for ScanRow { record, location } in records {
        let cells = [
            words::day(record.day),
            record.source.to_string(),
            record.port.to_string(),
            record.protocol.to_string(),
            record.kinds.to_string(),
            record.hits.to_string(),
            words::timestamp(record.first),
            words::timestamp(record.last),
        ];
        rows.write_record(cells.into_iter().chain(place(location)))?;
    }
    Ok(rows.flush()?)
}

fn writer<W: Write>(out: W) -> Writer<W> {
    WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out)
}

fn place(location: &Location) -> [String; 6] {
    let Location { country_code, country, region, city, isp, asn } = location;
    let asn = if *asn == 0 { String::new() } else { asn.to_string() };
    [
        unlike_a_formula(country_code),
        unlike_a_formula(country),
        unlike_a_formula(region),
        unlike_a_formula(city),
        unlike_a_formula(isp),
        asn,
    ]
}

fn unlike_a_formula(name: &str) -> String {
    if name.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::{Day, ProbeKind, ProbeKinds, Protocol, ScanRecord, UnixMillis};

    fn row(isp: &str, city: &str) -> ScanRow {
        let record = ScanRecord {
            day: Day(20_778),
            source: "2001:db8::9".parse().unwrap(),
            port: 22,
            protocol: Protocol::Tcp,
            kinds: [ProbeKind::Syn, ProbeKind::Fin].into_iter().collect::<ProbeKinds>(),
            hits: 1_200,
            first: UnixMillis(1_795_261_700_000),
            last: UnixMillis(1_795_261_920_000),
        };
        let location = Location { isp: isp.into(), city: city.into(), asn: 64_500, ..Location::default() };
        ScanRow { record, location }
    }

    fn written(rows: &[ScanRow], heading: bool) -> String {
        let mut out = vec![];
        records(&mut out, rows, heading).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_quoted_as_rfc_4180_says() {
        assert_eq!(
            written(&[row("Acme, \"Inc.\"", "Ålesund")], true),
            "day,source,port,protocol,kinds,probes,first,last,country_code,country,region,city,isp,asn\r\n\
             2026-11-21,2001:db8::9,22,tcp,syn fin,1200,2026-11-21T11:48:20Z,2026-11-21T11:52:00Z,,,,Ålesund,\
             \"Acme, \"\"Inc.\"\"\",64500\r\n"
        );
        assert_eq!(written(&[], true).lines().count(), 1, "the heading stands over nothing too");
        assert_eq!(written(&[], false), "");
    }

    #[test]
    fn names_that_begin_like_formulas_do_not_run() {
        for name in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx"] {
            let text = written(&[row(name, "x")], false);
            assert!(text.contains(&format!("'{name}")), "{text}");
        }
        assert!(!written(&[row("Deutsche Telekom AG", "x")], false).contains('\''));
    }
}
