//! What is asked of scans, against a model that adds up a plain list of records.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

mod model;

use glacis_control::scan_query::{DAYS_MAX, DayRange, Location, ScanFilter, ScanPage, TrendDay};
use glacis_control::{Day, ProbeKind, ProbeKinds, Protocol, ScanHit, ScanRecord, UnixMillis};
use glacis_store::{Bounds, Store, StoreError};
use model::{DAY_MILLIS, Model, Random, hit, location_of};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

const TODAY: Day = Day(20_000);

fn open(dir: &Path) -> Store {
    Store::open(dir, Bounds { bytes_initial: 4 << 20, ..Bounds::default() }).unwrap()
}

fn day_hit(day: u32, source: &str, port: u16) -> ScanHit {
    hit(UnixMillis(u64::from(day) * DAY_MILLIS + 1000), source.parse().unwrap(), Protocol::Tcp, port)
}

fn range(first: u32, last: u32) -> DayRange {
    DayRange::new(Day(first), Day(last)).unwrap()
}

/// All records that a filter lets through, page by page.
fn listed(store: &Store, filter: &ScanFilter, limit: usize) -> Vec<ScanRecord> {
    let mut records = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let ScanPage { rows, next, .. } = store.reader().page(filter, after.as_deref(), limit).unwrap();
        assert!(rows.len() <= limit);
        for row in rows {
            assert_eq!(row.location, location_of(row.record.source));
            records.push(row.record);
        }
        match next {
            Some(next) => after = Some(next),
            None => return records,
        }
    }
}

fn filters(days: DayRange) -> Vec<ScanFilter> {
    let all = ScanFilter::all(days);
    let mut filters = vec![all.clone()];
    for port in [22, 80, 1000, 9] {
        filters.push(ScanFilter { port: Some(port), ..all.clone() });
        filters.push(ScanFilter { port: Some(port), protocol: Some(Protocol::Udp), ..all.clone() });
    }
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        filters.push(ScanFilter { protocol: Some(protocol), ..all.clone() });
    }
    for address in ["192.0.2.", "192.0.2.7", "2001:db8:", ".7", "1", "nonsense", "2001:DB8::3"] {
        filters.push(ScanFilter { address: address.into(), ..all.clone() });
        filters.push(ScanFilter { address: address.into(), port: Some(22), ..all.clone() });
    }
    for location in ["Ruritania", "île", "net 3", "RU", "nowhere at all"] {
        filters.push(ScanFilter { location: location.into(), ..all.clone() });
        filters.push(ScanFilter { location: location.into(), port: Some(80), ..all.clone() });
        filters.push(ScanFilter { location: location.into(), address: "192.".into(), ..all.clone() });
    }
    filters
}

/// Every question, for the range and all filters, answered as the model answers it.
fn assert_agrees(store: &Store, model: &Model, days: DayRange) {
    let reader = store.reader();
    assert_eq!(reader.summary(days).unwrap(), model.summary(days), "{days:?}");
    assert_eq!(reader.trend(days).unwrap(), model.trend(days), "{days:?}");
    assert_tops_agree(store, model, days);
    for filter in filters(days) {
        for limit in [17, 1000] {
            assert_eq!(listed(store, &filter, limit), model.listed(&filter), "{filter:?}");
        }
    }
}

fn assert_tops_agree(store: &Store, model: &Model, days: DayRange) {
    for n in [1, 10, 1000] {
        let sources = store.reader().top_sources(days, n).unwrap();
        assert!(sources.exact);
        let expected = model.sources(days);
        let most: Vec<_> = expected.iter().take(n).map(|total| total.hits).collect();
        assert_eq!(sources.rows.iter().map(|total| total.hits).collect::<Vec<_>>(), most);
        for total in sources.rows {
            assert!(expected.contains(&total), "{total:?}");
        }
        let ports = store.reader().top_ports(days, n).unwrap();
        let expected = model.ports(days);
        let most: Vec<_> = expected.iter().take(n).map(|total| total.hits).collect();
        assert_eq!(ports.rows.iter().map(|total| total.hits).collect::<Vec<_>>(), most);
        assert!(ports.rows.iter().all(|total| expected.contains(total)) && ports.exact);
    }
}

#[test]
fn every_answer_is_the_models_while_hits_come_late_days_go_and_all_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::default();
    let mut random = Random::new(7);
    let keep = Duration::from_hours(24 * 40);
    for round in 0..18u32 {
        let hits: Vec<_> = (0..random.below(300)).map(|_| random.hit(TODAY)).collect();
        store.record_located(&hits, &location_of).unwrap();
        model.record(&hits);
        match round % 6 {
            // Forty days and the clock, which now and then falls back.
            2 => {
                let now = Day(TODAY.0 + round - random.below(30) as u32);
                store.retain(now.start(), Some(keep)).unwrap();
                model.retain(Day(now.0 - 40));
            }
            4 => {
                drop(store);
                store = open(dir.path());
            }
            5 if round == 17 => {
                let records = model.records.len() as u64;
                assert_eq!(store.clear_scans().unwrap(), records);
                model = Model::default();
            }
            _ => {}
        }
        let last = TODAY.0 - random.below(20) as u32;
        for days in [range(last - 6, last), DayRange::ending(TODAY, 30), range(last, last)] {
            assert_agrees(&store, &model, days);
        }
        assert_eq!(store.reader().newest(50).unwrap().len(), model.records.len().min(50));
    }
    assert_agrees(&store, &model, DayRange::ending(TODAY, DAYS_MAX));
}

#[test]
fn a10_one_record_holds_hits_kinds_and_times_of_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let midnight = (u64::from(TODAY.0) + 1) * DAY_MILLIS;
    let hit = |at, kind, hits| ScanHit {
        kinds: ProbeKinds::of(kind),
        hits,
        ..hit(UnixMillis(at), "192.0.2.1".parse().unwrap(), Protocol::Tcp, 22)
    };
    store.record(&[hit(midnight - 5, ProbeKind::Syn, 2), hit(midnight - 9, ProbeKind::Fin, 1)]).unwrap();
    store.record(&[hit(midnight - 1, ProbeKind::Xmas, 1), hit(midnight, ProbeKind::Syn, 1)]).unwrap();
    let records = store.reader().page(&ScanFilter::all(range(20_000, 20_001)), None, 9).unwrap().rows;
    let rows: Vec<_> = records
        .iter()
        .map(|row| (row.record.day.0, row.record.hits, row.record.first.0, row.record.last.0))
        .collect();
    assert_eq!(rows, [(20_001, 1, midnight, midnight), (20_000, 4, midnight - 9, midnight - 1)]);
    assert_eq!(records[1].record.kinds.to_string(), "syn fin xmas");
    let total = &store.reader().top_sources(range(20_000, 20_001), 1).unwrap().rows[0];
    assert_eq!((total.hits, total.ports.count, total.first.0, total.last.0), (5, 1, midnight - 9, midnight));
}

#[test]
fn a11_a_location_is_asked_once_for_a_source_and_a_day_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let asked = std::cell::Cell::new(0);
    let locate = |city: &'static str| {
        let asked = &asked;
        move |_: IpAddr| {
            asked.set(asked.get() + 1);
            Location { city: city.into(), ..Location::default() }
        }
    };
    let hits = [day_hit(20_000, "192.0.2.1", 22), day_hit(20_000, "192.0.2.1", 23)];
    store.record_located(&hits, &locate("Strelsau")).unwrap();
    store.record_located(&hits, &locate("Zenda")).unwrap();
    store.record_located(&[day_hit(20_001, "192.0.2.1", 22)], &locate("Zenda")).unwrap();
    assert_eq!(asked.get(), 2);
    let rows = store.reader().page(&ScanFilter::all(range(20_000, 20_001)), None, 9).unwrap().rows;
    let cities: Vec<_> = rows.iter().map(|row| row.location.city.as_str()).collect();
    assert_eq!(cities, ["Zenda", "Strelsau", "Strelsau"]);
    let top = store.reader().top_sources(range(20_000, 20_001), 9).unwrap();
    assert_eq!(top.rows[0].location.city, "Zenda", "of the newest day");
}

#[test]
fn a02_retention_removes_days_that_are_over_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let full_day = Some(Duration::from_hours(24));
    // More than one step's worth on the first day; the source is there on the second, too.
    let old: Vec<_> = (0..5000).map(|port| day_hit(20_000, "192.0.2.1", port)).collect();
    store.record(&old).unwrap();
    store.record(&[day_hit(20_001, "192.0.2.1", 22), day_hit(20_001, "192.0.2.2", 22)]).unwrap();
    let end_of_second_day = 20_002 * DAY_MILLIS;
    assert_eq!(store.retain(UnixMillis(end_of_second_day - 1), full_day).unwrap(), 0);
    assert_eq!(store.stats().unwrap().scan_records, 5002);
    drop(store);

    // No retention is given any more: the one from before counts.
    let store = open(dir.path());
    assert_eq!(store.retain(UnixMillis(end_of_second_day), None).unwrap(), 5000);
    assert_eq!(store.retain(UnixMillis(end_of_second_day), None).unwrap(), 0);
    let summary = store.reader().summary(range(20_000, 20_001)).unwrap();
    assert_eq!((summary.hits.current, summary.sources.current.count, summary.ports.current.count), (2, 2, 1));
    assert_eq!(store.reader().newest_day().unwrap(), Some(Day(20_001)));
}

#[test]
fn a02_without_any_setting_thirty_days_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&[day_hit(20_000, "192.0.2.1", 22)]).unwrap();
    assert_eq!(store.retain(Day(20_030).start(), None).unwrap(), 0);
    assert_eq!(store.retain(Day(20_031).start(), None).unwrap(), 1);
}

#[test]
fn a02_a_clock_that_fell_back_removes_nothing_and_late_hits_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::default();
    let hits: Vec<_> = (0..60).map(|day| day_hit(20_000 + day, "192.0.2.1", day as u16)).collect();
    store.record_located(&hits, &location_of).unwrap();
    model.record(&hits);
    assert_eq!(store.retain(Day(100).start(), None).unwrap(), 0);
    let late = [day_hit(20_005, "192.0.2.9", 22), day_hit(19_999, "192.0.2.1", 22)];
    store.record_located(&late, &location_of).unwrap();
    model.record(&late);
    for days in [range(19_990, 20_059), range(20_003, 20_010), range(19_999, 20_000)] {
        assert_agrees(&store, &model, days);
    }
    assert_eq!(store.reader().newest_day().unwrap(), Some(Day(20_059)));
}

#[test]
fn a19_a_range_is_whole_days_up_to_a_year() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = TODAY.0 - DAYS_MAX + 1;
    let hits: Vec<_> = [first - 1, first, first + 200, TODAY.0, TODAY.0 + 1]
        .into_iter()
        .flat_map(|day| [day_hit(day, "192.0.2.1", 22), day_hit(day, "192.0.2.2", 23)])
        .collect();
    store.record(&hits).unwrap();
    let year = DayRange::ending(TODAY, DAYS_MAX);
    let summary = store.reader().summary(year).unwrap();
    assert_eq!((summary.hits.current, summary.hits.previous), (6, 2));
    assert_eq!((summary.sources.current.count, summary.sources.previous.count), (2, 2));
    assert_eq!(store.reader().top_ports(year, 9).unwrap().rows[0].hits, 3);
    let none = store.reader().summary(DayRange::ending(Day(3), 7)).unwrap();
    assert_eq!((none.hits.current, none.hits.previous), (0, 0));
}

#[test]
fn a20_the_period_before_stands_beside_every_card() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut hits: Vec<_> = (0..7).map(|day| day_hit(20_000 + day, "192.0.2.1", 22)).collect();
    hits.extend((7..14).map(|day| day_hit(20_000 + day, "192.0.2.1", 22 + day as u16)));
    store.record(&hits).unwrap();
    let summary = store.reader().summary(range(20_007, 20_013)).unwrap();
    assert_eq!((summary.hits.current, summary.hits.previous), (7, 7));
    assert_eq!((summary.ports.current.count, summary.ports.previous.count), (7, 1));
    assert_eq!((summary.sources.current.count, summary.sources.previous.count), (1, 1));
    assert!(summary.sources.current.exact && summary.ports.current.exact);
}

#[test]
fn a21_the_trend_has_every_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.record(&[day_hit(20_001, "192.0.2.1", 22), day_hit(20_001, "192.0.2.2", 22)]).unwrap();
    let trend = store.reader().trend(range(20_000, 20_002)).unwrap();
    let day = |day, hits, sources| TrendDay { day: Day(day), hits, sources };
    assert_eq!(trend, [day(20_000, 0, 0), day(20_001, 2, 2), day(20_002, 0, 0)]);
}

#[test]
fn a22_who_is_never_first_on_a_day_can_be_first_of_all_days() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut hits = Vec::new();
    for day in 20_000..20_010 {
        hits.push(ScanHit { hits: 60, ..day_hit(day, "192.0.2.1", 22) });
        for other in 0..20 {
            let source = Ipv4Addr::new(198, 51, (day - 20_000) as u8, other);
            hits.push(ScanHit { hits: 100, ..day_hit(day, &source.to_string(), 23) });
        }
    }
    store.record(&hits).unwrap();
    let top = store.reader().top_sources(range(20_000, 20_009), 1).unwrap();
    assert_eq!((top.rows[0].source.to_string(), top.rows[0].hits), ("192.0.2.1".to_owned(), 600));
    assert!(top.exact);
}

/// Few with most of the hits, many with a few; most ports of a day have one source.
fn tailed_hit(random: &mut Random, days: u32) -> ScanHit {
    let day = TODAY.0 - random.below(days.into()) as u32;
    let source = Ipv4Addr::from_bits(0x0a00_0000 + (random.below(3000) * random.below(3000) / 3000) as u32);
    let port = (random.below(5000) * random.below(5000) / 5000) as u16;
    let hits = 1 << random.below(12).min(random.below(12));
    ScanHit { hits: hits + random.below(hits), ..day_hit(day, &source.to_string(), port) }
}

#[test]
fn a22_tops_are_the_models_when_only_the_fronts_of_the_days_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::default();
    let mut random = Random::new(23);
    for round in 0..6 {
        let hits: Vec<_> = (0..4000).map(|_| tailed_hit(&mut random, 20)).collect();
        store.record_located(&hits, &location_of).unwrap();
        model.record(&hits);
        match round {
            2 => {
                store.retain(TODAY.start(), Some(Duration::from_hours(24 * 15))).unwrap();
                model.retain(Day(TODAY.0 - 15));
            }
            3 => {
                drop(store);
                store = open(dir.path());
            }
            4 => {
                store.clear_scans().unwrap();
                model = Model::default();
            }
            _ => {}
        }
        for days in [1, 2, 7, 20] {
            assert_tops_agree(&store, &model, DayRange::ending(TODAY, days));
        }
    }
}

#[test]
fn a22_who_is_first_by_what_was_not_read_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hits = |day, source: Ipv4Addr, hits| ScanHit { hits, ..day_hit(day, &source.to_string(), 22) };
    let (once, daily) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1));
    let mut all = vec![hits(20_000, once, 1000), hits(20_000, daily, 600)];
    all.extend((20_001..20_020).map(|day| hits(day, daily, 38)));
    for day in 20_000..20_020 {
        // Strangers before, and others of the same grade, of which the higher addresses are read first.
        let stranger = |number| Ipv4Addr::new(198, 51, (day - 20_000) as u8, number);
        all.extend((0..60).map(|number| hits(day, stranger(number), if number < 20 { 100 } else { 39 })));
    }
    store.record(&all).unwrap();
    let top = store.reader().top_sources(range(20_000, 20_019), 1).unwrap();
    assert_eq!((top.rows[0].source, top.rows[0].hits), (daily.into(), 600 + 19 * 38));
    assert!(top.exact);
}

#[test]
fn a22_a_top_that_takes_too_long_to_prove_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Of three days of strangers with as many hits each, the lists of two would have to be read.
    for day in 0..3u32 {
        let source = |number: u32| Ipv4Addr::from_bits((10 + day) << 24 | number).to_string();
        let hits: Vec<_> = (0..52_000).map(|number| day_hit(20_000 + day, &source(number), 22)).collect();
        store.record(&hits).unwrap();
    }
    let top = |days| store.reader().top_sources(days, 10).unwrap();
    let (two, three) = (top(range(20_000, 20_001)), top(range(20_000, 20_002)));
    assert!(two.exact && !three.exact);
    assert!(three.rows.len() == 10 && three.rows.iter().all(|row| row.hits == 1));
}

#[test]
fn a22_many_ports_or_sources_over_several_days_are_estimated_within_the_stated_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for day in 0..3u32 {
        let ports = (0..20_000).map(|port| day_hit(20_000 + day, "192.0.2.1", port + 5000 * day as u16));
        store.record(&ports.collect::<Vec<_>>()).unwrap();
        let source = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 + number + 5000 * day).to_string();
        let sources = (0..20_000).map(|number| day_hit(20_000 + day, &source(number), 22));
        store.record(&sources.collect::<Vec<_>>()).unwrap();
    }
    let near = |count: u64, truth: u64| count.abs_diff(truth) as f64 <= 3.0 * 0.0163 * truth as f64;
    let reader = store.reader();
    let of_source = |days| reader.top_sources(days, 1).unwrap().rows[0].ports;
    let of_port = |days| reader.top_ports(days, 1).unwrap().rows[0].sources;
    assert_eq!(
        (of_source(range(20_000, 20_000)).count, of_source(range(20_000, 20_000)).exact),
        (20_000, true)
    );
    assert_eq!((of_port(range(20_000, 20_000)).count, of_port(range(20_000, 20_000)).exact), (20_001, true));
    let (ports, sources) = (of_source(range(20_000, 20_002)), of_port(range(20_000, 20_002)));
    assert!(near(ports.count, 30_000) && !ports.exact, "{ports:?}");
    assert!(near(sources.count, 30_001) && !sources.exact, "{sources:?}");
}

#[test]
fn a23_pages_neither_lose_nor_repeat_while_records_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random::new(11);
    let before: Vec<_> = (0..900).map(|_| random.hit(TODAY)).collect();
    store.record_located(&before, &location_of).unwrap();
    let mut model = Model::default();
    model.record(&before);
    let filter = ScanFilter::all(DayRange::ending(TODAY, 60));
    let expected = model.listed(&filter);
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.reader().page(&filter, after.as_deref(), 20).unwrap();
        seen.extend(page.rows.into_iter().map(|row| ScanRecord { hits: 0, ..row.record }));
        let more: Vec<_> = (0..40).map(|_| random.hit(TODAY)).collect();
        store.record_located(&more, &location_of).unwrap();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let key = |record: &ScanRecord| (record.day, record.source, record.protocol, record.port);
    let keys: Vec<_> = seen.iter().map(key).collect();
    let mut once = keys.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), keys.len(), "a record was listed twice");
    for record in &expected {
        assert!(once.binary_search(&key(record)).is_ok(), "{record:?} was not listed");
    }
}

#[test]
fn a23_a_search_that_finds_nothing_ends_early_and_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for block in 0..3u32 {
        let source = |number| Ipv4Addr::from_bits(0x0a00_0000 + block * 20_000 + number).to_string();
        let hits: Vec<_> = (0..20_000).map(|number| day_hit(20_000, &source(number), 22)).collect();
        store.record(&hits).unwrap();
    }
    store.record(&[day_hit(20_000, "203.0.113.77", 22)]).unwrap();
    let filter = ScanFilter { address: "3.0.113".into(), ..ScanFilter::all(range(20_000, 20_000)) };
    let first = store.reader().page(&filter, None, 20).unwrap();
    assert!(first.rows.is_empty() && !first.complete && first.next.is_some());
    let mut last = first;
    for _ in 0..10 {
        if last.complete {
            break;
        }
        last = store.reader().page(&filter, last.next.as_deref(), 20).unwrap();
    }
    assert!(last.complete && last.rows.len() == 1);
    let error = store.reader().page(&filter, Some("made up"), 20).unwrap_err();
    assert!(matches!(error, StoreError::Cursor), "{error}");
}

#[test]
fn a24_clearing_removes_scans_and_what_comes_from_them_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random::new(3);
    let hits: Vec<_> = (0..500).map(|_| random.hit(TODAY)).collect();
    store.record_located(&hits, &location_of).unwrap();
    let kind = glacis_control::EventKind::CoreStarted { version: "1".into() };
    store.append_event(&kind, UnixMillis(1)).unwrap();
    let records = store.stats().unwrap().scan_records;
    assert_eq!(store.clear_scans().unwrap(), records);
    assert_eq!(store.clear_scans().unwrap(), 0);
    assert_agrees(&store, &Model::default(), DayRange::ending(TODAY, 60));
    assert_eq!((store.stats().unwrap().scan_records, store.stats().unwrap().events), (0, 1));
    assert!(store.reader().newest(10).unwrap().is_empty());
    store.record_located(&hits, &location_of).unwrap();
    assert_eq!(store.stats().unwrap().scan_records, records);
}

#[test]
fn the_newest_records_are_those_seen_last_whatever_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    let at = |seconds: u64, port| {
        hit(UnixMillis(u64::from(TODAY.0) * DAY_MILLIS + seconds * 1000), source, Protocol::Tcp, port)
    };
    store.record(&(0..300).map(|port| at(10 + u64::from(port), port)).collect::<Vec<_>>()).unwrap();
    store.record(&[at(1000, 5), at(5, 299)]).unwrap();
    let ports = |limit| -> Vec<u16> {
        store.reader().newest(limit).unwrap().iter().map(|row| row.record.port).collect()
    };
    assert_eq!(ports(3), [5, 299, 298]);
    assert_eq!(ports(1000).len(), 128);
}
