//! Records of the store, read for all visitors together and never more often than the machine can bear.

use crate::worker::STORE_VARIABLE;
use glacis_control::{Ban, Day, Event, ScanRecord, UnixMillis};
use glacis_store::{ScanFilter, StoreError, StoreReader};
use std::cmp::Reverse;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most scan records, and most events, that are listed.
pub const ROWS_MAX: usize = 100;
/// Most bans that are listed.
pub const BANS_MAX: usize = 1000;
/// Scan records that are looked at to find the newest: about 12 MB for a moment.
const VISITS_MAX: usize = 200_000;
/// One reading serves everyone for at least this long,
const FRESH_FOR_MIN: Duration = Duration::from_secs(1);
/// and for this many times as long as it took: reading never takes more than a twentieth of the worker's time.
const FRESH_FOR_FACTOR: u32 = 20;

/// The newest records at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// Soonest to end first, permanent ones last; at most [`BANS_MAX`].
    pub bans: Vec<Ban>,
    /// Last seen first; at most [`ROWS_MAX`].
    pub scans: Vec<ScanRecord>,
    /// Newest first; at most [`ROWS_MAX`].
    pub events: Vec<Event>,
    /// Hits of this UTC day; `None` when it has more than [`VISITS_MAX`] records, or the store is closed.
    pub probes_today: Option<u64>,
    /// Why there are no records.
    pub trouble: Option<String>,
}

/// The store, open for reading, and its last reading.
pub struct Records {
    /// Or why there is none; the sandbox allows no second try.
    store: Result<StoreReader, String>,
    last: Mutex<Option<Reading>>,
}

struct Reading {
    recent: Arc<Recent>,
    stale_at: Instant,
}

impl Records {
    /// Opens the store that the core named; call it before privileges are dropped.
    ///
    /// A page without records is better than none, so a store that cannot be opened is not the worker's end.
    pub fn open_from_environment() -> Self {
        let store = match std::env::var_os(STORE_VARIABLE) {
            Some(dir) => StoreReader::open(Path::new(&dir)).map_err(|error| error.to_string()),
            None => Err("this process was given no store".into()),
        };
        if let Err(error) = &store {
            tracing::warn!(error, "no records on the status page");
        }
        Self { store, last: Mutex::new(None) }
    }

    pub fn recent(&self, now: UnixMillis) -> Arc<Recent> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        if let Some(reading) = last.as_ref().filter(|reading| started < reading.stale_at) {
            return reading.recent.clone();
        }
        let recent = Arc::new(self.read(now));
        let finished = Instant::now();
        let fresh_for = FRESH_FOR_MIN.max((finished - started) * FRESH_FOR_FACTOR);
        *last = Some(Reading { recent: recent.clone(), stale_at: finished + fresh_for });
        recent
    }

    fn read(&self, now: UnixMillis) -> Recent {
        let read = match &self.store {
            Ok(store) => read(store, now).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        read.unwrap_or_else(|trouble| Recent { trouble: Some(trouble), ..Recent::default() })
    }
}

fn read(store: &StoreReader, now: UnixMillis) -> Result<Recent, StoreError> {
    let today = Day::of(now);
    let (mut scans, probes_today) = newest(store, today..=today)?;
    if scans.len() < ROWS_MAX && today > Day(0) {
        scans.extend(newest(store, Day(0)..=Day(today.0 - 1))?.0);
        scans.truncate(ROWS_MAX);
    }
    let mut bans = store.bans()?;
    bans.retain(|ban| !ban.is_over(now));
    bans.sort_by_key(|ban| (ban.until.is_none(), ban.until, ban.source));
    bans.truncate(BANS_MAX);
    Ok(Recent { bans, scans, events: store.events(ROWS_MAX)?, probes_today, trouble: None })
}

/// The newest records of the days, and the hits of all of them unless there are too many to look at.
fn newest(
    store: &StoreReader,
    days: RangeInclusive<Day>,
) -> Result<(Vec<ScanRecord>, Option<u64>), StoreError> {
    let found = store.scans(&ScanFilter { days, ..ScanFilter::default() }, VISITS_MAX)?;
    let all = found.complete && found.records.len() < VISITS_MAX;
    let mut records = found.records;
    let hits = records.iter().fold(0, |sum: u64, record| sum.saturating_add(record.hits));
    records.sort_by_key(|record| Reverse((record.last, record.hits)));
    records.truncate(ROWS_MAX);
    records.shrink_to_fit();
    Ok((records, all.then_some(hits)))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, NOW};
    use super::*;
    use glacis_control::{ProbeKinds, Protocol, ScanHit};
    use glacis_store::{Bounds, Store};

    fn hit(port: u16, at: UnixMillis) -> ScanHit {
        ScanHit {
            source: "203.0.113.9".parse().unwrap(),
            port,
            protocol: Protocol::Tcp,
            kinds: ProbeKinds::default(),
            at,
            hits: 2,
        }
    }

    #[test]
    fn the_newest_come_first_over_days_and_only_today_is_summed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let hits = [hit(1, sample::before(60)), hit(2, sample::before(10)), hit(3, sample::before(86_400))];
        store.record(&hits).unwrap();
        let recent = read(&store.reader(), NOW).unwrap();
        let ports: Vec<_> = recent.scans.iter().map(|record| record.port).collect();
        assert_eq!(ports, [2, 1, 3]);
        assert_eq!(recent.probes_today, Some(4));
    }

    #[test]
    fn bans_that_are_over_are_gone_and_the_first_to_end_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        for (source, until) in [
            ("192.0.2.1/32", None),
            ("192.0.2.2/32", Some(NOW.plus(Duration::from_secs(9)))),
            ("192.0.2.3/32", Some(NOW)),
            ("192.0.2.4/32", Some(NOW.plus(Duration::from_millis(1)))),
        ] {
            store.put_ban(Ban { until, ..sample::ban(source) }).unwrap();
        }
        let sources: Vec<_> = read(&store.reader(), NOW)
            .unwrap()
            .bans
            .iter()
            .map(|ban| ban.source.addr().to_string())
            .collect();
        assert_eq!(sources, ["192.0.2.4", "192.0.2.2", "192.0.2.1"]);
    }

    #[test]
    fn one_reading_serves_all_visitors_of_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let records = Records { store: Ok(store.reader()), last: Mutex::new(None) };
        let first = records.recent(NOW);
        store.record(&[hit(1, NOW)]).unwrap();
        assert!(Arc::ptr_eq(&first, &records.recent(NOW)));
        records.last.lock().unwrap().as_mut().unwrap().stale_at = Instant::now();
        assert_eq!(records.recent(NOW).scans.len(), 1);
    }

    #[test]
    fn without_a_store_there_is_a_reason() {
        let records = Records { store: Err("gone".into()), last: Mutex::new(None) };
        assert_eq!(records.recent(NOW).trouble.as_deref(), Some("gone"));
    }
}
