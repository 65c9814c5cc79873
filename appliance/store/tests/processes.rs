//! Several processes at one store: a writer that is killed, a reader beside a growing map.
//!
//! The children are this test binary again, with an ignored test as their main function.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use glacis_control::scan_query::DayRange;
use glacis_control::{Ban, BanReason, Day, EventKind, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{BanChange, Batch, Bounds, Store, StoreReader};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

const DIR_VARIABLE: &str = "GLACIS_STORE_TEST_DIR";
const KILLS: u32 = 12;
const HITS_PER_COMMIT: u16 = 40;

fn spawn(main: &str, dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", main, "--ignored", "--nocapture", "--quiet"])
        .env(DIR_VARIABLE, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn dir_of_child() -> PathBuf {
    env::var_os(DIR_VARIABLE).expect("the parent names the directory").into()
}

fn small_bounds() -> Bounds {
    Bounds { bytes_initial: 256 << 10, bytes_max: 32 << 20, events_max: 100_000 }
}

/// The commit with this number: forty hits, one ban, one event, one client.
fn batch(number: u32) -> Batch {
    let source = Ipv4Addr::from_bits(0x0a00_0000 + number);
    let at = UnixMillis(u64::from(number) * 1000);
    let hit = |port| ScanHit {
        source: source.into(),
        port,
        protocol: Protocol::Tcp,
        kinds: ProbeKinds::default(),
        at,
        hits: 1,
    };
    let ban = Ban {
        source: source.to_string().parse::<Ipv4Addr>().map(ipnet::Ipv4Net::from).unwrap().into(),
        since: at,
        until: None,
        reason: BanReason::Manual { note: String::new() },
        author: "test".into(),
    };
    Batch {
        hits: (0..HITS_PER_COMMIT).map(hit).collect(),
        bans: vec![BanChange::Put(ban.clone())],
        events: vec![(at, EventKind::SourceBlocked { ban })],
        client_records: vec![client(number)],
        ..Batch::default()
    }
}

fn client(number: u32) -> ClientRecord {
    let finding = Finding { port: 22, outcome: PortOutcome::Open, until: UnixMillis(u64::MAX) };
    ClientRecord {
        client: Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        seen: UnixMillis(u64::from(number)),
        findings: vec![finding],
    }
}

fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // The parent may have gone.
    let _ = writeln!(out, "said {line}").and_then(|()| out.flush());
}

/// The next line of a child that is not the test harness's.
fn hear(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<u32> {
    lines.find_map(|line| line.ok()?.strip_prefix("said ")?.parse().ok())
}

#[test]
#[ignore = "main function of a child of the tests below"]
fn child_commits_until_it_is_killed() {
    let store = Store::open(&dir_of_child(), small_bounds()).unwrap();
    let next = store.reader().totals().unwrap().events as u32;
    for number in next.. {
        store.apply(&batch(number)).unwrap();
        say(number);
    }
}

#[test]
#[ignore = "main function of a child of the tests below"]
fn child_reads_when_asked() {
    let reader = StoreReader::open(&dir_of_child()).unwrap();
    say(0);
    for _ in std::io::stdin().lock().lines() {
        let days = DayRange::ending(Day(30), 31);
        let hits = reader.summary(days).unwrap().hits.current;
        let totals = reader.totals().unwrap();
        // Every record has one hit; the writer may have gone on in between.
        assert!(hits <= totals.scan_records);
        say(totals.scan_records);
    }
}

#[test]
fn what_was_committed_survives_kill_9_at_any_moment_beside_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), small_bounds()).unwrap());
    let mut reader = spawn("child_reads_when_asked", dir.path());
    let mut reader_lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(hear(&mut reader_lines), Some(0));

    let mut random = 0x9e37_79b9_u64;
    let mut committed = None;
    for kill in 0..KILLS {
        let mut writer = spawn("child_commits_until_it_is_killed", dir.path());
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let listener = thread::spawn(move || {
            let mut lines = lines;
            let mut last = None;
            while let Some(number) = hear(&mut lines) {
                last = Some(number);
            }
            last
        });
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis(60) + Duration::from_micros(random >> 48));
        writer.kill().unwrap();
        writer.wait().unwrap();
        committed = listener.join().unwrap().or(committed);

        let store = Store::open(dir.path(), small_bounds()).unwrap();
        let revision = store.reader().totals().unwrap().events as u32;
        assert!(committed.is_none_or(|last| revision > last), "kill {kill}: {committed:?} of {revision}");
        assert_whole(&store, revision);
        writeln!(reader.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(hear(&mut reader_lines), Some(revision * u32::from(HITS_PER_COMMIT)));
    }
    assert!(committed.is_some(), "no writer came to commit anything");
    drop(reader.stdin.take());
    assert!(reader.wait().unwrap().success());
}

/// The store holds the first so many commits, each with all that belongs to it.
fn assert_whole(store: &Store, commits: u32) {
    let reader = store.reader();
    let bans = reader.bans().unwrap();
    let wanted: Vec<_> = (0..commits).flat_map(|number| batch(number).bans).collect();
    assert_eq!(bans.into_iter().map(BanChange::Put).collect::<Vec<_>>(), wanted);
    let clients: Vec<_> = (0..commits).map(client).collect();
    assert_eq!(reader.clients(UnixMillis(0)).unwrap(), clients);
    let newest = reader.newest_clients(UnixMillis(0), usize::MAX, None).unwrap();
    assert!(newest.iter().rev().eq(&clients), "the two databases of clients differ");
    let events: Vec<_> = reader.events(usize::MAX).unwrap();
    let ids: Vec<_> = events.iter().rev().map(|event| event.id).collect();
    assert_eq!(ids, (0..u64::from(commits)).collect::<Vec<_>>());
    let totals = reader.totals().unwrap();
    assert_eq!(totals.scan_records, u64::from(commits) * u64::from(HITS_PER_COMMIT));
    let summary = reader.summary(DayRange::ending(Day(30), 31)).unwrap();
    assert_eq!((summary.hits.current, summary.sources.current.count), (totals.scan_records, commits.into()));
}

#[test]
fn a_reader_in_another_process_follows_the_growing_map() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_bounds()).unwrap();
    let mut reader = spawn("child_reads_when_asked", dir.path());
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(hear(&mut lines), Some(0));
    let mut records = 0;
    for step in 0..20u32 {
        let hits = (0..2000).map(|port| ScanHit {
            source: Ipv4Addr::from_bits(step).into(),
            port,
            protocol: Protocol::Udp,
            kinds: ProbeKinds::default(),
            at: UnixMillis(0),
            hits: 1,
        });
        assert_eq!(store.record(&hits.collect::<Vec<_>>()).unwrap(), 0);
        records += 2000;
        writeln!(reader.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(hear(&mut lines), Some(records));
    }
    let bytes = store.stats().unwrap().bytes_used as usize;
    assert!(bytes > 4 * small_bounds().bytes_initial, "{bytes} bytes: the map never grew");
    drop(reader.stdin.take());
    assert!(reader.wait().unwrap().success());
}

#[test]
fn a_full_store_drops_scans_and_still_takes_bans_until_retention_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small_bounds()).unwrap();
    let hits = |source: u32, at| -> Vec<_> {
        let source = Ipv4Addr::from_bits(source).into();
        let hit = |port| ScanHit {
            source,
            port,
            protocol: Protocol::Tcp,
            kinds: ProbeKinds::default(),
            at: UnixMillis(at),
            hits: 1,
        };
        (0..4000).map(hit).collect()
    };
    let full_at = (0..1000).find(|source| store.record(&hits(*source, 0)).unwrap() > 0).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(stats.dropped, 4000);
    assert_eq!(stats.scan_records, u64::from(full_at) * 4000);

    // Bans and events go into the reserve, scans stay out of it.
    for number in 0..300 {
        let hits = if number == 0 { hits(full_at, 0) } else { Vec::new() };
        let expected = hits.len() as u64;
        assert_eq!(
            store.apply(&Batch { hits, client_records: Vec::new(), ..batch(number) }).unwrap().dropped,
            expected
        );
    }
    // Pages that were given back are used again, but however often one tries, the reserve is left.
    let tries = (0..1000).take_while(|source| store.record(&hits(1000 + source, 0)).unwrap() == 0);
    assert!(tries.count() < 1000, "scans took the reserve");
    let file_bytes = std::fs::metadata(dir.path().join("data.mdb")).unwrap().len();
    assert!(file_bytes <= small_bounds().bytes_max as u64, "{file_bytes}");
    assert_eq!(store.bans().unwrap().len(), 300);
    assert_eq!(store.clear_stale_readers().unwrap(), 0);

    let later = UnixMillis(3 * 86_400_000);
    store.retain(later, Some(Duration::from_secs(86_400))).unwrap();
    assert_eq!(store.record(&hits(0, later.0)).unwrap(), 0);
    drop(store);
    let store = Store::open(dir.path(), small_bounds()).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.scan_records, stats.dropped), (4000, 0));
    assert_eq!(store.bans().unwrap().len(), 300);
}
