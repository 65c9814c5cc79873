//! The records themselves.

use crate::error::Fault;
use crate::layout::{ScanKey, Tally, Target};
use crate::tables::Tables;
use heed::RwTxn;
use std::net::IpAddr;
use std::ops::Bound;

/// Records that a walk may pass for each one that it is for.
const WALK_PER_RECORD: usize = 4;

/// Whether a walk over all ports between the first and the last costs less than looking them up.
fn is_dense(run: &[(ScanKey, Tally)]) -> bool {
    let ([(first, _), ..], [.., (last, _)]) = (run, run) else { return false };
    let span = usize::from(last.target.port - first.target.port) + 1;
    run.len() > 1 && span <= run.len() * WALK_PER_RECORD
}

/// Adds to the records of one source and protocol on one day; those that are new are appended to `fresh`.
///
/// Ports that lie close together are met by one walk; others are looked up one by one.
pub(super) fn merge(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    run: &[(ScanKey, Tally)],
    fresh: &mut Vec<(Target, IpAddr)>,
) -> Result<(), Fault> {
    if is_dense(run) {
        let mut missing = Vec::new();
        add_to_present(tables, txn, run, &mut missing)?;
        for (key, tally) in missing {
            tables.records.put(txn, &key.bytes(), &tally.bytes())?;
            fresh.push((key.target, key.source));
        }
        return Ok(());
    }
    for (key, tally) in run {
        let bytes = key.bytes();
        let stored = tables.records.get(txn, &bytes)?.map(Tally::parse).transpose()?;
        if stored.is_none() {
            fresh.push((key.target, key.source));
        }
        let sum = stored.map_or(*tally, |stored| stored.merged(*tally));
        tables.records.put(txn, &bytes, &sum.bytes())?;
    }
    Ok(())
}

/// Adds to the records that are there, in one walk from the run's first to its last.
fn add_to_present(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    run: &[(ScanKey, Tally)],
    missing: &mut Vec<(ScanKey, Tally)>,
) -> Result<(), Fault> {
    let ([(first, _), ..], [.., (last, _)]) = (run, run) else { return Ok(()) };
    let (low, high) = (first.bytes(), last.bytes());
    let mut walk = tables.records.range_mut(txn, &(Bound::Included(&*low), Bound::Included(&*high)))?;
    let mut wanted = run.iter().peekable();
    while let Some((key, value)) = walk.next().transpose()? {
        let (stored_key, stored) = (ScanKey::parse(key)?, Tally::parse(value)?);
        while let Some(absent) = wanted.next_if(|(key, _)| *key < stored_key) {
            missing.push(*absent);
        }
        if let Some((key, tally)) = wanted.next_if(|(key, _)| *key == stored_key) {
            let sum = stored.merged(*tally).bytes();
            // SAFETY: nothing borrowed from the database is used here or afterwards: key and sum are copies, and the
            // key is the one that the walk stands at.
            unsafe { walk.put_current(&key.bytes(), &sum)? };
        }
    }
    missing.extend(wanted);
    Ok(())
}
