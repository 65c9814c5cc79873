//! The records that were seen last.

use crate::error::Fault;
use crate::layout::{Fields, ScanKey, Tally};
use crate::tables::Tables;
use glacis_control::UnixMillis;
use heed::{RoTxn, RwTxn};
use std::cmp::Reverse;
use std::collections::HashSet;

/// Records in the list.
pub(crate) const RECENT_MAX: usize = 128;

/// Newest first; some may have been removed since.
pub(crate) fn recent(tables: &Tables, txn: &RoTxn<'_>) -> Result<Vec<(UnixMillis, ScanKey)>, Fault> {
    let entries = tables.recent.iter(txn)?.map(|entry| {
        let mut fields = Fields::of("a recent record", entry?.1);
        Ok((UnixMillis(fields.u64()?), ScanKey::parse(fields.rest())?))
    });
    entries.collect()
}

/// Puts records that have just been hit among them.
pub(super) fn note(tables: &Tables, txn: &mut RwTxn<'_>, hit: &[(ScanKey, Tally)]) -> Result<(), Fault> {
    let mut newest: Vec<_> = hit.iter().map(|(key, tally)| (tally.record(key).last, *key)).collect();
    if newest.len() > RECENT_MAX {
        newest.select_nth_unstable_by_key(RECENT_MAX, |(last, _)| Reverse(*last));
        newest.truncate(RECENT_MAX);
    }
    let before = recent(tables, txn)?;
    newest.extend(&before);
    newest.sort_by_key(|(last, key)| (Reverse(*last), *key));
    let mut known = HashSet::new();
    newest.retain(|(_, key)| known.insert(*key));
    newest.truncate(RECENT_MAX);
    for (position, (last, key)) in newest.iter().enumerate() {
        if before.get(position) != Some(&(*last, *key)) {
            let mut value = last.0.to_be_bytes().to_vec();
            value.extend(&*key.bytes());
            tables.recent.put(txn, &[position as u8], &value)?;
        }
    }
    Ok(())
}
