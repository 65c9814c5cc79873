//! Walks over the scans: filtered, and added up by source.

use crate::error::Fault;
use crate::layout::{ScanKey, Tally};
use crate::tables::Table;
use glacis_control::{Day, Protocol, ScanRecord, UnixMillis};
use heed::types::Bytes;
use heed::{RoRange, RoTxn};
use ipnet::IpNet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::{Bound, RangeInclusive};

/// Records that one query looks at; about half a second's worth. What it found until then is returned.
const VISITS_MAX: usize = 4_000_000;
/// Days that are added up together, each with a cursor of its own; the newest ones count.
const DAYS_MAX: usize = 400;

/// Which records to list; the default is all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanFilter {
    pub days: RangeInclusive<Day>,
    pub source: Option<IpNet>,
    pub port: Option<u16>,
    pub protocol: Option<Protocol>,
}

impl Default for ScanFilter {
    fn default() -> Self {
        Self { days: Day(0)..=Day(u32::MAX), source: None, port: None, protocol: None }
    }
}

impl ScanFilter {
    fn passes(&self, record: &ScanRecord) -> bool {
        self.source.is_none_or(|net| net.contains(&record.source))
            && self.port.is_none_or(|port| port == record.port)
            && self.protocol.is_none_or(|protocol| protocol == record.protocol)
    }

    /// The addresses between which all that passes lies.
    fn sources(&self) -> (IpAddr, IpAddr) {
        match self.source {
            Some(IpNet::V4(net)) => (net.network().into(), net.broadcast().into()),
            Some(IpNet::V6(net)) => (net.network().into(), net.broadcast().into()),
            None => ALL_SOURCES,
        }
    }
}

const ALL_SOURCES: (IpAddr, IpAddr) =
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));

/// Result of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scans {
    pub records: Vec<ScanRecord>,
    /// False when the query ended because it had looked at as many records as one may.
    pub complete: bool,
}

/// One source over several days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceTotal {
    pub source: IpAddr,
    pub hits: u64,
    /// Distinct pairs of protocol and port.
    pub ports: u32,
    pub first: UnixMillis,
    pub last: UnixMillis,
}

/// Result of [`StoreReader::top_sources`](crate::StoreReader::top_sources).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopSources {
    /// The most hits first; equal ones by ascending address.
    pub sources: Vec<SourceTotal>,
    /// False when not all records or days were looked at.
    pub complete: bool,
}

pub(crate) fn scans(
    table: Table,
    txn: &RoTxn<'_>,
    filter: &ScanFilter,
    limit: usize,
) -> Result<Scans, Fault> {
    let (low, high) = filter.sources();
    let mut found = Scans { records: Vec::new(), complete: true };
    let mut visits = 0;
    let mut until = *filter.days.end();
    while let Some(day) = newest_day(table, txn, *filter.days.start()..=until)? {
        let range = key_range(day, low, high);
        for entry in table.rev_range(txn, &as_bounds(&range))? {
            if found.records.len() == limit {
                return Ok(found);
            }
            visits += 1;
            if visits > VISITS_MAX {
                found.complete = false;
                return Ok(found);
            }
            let record = parse(entry?)?;
            if filter.passes(&record) {
                found.records.push(record);
            }
        }
        let Some(before) = day.0.checked_sub(1) else { break };
        until = Day(before);
    }
    Ok(found)
}

/// The newest day in the range that has records.
fn newest_day(table: Table, txn: &RoTxn<'_>, days: RangeInclusive<Day>) -> Result<Option<Day>, Fault> {
    let highest = ScanKey::last_of(*days.end(), ALL_SOURCES.1);
    let Some((key, _)) = table.get_lower_than_or_equal_to(txn, highest.bytes())? else { return Ok(None) };
    let day = ScanKey::parse(key)?.day();
    Ok(days.contains(&day).then_some(day))
}

fn key_range(day: Day, low: IpAddr, high: IpAddr) -> (ScanKey, ScanKey) {
    (ScanKey::first_of(day, low), ScanKey::last_of(day, high))
}

fn as_bounds(range: &(ScanKey, ScanKey)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(range.0.bytes()), Bound::Included(range.1.bytes()))
}

fn parse((key, value): (&[u8], &[u8])) -> Result<ScanRecord, Fault> {
    Ok(ScanKey::parse(key)?.record(Tally::parse(value)?)?)
}

/// Merges the days by source, since the records of a day lie in the order of their sources: memory is for one
/// source, `n` results and a cursor per day, however many sources there are.
pub(crate) fn top_sources(
    table: Table,
    txn: &RoTxn<'_>,
    days: &RangeInclusive<Day>,
    n: usize,
) -> Result<TopSources, Fault> {
    let (mut merge, mut complete) = DayMerge::open(table, txn, days)?;
    let mut top = Top::new(n);
    let mut current: Option<Sum> = None;
    let mut visits = 0;
    while let Some((probe, record)) = merge.next()? {
        visits += 1;
        if visits > VISITS_MAX {
            // The source at hand is not added up to its end.
            current = None;
            complete = false;
            break;
        }
        match &mut current {
            Some(sum) if sum.total.source == record.source => sum.add(probe, &record),
            _ => {
                if let Some(finished) = current.replace(Sum::of(probe, &record)) {
                    top.offer(finished.total);
                }
            }
        }
    }
    if let Some(finished) = current {
        top.offer(finished.total);
    }
    Ok(TopSources { sources: top.into_sorted(), complete })
}

/// Address, protocol and port; the order in which the days are merged.
type Probe = [u8; 19];

/// One source while its records pass by.
struct Sum {
    total: SourceTotal,
    last_probe: Probe,
}

impl Sum {
    fn of(probe: Probe, record: &ScanRecord) -> Self {
        let ScanRecord { source, hits, first, last, .. } = *record;
        Self { total: SourceTotal { source, hits, ports: 1, first, last }, last_probe: probe }
    }

    fn add(&mut self, probe: Probe, record: &ScanRecord) {
        let total = &mut self.total;
        total.hits = total.hits.saturating_add(record.hits);
        total.first = total.first.min(record.first);
        total.last = total.last.max(record.last);
        if probe != self.last_probe {
            total.ports += 1;
            self.last_probe = probe;
        }
    }
}

/// Keeps the `n` greatest.
struct Top {
    n: usize,
    /// The least of those kept on top.
    kept: BinaryHeap<Reverse<Ranked>>,
}

/// Ordered by hits, then by descending address.
struct Ranked(SourceTotal);

impl Ranked {
    fn rank(&self) -> (u64, Reverse<IpAddr>) {
        (self.0.hits, Reverse(self.0.source))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Top {
    fn new(n: usize) -> Self {
        Self { n, kept: BinaryHeap::new() }
    }

    fn offer(&mut self, total: SourceTotal) {
        self.kept.push(Reverse(Ranked(total)));
        if self.kept.len() > self.n {
            self.kept.pop();
        }
    }

    fn into_sorted(self) -> Vec<SourceTotal> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(Ranked(total))| total).collect()
    }
}

/// The records of several days in one order by source, protocol and port.
struct DayMerge<'txn> {
    days: Vec<RoRange<'txn, Bytes, Bytes>>,
    /// The next record of each day that has one, the least on top.
    heads: BinaryHeap<Reverse<(Probe, usize)>>,
    /// By day.
    records: Vec<Option<ScanRecord>>,
}

impl<'txn> DayMerge<'txn> {
    /// Whether all days are in it goes with it.
    fn open(table: Table, txn: &'txn RoTxn<'_>, days: &RangeInclusive<Day>) -> Result<(Self, bool), Fault> {
        let mut merge = Self { days: Vec::new(), heads: BinaryHeap::new(), records: Vec::new() };
        let mut until = *days.end();
        while let Some(day) = newest_day(table, txn, *days.start()..=until)? {
            if merge.days.len() == DAYS_MAX {
                return Ok((merge, false));
            }
            let range = key_range(day, ALL_SOURCES.0, ALL_SOURCES.1);
            merge.days.push(table.range(txn, &as_bounds(&range))?);
            merge.records.push(None);
            merge.advance(merge.days.len() - 1)?;
            let Some(before) = day.0.checked_sub(1) else { break };
            until = Day(before);
        }
        Ok((merge, true))
    }

    fn advance(&mut self, index: usize) -> Result<(), Fault> {
        self.records[index] = None;
        if let Some((key, value)) = self.days[index].next().transpose()? {
            let key = ScanKey::parse(key)?;
            self.records[index] = Some(key.record(Tally::parse(value)?)?);
            self.heads.push(Reverse((key.probe(), index)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Probe, ScanRecord)>, Fault> {
        let Some(Reverse((probe, index))) = self.heads.pop() else { return Ok(None) };
        let Some(record) = self.records[index] else { return Ok(None) };
        self.advance(index)?;
        Ok(Some((probe, record)))
    }
}
