//! What gates know of clients: kept, ordered, replaced, forgotten, bounded.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use glacis_control::scan_query::Location;
use glacis_control::{Ban, BanReason, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{
    BanChange, Batch, Bounds, CLIENTS_MAX, COMMIT_CLIENTS, COMMIT_INTERVAL, QUEUE_CLIENTS_MAX, Store,
    StoreReader, Writer, layout,
};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const PATIENCE: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> Store {
    Store::open(dir, Bounds { bytes_initial: 4 << 20, ..Bounds::default() }).unwrap()
}

fn writer(dir: &Path) -> Writer {
    Writer::spawn(open(dir), |_| Location::default()).unwrap()
}

fn at(milliseconds: i64) -> UnixMillis {
    NOW.shifted(milliseconds)
}

/// Seen, and known of port 22 until, so many milliseconds from now.
fn record(client: &str, seen: i64, until: i64) -> ClientRecord {
    let finding = Finding { port: 22, outcome: PortOutcome::Refused, until: at(until) };
    ClientRecord { client: client.parse().unwrap(), seen: at(seen), findings: vec![finding] }
}

fn addresses(records: &[ClientRecord]) -> Vec<String> {
    records.iter().map(|record| record.client.to_string()).collect()
}

fn forget(clients: &[&str]) -> Batch {
    let forgotten_clients = clients.iter().map(|client| client.parse().unwrap()).collect();
    Batch { forgotten_clients, ..Batch::default() }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn b08_verdicts_survive_a_restart_and_are_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = record("192.0.2.1", -9, 100);
    first.findings.push(Finding { port: 80, outcome: PortOutcome::HttpProxy, until: at(70) });
    open(dir.path()).learn(&[first.clone(), record("2001:db8::1", -8, 100)]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.reader().client(NOW, first.client).unwrap().as_ref(), Some(&first));
    // What was found of port 80 is not in the new record.
    store.learn(&[record("192.0.2.1", 0, 300)]).unwrap();
    assert_eq!(
        store.reader().clients(NOW).unwrap(),
        [record("192.0.2.1", 0, 300), record("2001:db8::1", -8, 100)]
    );
    // A mapped address is the one it stands for.
    let mapped = "::ffff:192.0.2.1".parse().unwrap();
    assert_eq!(store.reader().client(NOW, mapped).unwrap(), Some(record("192.0.2.1", 0, 300)));
    assert_eq!(store.reader().client(NOW, "192.0.2.2".parse().unwrap()).unwrap(), None);
}

#[test]
fn b15_the_newest_come_first_whatever_their_family() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let records = [
        record("192.0.2.1", -40, 100),
        record("2001:db8::1", -30, 100),
        record("192.0.2.2", -20, 100),
        record("198.51.100.1", -10, 100),
    ];
    store.learn(&records).unwrap();
    // Seen again: it moves to the front, and is there once.
    store.learn(&[record("192.0.2.1", 0, 100)]).unwrap();
    let reader = store.reader();
    let newest = |limit, within: Option<&str>| {
        let within: Option<IpNet> = within.map(|net| net.parse().unwrap());
        addresses(&reader.newest_clients(NOW, limit, within).unwrap())
    };
    assert_eq!(newest(9, None), ["192.0.2.1", "198.51.100.1", "192.0.2.2", "2001:db8::1"]);
    assert_eq!(newest(2, None), ["192.0.2.1", "198.51.100.1"]);
    assert_eq!(newest(0, None), [""; 0]);
    assert_eq!(newest(9, Some("192.0.2.0/24")), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(newest(1, Some("192.0.2.0/24")), ["192.0.2.1"]);
    assert_eq!(newest(9, Some("0.0.0.0/0")), ["192.0.2.1", "198.51.100.1", "192.0.2.2"]);
    assert_eq!(newest(9, Some("::/0")), ["2001:db8::1"]);
    assert_eq!(newest(9, Some("192.0.2.2/32")), ["192.0.2.2"]);
    assert_eq!(newest(9, Some("203.0.113.0/24")), [""; 0]);
    let odd = |record: &ClientRecord| record.client.to_string().ends_with('1');
    let found = |limit| addresses(&reader.search_clients(NOW, limit, odd).unwrap());
    assert_eq!(found(9), ["192.0.2.1", "198.51.100.1", "2001:db8::1"]);
    assert_eq!(found(2), ["192.0.2.1", "198.51.100.1"]);
}

#[test]
fn findings_that_are_over_are_not_told_and_go_with_the_retention() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut partly = record("192.0.2.1", -9, 0);
    partly.findings.push(Finding { port: 80, outcome: PortOutcome::Silent, until: at(1) });
    store.learn(&[partly.clone(), record("192.0.2.2", -8, 0), record("192.0.2.3", -7, 5)]).unwrap();
    partly.findings.remove(0);
    let reader = store.reader();
    assert_eq!(reader.clients(NOW).unwrap(), [partly.clone(), record("192.0.2.3", -7, 5)]);
    assert_eq!(addresses(&reader.newest_clients(NOW, 1, None).unwrap()), ["192.0.2.3"]);
    let within = Some("192.0.2.0/30".parse().unwrap());
    assert_eq!(addresses(&reader.newest_clients(NOW, 9, within).unwrap()), ["192.0.2.3", "192.0.2.1"]);
    assert_eq!(reader.client(NOW, "192.0.2.2".parse().unwrap()).unwrap(), None);

    assert_eq!(reader.totals().unwrap().clients, 3);
    assert_eq!(store.retain(NOW, None).unwrap(), 1);
    assert_eq!(reader.totals().unwrap().clients, 2);
    assert_eq!(store.retain(at(5), None).unwrap(), 2);
    assert_eq!(reader.totals().unwrap().clients, 0);
    assert!(reader.newest_clients(UnixMillis(0), 9, None).unwrap().is_empty());
}

#[test]
fn one_client_too_many_takes_the_place_of_the_one_seen_longest_ago() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let number = |number: u64| ClientRecord {
        client: Ipv4Addr::from_bits(number as u32).into(),
        // Not in the order of the addresses.
        seen: UnixMillis(NOW.0 + number * 7919 % CLIENTS_MAX),
        ..record("192.0.2.1", 0, 1_000_000)
    };
    let records: Vec<_> = (0..CLIENTS_MAX).map(number).collect();
    assert_eq!(store.learn(&records).unwrap(), 0);
    let oldest = records.iter().min_by_key(|record| record.seen).unwrap().client;
    let reader = store.reader();
    assert!(reader.client(NOW, oldest).unwrap().is_some());
    store.learn(&[record("2001:db8::1", CLIENTS_MAX as i64, 1_000_000)]).unwrap();
    assert_eq!(reader.totals().unwrap().clients, CLIENTS_MAX);
    assert_eq!(reader.client(NOW, oldest).unwrap(), None);
    assert_eq!(addresses(&reader.newest_clients(NOW, 1, None).unwrap()), ["2001:db8::1"]);
}

#[test]
fn records_that_no_gate_makes_are_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let empty = ClientRecord { findings: Vec::new(), ..record("192.0.2.1", 0, 9) };
    let mapped = record("::ffff:192.0.2.1", 0, 9);
    assert_eq!(store.learn(&[empty.clone(), mapped.clone(), record("192.0.2.2", 0, 9)]).unwrap(), 2);
    let batch = Batch { client_records: vec![mapped, record("192.0.2.3", 0, 9)], ..Batch::default() };
    assert_eq!(store.apply(&batch).unwrap().dropped, 1);
    assert_eq!(addresses(&store.reader().clients(NOW).unwrap()), ["192.0.2.2", "192.0.2.3"]);
    assert_eq!(store.stats().unwrap().dropped, 3);
    drop(store);
    let writer = writer(dir.path());
    assert!(!writer.handle().try_learn(empty));
    assert_eq!(writer.handle().stats().unwrap().dropped, 1);
}

#[test]
fn a_full_store_refuses_clients_and_still_forgets_them() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { bytes_initial: 1 << 20, bytes_max: 16 << 20, events_max: 9 };
    let store = Store::open(dir.path(), bounds).unwrap();
    store.learn(&[record("192.0.2.1", 0, 9)]).unwrap();
    let hits = |source: u32| -> Vec<_> {
        let source = Ipv4Addr::from_bits(source).into();
        let (protocol, kinds) = (Protocol::Tcp, ProbeKinds::default());
        let hit = |port| ScanHit { source, port, protocol, kinds, at: NOW, hits: 1 };
        (0..2000).map(hit).collect()
    };
    assert!((0..1000).any(|source| store.record(&hits(source)).unwrap() > 0), "never full");
    // Pages that were given back are used again; then there is no room.
    let many = |round: u32| -> Vec<_> {
        let client = |number| Ipv4Addr::from_bits(0x0a00_0000 + round * 4096 + number).into();
        (0..4096).map(|number| ClientRecord { client: client(number), ..record("192.0.2.1", 0, 9) }).collect()
    };
    assert!((0..64).any(|round| store.learn(&many(round)).unwrap() == 4096), "clients took the reserve");
    let dropped = store.stats().unwrap().dropped;

    let ban = Ban {
        source: "203.0.113.9/32".parse().unwrap(),
        since: NOW,
        until: None,
        reason: BanReason::Gate { gate: "web".into(), port: 3128, outcome: PortOutcome::HttpProxy },
        author: "auto".into(),
    };
    let client_records: Vec<_> = (100..108).flat_map(many).collect();
    let refused = client_records.len() as u64;
    let batch = Batch { bans: vec![BanChange::Put(ban.clone())], client_records, ..forget(&["192.0.2.1"]) };
    assert_eq!(store.apply(&batch).unwrap().dropped, refused);
    assert_eq!(store.stats().unwrap().dropped, dropped + refused);
    assert_eq!(store.bans().unwrap(), [ban]);
    assert_eq!(store.reader().client(NOW, "192.0.2.1".parse().unwrap()).unwrap(), None);
}

#[test]
fn a_store_from_before_gates_opens_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let ban = Ban {
        source: "203.0.113.9/32".parse().unwrap(),
        since: NOW,
        until: None,
        reason: BanReason::Manual { note: String::new() },
        author: "root".into(),
    };
    {
        let mut options = heed::EnvOpenOptions::new();
        options.max_dbs(2);
        // SAFETY: a directory of this test alone.
        let env = unsafe { options.open(dir.path()) }.unwrap();
        let txn = env.write_txn().unwrap();
        env.create_databases_and_commit(txn, |opener, txn| {
            let mut create =
                |name| opener.create_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some(name));
            let (meta, bans) = (create("meta")?, create("bans")?);
            meta.put(txn, b"layout", &2u32.to_be_bytes())?;
            bans.put(txn, &layout::ban_key(&ban.source), &layout::ban_value(&ban).unwrap())?;
            Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(meta))
        })
        .unwrap();
    }
    let store = open(dir.path());
    assert_eq!(store.bans().unwrap(), [ban]);
    assert!(store.reader().clients(NOW).unwrap().is_empty());
    store.learn(&[record("192.0.2.1", 0, 9)]).unwrap();
    drop(store);
    assert_eq!(StoreReader::open(dir.path()).unwrap().clients(NOW).unwrap().len(), 1);
}

#[test]
fn a_record_waits_for_others_and_the_newest_of_a_client_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    assert!(handle.try_learn(record("192.0.2.1", -5, 100)));
    assert!(handle.try_learn(record("192.0.2.1", 0, 100)));
    assert_eq!(handle.reader().totals().unwrap().clients, 0);
    let start = Instant::now();
    until("the record", || handle.reader().totals().unwrap().clients == 1);
    assert!(start.elapsed() >= COMMIT_INTERVAL / 2, "{:?}: not waited for more", start.elapsed());
    assert_eq!(handle.reader().clients(NOW).unwrap(), [record("192.0.2.1", 0, 100)]);
}

fn numbered(number: usize) -> ClientRecord {
    ClientRecord { client: Ipv4Addr::from_bits(number as u32).into(), ..record("192.0.2.1", 0, 1_000_000) }
}

#[test]
fn many_records_do_not_wait_for_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    let queued = Instant::now();
    for number in 0..COMMIT_CLIENTS {
        assert!(handle.try_learn(numbered(number)));
    }
    until("the records", || handle.reader().totals().unwrap().clients == COMMIT_CLIENTS as u64);
    assert!(queued.elapsed() < COMMIT_INTERVAL, "{:?}", queued.elapsed());
}

#[test]
fn the_queue_refuses_and_counts_one_client_too_many_and_the_end_commits_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    // Orders keep the thread from emptying the queue meanwhile.
    let (held, hold) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    handle
        .commit(forget(&["192.0.2.1"]), move |_| {
            begun.send(()).unwrap();
            hold.recv_timeout(PATIENCE).unwrap();
        })
        .unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    for number in 0..QUEUE_CLIENTS_MAX {
        assert!(handle.try_learn(numbered(number)));
    }
    assert!(!handle.try_learn(numbered(QUEUE_CLIENTS_MAX)));
    // One that waits already is replaced.
    assert!(handle.try_learn(ClientRecord { seen: at(1), ..numbered(7) }));
    assert_eq!(handle.stats().unwrap().dropped, 1);
    held.send(()).unwrap();
    drop(handle);
    drop(writer);
    let store = open(dir.path());
    assert_eq!(store.reader().totals().unwrap().clients, QUEUE_CLIENTS_MAX as u64);
    assert_eq!(store.reader().newest_clients(NOW, 1, None).unwrap()[0].client, numbered(7).client);
}

#[test]
fn a_forgotten_client_does_not_come_back_with_what_waited() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path());
    let handle = writer.handle();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!(handle.try_learn(record(client, 0, 100)));
    }
    let (sender, receiver) = mpsc::channel();
    let batch = Batch { client_records: vec![record("192.0.2.3", 5, 100)], ..forget(&["192.0.2.1"]) };
    handle.commit(batch, move |done| sender.send(done).unwrap()).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    // Acknowledged: on disk, while the others still wait.
    assert_eq!(handle.reader().clients(NOW).unwrap(), [record("192.0.2.3", 5, 100)]);
    drop((handle, writer));
    let store = open(dir.path());
    assert_eq!(
        store.reader().clients(NOW).unwrap(),
        [record("192.0.2.2", 0, 100), record("192.0.2.3", 5, 100)]
    );
}

/// Numbers of a fixed seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn client(&mut self) -> IpAddr {
        let number = self.below(30);
        match self.below(2) {
            0 => Ipv4Addr::new(192, 0, 2, number as u8).into(),
            _ => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)).into(),
        }
    }

    fn record(&mut self, now: UnixMillis) -> ClientRecord {
        let mut findings = BTreeMap::new();
        for _ in 0..=self.below(5) {
            let outcome = PortOutcome::ALL[self.below(8) as usize];
            let until = UnixMillis(now.0 + self.below(300));
            findings.insert(self.below(9) as u16, (outcome, until));
        }
        let finding = |(port, (outcome, until))| Finding { port, outcome, until };
        ClientRecord {
            client: self.client(),
            seen: UnixMillis(now.0 - self.below(50)),
            findings: findings.into_iter().map(finding).collect(),
        }
    }
}

/// What a plain map says of the same changes.
fn expected(model: &BTreeMap<IpAddr, ClientRecord>, now: UnixMillis) -> Vec<ClientRecord> {
    let live = |record: &ClientRecord| {
        let findings: Vec<_> = record.findings.iter().filter(|f| f.until > now).copied().collect();
        (!findings.is_empty()).then(|| ClientRecord { findings, ..record.clone() })
    };
    model.values().filter_map(live).collect()
}

#[test]
fn a_store_answers_as_a_plain_map_does() {
    for seed in 1..=8 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + seed);
        let mut model = BTreeMap::new();
        let mut now = NOW;
        for _ in 0..120 {
            now = UnixMillis(now.0 + random.below(20));
            match random.below(10) {
                0 => {
                    store = {
                        drop(store);
                        open(dir.path())
                    }
                }
                1 => {
                    store.retain(now, None).unwrap();
                    assert_eq!(
                        store.reader().totals().unwrap().clients as usize,
                        expected(&model, now).len(),
                        "only what is over goes, and all of it"
                    );
                }
                2..4 => {
                    let client = random.client();
                    let batch = Batch { forgotten_clients: vec![client], ..Batch::default() };
                    store.apply(&batch).unwrap();
                    model.remove(&client);
                }
                _ => {
                    let records: Vec<_> = (0..random.below(6)).map(|_| random.record(now)).collect();
                    store.learn(&records).unwrap();
                    model.extend(records.into_iter().map(|record| (record.client, record)));
                }
            }
            let mut wanted = expected(&model, now);
            assert_eq!(store.reader().clients(now).unwrap(), wanted);
            wanted.sort_by_key(|record| std::cmp::Reverse((record.seen, record.client)));
            let limit = random.below(40) as usize;
            let newest = store.reader().newest_clients(now, limit, None).unwrap();
            assert_eq!(newest, wanted[..limit.min(wanted.len())]);
            let within: IpNet =
                if random.below(2) == 0 { "192.0.2.8/29" } else { "2001:db8::/123" }.parse().unwrap();
            wanted.retain(|record| within.contains(&record.client));
            let newest = store.reader().newest_clients(now, limit, Some(within)).unwrap();
            assert_eq!(newest, wanted[..limit.min(wanted.len())]);
        }
    }
}
