//! Answers to the questions about scans, added up from the records.

use crate::error::Fault;
use crate::layout::{self, ScanKey, Tally};
use crate::tables::Tables;
use glacis_control::scan_query::{
    Change, DayRange, Distinct, Location, PortTotal, ScanFilter, ScanPage, ScanRow, ScanSummary, SourceTotal,
    Top, TrendDay,
};
use glacis_control::{Day, ScanRecord};
use heed::RoTxn;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Records of a range, in ascending order of their keys.
fn records<'txn>(
    tables: &Tables,
    txn: &'txn RoTxn<'_>,
    days: DayRange,
) -> Result<impl Iterator<Item = Result<ScanRecord, Fault>> + use<'txn>, Fault> {
    let low = days.first.0.to_be_bytes();
    let high = days.last.0.checked_add(1).map(u32::to_be_bytes);
    let high = high.as_ref().map_or(Bound::Unbounded, |high| Bound::Excluded(&high[..]));
    let range = tables.scans.range(txn, &(Bound::Included(&low[..]), high))?;
    Ok(range.map(|entry| {
        let (key, value) = entry?;
        Ok(ScanKey::parse(key)?.record(Tally::parse(value)?)?)
    }))
}

fn exact(count: usize) -> Distinct {
    Distinct { count: count as u64, exact: true }
}

pub(crate) fn summary(tables: &Tables, txn: &RoTxn<'_>, days: DayRange) -> Result<ScanSummary, Fault> {
    let sum = |days: Option<DayRange>| -> Result<(u64, Distinct, Distinct), Fault> {
        let (mut hits, mut ports, mut sources) = (0u64, BTreeSet::new(), BTreeSet::new());
        if let Some(days) = days {
            for record in records(tables, txn, days)? {
                let record = record?;
                hits = hits.saturating_add(record.hits);
                ports.insert(record.port);
                sources.insert(record.source);
            }
        }
        Ok((hits, exact(ports.len()), exact(sources.len())))
    };
    let (current, previous) = (sum(Some(days))?, sum(days.before())?);
    Ok(ScanSummary {
        days,
        hits: Change { current: current.0, previous: previous.0 },
        ports: Change { current: current.1, previous: previous.1 },
        sources: Change { current: current.2, previous: previous.2 },
    })
}

pub(crate) fn trend(tables: &Tables, txn: &RoTxn<'_>, days: DayRange) -> Result<Vec<TrendDay>, Fault> {
    let mut sums: BTreeMap<Day, (u64, BTreeSet<_>)> =
        days.iter().map(|day| (day, (0, BTreeSet::new()))).collect();
    for record in records(tables, txn, days)? {
        let record = record?;
        let sum = sums.entry(record.day).or_default();
        sum.0 = sum.0.saturating_add(record.hits);
        sum.1.insert(record.source);
    }
    let days = sums.into_iter();
    Ok(days.map(|(day, (hits, sources))| TrendDay { day, hits, sources: sources.len() as u64 }).collect())
}

fn location(tables: &Tables, txn: &RoTxn<'_>, key: &ScanKey) -> Result<Location, Fault> {
    let stored = tables.places.get(txn, key.day_and_source())?;
    Ok(stored.map(layout::parse_location).transpose()?.unwrap_or_default())
}

pub(crate) fn top_sources(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: DayRange,
    n: usize,
) -> Result<Top<SourceTotal>, Fault> {
    let mut totals: BTreeMap<_, (SourceTotal, BTreeSet<_>, Day)> = BTreeMap::new();
    for record in records(tables, txn, days)? {
        let record = record?;
        let (total, ports, day) = totals.entry(record.source).or_insert_with(|| {
            let total = SourceTotal {
                source: record.source,
                location: Location::default(),
                hits: 0,
                ports: exact(0),
                kinds: record.kinds,
                first: record.first,
                last: record.last,
            };
            (total, BTreeSet::new(), record.day)
        });
        total.hits = total.hits.saturating_add(record.hits);
        total.kinds = total.kinds.with(record.kinds);
        total.first = total.first.min(record.first);
        total.last = total.last.max(record.last);
        ports.insert((record.protocol.number(), record.port));
        *day = record.day;
    }
    let mut totals: Vec<_> = totals.into_values().collect();
    totals.sort_by_key(|(total, ..)| (Reverse(total.hits), total.source));
    totals.truncate(n);
    let rows = totals.into_iter().map(|(mut total, ports, day)| {
        total.ports = exact(ports.len());
        total.location = location(tables, txn, &ScanKey::first_of(day, total.source))?;
        Ok(total)
    });
    Ok(Top { rows: rows.collect::<Result<_, Fault>>()?, exact: true })
}

pub(crate) fn top_ports(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: DayRange,
    n: usize,
) -> Result<Top<PortTotal>, Fault> {
    let mut totals: BTreeMap<_, (PortTotal, BTreeSet<_>)> = BTreeMap::new();
    for record in records(tables, txn, days)? {
        let ScanRecord { source, port, protocol, hits, .. } = record?;
        let (total, sources) = totals
            .entry((protocol.number(), port))
            .or_insert_with(|| (PortTotal { port, protocol, hits: 0, sources: exact(0) }, BTreeSet::new()));
        total.hits = total.hits.saturating_add(hits);
        sources.insert(source);
    }
    let totals = totals.into_values();
    let mut rows: Vec<_> =
        totals.map(|(total, sources)| PortTotal { sources: exact(sources.len()), ..total }).collect();
    rows.sort_by_key(|total| (Reverse(total.hits), total.protocol, total.port));
    rows.truncate(n);
    Ok(Top { rows, exact: true })
}

pub(crate) fn parse_cursor(text: &str) -> Option<ScanKey> {
    let pairs: Vec<_> = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok()).collect();
    let bytes: Option<Vec<u8>> = pairs.into_iter().map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    ScanKey::parse(&bytes?).ok()
}

fn cursor(key: &ScanKey) -> String {
    key.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn page(
    tables: &Tables,
    txn: &RoTxn<'_>,
    filter: &ScanFilter,
    after: Option<ScanKey>,
    limit: usize,
) -> Result<ScanPage, Fault> {
    let mut page = ScanPage { rows: Vec::new(), next: None, complete: true };
    let wanted = filter.location.to_lowercase();
    let mut last = None;
    for day in filter.days.iter().rev() {
        if after.is_some_and(|after| day > after.day()) {
            continue;
        }
        for record in records(tables, txn, DayRange { first: day, last: day })? {
            let record = record?;
            let key = ScanKey::of_record(&record);
            if after.is_some_and(|after| after.day() == day && key <= after)
                || filter.port.is_some_and(|port| port != record.port)
                || filter.protocol.is_some_and(|protocol| protocol != record.protocol)
                || !record.source.to_string().contains(&filter.address)
            {
                continue;
            }
            let location = location(tables, txn, &key)?;
            let parts =
                [&location.country_code, &location.country, &location.region, &location.city, &location.isp];
            if !parts.iter().any(|part| part.to_lowercase().contains(&wanted)) {
                continue;
            }
            if page.rows.len() == limit {
                page.next = last.as_ref().map(cursor);
                return Ok(page);
            }
            last = Some(key);
            page.rows.push(ScanRow { record, location });
        }
    }
    Ok(page)
}

pub(crate) fn newest(tables: &Tables, txn: &RoTxn<'_>, limit: usize) -> Result<Vec<ScanRow>, Fault> {
    let Some((key, _)) = tables.scans.last(txn)? else { return Ok(Vec::new()) };
    let days = DayRange::ending(ScanKey::parse(key)?.day(), 2);
    let mut found = records(tables, txn, days)?.collect::<Result<Vec<_>, Fault>>()?;
    found.sort_by_key(|record| (Reverse(record.last), record.source, record.protocol, record.port));
    found.truncate(limit);
    let rows = found.into_iter().map(|record| {
        let location = location(tables, txn, &ScanKey::of_record(&record))?;
        Ok(ScanRow { record, location })
    });
    rows.collect()
}
