//! Sources of a day.

use super::{Adding, SKETCH_FROM, place, raise, rank, rank_key, sketch_key};
use crate::error::Fault;
use crate::layout::{Key, PLACE_UNKNOWN, ScanKey, SourceSum, Subject, Tally};
use crate::sketch::Mark;
use heed::RwTxn;
use std::net::IpAddr;

impl Adding<'_> {
    /// Adds records of one source, of which those in `changes.fresh` from `fresh_from` on are new.
    pub(super) fn add_source(
        &mut self,
        txn: &mut RwTxn<'_>,
        of_source: &[(ScanKey, Tally)],
        fresh_from: usize,
    ) -> Result<(), Fault> {
        let [(ScanKey { source, .. }, first), rest @ ..] = of_source else { return Ok(()) };
        let added = rest.iter().fold(*first, |sum, (_, tally)| sum.merged(*tally));
        self.changes.hits.extend(of_source.iter().map(|(key, tally)| (key.target, tally.hits)));

        let fresh = (self.changes.fresh.len() - fresh_from) as u32;
        let key = Key::of_day(self.day).with_source(*source);
        let stored = self.tables.sources.get(txn, &key)?.map(SourceSum::parse).transpose()?;
        let (ports, hits) = stored.map_or((0, 0), |stored| (stored.ports, stored.tally.hits));
        let sum = match stored {
            Some(stored) => SourceSum {
                tally: stored.tally.merged(added),
                ports: ports.saturating_add(fresh),
                place: stored.place,
            },
            None => SourceSum { tally: added, ports: fresh, place: self.meet(txn, *source)? },
        };
        self.tables.sources.put(txn, &key, &sum.bytes())?;
        let ranked = |grade| rank_key(self.day, Subject::Source, grade).with_source(*source);
        rank(self.tables, txn, ranked, (hits, sum.tally.hits))?;
        if sum.ports > SKETCH_FROM && fresh > 0 {
            self.sketch_source(txn, *source, ports, fresh_from)?;
        }
        let day = self.days.of(self.tables, txn, self.day)?;
        day.hits = day.hits.saturating_add(added.hits);
        Ok(())
    }

    /// A source that is new on this day. Returns its place.
    fn meet(&mut self, txn: &mut RwTxn<'_>, source: IpAddr) -> Result<u32, Fault> {
        self.days.meet(self.tables, txn, self.day, source)?;
        let place = place::id_of(self.tables, txn, &(self.locate)(source))?;
        if place != PLACE_UNKNOWN {
            let key = Key::of_day(self.day).with(&place.to_be_bytes()).with_source(source);
            self.tables.by_place.put(txn, &key, &[])?;
        }
        Ok(place)
    }

    /// The sketch begins with all records of the source; afterwards it gets the new ones.
    fn sketch_source(
        &self,
        txn: &mut RwTxn<'_>,
        source: IpAddr,
        ports_before: u32,
        fresh_from: usize,
    ) -> Result<(), Fault> {
        let mut marks = Vec::new();
        if ports_before > SKETCH_FROM {
            marks.extend(self.changes.fresh[fresh_from..].iter().map(|(target, _)| Mark::of_target(*target)));
        } else {
            let prefix = Key::of_day(self.day).with_source(source);
            for entry in self.tables.records.prefix_iter(txn, &prefix)? {
                marks.push(Mark::of_target(ScanKey::parse(entry?.0)?.target));
            }
        }
        let key = sketch_key(self.day, Subject::Source).with_source(source);
        raise(self.tables.sketches, txn, key, &mut marks)
    }
}
