//! Answers about scans as a person reads them.

use super::super::table::{Align, Table};
use crate::words;
use glacis_control::scan_query::{
    Change, DayRange, Distinct, Location, PortTotal, ScanRow, ScanSummary, SourceTotal, Top, TrendDay,
};
use std::cmp::Ordering;
use std::io::{self, Write};

pub fn summary(out: &mut impl Write, summary: &ScanSummary) -> io::Result<()> {
    let exact = |count| Distinct { count, exact: true };
    let hits = Change { current: exact(summary.hits.current), previous: exact(summary.hits.previous) };
    writeln!(out, "{}", period(summary.days))?;
    let rows = [("probes", hits), ("ports", summary.ports), ("sources", summary.sources)];
    let rows = rows.map(|(name, number)| {
        let before = format!("{} before", words::distinct(number.previous));
        [name.to_owned(), words::distinct(number.current), change(number), before]
    });
    Table::new([Align::Left, Align::Right, Align::Right, Align::Right]).print(out, &rows)
}

pub fn trend(out: &mut impl Write, days: &[TrendDay]) -> io::Result<()> {
    let rows =
        days.iter().map(|day| [words::day(day.day), words::count(day.hits), words::count(day.sources)]);
    Table::new([Align::Left, Align::Right, Align::Right])
        .headed(["DAY", "PROBES", "SOURCES"])
        .print(out, &rows.collect::<Vec<_>>())
}

pub fn sources(out: &mut impl Write, top: &Top<SourceTotal>) -> io::Result<()> {
    use Align::{Left, Right};
    let rows = top.rows.iter().map(|row| {
        [
            row.source.to_string(),
            words::count(row.hits),
            words::distinct(row.ports),
            row.kinds.to_string(),
            words::date_time(row.last),
            place(&row.location),
        ]
    });
    Table::new([Left, Right, Right, Left, Left, Left])
        .headed(["SOURCE", "PROBES", "PORTS", "KINDS", "LAST SEEN", "LOCATION"])
        .print(out, &rows.collect::<Vec<_>>())?;
    below_top(out, top)
}

pub fn ports(out: &mut impl Write, top: &Top<PortTotal>) -> io::Result<()> {
    use Align::{Left, Right};
    let rows = top.rows.iter().map(|row| {
        [row.port.to_string(), row.protocol.to_string(), words::count(row.hits), words::distinct(row.sources)]
    });
    Table::new([Right, Left, Right, Right])
        .headed(["PORT", "PROTOCOL", "PROBES", "SOURCES"])
        .print(out, &rows.collect::<Vec<_>>())?;
    below_top(out, top)
}

fn below_top<T>(out: &mut impl Write, top: &Top<T>) -> io::Result<()> {
    if top.rows.is_empty() {
        writeln!(out, "no scans in these days")?;
    }
    if !top.exact {
        writeln!(
            out,
            "too many to add up one by one: a row with more probes may be missing; ask for fewer days"
        )?;
    }
    Ok(())
}

pub fn records_table() -> Table<8> {
    use Align::{Left, Right};
    Table::new([Left, Left, Right, Left, Left, Right, Left, Left]).headed([
        "DAY",
        "SOURCE",
        "PORT",
        "PROTOCOL",
        "KINDS",
        "PROBES",
        "LAST SEEN",
        "LOCATION",
    ])
}

pub fn record(row: &ScanRow) -> [String; 8] {
    let record = &row.record;
    [
        words::day(record.day),
        record.source.to_string(),
        record.port.to_string(),
        record.protocol.to_string(),
        record.kinds.to_string(),
        words::count(record.hits),
        words::date_time(record.last),
        place(&row.location),
    ]
}

fn period(days: DayRange) -> String {
    let length = words::counted(days.days().into(), "day", "days");
    format!(
        "Scans from {} to {}, {length} of UTC, beside as many days before",
        words::day(days.first),
        words::day(days.last)
    )
}

/// Where it is said to be, the smallest first, and who provides it.
fn place(location: &Location) -> String {
    let Location { country_code, country, region, city, isp, asn } = location;
    let country = if country.is_empty() { country_code } else { country };
    let mut parts: Vec<&str> = [city, region, country].map(String::as_str).into();
    parts.retain(|part| !part.is_empty());
    // Singapore, Singapore.
    parts.dedup();
    let number = if *asn == 0 { String::new() } else { format!("AS{asn}") };
    let network =
        [isp.as_str(), &number].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    [parts.join(", "), network].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// From the period before to this one, rounded; what changed never reads as nothing.
fn change(number: Change<Distinct>) -> String {
    let (now, then) = (number.current.count, number.previous.count);
    let percent = |part: u64| match (u128::from(part) * 100 + u128::from(then) / 2) / u128::from(then) {
        0 => "less than 1 %".to_owned(),
        percent => format!("{percent} %"),
    };
    match now.cmp(&then) {
        Ordering::Equal => "equal".to_owned(),
        Ordering::Greater if then == 0 => "new".to_owned(),
        Ordering::Greater => format!("+{}", percent(now - then)),
        Ordering::Less => format!("-{}", percent(then - now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_control::Day;

    const fn exact(count: u64) -> Distinct {
        Distinct { count, exact: true }
    }

    #[test]
    fn a20_the_change_against_the_period_before_is_told() {
        for (now, then, text) in [
            (0, 0, "equal"),
            (7, 7, "equal"),
            (7, 0, "new"),
            (112, 100, "+12 %"),
            (88, 100, "-12 %"),
            (0, 5, "-100 %"),
            (1001, 1000, "+less than 1 %"),
            (u64::MAX, 1, "+1844674407370955161400 %"),
        ] {
            assert_eq!(
                change(Change { current: exact(now), previous: exact(then) }),
                text,
                "{then} to {now}"
            );
        }
    }

    #[test]
    fn a20_the_summary_is_aligned_and_says_what_is_estimated() {
        let about = |count| Distinct { count, exact: false };
        let answer = ScanSummary {
            days: DayRange { first: Day(20_772), last: Day(20_778) },
            hits: Change { current: 1_120, previous: 1_000 },
            ports: Change { current: exact(27), previous: exact(27) },
            sources: Change { current: about(1_234_567), previous: exact(0) },
        };
        let mut out = vec![];
        summary(&mut out, &answer).unwrap();
        let text = String::from_utf8(out).unwrap().replace('\u{202f}', "_");
        assert_eq!(
            text,
            "Scans from 2026-11-15 to 2026-11-21, 7 days of UTC, beside as many days before\n\
             probes             1_120  +12 %  1_000 before\n\
             ports                 27  equal     27 before\n\
             sources  about 1_234_567    new      0 before\n"
        );
    }

    #[test]
    fn places_are_told_from_the_smallest_without_gaps() {
        let full = Location {
            country_code: "SE".into(),
            country: "Sweden".into(),
            region: "Östergötland County".into(),
            city: "Linköping".into(),
            isp: "Bredband2 AB".into(),
            asn: 29_518,
        };
        assert_eq!(place(&full), "Linköping, Östergötland County, Sweden; Bredband2 AB AS29518");
        assert_eq!(place(&Location { country_code: "SE".into(), ..Location::default() }), "SE");
        assert_eq!(place(&Location { asn: 7018, ..Location::default() }), "AS7018");
        assert_eq!(place(&Location::default()), "");
    }
}
