//! Adding hits: the records, and in the same transaction everything that is counted from them.

mod day;
mod place;
mod port;
mod recent;
mod record;
mod source;

pub(crate) use day::{forget, seen_on};
pub(crate) use recent::recent;

use day::Days;

use crate::batch::Tallies;
use crate::clearing;
use crate::error::Fault;
use crate::layout::{Key, ScanKey, Subject, Tally, Target, grade};
use crate::sketch::{Mark, PART_REGISTERS};
use crate::store::Locate;
use crate::tables::{Table, Tables};
use glacis_control::Day;
use heed::RwTxn;
use std::net::IpAddr;

/// Above so many records of one source or port on one day, a sketch of them is kept.
pub(crate) const SKETCH_FROM: u32 = 256;

/// Adds the hits of all days but those that are being removed. Returns how many records were not taken for that.
pub(crate) fn add(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    tallies: &Tallies,
    locate: Locate<'_>,
) -> Result<u64, Fault> {
    clearing::finish(tables, txn)?;
    let removing = tables.removing(txn)?;
    let mut refused = 0;
    let mut days = Days::default();
    for of_day in tallies.days() {
        let Some((ScanKey { day, .. }, _)) = of_day.first() else { continue };
        if removing.is_some_and(|last| *day <= last) {
            refused += of_day.len() as u64;
            continue;
        }
        let mut adding = Adding { tables, locate, day: *day, days: &mut days, changes: Changes::default() };
        adding.add(txn, of_day)?;
        recent::note(tables, txn, of_day)?;
    }
    days.store(tables, txn)?;
    Ok(refused)
}

/// What the records of one day ask of its ports.
#[derive(Default)]
struct Changes {
    /// Hits of a target, of whichever source.
    hits: Vec<(Target, u64)>,
    /// Records that were not there before.
    fresh: Vec<(Target, IpAddr)>,
}

struct Adding<'a> {
    tables: &'a Tables,
    locate: Locate<'a>,
    day: Day,
    days: &'a mut Days,
    changes: Changes,
}

impl Adding<'_> {
    fn add(&mut self, txn: &mut RwTxn<'_>, of_day: &[(ScanKey, Tally)]) -> Result<(), Fault> {
        for of_source in of_day.chunk_by(|(a, _), (b, _)| a.source == b.source) {
            let fresh_before = self.changes.fresh.len();
            for run in of_source.chunk_by(|(a, _), (b, _)| a.target.protocol == b.target.protocol) {
                record::merge(self.tables, txn, run, &mut self.changes.fresh)?;
            }
            self.add_source(txn, of_source, fresh_before)?;
        }
        self.add_ports(txn)
    }
}

/// Moves a rank when the hits have another grade.
fn rank(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    key: impl Fn(u8) -> Key,
    (before, after): (u64, u64),
) -> Result<(), Fault> {
    let (old, new) = (grade(before), grade(after));
    if old != new {
        if before > 0 {
            tables.ranks.delete(txn, &key(old))?;
        }
        tables.ranks.put(txn, &key(new), &[])?;
    }
    Ok(())
}

fn rank_key(day: Day, subject: Subject, grade: u8) -> Key {
    Key::of_day(day).with(&[subject as u8, grade])
}

fn sketch_key(day: Day, subject: Subject) -> Key {
    Key::of_day(day).with(&[subject as u8])
}

/// Raises registers of the sketch whose parts lie under `key`; sorts the marks.
fn raise(sketches: Table, txn: &mut RwTxn<'_>, key: Key, marks: &mut [Mark]) -> Result<(), Fault> {
    marks.sort_unstable();
    for of_part in marks.chunk_by(|a, b| a.part == b.part) {
        let key = key.with(&[of_part[0].part]);
        let mut registers = [0; PART_REGISTERS];
        if let Some(stored) = sketches.get(txn, &key)? {
            for (to, from) in registers.iter_mut().zip(stored) {
                *to = *from;
            }
        }
        let before = registers;
        for mark in of_part {
            let register = &mut registers[usize::from(mark.register)];
            *register = (*register).max(mark.rank);
        }
        if registers != before {
            sketches.put(txn, &key, &registers)?;
        }
    }
    Ok(())
}
