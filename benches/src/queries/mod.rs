//! Questions about ten million scan records: the store against `SQLite`, the same data, the same questions.

mod data;
mod sqlite;

use crate::{Bound, Figure, Outcome, Unit, median};
use data::{DAYS, LAST_DAY, RECORDS, locate};
use glacis_control::Day;
use glacis_control::scan_query::{DayRange, ScanFilter};
use glacis_store::{Bounds, COMMIT_HITS, Store, StoreReader};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the store answers each question; `SQLite` answers it once, after it has been warmed up by the others.
const ROUNDS: usize = 20;
/// Rows of a top and of a page.
const TOP_ROWS: usize = 10;
const PAGE_ROWS: usize = 50;
/// Of `SQLite`'s time.
const RATIO_MAX: f64 = 0.1;
const P99_MAX_MS: f64 = 10.0;
/// Bytes that ten million records may take, in the default bound.
const MEBIBYTES_MAX: f64 = 2048.0;

/// One question of the mix.
enum Question {
    Summary(DayRange),
    TopSources(DayRange),
    TopPorts(DayRange),
    Page(ScanFilter),
}

/// What an answer comes to, for the two sides to agree on.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Of this period and the one before: hits, ports, sources.
    Summary([u64; 6]),
    /// Hits of the rows, the most first.
    Top(Vec<u64>),
    /// Days of the rows.
    Page(Vec<u32>),
}

impl Question {
    const KINDS: [&str; 4] = ["summary", "top ten sources", "top ten ports", "filtered page"];

    fn kind(&self) -> usize {
        match self {
            Self::Summary(_) => 0,
            Self::TopSources(_) => 1,
            Self::TopPorts(_) => 2,
            Self::Page(_) => 3,
        }
    }

    /// Every kind over a day, a week and a month; pages with each filter.
    fn mix() -> Vec<Self> {
        let mut mix = Vec::new();
        for days in [1, 7, DAYS] {
            let days = DayRange::ending(Day(LAST_DAY), days);
            mix.extend([Self::Summary(days), Self::TopSources(days), Self::TopPorts(days)]);
            let all = ScanFilter::all(days);
            for port in [data::PORT_COMMON, data::PORT_RARE] {
                mix.push(Self::Page(ScanFilter { port: Some(port), ..all.clone() }));
            }
            for address in [data::ADDRESS_BEGIN, data::ADDRESS_PART, data::ADDRESS_PART_RARE] {
                mix.push(Self::Page(ScanFilter { address: address.into(), ..all.clone() }));
            }
            for location in [data::COUNTRY_COMMON, data::COUNTRY_RARE] {
                mix.push(Self::Page(ScanFilter { location: location.into(), ..all.clone() }));
            }
        }
        mix
    }

    /// Calls `answered` with the time of each request: a page that ended early is asked for what follows.
    fn ask(&self, store: &StoreReader, mut answered: impl FnMut(Duration)) -> Outcome<Answer> {
        if let Self::Page(filter) = self {
            let mut days: Vec<u32> = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let wanted = PAGE_ROWS - days.len();
                let (page, time) = timed(|| Ok(store.page(filter, after.as_deref(), wanted)?))?;
                answered(time);
                days.extend(page.rows.iter().map(|row| row.record.day.0));
                after = page.next;
                if page.complete || after.is_none() || days.len() == PAGE_ROWS {
                    return Ok(Answer::Page(days));
                }
            }
        }
        let (answer, time) = timed(|| self.add_up(store))?;
        answered(time);
        Ok(answer)
    }

    /// All questions but those for pages.
    fn add_up(&self, store: &StoreReader) -> Outcome<Answer> {
        Ok(match self {
            Self::Summary(days) => {
                let summary = store.summary(*days)?;
                let (ports, sources) = (summary.ports, summary.sources);
                Answer::Summary([
                    summary.hits.current,
                    ports.current.count,
                    sources.current.count,
                    summary.hits.previous,
                    ports.previous.count,
                    sources.previous.count,
                ])
            }
            Self::TopSources(days) => {
                let top = store.top_sources(*days, TOP_ROWS)?;
                if !top.exact {
                    return Err(format!("the top sources of {days:?} are not exact").into());
                }
                Answer::Top(top.rows.iter().map(|row| row.hits).collect())
            }
            Self::TopPorts(days) => {
                let top = store.top_ports(*days, TOP_ROWS)?;
                if !top.exact {
                    return Err(format!("the top ports of {days:?} are not exact").into());
                }
                Answer::Top(top.rows.iter().map(|row| row.hits).collect())
            }
            Self::Page(_) => return Err("a page is not added up".into()),
        })
    }

    fn name(&self) -> String {
        let days = match self {
            Self::Summary(days) | Self::TopSources(days) | Self::TopPorts(days) => *days,
            Self::Page(filter) => filter.days,
        };
        let filter = match self {
            Self::Page(ScanFilter { port: Some(port), .. }) => format!(", port {port}"),
            Self::Page(filter) => format!(", {}{}", filter.address, filter.location),
            _ => String::new(),
        };
        format!("{}, {} days{filter}", Self::KINDS[self.kind()], days.days())
    }
}

/// Works in the directory that `TMPDIR` names; takes about 5 GB there.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let (store, built) = timed(|| fill_store(&dir.path().join("store")))?;
    eprintln!("  {RECORDS} records in {:.0} s", built.as_secs_f64());
    let (mut connection, filled) = timed(|| sqlite::filled(&dir.path().join("peer.sqlite")))?;
    eprintln!("  SQLite in {:.0} s", filled.as_secs_f64());

    let mix = Question::mix();
    let reader = store.reader();
    let mut ours = Times { questions: vec![Vec::with_capacity(ROUNDS); mix.len()], requests: Vec::new() };
    for round in 0..=ROUNDS {
        for (question, times) in mix.iter().zip(&mut ours.questions) {
            let mut all = 0.0;
            let answered = |time: Duration| {
                all += time.as_secs_f64();
                // The first round reads what the page cache lost.
                if round > 0 {
                    ours.requests.push(time.as_secs_f64());
                }
            };
            question.ask(&reader, answered)?;
            if round > 0 {
                times.push(all);
            }
        }
    }
    let mut peer = Vec::with_capacity(mix.len());
    for question in &mix {
        let (answer, time) = timed(|| sqlite::ask(&mut connection, question))?;
        let own = question.ask(&reader, |_| ())?;
        if answer != own {
            return Err(format!("{}: {own:?}, SQLite {answer:?}", question.name()).into());
        }
        peer.push(time.as_secs_f64());
    }
    let used = store.stats()?.bytes_used as f64;
    Ok(figures_of(&mix, ours, &peer, used))
}

/// In seconds.
struct Times {
    /// Of each question, by round.
    questions: Vec<Vec<f64>>,
    requests: Vec<f64>,
}

fn figures_of(mix: &[Question], ours: Times, peer: &[f64], used: f64) -> Vec<Figure> {
    let Times { questions, requests: mut all } = ours;
    let questions: Vec<f64> = questions.into_iter().map(median).collect();
    for ((question, ours), peer) in mix.iter().zip(&questions).zip(peer) {
        eprintln!("  {:44} {:7.2} ms, SQLite {:9.2} ms", question.name(), ours * 1e3, peer * 1e3);
    }
    let mut figures: Vec<_> = Question::KINDS
        .iter()
        .enumerate()
        .map(|(kind, name)| {
            let of_kind = || (0..mix.len()).filter(|index| mix[*index].kind() == kind);
            let count = of_kind().count() as f64;
            let ours = of_kind().map(|index| questions[index]).sum::<f64>() / count;
            let theirs = of_kind().map(|index| peer[index]).sum::<f64>() / count;
            Figure {
                what: format!("{name} over 10 M records"),
                ours: format!("{:.2} ms", ours * 1e3),
                peer: format!("SQLite {:.0} ms", theirs * 1e3),
                value: ours / theirs,
                unit: Unit::Ratio,
                bound: Bound::AtMost(RATIO_MAX),
            }
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let p99 = all[all.len() * 99 / 100] * 1e3;
    figures.push(Figure {
        what: "all these questions: p99".to_owned(),
        ours: format!("{} answers", all.len()),
        peer: String::new(),
        value: p99,
        unit: Unit::Milliseconds,
        bound: Bound::AtMost(P99_MAX_MS),
    });
    figures.push(Figure {
        what: "10 M records with roll-ups".to_owned(),
        ours: format!("{:.0} bytes each", used / RECORDS as f64),
        peer: String::new(),
        value: used / f64::from(1 << 20),
        unit: Unit::Mebibytes,
        bound: Bound::AtMost(MEBIBYTES_MAX),
    });
    figures
}

fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

fn fill_store(dir: &Path) -> Outcome<Store> {
    let store = Store::open(dir, Bounds { bytes_initial: 1 << 30, ..Bounds::default() })?;
    let mut batch = Vec::with_capacity(COMMIT_HITS);
    for day in 0..DAYS {
        for hit in data::day(day) {
            batch.push(hit);
            if batch.len() == COMMIT_HITS {
                record(&store, &mut batch)?;
            }
        }
    }
    record(&store, &mut batch)?;
    let records = store.stats()?.scan_records;
    if records != RECORDS {
        return Err(format!("the store holds {records} records").into());
    }
    Ok(store)
}

fn record(store: &Store, batch: &mut Vec<glacis_control::ScanHit>) -> Outcome<()> {
    if store.record_located(batch, &locate)? > 0 {
        return Err("the store was full".into());
    }
    batch.clear();
    Ok(())
}
