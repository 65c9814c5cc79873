//! What a store keeps, gives back and refuses.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::scan_query::DayRange;
use glacis_control::{
    Ban, BanReason, Day, EventKind, Evidence, ProbeKinds, Protocol, ScanHit, ScanShape, UnixMillis,
};
use glacis_store::{BanChange, Batch, Bounds, ScanFilter, Store, StoreError, StoreReader};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const DAY: u64 = 86_400_000;
const NOON: u64 = 20_000 * DAY + DAY / 2;

fn open(dir: &Path) -> Store {
    Store::open(dir, Bounds { bytes_initial: 1 << 20, ..Bounds::default() }).unwrap()
}

fn hit(source: &str, port: u16, at: u64) -> ScanHit {
    let source = source.parse().unwrap();
    ScanHit {
        source,
        port,
        protocol: Protocol::Tcp,
        kinds: ProbeKinds::default(),
        at: UnixMillis(at),
        hits: 1,
    }
}

fn ban(source: &str, until: Option<u64>) -> Ban {
    Ban {
        source: source.parse().unwrap(),
        since: UnixMillis(NOON),
        until: until.map(UnixMillis),
        reason: BanReason::Scan {
            shape: ScanShape::Volume,
            hits: 12,
            window_seconds: 60,
            evidence: Evidence { ports: 4, ..Evidence::default() },
        },
        author: "auto".into(),
    }
}

fn started() -> EventKind {
    EventKind::CoreStarted { version: "1".into() }
}

#[test]
fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let batch = Batch {
        hits: vec![hit("192.0.2.1", 22, NOON), hit("2001:db8::1", 22, NOON)],
        bans: vec![
            BanChange::Put(ban("2001:db8::/64", None)),
            BanChange::Put(ban("192.0.2.1/32", Some(NOON))),
        ],
        events: vec![(UnixMillis(NOON), started())],
        policy_revision: Some(7),
        ..Batch::default()
    };
    let applied = open(dir.path()).apply(&batch).unwrap();
    assert_eq!((applied.events[0].id, applied.dropped), (0, 0));

    let store = open(dir.path());
    let reader = store.reader();
    let scans = reader.scans(&ScanFilter::default(), 10).unwrap();
    let sources: Vec<_> = scans.records.iter().map(|record| record.source.to_string()).collect();
    assert_eq!(sources, ["2001:db8::1", "192.0.2.1"]);
    assert_eq!(store.bans().unwrap(), [ban("192.0.2.1/32", Some(NOON)), ban("2001:db8::/64", None)]);
    assert_eq!(reader.events(10).unwrap(), applied.events);
    assert_eq!(reader.policy_revision().unwrap(), 7);
    assert_eq!(store.append_event(&started(), UnixMillis(NOON)).unwrap().id, 1);
}

#[test]
fn hits_of_one_record_add_up_within_and_across_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&[hit("192.0.2.1", 22, NOON), hit("192.0.2.1", 22, NOON + 5)]).unwrap();
    store.record(&[hit("192.0.2.1", 22, NOON - 9)]).unwrap();
    let found = store.reader().scans(&ScanFilter::default(), 10).unwrap().records;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].hits, found[0].first.0, found[0].last.0), (3, NOON - 9, NOON + 5));
}

#[test]
fn midnight_starts_a_new_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let midnight = NOON + DAY / 2;
    store.record(&[hit("192.0.2.1", 22, midnight - 1), hit("192.0.2.1", 22, midnight)]).unwrap();
    let days = |filter: &ScanFilter| -> Vec<u32> {
        let scans = store.reader().scans(filter, 10).unwrap();
        scans.records.iter().map(|record| record.day.0).collect()
    };
    assert_eq!(days(&ScanFilter::default()), [20_001, 20_000]);
    assert_eq!(days(&ScanFilter { days: Day(0)..=Day(20_000), ..ScanFilter::default() }), [20_000]);
}

#[test]
fn a_filter_lists_what_passes_and_a_limit_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hits: Vec<_> = (0..3)
        .flat_map(|day| {
            ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"]
                .map(|source| hit(source, 22 + day, NOON + u64::from(day) * DAY))
        })
        .collect();
    store.record(&hits).unwrap();
    let count = |filter: &ScanFilter, limit| {
        let scans = store.reader().scans(filter, limit).unwrap();
        assert!(scans.complete);
        scans.records.len()
    };
    let all = ScanFilter::default();
    assert_eq!(count(&all, 100), 12);
    assert_eq!(count(&ScanFilter { source: Some("192.0.2.0/24".parse().unwrap()), ..all.clone() }, 100), 6);
    assert_eq!(
        count(&ScanFilter { source: Some("2001:db8::1/128".parse().unwrap()), ..all.clone() }, 100),
        3
    );
    assert_eq!(count(&ScanFilter { port: Some(23), ..all.clone() }, 100), 4);
    assert_eq!(count(&ScanFilter { protocol: Some(Protocol::Udp), ..all.clone() }, 100), 0);
    assert_eq!(count(&all, 0), 0);
    let newest = store.reader().scans(&all, 4).unwrap().records;
    assert!(newest.iter().all(|record| record.day == Day(20_002)), "{newest:?}");
}

#[test]
fn top_sources_add_up_over_days_and_count_ports_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut hits = vec![hit("203.0.113.9", 1, NOON)];
    for day in 0..3 {
        hits.push(hit("192.0.2.1", 22, NOON + day * DAY));
        hits.push(hit("192.0.2.1", 23 + day as u16, NOON + day * DAY));
        hits.push(hit("2001:db8::1", 22, NOON + day * DAY));
    }
    store.record(&hits).unwrap();
    let days = |first, last| DayRange::new(Day(first), Day(last)).unwrap();
    let top = store.reader().top_sources(days(20_000, 20_002), 2).unwrap();
    assert!(top.exact);
    let rows: Vec<_> =
        top.rows.iter().map(|total| (total.source.to_string(), total.hits, total.ports.count)).collect();
    assert_eq!(rows, [("192.0.2.1".to_owned(), 6, 4), ("2001:db8::1".to_owned(), 3, 1)]);
    assert_eq!((top.rows[0].first.0, top.rows[0].last.0), (NOON, NOON + 2 * DAY));
    let first_day = store.reader().top_sources(days(20_000, 20_000), 10).unwrap();
    assert_eq!(first_day.rows.len(), 3);
}

#[test]
fn a_ban_is_replaced_removed_and_expires() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_ban(ban("192.0.2.1/32", Some(NOON + 10))).unwrap();
    store.put_ban(ban("192.0.2.1/32", Some(NOON + 20))).unwrap();
    store.put_ban(ban("192.0.2.2/32", None)).unwrap();
    store.put_ban(ban("192.0.2.3/32", Some(NOON))).unwrap();
    assert!(store.expire_bans(UnixMillis(NOON - 1)).unwrap().is_empty());
    assert_eq!(store.expire_bans(UnixMillis(NOON)).unwrap(), [ban("192.0.2.3/32", Some(NOON))]);
    assert!(store.expire_bans(UnixMillis(NOON)).unwrap().is_empty());
    let source = "192.0.2.1/32".parse().unwrap();
    assert_eq!(store.remove_ban(source).unwrap(), Some(ban("192.0.2.1/32", Some(NOON + 20))));
    assert_eq!(store.remove_ban(source).unwrap(), None);
    assert_eq!(store.bans().unwrap(), [ban("192.0.2.2/32", None)]);
    let events = store.reader().events(10).unwrap();
    assert_eq!(events.len(), 1);
    assert!(matches!(events[0].kind, EventKind::BanExpired { .. }));
}

#[test]
fn retention_removes_days_that_are_over_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // More than one step's worth on the first day.
    let old: Vec<_> = (0..5000).map(|port| hit("192.0.2.1", port, NOON)).collect();
    store.record(&old).unwrap();
    store.record(&[hit("192.0.2.1", 22, NOON + DAY)]).unwrap();
    store.append_event(&started(), UnixMillis(NOON)).unwrap();
    store.append_event(&started(), UnixMillis(NOON + DAY)).unwrap();
    let full_day = Duration::from_millis(DAY);
    let end_of_second_day = 20_002 * DAY;
    assert_eq!(store.retain(UnixMillis(end_of_second_day - 1), Some(full_day)).unwrap(), 1, "the old event");
    assert_eq!(store.stats().unwrap().scan_records, 5001);
    assert_eq!(store.retain(UnixMillis(end_of_second_day), Some(full_day)).unwrap(), 5000);
    assert_eq!(store.retain(UnixMillis(end_of_second_day), Some(full_day)).unwrap(), 0);
    let stats = store.stats().unwrap();
    assert_eq!((stats.scan_records, stats.events), (1, 1));
    assert_eq!(store.append_event(&started(), UnixMillis(NOON + DAY)).unwrap().id, 2);
}

#[test]
fn the_oldest_events_go_at_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Bounds { events_max: 3, ..Bounds::default() }).unwrap();
    for at in 0..5 {
        store.append_event(&started(), UnixMillis(at)).unwrap();
    }
    let ids: Vec<_> = store.reader().events(10).unwrap().iter().map(|event| event.id).collect();
    assert_eq!(ids, [4, 3, 2]);
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    assert!(matches!(Store::open(dir.path(), Bounds::default()), Err(StoreError::AlreadyOpen { .. })));
}

#[test]
fn bounds_without_room_for_the_reserve_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes_initial, bytes_max) in [(1 << 20, 3 << 20), (7 << 20, 8 << 20)] {
        let bounds = Bounds { bytes_initial, bytes_max, events_max: 1 };
        assert!(matches!(Store::open(dir.path(), bounds), Err(StoreError::Bounds(_))));
    }
}

#[test]
fn a_reader_without_a_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(StoreReader::open(dir.path()), Err(StoreError::Missing { .. })));
    assert!(!dir.path().join("data.mdb").exists());
}

#[test]
fn another_layout_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Written by a version that keeps its meta data elsewhere and has no other database of ours.
    {
        let mut options = heed::EnvOpenOptions::new();
        options.max_dbs(1);
        // SAFETY: a directory of this test alone.
        let env = unsafe { options.open(dir.path()) }.unwrap();
        let txn = env.write_txn().unwrap();
        env.create_databases_and_commit(txn, |opener, txn| {
            let meta = opener.create_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some("meta"))?;
            meta.put(txn, b"layout", &3u32.to_be_bytes())?;
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(meta))
        })
        .unwrap();
    }
    let before = fs::read(dir.path().join("data.mdb")).unwrap();
    let error = Store::open(dir.path(), Bounds::default()).unwrap_err();
    assert!(matches!(error, StoreError::Layout { found: 3, .. }), "{error}");
    assert!(error.to_string().contains("layout 3"), "{error}");
    assert_eq!(fs::read(dir.path().join("data.mdb")).unwrap(), before);
}

type Inflict = fn(&fs::File);

#[test]
fn a_damaged_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.mdb");
    drop(open(dir.path()));
    let good = fs::read(&path).unwrap();
    let damages: [(&str, Inflict); 4] = [
        ("garbage in front", |file| file.write_all_at(&[0xa5; 8192], 0).unwrap()),
        ("cut inside the header", |file| file.set_len(100).unwrap()),
        ("one of two headers left", |file| file.set_len(4096).unwrap()),
        ("last page gone", |file| file.set_len(file.metadata().unwrap().len() - 4096).unwrap()),
    ];
    for (damage, inflict) in damages {
        fs::write(&path, &good).unwrap();
        inflict(&fs::OpenOptions::new().write(true).open(&path).unwrap());
        for error in [
            Store::open(dir.path(), Bounds::default()).unwrap_err(),
            StoreReader::open(dir.path()).unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Corrupt { .. }), "{damage}: {error}");
            assert!(error.to_string().contains("data.mdb"), "{error}");
        }
    }
    fs::write(&path, &good).unwrap();
    assert!(StoreReader::open(dir.path()).is_ok());
}

#[test]
fn records_add_up_whatever_of_a_run_is_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let record = |ports: &[u16]| {
        let hits: Vec<_> = ports.iter().map(|port| hit("192.0.2.1", *port, NOON)).collect();
        store.record(&hits).unwrap();
    };
    // Nothing there; every other one; all; one far away; ends only; a neighbour of the run, which stays.
    for ports in [&[10, 12, 14][..], &[10, 11, 12, 13, 14, 15], &[11, 12], &[9, 60_000], &[9, 15], &[16]] {
        record(ports);
    }
    let mut found = store.reader().scans(&ScanFilter::default(), 100).unwrap().records;
    found.reverse();
    let hits: Vec<_> = found.iter().map(|record| (record.port, record.hits)).collect();
    let expected = [(9, 2), (10, 2), (11, 2), (12, 3), (13, 1), (14, 2), (15, 2), (16, 1), (60_000, 1)];
    assert_eq!(hits, expected);
}
