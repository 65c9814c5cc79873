//! Stores of layout 1 become stores of this layout, whenever the upgrade is killed.
//!
//! The child is this test binary again, with an ignored test as its main function.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

mod model;

use glacis_control::scan_query::{DAYS_MAX, DayRange, Location, ScanFilter};
use glacis_control::{Ban, BanReason, Day, ProbeKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{Bounds, Store, StoreError, StoreReader, Writer};
use heed::types::Bytes;
use model::{Model, Random, location_of};
use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const DIR_VARIABLE: &str = "GLACIS_STORE_UPGRADE_DIR";
const TODAY: Day = Day(20_000);
const KILLS: u64 = 5;
/// More than a few steps of the upgrade.
const RECORDS: u64 = 25_000;
/// More than a small store has room for.
const FULL_RECORDS: u64 = 45_000;

fn bounds() -> Bounds {
    Bounds { bytes_initial: 16 << 20, ..Bounds::default() }
}

/// As version 1 wrote it: `scans` with the address as IPv6, without kinds.
fn write_layout_1(dir: &Path, hits: &[ScanHit], ban: &Ban) {
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(32 << 20).max_dbs(4);
    // SAFETY: a directory of this test alone.
    let env = unsafe { options.open(dir) }.unwrap();
    let txn = env.write_txn().unwrap();
    env.create_databases_and_commit(txn, |opener, txn| {
        let mut table = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
        let (scans, bans, _events, meta) =
            (table("scans")?, table("bans")?, table("events")?, table("meta")?);
        for hit in hits {
            let mut key = Day::of(hit.at).0.to_be_bytes().to_vec();
            key.extend(match hit.source {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            });
            key.push(hit.protocol.number());
            key.extend(hit.port.to_be_bytes());
            let mut value = hit.hits.to_be_bytes().to_vec();
            let of_day = (hit.at.0 % model::DAY_MILLIS) as u32;
            value.extend(of_day.to_be_bytes());
            value.extend(of_day.to_be_bytes());
            scans.put(txn, &key, &value)?;
        }
        let mut value = u64::MAX.to_be_bytes().to_vec();
        value.extend(ban.since.0.to_be_bytes());
        value.extend(br#"{"reason":{"kind":"scan","hits":9,"ports":4,"window_seconds":60},"author":"auto"}"#);
        bans.put(txn, &[4, 192, 0, 2, 1, 32], &value)?;
        meta.put(txn, b"layout", &1u32.to_be_bytes())?;
        meta.put(txn, b"policy-revision", &7u64.to_be_bytes())?;
        Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit((scans, bans, meta)))
    })
    .unwrap();
}

/// Distinct records with the kinds that the upgrade gives them.
fn hits(count: u64) -> Vec<ScanHit> {
    let mut random = Random::new(5);
    let mut model = Model::default();
    while (model.records.len() as u64) < count {
        let hit = random.hit(TODAY);
        let port = random.below(65_536) as u16;
        let kind = if hit.protocol == Protocol::Udp { ProbeKind::Datagram } else { ProbeKind::Syn };
        let key = (std::cmp::Reverse(Day::of(hit.at)), hit.source, hit.protocol, port);
        if !model.records.contains_key(&key) {
            model.record(&[ScanHit { port, kinds: ProbeKinds::of(kind), ..hit }]);
        }
    }
    let records = model.records.into_values();
    let hit = |record: glacis_control::ScanRecord| ScanHit {
        source: record.source,
        port: record.port,
        protocol: record.protocol,
        kinds: record.kinds,
        at: record.first,
        hits: record.hits,
    };
    records.map(hit).collect()
}

fn ban() -> Ban {
    let evidence = glacis_control::Evidence { ports: 4, ..Default::default() };
    Ban {
        source: "192.0.2.1/32".parse().unwrap(),
        since: UnixMillis(7),
        until: None,
        reason: BanReason::Scan {
            shape: glacis_control::ScanShape::Volume,
            hits: 9,
            window_seconds: 60,
            evidence,
        },
        author: "auto".into(),
    }
}

fn assert_upgraded(reader: &StoreReader, model: &Model) {
    let year = DayRange::ending(TODAY, DAYS_MAX);
    assert_eq!(reader.summary(year).unwrap(), model.summary(year));
    assert_eq!(reader.trend(year).unwrap(), model.trend(year));
    let week = DayRange::ending(TODAY, 7);
    let hits: Vec<_> = model.sources(week).iter().take(10).map(|total| total.hits).collect();
    assert_eq!(
        reader.top_sources(week, 10).unwrap().rows.iter().map(|row| row.hits).collect::<Vec<_>>(),
        hits
    );
    let ports = reader.top_ports(week, 1).unwrap().rows;
    assert_eq!(ports[0].hits, model.ports(week)[0].hits);
    let filter = ScanFilter { port: Some(22), ..ScanFilter::all(year) };
    let rows = reader.page(&filter, None, 1000).unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.record).collect::<Vec<_>>(), model.listed(&filter));
    assert_eq!(reader.bans().unwrap(), [ban()]);
}

#[test]
#[ignore = "main function of a child of the test below"]
fn child_upgrades() {
    let dir = env::var_os(DIR_VARIABLE).expect("the parent names the directory");
    Store::open(Path::new(&dir), bounds()).unwrap().upgrade(&location_of).unwrap();
}

#[test]
fn an_upgrade_that_is_killed_goes_on_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hits = hits(RECORDS);
    write_layout_1(dir.path(), &hits, &ban());
    let mut model = Model::default();
    model.record(&hits);
    assert!(matches!(StoreReader::open(dir.path()), Err(StoreError::Missing { .. })), "the core upgrades it");

    let mut random = Random::new(9);
    for _ in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_upgrades", "--ignored", "--quiet"])
            .env(DIR_VARIABLE, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(30 + random.below(250)));
        // It may have come to its end.
        let _ = child.kill();
        child.wait().unwrap();

        // The newest came first: of the days that have begun, all but the oldest are whole.
        let store = Store::open(dir.path(), bounds()).unwrap();
        let trend = store.reader().trend(DayRange::ending(TODAY, 60)).unwrap();
        let begun = trend.iter().rev().take_while(|day| day.hits > 0).count() as u32;
        if begun > 1 {
            let whole = DayRange::ending(TODAY, begun - 1);
            assert_eq!(
                store.reader().summary(whole).unwrap().hits.current,
                model.summary(whole).hits.current
            );
            assert_eq!(store.reader().trend(whole).unwrap(), model.trend(whole));
        }
    }
    let store = Store::open(dir.path(), bounds()).unwrap();
    store.upgrade(&location_of).unwrap();
    assert_eq!(store.stats().unwrap().scan_records, RECORDS);
    assert_upgraded(&store.reader(), &model);
    drop(store);
    assert_upgraded(&StoreReader::open(dir.path()).unwrap(), &model);

    let store = Store::open(dir.path(), bounds()).unwrap();
    store.retain(TODAY.start(), None).unwrap();
    model.retain(Day(TODAY.0 - 30));
    assert_upgraded(&store.reader(), &model);
}

#[test]
fn the_writer_upgrades_beside_its_work() {
    let dir = tempfile::tempdir().unwrap();
    let hits = hits(RECORDS);
    write_layout_1(dir.path(), &hits, &ban());
    let writer = Writer::spawn(Store::open(dir.path(), bounds()).unwrap(), |_| Location::default()).unwrap();
    let handle = writer.handle();
    let late = ScanHit { port: 7, at: TODAY.start().plus(Duration::from_hours(30)), ..hits[0] };
    assert!(handle.try_record(&late));
    let start = Instant::now();
    while handle.reader().totals().unwrap().scan_records < RECORDS + 1 {
        assert!(start.elapsed() < Duration::from_secs(60), "the upgrade never ended");
        thread::sleep(Duration::from_millis(20));
    }
    let mut model = Model::default();
    model.record(&hits);
    model.record(&[late]);
    let days = DayRange::ending(Day(TODAY.0 + 1), 60);
    assert_eq!(handle.reader().summary(days).unwrap(), model.summary(days));
}

#[test]
fn a_full_store_upgrades_its_newest_records_and_counts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let hits = hits(FULL_RECORDS);
    write_layout_1(dir.path(), &hits, &ban());
    let small = Bounds { bytes_initial: 1 << 20, bytes_max: 16 << 20, ..Bounds::default() };
    let store = Store::open(dir.path(), small).unwrap();
    store.upgrade(&location_of).unwrap();
    let stats = store.stats().unwrap();
    assert!(stats.dropped > 0, "it fitted: {stats:?}");
    assert_eq!(stats.scan_records + stats.dropped, FULL_RECORDS);
    assert_eq!(store.reader().newest_day().unwrap(), Some(TODAY));
    let year = DayRange::ending(TODAY, DAYS_MAX);
    assert!(store.reader().summary(year).unwrap().hits.current > 0);
}
