//! From layout 1, in place.
//!
//! A store of layout 1 is marked as one of this layout at once, so that an older version refuses it. Its records then
//! move to the new databases, newest first, in transactions that add and remove the same ones: killed at any moment, what
//! is left in `scans` is what is left to do. Until then readers see the records that have moved, and sums of just these.

use crate::batch::Tallies;
use crate::environment::Environment;
use crate::error::Fault;
use crate::layout::{ScanKey, Tally, parse_old_scan};
use crate::store::Locate;
use crate::tables::Tables;
use crate::{StoreError, rollup};
use heed::{RoTxn, RwTxn};
use std::ops::Bound;

/// Records that move together.
const STEP_RECORDS: usize = 8192;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgraded {
    /// There may be more.
    Some,
    All,
    /// The store is full: so many records of the oldest days are lost, and the upgrade is done.
    Lost(u64),
}

pub(crate) fn step(
    environment: &Environment,
    scan_bytes_max: usize,
    bytes_max: usize,
    locate: Locate<'_>,
) -> Result<Upgraded, StoreError> {
    let step = "upgrading scans of layout 1";
    let old = environment.read(step, newest)?;
    if old.is_empty() {
        return Ok(Upgraded::All);
    }
    let tallies: Tallies = old.iter().map(|(_, record)| *record).collect();
    // Ascending, since the walk was backwards.
    let Some((first, _)) = old.last() else { return Ok(Upgraded::All) };
    let outcome = environment.write(step, scan_bytes_max, |tables, txn| {
        remove_from(tables, txn, first)?;
        rollup::add(tables, txn, &tallies, locate)
    });
    match outcome {
        Ok(_) => Ok(Upgraded::Some),
        Err(StoreError::Full { .. }) => {
            let lost = environment.write(step, bytes_max, |tables, txn| {
                let Some(old) = tables.old_scans else { return Ok(0) };
                let records = old.len(txn)?;
                old.clear(txn)?;
                Ok(records)
            })?;
            Ok(Upgraded::Lost(lost))
        }
        Err(error) => Err(error),
    }
}

type Old = (Vec<u8>, (ScanKey, Tally));

/// Newest first, with their keys in layout 1.
fn newest(tables: &Tables, txn: &RoTxn<'_>) -> Result<Vec<Old>, Fault> {
    let Some(old) = tables.old_scans else { return Ok(Vec::new()) };
    let records = old.rev_iter(txn)?.take(STEP_RECORDS).map(|entry| {
        let (key, value) = entry?;
        Ok((key.to_vec(), parse_old_scan(key, value)?))
    });
    records.collect()
}

fn remove_from(tables: &Tables, txn: &mut RwTxn<'_>, first: &[u8]) -> Result<(), Fault> {
    if let Some(old) = tables.old_scans {
        old.delete_range(txn, &(Bound::Included(first), Bound::Unbounded))?;
    }
    Ok(())
}
