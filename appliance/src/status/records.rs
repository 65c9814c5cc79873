//! Records of the store, read for all visitors together and never more often than the machine can bear.

use super::query::VERDICTS;
use super::ration::{Known, Ration, Shelf};
use crate::words::{self, ClientVerdict};
use crate::worker::STORE_VARIABLE;
use glacis_control::gate::ClientRecord;
use glacis_control::scan_query::{
    DayRange, PortTotal, ScanFilter, ScanPage, ScanRow, ScanSummary, SourceTotal, Top, TrendDay,
};
use glacis_control::{Ban, BanReason, Event, ScanShape, UnixMillis};
use glacis_store::{StoreError, StoreReader};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Newest scan records that are kept at hand.
pub const NEWEST_MAX: usize = 100;
/// Newest events that are kept at hand.
pub const EVENTS_MAX: usize = 1000;
/// Most bans that are listed.
pub const BANS_MAX: usize = 1000;
/// Most clients that are listed.
pub const CLIENTS_MAX: usize = 1000;
/// Answers with whole client records that are kept: one may be large where a gate names many ports.
const CLIENT_ANSWERS_KEPT: usize = 4;

/// An answer, shared with everyone who asks the same.
pub type Answer<A> = Result<Arc<A>, Unavailable>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("{0}")]
    Closed(String),
    #[error("{0}")]
    Failed(String),
    #[error("`after` is no place in this listing; begin again without it")]
    Cursor,
    /// Of [`Ration`]; nothing to show from before.
    #[error("the records are being read too often; ask again in a few seconds")]
    Busy,
}

impl Unavailable {
    fn of(error: StoreError) -> Self {
        match error {
            StoreError::Cursor => Self::Cursor,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Bans and happenings at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// Soonest to end first, permanent ones last; at most [`BANS_MAX`].
    pub bans: Vec<Ban>,
    /// All live bans, by their reason.
    pub bans_by_reason: BansByReason,
    /// Newest first; at most [`EVENTS_MAX`].
    pub events: Vec<Event>,
}

/// How many live bans have which reason, in a fixed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BansByReason(pub [(&'static str, u64); 6]);

impl Default for BansByReason {
    fn default() -> Self {
        let shapes = [ScanShape::Volume, ScanShape::Vertical, ScanShape::Horizontal, ScanShape::Slow]
            .map(ScanShape::name);
        let [volume, vertical, horizontal, slow] = shapes;
        Self([volume, vertical, horizontal, slow, "gate", "manual"].map(|name| (name, 0)))
    }
}

impl BansByReason {
    fn of(bans: &[Ban]) -> Self {
        let mut counts = Self::default();
        for ban in bans {
            let name = match &ban.reason {
                BanReason::Scan { shape, .. } => shape.name(),
                BanReason::Gate { .. } => "gate",
                BanReason::Manual { .. } => "manual",
            };
            for (_, count) in counts.0.iter_mut().filter(|(reason, _)| *reason == name) {
                *count += 1;
            }
        }
        counts
    }
}

/// The store, open for reading, and its last answers.
pub struct Records {
    /// Or why there is none; the sandbox allows no second try.
    store: Result<StoreReader, String>,
    ration: Mutex<Ration>,
    recent: Shelf<(), Recent>,
    newest: Shelf<(), Vec<ScanRow>>,
    summaries: Shelf<DayRange, ScanSummary>,
    trends: Shelf<DayRange, Vec<TrendDay>>,
    sources: Shelf<(DayRange, usize), Top<SourceTotal>>,
    ports: Shelf<(DayRange, usize), Top<PortTotal>>,
    pages: Shelf<PageQuestion, ScanPage>,
    clients: Shelf<ClientQuestion, Vec<ClientRow>>,
    whole_clients: Shelf<(Option<IpNet>, usize), Vec<ClientRecord>, CLIENT_ANSWERS_KEPT>,
}

/// One page of the scan records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuestion {
    pub filter: ScanFilter,
    pub after: Option<String>,
    pub limit: u32,
}

/// Which clients are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientQuestion {
    /// A part of the address, lower case.
    pub address: String,
    pub verdict: Option<ClientVerdict>,
}

impl ClientQuestion {
    fn is_met_by(&self, record: &ClientRecord) -> bool {
        let is_found = self.address.is_empty() || record.client.to_string().contains(&self.address);
        is_found && self.verdict.is_none_or(|verdict| words::Known::of(record).verdict == verdict)
    }

    /// As parameters of a link that asks for the same.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let address = (!self.address.is_empty()).then(|| ("address", self.address.clone()));
        let word = VERDICTS.into_iter().find(|(_, verdict)| Some(*verdict) == self.verdict);
        address.into_iter().chain(word.map(|(word, _)| ("verdict", word.to_owned()))).collect()
    }
}

/// What is known of a client, in short: a thousand of them, kept for some questions, stay small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRow {
    pub client: IpAddr,
    pub seen: UnixMillis,
    pub known: words::Known,
}

impl ClientRow {
    pub fn of(record: &ClientRecord) -> Self {
        Self { client: record.client, seen: record.seen, known: words::Known::of(record) }
    }
}

impl Records {
    /// Opens the store that the core named; call it before privileges are dropped.
    ///
    /// A page without records is better than none, so a store that cannot be opened is not the worker's end.
    pub fn open_from_environment() -> Self {
        let store = match std::env::var_os(STORE_VARIABLE) {
            Some(dir) => StoreReader::open(Path::new(&dir)).map_err(|error| error.to_string()),
            None => Err("this process was given no store".into()),
        };
        if let Err(error) = &store {
            tracing::warn!(error, "no records on the status page");
        }
        Self::of(store)
    }

    pub(super) fn of(store: Result<StoreReader, String>) -> Self {
        Self {
            store,
            ration: Mutex::new(Ration::new(Instant::now())),
            recent: Shelf::default(),
            newest: Shelf::default(),
            summaries: Shelf::default(),
            trends: Shelf::default(),
            sources: Shelf::default(),
            ports: Shelf::default(),
            pages: Shelf::default(),
            clients: Shelf::default(),
            whole_clients: Shelf::default(),
        }
    }

    pub fn recent(&self, now: UnixMillis) -> Answer<Recent> {
        self.ask(&self.recent, (), |store, ()| recent(store, now))
    }

    /// The newest scan records, last seen first.
    pub fn newest(&self) -> Answer<Vec<ScanRow>> {
        self.ask(&self.newest, (), |store, ()| store.newest(NEWEST_MAX))
    }

    pub fn summary(&self, days: DayRange) -> Answer<ScanSummary> {
        self.ask(&self.summaries, days, |store, days| store.summary(*days))
    }

    pub fn trend(&self, days: DayRange) -> Answer<Vec<TrendDay>> {
        self.ask(&self.trends, days, |store, days| store.trend(*days))
    }

    pub fn top_sources(&self, days: DayRange, n: usize) -> Answer<Top<SourceTotal>> {
        self.ask(&self.sources, (days, n), |store, (days, n)| store.top_sources(*days, *n))
    }

    pub fn top_ports(&self, days: DayRange, n: usize) -> Answer<Top<PortTotal>> {
        self.ask(&self.ports, (days, n), |store, (days, n)| store.top_ports(*days, *n))
    }

    pub fn page(&self, question: PageQuestion) -> Answer<ScanPage> {
        self.ask(&self.pages, question, |store, question| {
            store.page(&question.filter, question.after.as_deref(), question.limit as usize)
        })
    }

    /// Clients that gates know, looked at last first; at most [`CLIENTS_MAX`].
    pub fn clients(&self, question: ClientQuestion, now: UnixMillis) -> Answer<Vec<ClientRow>> {
        self.ask(&self.clients, question, |store, question| {
            let found = store.search_clients(now, CLIENTS_MAX, |record| question.is_met_by(record))?;
            Ok(found.iter().map(ClientRow::of).collect())
        })
    }

    /// The same, whole, within a network.
    pub fn client_records(
        &self,
        within: Option<IpNet>,
        limit: usize,
        now: UnixMillis,
    ) -> Answer<Vec<ClientRecord>> {
        self.ask(&self.whole_clients, (within, limit), |store, (within, limit)| {
            store.newest_clients(now, *limit, *within)
        })
    }

    /// From the shelf while it is fresh, or when the ration is used up; else from the store.
    fn ask<Q: PartialEq, A, const KEPT: usize>(
        &self,
        shelf: &Shelf<Q, A, KEPT>,
        question: Q,
        read: impl FnOnce(&StoreReader, &Q) -> Result<A, StoreError>,
    ) -> Answer<A> {
        let store = self.store.as_ref().map_err(|error| Unavailable::Closed(error.clone()))?;
        let started = Instant::now();
        let known = shelf.find(&question, started);
        let mut ration = self.ration.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(Known { answer, fresh: true }) => return Ok(answer),
            known if !ration.allows(started) => return known.map(|k| k.answer).ok_or(Unavailable::Busy),
            _ => {}
        }
        let answer = read(store, &question);
        let finished = Instant::now();
        let took = finished - started;
        ration.spend(took);
        let answer = Arc::new(answer.map_err(Unavailable::of)?);
        shelf.put(question, answer.clone(), finished, took);
        Ok(answer)
    }
}

fn recent(store: &StoreReader, now: UnixMillis) -> Result<Recent, StoreError> {
    let mut bans = store.bans()?;
    bans.retain(|ban| !ban.is_over(now));
    let bans_by_reason = BansByReason::of(&bans);
    bans.sort_by_key(|ban| (ban.until.is_none(), ban.until, ban.source));
    bans.truncate(BANS_MAX);
    bans.shrink_to_fit();
    Ok(Recent { bans, bans_by_reason, events: store.events(EVENTS_MAX)? })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, NOW};
    use super::*;
    use glacis_control::{Day, EventKind, ProbeKind, ProbeKinds, Protocol, ScanHit};
    use glacis_store::{Bounds, Store};
    use std::time::Duration;

    fn hit(port: u16, at: UnixMillis) -> ScanHit {
        ScanHit {
            source: "203.0.113.9".parse().unwrap(),
            port,
            protocol: Protocol::Tcp,
            kinds: ProbeKinds::of(ProbeKind::Syn),
            at,
            hits: 2,
        }
    }

    #[test]
    fn bans_that_are_over_are_gone_and_the_first_to_end_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        for (source, until) in [
            ("192.0.2.1/32", None),
            ("192.0.2.2/32", Some(NOW.plus(Duration::from_secs(9)))),
            ("192.0.2.3/32", Some(NOW)),
            ("192.0.2.4/32", Some(NOW.plus(Duration::from_millis(1)))),
        ] {
            store.put_ban(Ban { until, ..sample::ban(source) }).unwrap();
        }
        let recent = Records::of(Ok(store.reader())).recent(NOW).unwrap();
        let sources: Vec<_> = recent.bans.iter().map(|ban| ban.source.addr().to_string()).collect();
        assert_eq!(sources, ["192.0.2.4", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(recent.bans_by_reason.0[1], ("vertical", 3));
    }

    #[test]
    fn one_reading_serves_all_visitors_of_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let records = Records::of(Ok(store.reader()));
        let first = records.recent(NOW).unwrap();
        store.append_event(&EventKind::CoreStarted { version: "1".into() }, NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &records.recent(NOW).unwrap()));
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(records.recent(NOW).unwrap().events.len(), 1);
    }

    #[test]
    fn questions_that_differ_have_answers_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        store.record(&[hit(22, NOW), hit(23, NOW), hit(24, sample::before(86_400))]).unwrap();
        let records = Records::of(Ok(store.reader()));
        let today = Day::of(NOW);
        assert_eq!(records.summary(DayRange::ending(today, 1)).unwrap().hits.current, 4);
        assert_eq!(records.summary(DayRange::ending(today, 7)).unwrap().hits.current, 6);
        assert_eq!(records.top_ports(DayRange::ending(today, 7), 1).unwrap().rows.len(), 1);
        let page = |port| {
            let filter = ScanFilter { port, ..ScanFilter::all(DayRange::ending(today, 7)) };
            records.page(PageQuestion { filter, after: None, limit: 20 }).unwrap().rows.len()
        };
        assert_eq!((page(None), page(Some(22)), page(Some(99))), (3, 1, 0));
        assert_eq!(records.newest().unwrap().len(), 3);
    }

    #[test]
    fn b15_clients_are_found_by_address_verdict_and_network() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        store.learn(&sample::clients()).unwrap();
        let records = Records::of(Ok(store.reader()));
        let found = |address: &str, verdict| {
            let question = ClientQuestion { address: address.into(), verdict };
            let rows = records.clients(question, NOW).unwrap();
            rows.iter().map(|row| row.client.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("", None), ["203.0.113.9", "198.51.100.7", "2001:db8::7"]);
        assert_eq!(found("8", None), ["198.51.100.7", "2001:db8::7"]);
        assert_eq!(found("", Some(ClientVerdict::Open)), ["203.0.113.9"]);
        assert_eq!(found("2001:db8", Some(ClientVerdict::Clean)), ["2001:db8::7"]);
        assert_eq!(found("2001:db8", Some(ClientVerdict::NoProxy)), [""; 0]);
        let within =
            |net: &str, limit| records.client_records(Some(net.parse().unwrap()), limit, NOW).unwrap().len();
        assert_eq!((within("0.0.0.0/0", 9), within("0.0.0.0/0", 1), within("::/0", 9)), (2, 1, 1));
    }

    #[test]
    fn a_used_up_ration_gives_what_is_known_and_refuses_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let records = Records::of(Ok(store.reader()));
        let day = |day| DayRange::ending(Day(day), 1);
        let known = records.summary(day(1)).unwrap();
        records.ration.lock().unwrap().spend(Duration::from_hours(1));
        std::thread::sleep(Duration::from_millis(1100));
        assert!(Arc::ptr_eq(&known, &records.summary(day(1)).unwrap()), "old, and better than none");
        assert_eq!(records.summary(day(2)), Err(Unavailable::Busy));
    }

    #[test]
    fn a_cursor_that_the_store_did_not_give_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let filter = ScanFilter::all(DayRange::ending(Day::of(NOW), 7));
        let question = PageQuestion { filter, after: Some("x".into()), limit: 20 };
        assert_eq!(Records::of(Ok(store.reader())).page(question), Err(Unavailable::Cursor));
    }

    #[test]
    fn without_a_store_there_is_a_reason() {
        let records = Records::of(Err("gone".into()));
        assert_eq!(records.recent(NOW), Err(Unavailable::Closed("gone".into())));
    }
}
