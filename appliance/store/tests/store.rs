//! What a store keeps, gives back and refuses.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::scan_query::{DayRange, ScanFilter};
use glacis_control::{
    Ban, BanReason, Day, EventKind, Evidence, Offences, ProbeKinds, Protocol, ScanHit, ScanRecord, ScanShape,
    UnixMillis,
};
use glacis_store::{BanChange, Batch, Bounds, OffenceChange, Store, StoreError, StoreReader};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

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

fn offences(source: &str, count: u32) -> Offences {
    Offences { source: source.parse().unwrap(), count, until: Some(UnixMillis(NOON)) }
}

/// All records of the days around noon.
fn all(reader: &StoreReader) -> Vec<ScanRecord> {
    let filter = ScanFilter::all(DayRange::ending(Day(20_100), 365));
    let page = reader.page(&filter, None, 1000).unwrap();
    assert!(page.complete && page.next.is_none());
    page.rows.into_iter().map(|row| row.record).collect()
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
        offences: vec![OffenceChange::Put(offences("192.0.2.1/32", 2))],
        ..Batch::default()
    };
    let applied = open(dir.path()).apply(&batch).unwrap();
    assert_eq!((applied.events[0].id, applied.dropped), (0, 0));

    let store = open(dir.path());
    let reader = store.reader();
    let sources: Vec<_> = all(&reader).iter().map(|record| record.source.to_string()).collect();
    assert_eq!(sources, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(store.bans().unwrap(), [ban("192.0.2.1/32", Some(NOON)), ban("2001:db8::/64", None)]);
    assert_eq!(reader.events(10).unwrap(), applied.events);
    assert_eq!(reader.offences().unwrap(), [offences("192.0.2.1/32", 2)]);
    assert_eq!(store.append_event(&started(), UnixMillis(NOON)).unwrap().id, 1);
}

#[test]
fn hits_of_one_record_add_up_within_and_across_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&[hit("192.0.2.1", 22, NOON), hit("192.0.2.1", 22, NOON + 5)]).unwrap();
    store.record(&[hit("192.0.2.1", 22, NOON - 9)]).unwrap();
    let found = all(&store.reader());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].hits, found[0].first.0, found[0].last.0), (3, NOON - 9, NOON + 5));
}

#[test]
fn midnight_starts_a_new_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let midnight = NOON + DAY / 2;
    store.record(&[hit("192.0.2.1", 22, midnight - 1), hit("192.0.2.1", 22, midnight)]).unwrap();
    let days: Vec<_> = all(&store.reader()).iter().map(|record| record.day.0).collect();
    assert_eq!(days, [20_001, 20_000]);
}

#[test]
fn a31_offences_are_replaced_and_forgiven() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let change = |offences| store.apply(&Batch { offences, ..Batch::default() }).unwrap();
    change(vec![
        OffenceChange::Put(offences("192.0.2.1/32", 1)),
        OffenceChange::Put(offences("2001:db8::/64", 4)),
    ]);
    change(vec![OffenceChange::Put(offences("192.0.2.1/32", 2))]);
    change(vec![OffenceChange::Remove("2001:db8::/64".parse().unwrap())]);
    assert_eq!(store.reader().offences().unwrap(), [offences("192.0.2.1/32", 2)]);
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
    for (bytes_initial, bytes_max) in [(1 << 20, 15 << 20), (9 << 20, 16 << 20)] {
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
    let found = all(&store.reader());
    let hits: Vec<_> = found.iter().map(|record| (record.port, record.hits)).collect();
    let expected = [(9, 2), (10, 2), (11, 2), (12, 3), (13, 1), (14, 2), (15, 2), (16, 1), (60_000, 1)];
    assert_eq!(hits, expected);
}
