//! Answers to the questions about scans, each in bounded time whatever the store holds.

mod busiest;
mod distinct;
mod filter;
mod listing;
mod page;
mod summary;
mod top;
mod walk;

pub(crate) use listing::newest;
pub(crate) use page::{Position, page};
pub(crate) use summary::{summary, trend};
pub(crate) use top::{top_ports, top_sources};

use crate::error::Fault;
use crate::layout::{Fields, Key};
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::DayRange;
use heed::RoTxn;
use std::ops::Bound;

/// Days of the range that can be seen, ascending, each with the bytes of its sum.
fn days<'txn>(
    tables: &Tables,
    txn: &'txn RoTxn<'_>,
    range: DayRange,
) -> Result<Vec<(Day, &'txn [u8])>, Fault> {
    let (first, last) = (Key::of_day(range.first), Key::of_day(range.last));
    let range = tables.days.range(txn, &(Bound::Included(&*first), Bound::Included(&*last)))?;
    let days = range.map(|entry| {
        let (key, value) = entry?;
        Ok((Fields::of("the key of a day", key).day()?, value))
    });
    days.collect()
}
