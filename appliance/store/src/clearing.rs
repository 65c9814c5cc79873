//! Removing all scans at once.
//!
//! LMDB gives back a whole tree without looking at its leaves. But it looks at all branches, of which a store of ten
//! million records has some thousands, and where they are not in memory it waits for the disk. So one transaction takes
//! away what every question begins with, and notes that the rest is going: from then on there are no scans. The trees
//! follow, each in a transaction of its own, with bans between them. Whoever adds hits to a store whose clearing was cut
//! off finishes it first.

use crate::error::Fault;
use crate::tables::Tables;
use heed::RwTxn;

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clearing {
    Some,
    Done,
}

/// From here on readers see no scans. Returns how many records there were.
pub(crate) fn begin(tables: &Tables, txn: &mut RwTxn<'_>) -> Result<u64, Fault> {
    let mut records = tables.scan_records(txn)?;
    if let Some(old) = tables.old_scans {
        records += old.len(txn)?;
    }
    for table in [tables.days, tables.port_numbers, tables.recent].into_iter().chain(tables.old_scans) {
        table.clear(txn)?;
    }
    tables.set_removing(txn, None)?;
    tables.set_clearing(txn, true)?;
    Ok(records)
}

/// Removes one tree of a clearing that has begun.
pub(crate) fn step(tables: &Tables, txn: &mut RwTxn<'_>) -> Result<Clearing, Fault> {
    if !tables.is_clearing(txn)? {
        return Ok(Clearing::Done);
    }
    for table in tables.of_scans() {
        if !table.is_empty(txn)? {
            table.clear(txn)?;
            return Ok(Clearing::Some);
        }
    }
    tables.set_clearing(txn, false)?;
    Ok(Clearing::Done)
}

/// Removes what is left, in this transaction.
pub(crate) fn finish(tables: &Tables, txn: &mut RwTxn<'_>) -> Result<(), Fault> {
    while step(tables, txn)? == Clearing::Some {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bounds, Store};
    use glacis_control::scan_query::{DayRange, ScanFilter};
    use glacis_control::{Day, ProbeKinds, Protocol, ScanHit};
    use std::path::Path;

    const DAY: Day = Day(20_000);

    fn open(dir: &Path) -> Store {
        Store::open(dir, Bounds { bytes_initial: 4 << 20, ..Bounds::default() }).unwrap()
    }

    fn hits(ports: u16) -> Vec<ScanHit> {
        let source = "192.0.2.1".parse().unwrap();
        let (protocol, kinds, at) = (Protocol::Tcp, ProbeKinds::default(), DAY.start());
        (0..ports).map(|port| ScanHit { source, port, protocol, kinds, at, hits: 1 }).collect()
    }

    /// Hits, records, ports and rows that a reader sees.
    fn seen(store: &Store) -> [u64; 5] {
        let (reader, days) = (store.reader(), DayRange::ending(DAY, 2));
        let summary = reader.summary(days).unwrap();
        let tops =
            reader.top_ports(days, 9).unwrap().rows.len() + reader.top_sources(days, 9).unwrap().rows.len();
        let rows = reader.page(&ScanFilter::all(days), None, 1000).unwrap().rows.len();
        [
            summary.hits.current,
            summary.ports.current.count,
            tops as u64,
            (rows + reader.newest(200).unwrap().len()) as u64,
            reader.totals().unwrap().scan_records,
        ]
    }

    #[test]
    fn a24_a_clearing_that_is_cut_off_shows_nothing_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.record(&hits(700)).unwrap();
        assert_eq!(store.begin_clearing().unwrap(), 700);
        let mut steps = 0;
        loop {
            assert_eq!(seen(&store), [0; 5], "step {steps}");
            // Opened anew for every step, as after a crash.
            drop(store);
            store = open(dir.path());
            if store.clear_step().unwrap() == Clearing::Done {
                break;
            }
            steps += 1;
        }
        assert!(steps > 4, "{steps} steps");
        store.record(&hits(3)).unwrap();
        assert_eq!(store.clear_step().unwrap(), Clearing::Done);
        assert_eq!(seen(&store), [3, 3, 4, 6, 3]);
    }

    #[test]
    fn a24_hits_that_find_a_clearing_cut_off_finish_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.record(&hits(700)).unwrap();
        for steps in 0..4 {
            store.begin_clearing().unwrap();
            for _ in 0..steps {
                store.clear_step().unwrap();
            }
            store.record(&hits(3)).unwrap();
            assert_eq!(seen(&store), [3, 3, 4, 6, 3], "after {steps} steps");
        }
        assert_eq!(store.clear_scans().unwrap(), 3);
    }
}
