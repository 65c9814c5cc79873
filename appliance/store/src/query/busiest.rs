//! Who has the most hits over several days.
//!
//! The ranks of each day list its sources, and its ports, by the grade of their hits. The days' lists are read together,
//! the highest grade first, which bounds the hits of all: from below by the grades that someone was met with, from above
//! by these and by how far the other lists were read. Reading an entry costs far less than adding someone up over all
//! days. So it goes on, beyond the point where nobody who was not met can be among the first, until few can who are not.
//! Those are added up, the greatest bound first, until the next bound is not above the last row (Fagin's combined
//! algorithm).

use crate::error::Fault;
use crate::layout::{Fields, Key, Subject, hits_at_least, hits_at_most};
use crate::tables::Tables;
use glacis_control::Day;
use heed::types::Bytes;
use heed::{RoPrefix, RoRevPrefix, RoTxn};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

/// Entries of all lists that one question reads; some ten milliseconds. At the bound, what was found is returned as not
/// exact.
const ENTRIES_MAX: usize = 100_000;
/// After so many it is asked for the first time whether that is enough, then after twice as many each time.
const ENTRIES_FIRST: usize = 256;
/// Days that are added up for one question, of whomever; some tens of milliseconds. At the bound as above.
const SUMS_MAX: usize = 100_000;

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

/// One of the first, with its sums by day, ascending.
pub(super) struct Row<S: Ranked> {
    pub hits: u64,
    pub subject: S,
    pub sums: Vec<(Day, S::Sum)>,
}

/// The `n` with the most hits over the days, which ascend, and whether that is proved.
pub(super) fn busiest<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: &[Day],
    n: usize,
) -> Result<(Vec<Row<S>>, bool), Fault> {
    if n == 0 {
        return Ok((Vec::new(), true));
    }
    let mut lists = Lists::open(tables, txn, days)?;
    let mut entries = ENTRIES_FIRST;
    let (contenders, proved) = loop {
        lists.read_to(entries)?;
        let least = lists.least_of(n);
        let proved = lists.unread <= u128::from(least);
        if proved || entries == ENTRIES_MAX {
            let contenders = lists.contenders(least);
            // Reading on would cost about as much again, and could spare these.
            let sparable = contenders.len().saturating_sub(n) * days.len();
            if sparable <= entries || lists.heads.is_empty() || entries == ENTRIES_MAX {
                break (contenders, proved);
            }
        }
        entries = (2 * entries).min(ENTRIES_MAX);
    };
    let (rows, all) = add_up(tables, txn, days, n, contenders)?;
    Ok((rows, proved && all))
}

/// What the lists tell of one who was met in some of them.
#[derive(Clone, Copy, Default)]
struct Met {
    least: u64,
    /// In these lists.
    most: u64,
    lists: usize,
}

/// The ranks of all days, as far as they were read.
struct Lists<'txn, S> {
    rests: Vec<RoRevPrefix<'txn, Bytes, Bytes>>,
    /// Grade, list and subject of the first entry that was not read, of each list that has one.
    heads: BinaryHeap<(u8, usize, S)>,
    /// The most hits that someone may have who was not met.
    unread: u128,
    entries: usize,
    met: HashMap<S, Met>,
}

impl<'txn, S: Ranked> Lists<'txn, S> {
    fn open(tables: &Tables, txn: &'txn RoTxn<'_>, days: &[Day]) -> Result<Self, Fault> {
        let mut lists = Self {
            rests: Vec::with_capacity(days.len()),
            heads: BinaryHeap::with_capacity(days.len()),
            unread: 0,
            entries: 0,
            met: HashMap::new(),
        };
        for (list, day) in days.iter().enumerate() {
            let prefix = Key::of_day(*day).with(&[S::SUBJECT as u8]);
            lists.rests.push(tables.ranks.rev_prefix_iter(txn, &prefix)?);
            lists.advance(list)?;
        }
        Ok(lists)
    }

    /// Until so many entries were read in all, or there are no more.
    fn read_to(&mut self, entries: usize) -> Result<(), Fault> {
        while self.entries < entries
            && let Some((grade, list, subject)) = self.heads.pop()
        {
            self.entries += 1;
            self.unread -= u128::from(hits_at_most(grade));
            self.advance(list)?;
            let met = self.met.entry(subject).or_default();
            met.least = met.least.saturating_add(hits_at_least(grade));
            met.most = met.most.saturating_add(hits_at_most(grade));
            met.lists += 1;
        }
        Ok(())
    }

    fn advance(&mut self, list: usize) -> Result<(), Fault> {
        if let Some((key, _)) = self.rests[list].next().transpose()? {
            let mut fields = Fields::of("the key of a rank", key);
            let (_, _, grade) = (fields.day()?, fields.u8()?, fields.u8()?);
            self.unread += u128::from(hits_at_most(grade));
            self.heads.push((grade, list, S::parse(fields)?));
        }
        Ok(())
    }

    /// What the last of the first `n` has at least.
    fn least_of(&self, n: usize) -> u64 {
        let mut least: Vec<_> = self.met.values().map(|met| Reverse(met.least)).collect();
        if least.len() < n {
            return 0;
        }
        least.select_nth_unstable(n - 1).1.0
    }

    /// Those who were met and may have so many hits, with the most that they may have.
    fn contenders(&self, least: u64) -> Vec<(u64, S)> {
        let highest = self.heads.peek().map_or(0, |(grade, ..)| u128::from(hits_at_most(*grade)));
        let bounded = self.met.iter().map(|(subject, met)| {
            let others = self.heads.len().min(self.rests.len() - met.lists);
            let elsewhere = self.unread.min(highest * others as u128);
            (u64::try_from(u128::from(met.most) + elsewhere).unwrap_or(u64::MAX), *subject)
        });
        bounded.filter(|(most, _)| *most >= least).collect()
    }
}

/// Returns the first `n`, and whether nobody who was left out can be one of them.
fn add_up<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    days: &[Day],
    n: usize,
    mut contenders: Vec<(u64, S)>,
) -> Result<(Vec<Row<S>>, bool), Fault> {
    contenders.sort_unstable_by_key(|(most, subject)| (Reverse(*most), *subject));
    let mut rows: Vec<Row<S>> = Vec::with_capacity(n.min(contenders.len()) + 1);
    let mut looked_at = 0;
    for (most, subject) in contenders {
        if rows.len() == n && rows.last().is_none_or(|last| last.hits >= most) {
            break;
        }
        if looked_at >= SUMS_MAX {
            return Ok((rows, false));
        }
        let own = subject.days(tables, txn, days)?;
        looked_at += own.len();
        let mut row = Row { hits: 0, subject, sums: Vec::with_capacity(own.len()) };
        for day in own {
            if let Some(sum) = subject.sum(tables, txn, day)? {
                row.hits = row.hits.saturating_add(S::hits(&sum));
                row.sums.push((day, sum));
            }
        }
        let rank = |row: &Row<S>| (Reverse(row.hits), row.subject);
        let at = rows.partition_point(|other| rank(other) < rank(&row));
        rows.insert(at, row);
        rows.truncate(n);
    }
    Ok((rows, true))
}
