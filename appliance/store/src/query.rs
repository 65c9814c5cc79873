//! Walks over the scans: filtered, and added up by source.

use crate::error::Fault;
use crate::layout::{ScanKey, Tally};
use crate::tables::Table;
use glacis_control::{Day, Protocol, ScanRecord};
use heed::RoTxn;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::{Bound, RangeInclusive};

/// Records that one query looks at; about half a second's worth. What it found until then is returned.
const VISITS_MAX: usize = 4_000_000;

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
