//! Tops over a range of days.
//!
//! The ranks of each day list its sources, and its ports, by the grade of their hits. The days' lists are read together,
//! always the one whose rest may still hold the most, and whoever turns up is added up over all days. No one who has not
//! turned up can have more hits than the rests of the lists together, so that the top is exact as soon as its last row has
//! as many (Fagin's threshold algorithm).

use super::days;
use super::distinct::distinct;
use crate::error::Fault;
use crate::layout::{Fields, Key, PortSum, SourceSum, Subject, Tally, Target, hits_at_most};
use crate::query::listing::Places;
use crate::rollup::seen_on;
use crate::tables::Tables;
use glacis_control::scan_query::{DayRange, PortTotal, SourceTotal, Top};
use glacis_control::{Day, UnixMillis};
use heed::types::Bytes;
use heed::{RoPrefix, RoRevPrefix, RoTxn};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

/// Entries of all tables that one question looks at; some tens of milliseconds. At the bound, what was found is returned
/// as not exact.
const VISITS_MAX: usize = 200_000;
/// Rows of a top.
const ROWS_MAX: usize = 1000;

/// A source or a target, as far as both are ranked, added up and sketched.
pub(super) trait Ranked: Copy + Ord + Hash {
    const SUBJECT: Subject;
    /// What it is counted by: distinct ones of these.
    type Element: Ord;
    type Sum;

    fn parse(fields: Fields<'_>) -> Result<Self, Fault>;
    fn in_key(self, key: Key) -> Key;
    /// Days within the given ones, which ascend, on which it may have a sum.
    fn days(self, tables: &Tables, txn: &RoTxn<'_>, days: &[Day]) -> Result<Vec<Day>, Fault>;
    fn sum(self, tables: &Tables, txn: &RoTxn<'_>, day: Day) -> Result<Option<Self::Sum>, Fault>;
    fn hits(sum: &Self::Sum) -> u64;
    /// How many elements it has on that day.
    fn count(sum: &Self::Sum) -> u32;
    /// Its records on one day.
    fn records<'txn>(
        self,
        tables: &Tables,
        txn: &'txn RoTxn<'_>,
        day: Day,
    ) -> Result<RoPrefix<'txn, Bytes, Bytes>, Fault>;
    fn element(record_key: &[u8]) -> Result<Self::Element, Fault>;
    fn mark(element: &Self::Element) -> crate::sketch::Mark;
}

/// One of the top, with its sums by day, ascending.
struct Row<S: Ranked> {
    hits: u64,
    subject: S,
    sums: Vec<(Day, S::Sum)>,
}

/// The list of one day, as far as it was not read.
struct Lane<'txn> {
    list: RoRevPrefix<'txn, Bytes, Bytes>,
    /// Nobody in the rest has more hits.
    most: u64,
}

fn busiest<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: &[Day],
    n: usize,
) -> Result<(Vec<Row<S>>, bool), Fault> {
    let mut rows: Vec<Row<S>> = Vec::new();
    let mut met = HashSet::new();
    let mut visits = 0;
    let mut lanes = Vec::with_capacity(days.len());
    for day in days {
        let prefix = Key::of_day(*day).with(&[S::SUBJECT as u8]);
        lanes.push(Lane { list: tables.ranks.rev_prefix_iter(txn, &prefix)?, most: u64::MAX });
    }
    let mut by_most: BinaryHeap<_> = (0..lanes.len()).map(|index| (u64::MAX, index)).collect();
    // A sum of at most 365 numbers.
    let mut unread: u128 = lanes.iter().map(|lane| u128::from(lane.most)).sum();
    while let Some((_, index)) = by_most.pop() {
        if rows.len() == n && rows.last().is_none_or(|last| u128::from(last.hits) >= unread) {
            return Ok((rows, true));
        }
        if visits > VISITS_MAX {
            return Ok((rows, false));
        }
        visits += 1;
        let lane = &mut lanes[index];
        unread -= u128::from(lane.most);
        let Some((key, _)) = lane.list.next().transpose()? else { continue };
        let mut fields = Fields::of("the key of a rank", key);
        let (_, _, grade) = (fields.day()?, fields.u8()?, fields.u8()?);
        let subject = S::parse(fields)?;
        lane.most = hits_at_most(grade);
        unread += u128::from(lane.most);
        by_most.push((lane.most, index));
        if met.insert(subject) {
            let most: Vec<u64> = lanes.iter().map(|lane| lane.most).collect();
            let least = rows.last().filter(|_| rows.len() == n).map_or(0, |last| last.hits);
            let (row, looked_at) = added_up(tables, txn, days, subject, &most, least)?;
            visits += looked_at;
            let Some(row) = row else { continue };
            let rank = |row: &Row<S>| (Reverse(row.hits), row.subject);
            let at = rows.partition_point(|other| rank(other) < rank(&row));
            if at < n {
                rows.truncate(n - 1);
                rows.insert(at, row);
            }
        }
    }
    Ok((rows, true))
}

/// All days of someone who has turned up for the first time, so that he has at most `most` hits on each of them. `None`
/// as soon as he cannot reach `least`. How many days were looked at goes with it.
fn added_up<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: &[Day],
    subject: S,
    most: &[u64],
    least: u64,
) -> Result<(Option<Row<S>>, usize), Fault> {
    let most_on = |day: &Day| days.binary_search(day).map_or(0, |index| u128::from(most[index]));
    let own = subject.days(tables, txn, days)?;
    let mut left: u128 = own.iter().map(most_on).sum();
    let mut row = Row { hits: 0, subject, sums: Vec::new() };
    for (looked_at, day) in own.iter().enumerate() {
        if u128::from(row.hits) + left < u128::from(least) {
            return Ok((None, looked_at));
        }
        left -= most_on(day);
        if let Some(sum) = subject.sum(tables, txn, *day)? {
            row.hits = row.hits.saturating_add(S::hits(&sum));
            row.sums.push((*day, sum));
        }
    }
    Ok((Some(row), own.len()))
}

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
