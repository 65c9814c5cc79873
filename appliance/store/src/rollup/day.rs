//! Days, and on which of them each source was seen.

use crate::error::Fault;
use crate::layout::{DaySum, Fields, Key};
use crate::tables::Tables;
use glacis_control::Day;
use heed::{RoTxn, RwTxn};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// Days of one source that are remembered, so that its list stays on one page. The longest retention is 365 days; a
/// clock that was far off may add some. The oldest is forgotten beyond it, and its source then counts once more.
const DAYS_OF_SOURCE_MAX: usize = 480;

/// Sums of days that a transaction has changed.
#[derive(Debug, Default)]
pub(crate) struct Days(BTreeMap<Day, DaySum>);

impl Days {
    /// The sum of a day, to be changed.
    pub fn of(&mut self, tables: &Tables, txn: &RoTxn<'_>, day: Day) -> Result<&mut DaySum, Fault> {
        match self.0.entry(day) {
            Entry::Occupied(sum) => Ok(sum.into_mut()),
            Entry::Vacant(place) => {
                let stored = tables.days.get(txn, &Key::of_day(day))?.map(DaySum::parse).transpose()?;
                Ok(place.insert(stored.unwrap_or_default()))
            }
        }
    }

    pub fn store(self, tables: &Tables, txn: &mut RwTxn<'_>) -> Result<(), Fault> {
        for (day, sum) in self.0 {
            tables.days.put(txn, &Key::of_day(day), &sum.bytes())?;
        }
        Ok(())
    }

    /// A source that has no record of this day yet.
    pub fn meet(
        &mut self,
        tables: &Tables,
        txn: &mut RwTxn<'_>,
        day: Day,
        source: IpAddr,
    ) -> Result<(), Fault> {
        let mut seen = seen_on(tables, txn, source)?;
        let at = seen.partition_point(|seen| *seen < day);
        let before = at.checked_sub(1).map(|before| seen[before]);
        if let Some(after) = seen.get(at).copied() {
            self.move_return(tables, txn, after, before, Some(day))?;
        }
        let sum = self.of(tables, txn, day)?;
        sum.sources = sum.sources.saturating_add(1);
        let place = return_place(day, before);
        sum.returns[place] = sum.returns[place].saturating_add(1);
        seen.insert(at, day);
        let forgotten = seen.len().saturating_sub(DAYS_OF_SOURCE_MAX);
        store_seen(tables, txn, source, &seen[forgotten..])
    }

    /// Records of a source on a day are gone, and the day is no longer shown.
    fn part(&mut self, tables: &Tables, txn: &mut RwTxn<'_>, day: Day, source: IpAddr) -> Result<(), Fault> {
        let mut seen = seen_on(tables, txn, source)?;
        let Ok(at) = seen.binary_search(&day) else { return Ok(()) };
        seen.remove(at);
        if let Some(after) = seen.get(at).copied() {
            let before = at.checked_sub(1).map(|before| seen[before]);
            self.move_return(tables, txn, after, Some(day), before)?;
        }
        store_seen(tables, txn, source, &seen)
    }

    /// On `day`, one source that was seen last on `from` now was seen last on `to`.
    fn move_return(
        &mut self,
        tables: &Tables,
        txn: &RoTxn<'_>,
        day: Day,
        from: Option<Day>,
        to: Option<Day>,
    ) -> Result<(), Fault> {
        // A day that is being removed has no sum, and gets none.
        if tables.removing(txn)?.is_some_and(|last| day <= last) {
            return Ok(());
        }
        let sum = self.of(tables, txn, day)?;
        let (from, to) = (return_place(day, from), return_place(day, to));
        sum.returns[from] = sum.returns[from].saturating_sub(1);
        sum.returns[to] = sum.returns[to].saturating_add(1);
        Ok(())
    }
}

/// Forgets that the sources were seen on these days, which are being removed.
pub(crate) fn forget(tables: &Tables, txn: &mut RwTxn<'_>, gone: &[(Day, IpAddr)]) -> Result<(), Fault> {
    let mut days = Days::default();
    for (day, source) in gone {
        days.part(tables, txn, *day, *source)?;
    }
    days.store(tables, txn)
}

fn return_place(day: Day, before: Option<Day>) -> usize {
    DaySum::place_of_return(before.map(|before| day.0 - before.0))
}

/// Ascending.
pub(crate) fn seen_on(tables: &Tables, txn: &RoTxn<'_>, source: IpAddr) -> Result<Vec<Day>, Fault> {
    let Some(value) = tables.seen.get(txn, &Key::EMPTY.with_source(source))? else { return Ok(Vec::new()) };
    let mut days = Vec::with_capacity(value.len() / 4 + 1);
    let mut fields = Fields::of("the days of a source", value);
    for _ in 0..value.len() / 4 {
        days.push(fields.day()?);
    }
    fields.end()?;
    Ok(days)
}

fn store_seen(tables: &Tables, txn: &mut RwTxn<'_>, source: IpAddr, days: &[Day]) -> Result<(), Fault> {
    let key = Key::EMPTY.with_source(source);
    if days.is_empty() {
        tables.seen.delete(txn, &key)?;
    } else {
        let value: Vec<u8> = days.iter().flat_map(|day| day.0.to_be_bytes()).collect();
        tables.seen.put(txn, &key, &value)?;
    }
    Ok(())
}
