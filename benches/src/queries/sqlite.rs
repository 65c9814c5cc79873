//! The peer: one table as a sensible program would keep it, with an index for each filter.

use super::data::{self, DAYS, RECORDS, locate};
use super::{Answer, PAGE_ROWS, Question, TOP_ROWS};
use crate::Outcome;
use glacis_control::Day;
use glacis_control::scan_query::{DayRange, Location, ScanFilter};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::HashMap;
use std::path::Path;

/// The key lists a page in its order; `hits`, `port` and `address` of a range are read from it in one go. Addresses are
/// text, so that a part of one can be found.
const SCHEMA: &str = "
CREATE TABLE places (id INTEGER PRIMARY KEY, code TEXT, country TEXT, region TEXT, city TEXT, isp TEXT, asn INTEGER);
CREATE TABLE scans (day INTEGER, address TEXT, protocol INTEGER, port INTEGER, hits INTEGER, first INTEGER,
    last INTEGER, kinds INTEGER, place INTEGER, PRIMARY KEY (day, address, protocol, port)) WITHOUT ROWID;
";
const INDEXES: &str = "
CREATE INDEX by_port ON scans (port, day);
CREATE INDEX by_address ON scans (address, day);
CREATE INDEX by_place ON scans (place, day);
ANALYZE;
";
/// Memory for pages and maps, so that nothing but its own work counts.
const PRAGMAS: [(&str, &str); 5] = [
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("cache_size", "-524288"),
    ("mmap_size", "8589934592"),
    ("temp_store", "MEMORY"),
];

pub fn filled(path: &Path) -> Outcome<Connection> {
    let mut connection = Connection::open(path)?;
    for (pragma, value) in PRAGMAS {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.execute_batch(SCHEMA)?;
    let mut places = HashMap::new();
    for day in 0..DAYS {
        let mut hits = data::day(day);
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO scans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
            hits.sort_by_cached_key(|hit| (hit.source.to_string(), hit.protocol.number(), hit.port));
            for hit in hits {
                let next = places.len() as i64 + 1;
                let place = *places.entry(locate(hit.source)).or_insert(next);
                let at = hit.at.0 as i64;
                let (day, kinds) = (Day::of(hit.at).0, hit.kinds.bits());
                let (address, protocol) = (hit.source.to_string(), hit.protocol.number());
                insert.execute((day, address, protocol, hit.port, hit.hits as i64, at, at, kinds, place))?;
            }
        }
        transaction.commit()?;
    }
    insert_places(&mut connection, places)?;
    connection.execute_batch(INDEXES)?;
    let records: i64 = connection.query_row("SELECT count(*) FROM scans", (), |row| row.get(0))?;
    if records as u64 == RECORDS {
        Ok(connection)
    } else {
        Err(format!("SQLite holds {records} records").into())
    }
}

fn insert_places(connection: &mut Connection, places: HashMap<Location, i64>) -> Outcome<()> {
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare("INSERT INTO places VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for (place, id) in places {
            let Location { country_code, country, region, city, isp, asn } = place;
            insert.execute((id, country_code, country, region, city, isp, asn))?;
        }
    }
    Ok(transaction.commit()?)
}

pub fn ask(connection: &mut Connection, question: &Question) -> Outcome<Answer> {
    match question {
        Question::Summary(days) => {
            let [a, b, c] = period(connection, Some(*days))?;
            let [d, e, f] = period(connection, days.before())?;
            Ok(Answer::Summary([a, b, c, d, e, f]))
        }
        Question::TopSources(days) => top(
            connection,
            *days,
            "SELECT t.hits, t.ports, p.country FROM (SELECT address, sum(hits) AS hits,
                 count(DISTINCT protocol * 65536 + port) AS ports, max(day) AS newest, max(last), min(first)
                 FROM scans WHERE day BETWEEN ?1 AND ?2 GROUP BY address ORDER BY hits DESC LIMIT ?3) AS t
             LEFT JOIN places AS p ON p.id = (SELECT place FROM scans AS s
                 WHERE s.day = t.newest AND s.address = t.address LIMIT 1) ORDER BY t.hits DESC",
        ),
        Question::TopPorts(days) => top(
            connection,
            *days,
            "SELECT sum(hits) AS hits, protocol, port, count(DISTINCT address) FROM scans
             WHERE day BETWEEN ?1 AND ?2 GROUP BY protocol, port ORDER BY hits DESC LIMIT ?3",
        ),
        Question::Page(filter) => page(connection, filter),
    }
}

fn period(connection: &Connection, days: Option<DayRange>) -> Outcome<[u64; 3]> {
    let Some(days) = days else { return Ok([0; 3]) };
    let sql = "SELECT coalesce(sum(hits), 0), count(DISTINCT port), count(DISTINCT address) FROM scans
               WHERE day BETWEEN ?1 AND ?2";
    let sums: [i64; 3] = connection
        .query_row(sql, (days.first.0, days.last.0), |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    Ok(sums.map(|sum| sum as u64))
}

fn top(connection: &Connection, days: DayRange, sql: &str) -> Outcome<Answer> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement
        .query_map((days.first.0, days.last.0, TOP_ROWS), |row| row.get::<_, i64>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::Top(rows.into_iter().map(|hits| hits as u64).collect()))
}

fn page(connection: &Connection, filter: &ScanFilter) -> Outcome<Answer> {
    let mut conditions = String::new();
    let mut values: Vec<Value> =
        vec![filter.days.first.0.into(), filter.days.last.0.into(), (PAGE_ROWS as i64 + 1).into()];
    if let Some(port) = filter.port {
        conditions.push_str(" AND port = ?4");
        values.push(i64::from(port).into());
    } else if filter.address.ends_with('.') && !filter.address.starts_with('.') {
        // A range of the index, as for a pattern that begins with text.
        conditions.push_str(" AND address >= ?4 AND address < ?5");
        values.push(filter.address.clone().into());
        // What follows the dot in ASCII.
        values.push((filter.address.trim_end_matches('.').to_owned() + "/").into());
    } else if !filter.address.is_empty() {
        conditions.push_str(" AND address LIKE ?4");
        values.push(format!("%{}%", filter.address).into());
    } else {
        conditions.push_str(
            " AND place IN (SELECT id FROM places WHERE code LIKE ?4 OR country LIKE ?4 OR region LIKE ?4
             OR city LIKE ?4 OR isp LIKE ?4)",
        );
        values.push(format!("%{}%", filter.location).into());
    }
    let sql = format!(
        "SELECT s.day, s.address, s.protocol, s.port, s.hits, s.first, s.last, s.kinds, p.country, p.city
         FROM scans AS s LEFT JOIN places AS p ON p.id = s.place
         WHERE day BETWEEN ?1 AND ?2{conditions} ORDER BY day DESC, address, protocol, port LIMIT ?3",
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get::<_, u32>(0))?;
    let mut days = rows.collect::<Result<Vec<_>, _>>()?;
    days.truncate(PAGE_ROWS);
    Ok(Answer::Page(days))
}
