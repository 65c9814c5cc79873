//! The writer's thread: what it adds up, acknowledges, refuses and commits when it ends.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::scan_query::Location;
use glacis_control::{Ban, BanReason, EventKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{BanChange, Batch, Bounds, COMMIT_HITS, COMMIT_INTERVAL, QUEUE_HITS_MAX, Store, Writer};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn writer(dir: &Path) -> Writer {
    let store = Store::open(dir, Bounds { bytes_initial: 4 << 20, ..Bounds::default() }).unwrap();
    Writer::spawn(store, |_| Location::default()).unwrap()
}

fn hit(source: u32, port: u16) -> ScanHit {
    let source = Ipv4Addr::from_bits(source).into();
    ScanHit {
        source,
        port,
        protocol: Protocol::Tcp,
        kinds: ProbeKinds::default(),
        at: UnixMillis(1),
        hits: 1,
    }
}

fn ban_batch(last_octet: u8) -> Batch {
    let ban = Ban {
        source: ipnet::Ipv4Net::from(Ipv4Addr::new(192, 0, 2, last_octet)).into(),
        since: UnixMillis(1),
        until: Some(UnixMillis(2)),
        reason: BanReason::Manual { note: String::new() },
        author: "test".into(),
    };
    let event = (UnixMillis(1), EventKind::SourceBlocked { ban: ban.clone() });
    Batch { bans: vec![BanChange::Put(ban)], events: vec![event], ..Batch::default() }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_single_hit_is_committed_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    assert!(handle.try_record(&hit(1, 22)));
    assert!(handle.try_record(&hit(1, 22)));
    assert_eq!(handle.reader().totals().unwrap().scan_records, 0);
    let start = Instant::now();
    until("the hit", || handle.reader().totals().unwrap().scan_records == 1);
    assert!(start.elapsed() >= COMMIT_INTERVAL / 2, "{:?}: not waited for more", start.elapsed());
    assert_eq!(handle.reader().newest(9).unwrap()[0].record.hits, 2);
}

#[test]
fn a_full_batch_does_not_wait_for_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    for port in 0..COMMIT_HITS {
        assert!(handle.try_record(&hit(1, port as u16)));
    }
    let queued = Instant::now();
    until("the batch", || handle.reader().totals().unwrap().scan_records == COMMIT_HITS as u64);
    assert!(queued.elapsed() < COMMIT_INTERVAL, "{:?}", queued.elapsed());
}

#[test]
fn an_acknowledged_ban_is_in_the_store_and_orders_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    let (told, heard) = mpsc::channel();
    for number in 0..200 {
        let told = told.clone();
        let reader = handle.reader().clone();
        handle
            .commit(ban_batch(number), move |outcome| {
                let bans = reader.bans().unwrap().len();
                told.send((outcome.unwrap().events[0].id, bans)).unwrap();
            })
            .unwrap();
    }
    for number in 0..200 {
        let (id, bans) = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(id, number);
        assert!(bans as u64 > number, "acknowledged before it was committed");
    }
    let (expired, all) = mpsc::channel();
    handle.expire_bans(UnixMillis(2), move |outcome| expired.send(outcome.unwrap().len()).unwrap()).unwrap();
    assert_eq!(all.recv_timeout(PATIENCE).unwrap(), 200);
}

#[test]
fn hits_beyond_the_queue_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    // The writer stands still while it acknowledges, as it does on a slow disk.
    let (release, held) = mpsc::channel::<()>();
    let (told, standing) = mpsc::channel();
    handle
        .commit(Batch::default(), move |_| {
            told.send(()).unwrap();
            held.recv().unwrap();
        })
        .unwrap();
    standing.recv_timeout(PATIENCE).unwrap();
    let taken = (0..QUEUE_HITS_MAX + 10).filter(|number| handle.try_record(&hit(*number as u32, 1))).count();
    assert_eq!(taken, QUEUE_HITS_MAX);
    assert!(handle.try_record(&hit(0, 1)), "a known record needs no room");
    release.send(()).unwrap();
    until("the backlog", || handle.reader().totals().unwrap().scan_records == QUEUE_HITS_MAX as u64);
    assert_eq!(handle.stats().unwrap().dropped, 10);
}

#[test]
fn retention_goes_in_steps_and_tells_the_sum() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    let hits = (0..10_000).map(|port| hit(7, port)).collect();
    handle.commit(Batch { hits, ..Batch::default() }, |_| {}).unwrap();
    let (told, heard) = mpsc::channel();
    let now = UnixMillis(2 * 86_400_000);
    handle.retain(now, Some(Duration::ZERO), move |outcome| told.send(outcome.unwrap()).unwrap()).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), 10_000);
    assert_eq!(handle.reader().totals().unwrap().scan_records, 0);
}

#[test]
fn an_end_commits_what_waits_and_refuses_what_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    assert!(handle.try_record(&hit(1, 22)));
    handle.commit(ban_batch(1), |_| {}).unwrap();
    drop(writer);
    assert!(!handle.try_record(&hit(1, 23)));
    assert!(handle.commit(ban_batch(2), |_| {}).is_err());
    drop(handle);
    let store = Store::open(dir.path(), Bounds::default()).unwrap();
    assert_eq!((store.stats().unwrap().scan_records, store.bans().unwrap().len()), (1, 1));
}

#[test]
fn a24_hits_that_wait_are_cleared_and_bans_and_later_hits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    for port in 0..2000 {
        assert!(handle.try_record(&hit(1, port)));
    }
    until("the first commit", || handle.reader().totals().unwrap().scan_records == 2000);
    assert!(handle.try_record(&hit(2, 22)));
    let (said, heard) = mpsc::channel();
    for _ in 0..2 {
        let said = said.clone();
        handle.clear_scans(move |records| said.send(("cleared", records.unwrap())).unwrap()).unwrap();
    }
    let bans = said.clone();
    handle
        .commit(ban_batch(1), move |applied| {
            bans.send(("banned", applied.unwrap().events.len() as u64)).unwrap();
        })
        .unwrap();
    let mut outcomes: Vec<_> = (0..3).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [("banned", 1), ("cleared", 0), ("cleared", 2000)]);
    assert!(handle.try_record(&hit(3, 22)));
    until("the later hit", || handle.reader().totals().unwrap().scan_records > 0);
    let totals = handle.reader().totals().unwrap();
    assert_eq!((totals.scan_records, totals.bans), (1, 1));
}
