//! Upserts of scan hits per second: the store against `SQLite` in WAL mode, with the same batches.
//!
//! The store adds up sources, ports and days in the same transaction. `SQLite` adds up nothing; it keeps the indexes that
//! its answers to the same questions need, and is measured without any, too.

use crate::{Bound, Figure, Outcome, Unit, median};
use glacis_control::scan_query::Location;
use glacis_control::{Day, ProbeKinds, Protocol, ScanHit, UnixMillis};
use glacis_store::{Bounds, COMMIT_HITS, Store};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Instant;

/// Different records, as one busy day brings them.
const RECORDS: u64 = 200_000;
/// Hits on them: every record is hit, and most are hit again.
const HITS: usize = 600_000;
/// Hits in one transaction of either side: as many as the writer's thread puts into one.
const BATCH: usize = COMMIT_HITS;
/// The figure is their median.
const ROUNDS: usize = 3;
/// What `store` has to reach over `SQLite` at the same durability.
const RATIO_MIN: f64 = 3.0;
/// Those of the questions about ten million records.
const INDEXES: &str = "CREATE INDEX by_port ON scans (port, day);
    CREATE INDEX by_address ON scans (address, day);
    CREATE INDEX by_place ON scans (place, day)";

/// Medians of upserts per second, all three in turn, checked to have counted the same. Works in the directory that
/// `TMPDIR` names, which should lie on the disk that counts.
///
/// `SQLite` runs with `synchronous=FULL`: a commit is on disk when it returns, as the store's is.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let hits = hits();
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir()?;
        rounds[0].push(store_round(dir.path(), &hits)?);
        rounds[1].push(sqlite_round(&dir.path().join("indexed.sqlite"), INDEXES, &hits)?);
        rounds[2].push(sqlite_round(&dir.path().join("plain.sqlite"), "", &hits)?);
    }
    let [store, indexed, plain] = rounds.map(median);
    let against = |peer_keeps: &str, peer: f64, bound| Figure {
        what: format!("upserts with roll-ups, against SQLite {peer_keeps}"),
        ours: format!("{:.0} k/s", store / 1e3),
        peer: format!("SQLite {:.0} k/s", peer / 1e3),
        value: store / peer,
        unit: Unit::Ratio,
        bound,
    };
    Ok(vec![
        against("with indexes", indexed, Bound::AtLeast(RATIO_MIN)),
        against("without", plain, Bound::Told),
    ])
}

/// Scanners walk over ports: runs of neighbouring ports of one source, from sources in no order. The first
/// third hits every record once, the rest hits any of them again.
fn hits() -> Vec<ScanHit> {
    const RUN: u64 = 20;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let runs = RECORDS / RUN;
    let mut order: Vec<u64> = (0..runs).collect();
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    for index in (1..order.len()).rev() {
        order.swap(index, below(index as u64 + 1) as usize);
    }
    while order.len() * (RUN as usize) < HITS {
        order.push(below(runs));
    }
    let run_hits = |(position, run): (usize, u64)| {
        (0..RUN).map(move |step| ScanHit {
            source: source(run / 5),
            port: ((run % 5) * RUN + step) as u16,
            protocol: if run % 3 == 0 { Protocol::Udp } else { Protocol::Tcp },
            kinds: ProbeKinds::default(),
            at: UnixMillis(1_700_000_000_000 + position as u64),
            hits: 1,
        })
    };
    order.into_iter().enumerate().flat_map(run_hits).take(HITS).collect()
}

/// Every fourth one is IPv6; neighbouring numbers are far apart.
fn source(number: u64) -> IpAddr {
    let spread = (number as u32).wrapping_mul(2_654_435_761);
    if number.is_multiple_of(4) {
        IpAddr::V6(Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(spread)))
    } else {
        IpAddr::V4(Ipv4Addr::from(spread))
    }
}

fn store_round(dir: &Path, hits: &[ScanHit]) -> Outcome<f64> {
    let store = Store::open(dir, Bounds::default())?;
    let start = Instant::now();
    for batch in hits.chunks(BATCH) {
        if store.record_located(batch, &locate)? > 0 {
            return Err("the store was full".into());
        }
    }
    let rate = hits.len() as f64 / start.elapsed().as_secs_f64();
    let records = store.stats()?.scan_records;
    if records == RECORDS { Ok(rate) } else { Err(format!("the store holds {records} records").into()) }
}

/// Hits are added up and sorted by key before they are written, as the store does it itself.
fn sqlite_round(path: &Path, indexes: &str, hits: &[ScanHit]) -> Outcome<f64> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE scans (day INTEGER, address BLOB, protocol INTEGER, port INTEGER, hits INTEGER,
         first INTEGER, last INTEGER, place INTEGER, PRIMARY KEY (day, address, protocol, port)) WITHOUT ROWID",
    )?;
    connection.execute_batch(indexes)?;
    let start = Instant::now();
    for batch in hits.chunks(BATCH) {
        let mut sums = BTreeMap::new();
        for hit in batch {
            let key = (Day::of(hit.at).0, hit.source, hit.protocol.number(), hit.port);
            let sum = sums.entry(key).or_insert((0, hit.at.0, hit.at.0));
            *sum = (sum.0 + hit.hits, sum.1.min(hit.at.0), sum.2.max(hit.at.0));
        }
        let transaction = connection.transaction()?;
        {
            let mut upsert = transaction.prepare_cached(
                "INSERT INTO scans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET hits = hits + excluded.hits,
                 first = min(first, excluded.first), last = max(last, excluded.last)",
            )?;
            for ((day, source, protocol, port), (hits, first, last)) in sums {
                let (hits, first, last) = (hits as i64, first as i64, last as i64);
                upsert.execute((day, address(source), protocol, port, hits, first, last, place(source)))?;
            }
        }
        transaction.commit()?;
    }
    let rate = hits.len() as f64 / start.elapsed().as_secs_f64();
    let records: i64 = connection.query_row("SELECT count(*) FROM scans", (), |row| row.get(0))?;
    if records == RECORDS as i64 { Ok(rate) } else { Err(format!("SQLite holds {records} records").into()) }
}

/// One of two hundred.
fn place(source: IpAddr) -> u32 {
    let [.., a, b, c, d] = address(source);
    u32::from_be_bytes([a, b, c, d]) % 200 + 1
}

fn locate(source: IpAddr) -> Location {
    Location { country: format!("Country {}", place(source)), ..Location::default() }
}

fn address(source: IpAddr) -> [u8; 16] {
    match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
