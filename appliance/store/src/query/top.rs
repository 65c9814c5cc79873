//! Tops over a range of days, and what sources and ports are ranked by.

use super::busiest::{Ranked, busiest};
use super::days;
use super::distinct::distinct;
use crate::error::Fault;
use crate::layout::{Fields, Key, PortSum, SourceSum, Subject, Tally, Target};
use crate::query::listing::Places;
use crate::rollup::seen_on;
use crate::tables::Tables;
use glacis_control::scan_query::{DayRange, PortTotal, SourceTotal, Top};
use glacis_control::{Day, UnixMillis};
use heed::types::Bytes;
use heed::{RoPrefix, RoTxn};
use std::net::IpAddr;

/// Rows of a top.
const ROWS_MAX: usize = 1000;

fn visible(tables: &Tables, txn: &RoTxn<'_>, range: DayRange) -> Result<Vec<Day>, Fault> {
    Ok(days(tables, txn, range)?.into_iter().map(|(day, _)| day).collect())
}

pub(crate) fn top_sources(
    tables: &Tables,
    txn: &RoTxn<'_>,
    range: DayRange,
    n: usize,
) -> Result<Top<SourceTotal>, Fault> {
    let days = visible(tables, txn, range)?;
    let (rows, exact) = busiest::<IpAddr>(tables, txn, &days, n.min(ROWS_MAX))?;
    let mut places = Places::new(tables, txn);
    let rows = rows.into_iter().filter_map(|row| {
        let (newest, of_newest) = row.sums.last()?;
        let (oldest, of_oldest) = row.sums.first()?;
        let mut total = || {
            let kinds =
                row.sums.iter().fold(of_newest.tally.kinds, |all, (_, sum)| all.with(sum.tally.kinds));
            Ok(SourceTotal {
                source: row.subject,
                location: places.location(of_newest.place)?,
                hits: row.hits,
                ports: distinct(tables, txn, row.subject, &row.sums)?,
                kinds,
                first: at(*oldest, of_oldest.tally.first_ms),
                last: at(*newest, of_newest.tally.last_ms),
            })
        };
        Some(total())
    });
    Ok(Top { rows: rows.collect::<Result<_, Fault>>()?, exact })
}

fn at(day: Day, of_day_ms: u32) -> UnixMillis {
    UnixMillis(day.start().0 + u64::from(of_day_ms))
}

pub(crate) fn top_ports(
    tables: &Tables,
    txn: &RoTxn<'_>,
    range: DayRange,
    n: usize,
) -> Result<Top<PortTotal>, Fault> {
    let days = visible(tables, txn, range)?;
    let (rows, exact) = busiest::<Target>(tables, txn, &days, n.min(ROWS_MAX))?;
    let rows = rows.into_iter().map(|row| {
        let Target { port, protocol } = row.subject;
        let sources = distinct(tables, txn, row.subject, &row.sums)?;
        Ok(PortTotal { port, protocol, hits: row.hits, sources })
    });
    Ok(Top { rows: rows.collect::<Result<_, Fault>>()?, exact })
}

impl Ranked for IpAddr {
    const SUBJECT: Subject = Subject::Source;
    type Element = Target;
    type Sum = SourceSum;

    fn parse(mut fields: Fields<'_>) -> Result<Self, Fault> {
        Ok(fields.source()?)
    }

    fn in_key(self, key: Key) -> Key {
        key.with_source(self)
    }

    fn days(self, tables: &Tables, txn: &RoTxn<'_>, days: &[Day]) -> Result<Vec<Day>, Fault> {
        if let [day] = days {
            return Ok(vec![*day]);
        }
        let mut seen = seen_on(tables, txn, self)?;
        seen.retain(|day| days.binary_search(day).is_ok());
        Ok(seen)
    }

    fn sum(self, tables: &Tables, txn: &RoTxn<'_>, day: Day) -> Result<Option<SourceSum>, Fault> {
        let stored = tables.sources.get(txn, &Key::of_day(day).with_source(self))?;
        Ok(stored.map(SourceSum::parse).transpose()?)
    }

    fn hits(SourceSum { tally: Tally { hits, .. }, .. }: &SourceSum) -> u64 {
        *hits
    }

    fn count(sum: &SourceSum) -> u32 {
        sum.ports
    }

    fn records<'txn>(
        self,
        tables: &Tables,
        txn: &'txn RoTxn<'_>,
        day: Day,
    ) -> Result<RoPrefix<'txn, Bytes, Bytes>, Fault> {
        Ok(tables.records.prefix_iter(txn, &Key::of_day(day).with_source(self))?)
    }

    fn element(record_key: &[u8]) -> Result<Target, Fault> {
        Ok(crate::layout::ScanKey::parse(record_key)?.target)
    }

    fn mark(element: &Target) -> crate::sketch::Mark {
        crate::sketch::Mark::of_target(*element)
    }
}

impl Ranked for Target {
    const SUBJECT: Subject = Subject::Target;
    type Element = IpAddr;
    type Sum = PortSum;

    fn parse(mut fields: Fields<'_>) -> Result<Self, Fault> {
        Ok(fields.target()?)
    }

    fn in_key(self, key: Key) -> Key {
        key.with_target(self)
    }

    fn days(self, _: &Tables, _: &RoTxn<'_>, days: &[Day]) -> Result<Vec<Day>, Fault> {
        Ok(days.to_vec())
    }

    fn sum(self, tables: &Tables, txn: &RoTxn<'_>, day: Day) -> Result<Option<PortSum>, Fault> {
        let stored = tables.ports.get(txn, &Key::of_day(day).with_target(self))?;
        Ok(stored.map(PortSum::parse).transpose()?)
    }

    fn hits(sum: &PortSum) -> u64 {
        sum.hits
    }

    fn count(sum: &PortSum) -> u32 {
        sum.sources
    }

    fn records<'txn>(
        self,
        tables: &Tables,
        txn: &'txn RoTxn<'_>,
        day: Day,
    ) -> Result<RoPrefix<'txn, Bytes, Bytes>, Fault> {
        Ok(tables.by_port.prefix_iter(txn, &Key::of_day(day).with_target(self))?)
    }

    fn element(record_key: &[u8]) -> Result<IpAddr, Fault> {
        Ok(crate::layout::ScanKey::parse_by_port(record_key)?.source)
    }

    fn mark(element: &IpAddr) -> crate::sketch::Mark {
        crate::sketch::Mark::of_source(*element)
    }
}
