//! Distinct ports of a source, and distinct sources of a port, over several days.

use super::busiest::Ranked;
use crate::error::Fault;
use crate::layout::{Fields, Key};
use crate::rollup::SKETCH_FROM;
use crate::sketch::Sketch;
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::Distinct;
use heed::RoTxn;

/// So many records of one source or port are compared one by one.
const EXACT_MAX: u64 = 4096;

/// Exact for a single day and for few records; else the estimate of a sketch, whose standard error is 1.63 %.
pub(super) fn distinct<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    subject: S,
    sums: &[(Day, S::Sum)],
) -> Result<Distinct, Fault> {
    let counts = || sums.iter().map(|(_, sum)| u64::from(S::count(sum)));
    let (all, most) = (counts().sum::<u64>(), counts().max().unwrap_or(0));
    if all == most {
        return Ok(Distinct { count: all, exact: true });
    }
    if all > EXACT_MAX {
        let count = estimate(tables, txn, subject, sums)?.clamp(most, all);
        return Ok(Distinct { count, exact: false });
    }
    let mut elements = Vec::with_capacity(all as usize);
    for (day, _) in sums {
        for entry in subject.records(tables, txn, *day)? {
            elements.push(S::element(entry?.0)?);
        }
    }
    elements.sort_unstable();
    elements.dedup();
    Ok(Distinct { count: elements.len() as u64, exact: true })
}

fn estimate<S: Ranked>(
    tables: &Tables,
    txn: &RoTxn<'_>,
    subject: S,
    sums: &[(Day, S::Sum)],
) -> Result<u64, Fault> {
    let mut sketch = Sketch::default();
    for (day, sum) in sums {
        if S::count(sum) > SKETCH_FROM {
            let prefix = subject.in_key(Key::of_day(*day).with(&[S::SUBJECT as u8]));
            for entry in tables.sketches.prefix_iter(txn, &prefix)? {
                let (key, registers) = entry?;
                let part = key.last().copied().unwrap_or(u8::MAX);
                let wrong = || Fields::of("the key of a sketch", key).wrong("part", part.into());
                sketch.merge_part(part, registers).ok_or_else(wrong)?;
            }
        } else {
            for entry in subject.records(tables, txn, *day)? {
                sketch.insert(S::mark(&S::element(entry?.0)?));
            }
        }
    }
    Ok(sketch.estimate())
}
