//! Removing what is past the retention.
//!
//! Days go whole. A first transaction takes the sums of the days away and notes the last of them as being removed: from
//! then on no reader sees these days, and hits for them are refused. Their records, indexes and roll-ups follow in
//! bounded steps, with other work between them. A crash in between leaves the note, and the next step goes on.

use crate::StoreError;
use crate::environment::Environment;
use crate::error::Fault;
use crate::layout::{self, Fields, Key};
use crate::rollup;
use crate::tables::{Table, Tables};
use glacis_control::{Day, UnixMillis};
use heed::{RoTxn, RwTxn};
use std::ops::Bound;
use std::time::Duration;

/// Entries that one transaction removes from one table at most, so that a ban never waits long behind it.
const STEP_ENTRIES: usize = 4096;
/// The same of sources: each has its list of days, which lies anywhere.
const STEP_SOURCES: usize = 1024;
/// Sums of days that are taken away together; longer than any retention, short enough for one transaction.
const STEP_DAYS: usize = 512;

/// What one step of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retained {
    /// So many records went, and there may be more to remove.
    Some(u64),
    /// The last ones went.
    All(u64),
}

/// Removes some of the days that ended, and of the events that happened, `retention` ago or earlier; at last clients of
/// which nothing is known any more.
pub(crate) fn step(
    environment: &Environment,
    bytes_max: usize,
    now: UnixMillis,
    retention: Duration,
) -> Result<Retained, StoreError> {
    let step = "removing old records";
    let oldest = UnixMillis(now.0.saturating_sub(retention.as_millis() as u64));
    if let Some(last) = environment.read(step, Tables::removing)? {
        let records = environment.write(step, bytes_max, |tables, txn| remove_some(tables, txn, last))?;
        return Ok(Retained::Some(records));
    }
    let days = environment.read(step, |tables, txn| days_before(tables, txn, Day::of(oldest)))?;
    if let Some(last) = days.last() {
        environment.write(step, bytes_max, |tables, txn| {
            for day in &days {
                tables.days.delete(txn, &Key::of_day(*day))?;
            }
            tables.set_removing(txn, Some(*last))
        })?;
        return Ok(Retained::Some(0));
    }
    let events = environment.read(step, |tables, txn| old_events(tables, txn, oldest))?;
    if !events.is_empty() {
        environment.write(step, bytes_max, |tables, txn| {
            for key in &events {
                tables.events.delete(txn, key)?;
            }
            Ok(())
        })?;
        return Ok(Retained::Some(events.len() as u64));
    }
    let clients = environment.read(step, |tables, txn| tables.clients_over(txn, now, STEP_ENTRIES))?;
    if !clients.is_empty() {
        environment.write(step, bytes_max, |tables, txn| {
            clients.iter().try_for_each(|client| tables.forget_client(txn, *client))
        })?;
    }
    let removed = clients.len() as u64;
    Ok(if clients.len() < STEP_ENTRIES { Retained::All(removed) } else { Retained::Some(removed) })
}

/// Ascending.
fn days_before(tables: &Tables, txn: &RoTxn<'_>, oldest: Day) -> Result<Vec<Day>, Fault> {
    let before = Key::of_day(oldest);
    let range = tables.days.range(txn, &(Bound::Unbounded, Bound::Excluded(&*before)))?;
    range.take(STEP_DAYS).map(|entry| Ok(Fields::of("the key of a day", entry?.0).day()?)).collect()
}

/// The oldest first.
fn old_events(tables: &Tables, txn: &RoTxn<'_>, oldest: UnixMillis) -> Result<Vec<Vec<u8>>, Fault> {
    let mut old = Vec::new();
    for entry in tables.events.iter(txn)?.take(STEP_ENTRIES) {
        let (key, value) = entry?;
        if layout::event_at(value)? >= oldest {
            break;
        }
        old.push(key.to_vec());
    }
    Ok(old)
}

/// Removes from the first table that has entries of a day up to `last`; the note goes when none has. Returns how many
/// records went.
fn remove_some(tables: &Tables, txn: &mut RwTxn<'_>, last: Day) -> Result<u64, Fault> {
    let gone = sources_until(tables, txn, last)?;
    if let Some((day, source)) = gone.last() {
        let end = Key::of_day(*day).with_source(*source);
        tables.sources.delete_range(txn, &(Bound::Unbounded, Bound::Included(&*end)))?;
        rollup::forget(tables, txn, &gone)?;
        return Ok(0);
    }
    let records = remove_front(tables.records, txn, last)?;
    if records > 0 {
        return Ok(records as u64);
    }
    for table in tables.by_day() {
        if remove_front(table, txn, last)? > 0 {
            return Ok(0);
        }
    }
    tables.set_removing(txn, None)?;
    if tables.sources.is_empty(txn)? {
        tables.places.clear(txn)?;
        tables.place_ids.clear(txn)?;
    }
    Ok(0)
}

fn sources_until(tables: &Tables, txn: &RoTxn<'_>, last: Day) -> Result<Vec<(Day, std::net::IpAddr)>, Fault> {
    let mut gone = Vec::new();
    for entry in tables.sources.iter(txn)?.take(STEP_SOURCES) {
        let mut fields = Fields::of("the key of a source", entry?.0);
        let (day, source) = (fields.day()?, fields.source()?);
        if day > last {
            break;
        }
        gone.push((day, source));
    }
    Ok(gone)
}

/// Returns how many entries went; at most [`STEP_ENTRIES`].
fn remove_front(table: Table, txn: &mut RwTxn<'_>, last: Day) -> Result<usize, Fault> {
    let mut end = None;
    for entry in table.iter(txn)?.take(STEP_ENTRIES) {
        let (key, _) = entry?;
        if Fields::of("a key by day", key).day()? > last {
            break;
        }
        end = Some(Key::EMPTY.with(key));
    }
    let Some(end) = end else { return Ok(0) };
    Ok(table.delete_range(txn, &(Bound::Unbounded, Bound::Included(&*end)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bounds, Store};
    use glacis_control::scan_query::{DayRange, ScanFilter};
    use glacis_control::{ProbeKinds, Protocol, ScanHit};
    use std::path::Path;

    const FIRST: Day = Day(20_000);

    fn open(dir: &Path) -> Store {
        Store::open(dir, Bounds { bytes_initial: 4 << 20, ..Bounds::default() }).unwrap()
    }

    fn hits(day: Day, ports: u16) -> Vec<ScanHit> {
        let source = "192.0.2.1".parse().unwrap();
        let (protocol, kinds, at) = (Protocol::Tcp, ProbeKinds::default(), day.start());
        (0..ports).map(|port| ScanHit { source, port, protocol, kinds, at, hits: 1 }).collect()
    }

    #[test]
    fn a02_a_removal_that_is_cut_off_shows_nothing_of_its_days_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let range = DayRange::new(FIRST, Day(FIRST.0 + 1)).unwrap();
        open(dir.path()).record(&hits(FIRST, 9000)).unwrap();
        open(dir.path()).record(&hits(range.last, 3)).unwrap();
        let (now, retention) = (Day(FIRST.0 + 2).start(), Some(Duration::from_hours(24)));
        let mut steps = 0;
        loop {
            // Opened anew for every step, as after a crash.
            let store = open(dir.path());
            let retained = store.retain_step(now, retention).unwrap();
            let reader = store.reader();
            let summary = reader.summary(range).unwrap();
            assert_eq!((summary.hits.current, summary.sources.current.count), (3, 1), "step {steps}");
            assert_eq!(summary.ports.current.count, 3);
            assert_eq!(reader.top_sources(range, 9).unwrap().rows[0].hits, 3);
            assert_eq!(reader.page(&ScanFilter::all(range), None, 1000).unwrap().rows.len(), 3);
            assert!(reader.newest(200).unwrap().iter().all(|row| row.record.day == range.last));
            // Refused as long as it is for a day that is being removed.
            if store.record(&hits(FIRST, 2)).unwrap() == 0 {
                assert_eq!(reader.summary(range).unwrap().hits.current, 5);
                break;
            }
            assert_ne!(retained, Retained::All(0), "removed, and still refused");
            steps += 1;
        }
        assert!(steps > 5, "{steps} steps");
    }
}
