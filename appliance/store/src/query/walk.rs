//! Walks over the records of a day, by whichever index the filter makes short.

use super::filter::{ALL_SOURCES, Criteria};
use super::listing::Places;
use super::page::Position;
use crate::error::Fault;
use crate::layout::{Fields, Key, ScanKey, SourceSum, Tally, Target};
use crate::tables::Tables;
use glacis_control::Day;
use glacis_control::scan_query::ScanPage;
use heed::types::Bytes;
use heed::{RoRange, RoTxn};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::ops::{Bound, ControlFlow};

/// Entries that one page looks at. At the bound the page ends, says that it is not complete, and the next goes on.
const VISITS_MAX: usize = 10_000;
/// Places whose sources are merged; with more of them, the sources of a day are walked and their places looked at.
const PLACES_MERGED_MAX: usize = 256;

/// Whether the page goes on.
type Flow = ControlFlow<()>;

pub(super) struct Walk<'a, 'txn> {
    tables: &'a Tables,
    txn: &'a RoTxn<'txn>,
    criteria: &'a Criteria,
    limit: usize,
    visits: usize,
    /// Everything up to here was looked at.
    position: Option<Position>,
    places: Places<'a, 'txn>,
    /// For the written form of addresses.
    scratch: String,
    pub page: ScanPage,
}

impl<'a, 'txn> Walk<'a, 'txn> {
    pub fn new(tables: &'a Tables, txn: &'a RoTxn<'txn>, criteria: &'a Criteria, limit: usize) -> Self {
        Self {
            tables,
            txn,
            criteria,
            limit,
            visits: 0,
            position: None,
            places: Places::new(tables, txn),
            scratch: String::new(),
            page: ScanPage { rows: Vec::new(), next: None, complete: true },
        }
    }

    /// Lists what passes of one day, after a position in it.
    pub fn day(&mut self, day: Day, after: Option<Position>) -> Result<Flow, Fault> {
        if self.lacks_protocol(day)? {
            return Ok(Flow::Continue(()));
        }
        let flow = match self.criteria.targets() {
            Some(targets) => self.by_port(day, &targets, after)?,
            None => self.by_source(day, after)?,
        };
        if flow.is_continue() {
            self.position = Some(Position::behind(day, ALL_SOURCES.1));
        }
        Ok(flow)
    }

    fn lacks_protocol(&self, day: Day) -> Result<bool, Fault> {
        let Some(protocol) = self.criteria.protocol else { return Ok(false) };
        let prefix = Key::of_day(day).with(&[protocol.number()]);
        Ok(self.tables.ports.prefix_iter(self.txn, &prefix)?.next().transpose()?.is_none())
    }

    fn visit(&mut self) -> Flow {
        self.visits += 1;
        if self.visits <= VISITS_MAX {
            return Flow::Continue(());
        }
        self.page.complete = false;
        self.page.next = self.position.as_ref().map(Position::text);
        Flow::Break(())
    }

    fn accept(&mut self, key: &ScanKey, tally: Tally, place: u32) -> Result<Flow, Fault> {
        if self.page.rows.len() == self.limit {
            self.page.next = self.position.as_ref().map(Position::text);
            return Ok(Flow::Break(()));
        }
        self.page.rows.push(self.places.row(key, tally, place)?);
        self.position = Some(Position::at(key));
        Ok(Flow::Continue(()))
    }

    fn by_port(&mut self, day: Day, targets: &[Target], after: Option<Position>) -> Result<Flow, Fault> {
        let mut lanes = Vec::with_capacity(targets.len());
        for target in targets {
            lanes.push(self.open_port(day, *target, after)?);
        }
        let mut heads = Vec::with_capacity(lanes.len());
        for lane in &mut lanes {
            heads.push(next_by_port(lane)?);
        }
        loop {
            let present = heads.iter().enumerate().filter_map(|(index, head)| Some(((*head)?, index)));
            let Some((key, index)) = present.min() else { return Ok(Flow::Continue(())) };
            heads[index] = next_by_port(&mut lanes[index])?;
            if self.visit().is_break() {
                return Ok(Flow::Break(()));
            }
            if self.passes_by_port(&key)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
    }

    fn passes_by_port(&mut self, key: &ScanKey) -> Result<Flow, Fault> {
        if self.criteria.takes_source(key.source, &mut self.scratch) {
            let place = self.places.id(key.day, key.source)?;
            if self.criteria.takes_place(place)
                && let Some(value) = self.tables.records.get(self.txn, &key.bytes())?
            {
                return self.accept(key, Tally::parse(value)?, place);
            }
        }
        self.position = Some(Position::at(key));
        Ok(Flow::Continue(()))
    }

    fn open_port(
        &self,
        day: Day,
        target: Target,
        after: Option<Position>,
    ) -> Result<RoRange<'a, Bytes, Bytes>, Fault> {
        let prefix = Key::of_day(day).with_target(target);
        let low = prefix.with_source(self.criteria.low);
        let high = prefix.with_source(self.criteria.high);
        let begun = after.filter(|after| after.source >= self.criteria.low);
        let from = begun.map_or(low, |after| prefix.with_source(after.source));
        let passed = begun
            .is_some_and(|after| (target.protocol.number(), target.port) <= (after.protocol, after.port));
        let from = if passed { Bound::Excluded(&*from) } else { Bound::Included(&*from) };
        Ok(self.tables.by_port.range(self.txn, &(from, Bound::Included(&*high)))?)
    }

    fn by_source(&mut self, day: Day, after: Option<Position>) -> Result<Flow, Fault> {
        let low = after.map_or(self.criteria.low, |after| after.source.max(self.criteria.low));
        let mut sources = self.open_sources(day, low)?;
        while let Some((source, place)) = sources.next()? {
            if self.visit().is_break() {
                return Ok(Flow::Break(()));
            }
            if self.criteria.takes_place(place) && self.criteria.takes_source(source, &mut self.scratch) {
                let after = after.filter(|after| after.source == source);
                if self.records(day, source, place, after)?.is_break() {
                    return Ok(Flow::Break(()));
                }
            }
            self.position = Some(Position::behind(day, source));
        }
        Ok(Flow::Continue(()))
    }

    fn records(
        &mut self,
        day: Day,
        source: IpAddr,
        place: u32,
        after: Option<Position>,
    ) -> Result<Flow, Fault> {
        let of_source = Key::of_day(day).with_source(source);
        let numbers = self.criteria.protocol.map_or((0, u8::MAX), |only| (only.number(), only.number()));
        let low = of_source.with(&[numbers.0]);
        let high = of_source.with(&[numbers.1, u8::MAX, u8::MAX]);
        let begun = after.map(|after| after.key()).filter(|after| **after > *low);
        let from = begun.as_ref().map_or(Bound::Included(&*low), |after| Bound::Excluded(&**after));
        for entry in self.tables.records.range(self.txn, &(from, Bound::Included(&*high)))? {
            if self.visit().is_break() {
                return Ok(Flow::Break(()));
            }
            let (key, value) = entry?;
            if self.accept(&ScanKey::parse(key)?, Tally::parse(value)?, place)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    fn open_sources(&mut self, day: Day, low: IpAddr) -> Result<Sources<'a>, Fault> {
        let high = self.criteria.high;
        let range = |prefix: Key| (prefix.with_source(low), prefix.with_source(high));
        let Some(places) = self.criteria.places.as_ref().filter(|ids| ids.len() <= PLACES_MERGED_MAX) else {
            let (from, to) = range(Key::of_day(day));
            let bounds = (Bound::Included(&*from), Bound::Included(&*to));
            return Ok(Sources::OfDay(self.tables.sources.range(self.txn, &bounds)?));
        };
        let mut merged = Merged { lanes: Vec::with_capacity(places.len()), heads: BinaryHeap::new() };
        for place in places {
            let (from, to) = range(Key::of_day(day).with(&place.to_be_bytes()));
            let bounds = (Bound::Included(&*from), Bound::Included(&*to));
            merged.lanes.push((*place, self.tables.by_place.range(self.txn, &bounds)?));
            merged.advance(merged.lanes.len() - 1)?;
        }
        self.visits += places.len();
        Ok(Sources::OfPlaces(merged))
    }
}

fn next_by_port(lane: &mut RoRange<'_, Bytes, Bytes>) -> Result<Option<ScanKey>, Fault> {
    let next = lane.next().transpose()?;
    Ok(next.map(|(key, _)| ScanKey::parse_by_port(key)).transpose()?)
}

/// Sources of one day with their places, by ascending address.
enum Sources<'txn> {
    OfDay(RoRange<'txn, Bytes, Bytes>),
    OfPlaces(Merged<'txn>),
}

impl Sources<'_> {
    fn next(&mut self) -> Result<Option<(IpAddr, u32)>, Fault> {
        match self {
            Self::OfDay(sources) => {
                let Some((key, value)) = sources.next().transpose()? else { return Ok(None) };
                let mut fields = Fields::of("the key of a source", key);
                fields.day()?;
                Ok(Some((fields.source()?, SourceSum::parse(value)?.place)))
            }
            Self::OfPlaces(merged) => {
                let Some(Reverse((source, index))) = merged.heads.pop() else { return Ok(None) };
                merged.advance(index)?;
                Ok(Some((source, merged.lanes[index].0)))
            }
        }
    }
}

/// The sources of several places in one order.
struct Merged<'txn> {
    lanes: Vec<(u32, RoRange<'txn, Bytes, Bytes>)>,
    /// The next source of each lane that has one, the least on top.
    heads: BinaryHeap<Reverse<(IpAddr, usize)>>,
}

impl Merged<'_> {
    fn advance(&mut self, index: usize) -> Result<(), Fault> {
        if let Some((key, _)) = self.lanes[index].1.next().transpose()? {
            let mut fields = Fields::of("the key of a source by its place", key);
            let (_, _) = (fields.day()?, fields.u32()?);
            self.heads.push(Reverse((fields.source()?, index)));
        }
        Ok(())
    }
}
