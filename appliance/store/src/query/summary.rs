//! Sums over all sources and ports.

use super::days;
use crate::error::Fault;
use crate::layout::{DaySum, Key};
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::{Change, DayRange, Distinct, ScanSummary, TrendDay};
use heed::RoTxn;
use std::ops::Bound;

/// Bits of all port numbers.
const PORT_WORDS: usize = 65_536 / 64;

#[derive(Default)]
struct Period {
    hits: u64,
    ports: u64,
    sources: u64,
}

/// Exact: hits and sources are sums over days, ports the union of the days' bits.
pub(crate) fn summary(tables: &Tables, txn: &RoTxn<'_>, range: DayRange) -> Result<ScanSummary, Fault> {
    let current = period(tables, txn, range)?;
    let previous = range.before().map(|before| period(tables, txn, before)).transpose()?.unwrap_or_default();
    let exact = |current, previous| Change {
        current: Distinct { count: current, exact: true },
        previous: Distinct { count: previous, exact: true },
    };
    Ok(ScanSummary {
        days: range,
        hits: Change { current: current.hits, previous: previous.hits },
        ports: exact(current.ports, previous.ports),
        sources: exact(current.sources, previous.sources),
    })
}

fn period(tables: &Tables, txn: &RoTxn<'_>, range: DayRange) -> Result<Period, Fault> {
    // A source that was seen last on a day that is being removed was not seen.
    let first =
        tables.removing(txn)?.map_or(range.first, |last| range.first.max(Day(last.0.saturating_add(1))));
    let mut period = Period::default();
    for (day, value) in days(tables, txn, range)? {
        let sum = DaySum::parse(value)?;
        period.hits = period.hits.saturating_add(sum.hits);
        period.sources += sum.not_seen_for(day.0.saturating_sub(first.0));
    }
    period.ports = port_numbers(tables, txn, DayRange { first, last: range.last })?;
    Ok(period)
}

fn port_numbers(tables: &Tables, txn: &RoTxn<'_>, range: DayRange) -> Result<u64, Fault> {
    let (first, last) = (Key::of_day(range.first), Key::of_day(range.last).with(&[u8::MAX]));
    if *first > *last {
        return Ok(0);
    }
    let mut union = [0u64; PORT_WORDS];
    for entry in tables.port_numbers.range(txn, &(Bound::Included(&*first), Bound::Included(&*last)))? {
        let (key, value) = entry?;
        let words = value.as_chunks::<8>().0;
        // Sixteen parts of 64 words; others are not ours and are left out.
        let part = key.last().map_or(usize::MAX, |part| usize::from(*part)).saturating_mul(words.len());
        for (to, from) in union.iter_mut().skip(part).zip(words) {
            *to |= u64::from_ne_bytes(*from);
        }
    }
    Ok(union.iter().map(|word| u64::from(word.count_ones())).sum())
}

pub(crate) fn trend(tables: &Tables, txn: &RoTxn<'_>, range: DayRange) -> Result<Vec<TrendDay>, Fault> {
    let mut trend: Vec<_> = range.iter().map(|day| TrendDay { day, hits: 0, sources: 0 }).collect();
    for (day, value) in days(tables, txn, range)? {
        let (hits, sources) = DaySum::parse_head(value)?;
        trend[(day.0 - range.first.0) as usize] = TrendDay { day, hits, sources: sources.into() };
    }
    Ok(trend)
}
