//! Reading, in any process, while the writer writes.

use crate::environment::Environment;
use crate::error::Fault;
use crate::layout::Fields;
use crate::query::{self, Position};
use crate::{StoreError, layout};
use glacis_control::gate::ClientRecord;
use glacis_control::scan_query::{
    DayRange, PortTotal, ScanFilter, ScanPage, ScanRow, ScanSummary, SourceTotal, Top, TrendDay,
};
use glacis_control::{Ban, Day, Event, Offences, UnixMillis};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// A store that can only be read. Every call sees one consistent snapshot of what is committed.
///
/// Open it before privileges are dropped: it needs `data.mdb` (opened `O_RDONLY`) and `lock.mdb`, where readers
/// take their slots. Afterwards it opens nothing; it maps, unmaps and locks what it has (`mmap`, `munmap`,
/// `madvise`, `fcntl`, `futex`, `pread64`).
#[derive(Debug, Clone)]
pub struct StoreReader {
    environment: Arc<Environment>,
}

/// How much the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// In pages that hold data.
    pub bytes_used: u64,
    pub scan_records: u64,
    pub bans: u64,
    pub events: u64,
    /// Also those of which nothing is known any more, until retention removes them.
    pub clients: u64,
}

impl StoreReader {
    /// Opens the store that another process writes. A process that has a [`Store`](crate::Store) open uses
    /// [`Store::reader`](crate::Store::reader): LMDB allows one environment per process and directory.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let environment = Environment::open_read_only(dir)?;
        // The first transaction also takes the lock that tells the writer that this process lives.
        environment.require_layout()?;
        Ok(Self::of(Arc::new(environment)))
    }

    pub(crate) fn of(environment: Arc<Environment>) -> Self {
        Self { environment }
    }

    /// The three cards, with the period before.
    pub fn summary(&self, days: DayRange) -> Result<ScanSummary, StoreError> {
        self.environment.read("summing up scans", |tables, txn| query::summary(tables, txn, days))
    }

    /// One for each day of the range, the oldest first; days without scans are zero.
    pub fn trend(&self, days: DayRange) -> Result<Vec<TrendDay>, StoreError> {
        self.environment.read("reading the trend", |tables, txn| query::trend(tables, txn, days))
    }

    /// The `n` sources with the most hits over the days; equal ones by ascending address.
    pub fn top_sources(&self, days: DayRange, n: usize) -> Result<Top<SourceTotal>, StoreError> {
        self.environment.read("adding up sources", |tables, txn| query::top_sources(tables, txn, days, n))
    }

    /// The `n` ports with the most hits over the days.
    pub fn top_ports(&self, days: DayRange, n: usize) -> Result<Top<PortTotal>, StoreError> {
        self.environment.read("adding up ports", |tables, txn| query::top_ports(tables, txn, days, n))
    }

    /// At most `limit` records that pass the filter, those that follow `after`: what an earlier page gave as `next`.
    pub fn page(
        &self,
        filter: &ScanFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let after = after.map(|text| Position::parse(text).ok_or(StoreError::Cursor)).transpose()?;
        self.environment.read("listing scans", |tables, txn| query::page(tables, txn, filter, after, limit))
    }

    /// At most so many records, last seen first; 128 are remembered.
    pub fn newest(&self, limit: usize) -> Result<Vec<ScanRow>, StoreError> {
        self.environment.read("reading the newest scans", |tables, txn| query::newest(tables, txn, limit))
    }

    /// The newest day that has records.
    pub fn newest_day(&self) -> Result<Option<Day>, StoreError> {
        self.environment.read("looking for the newest day", |tables, txn| {
            let last = tables.days.last(txn)?;
            Ok(last.map(|(key, _)| Fields::of("the key of a day", key).day()).transpose()?)
        })
    }

    /// In the order of their prefixes.
    pub fn offences(&self) -> Result<Vec<Offences>, StoreError> {
        self.environment.read("reading offences", |tables, txn| {
            tables
                .offences
                .iter(txn)?
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok(layout::parse_offences(key, value)?)
                })
                .collect::<Result<_, Fault>>()
        })
    }

    /// Newest first.
    pub fn events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.environment.read("reading events", |tables, txn| {
            tables
                .events
                .rev_iter(txn)?
                .take(limit)
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok(layout::parse_event(key, value)?)
                })
                .collect::<Result<_, Fault>>()
        })
    }

    /// Every ban, also those whose time is up, in the order of their prefixes.
    pub fn bans(&self) -> Result<Vec<Ban>, StoreError> {
        self.environment.read("reading bans", |tables, txn| {
            tables
                .bans
                .iter(txn)?
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok(layout::parse_ban(key, value)?)
                })
                .collect::<Result<_, Fault>>()
        })
    }

    /// Every client of which something is known, with the findings that hold, in the order of their addresses: all of
    /// IPv4 first.
    pub fn clients(&self, now: UnixMillis) -> Result<Vec<ClientRecord>, StoreError> {
        self.environment.read("reading clients", |tables, txn| tables.live_clients(txn, now))
    }

    /// At most so many of [`Self::clients`], seen last first, equal ones by descending address; only those in `within`.
    pub fn newest_clients(
        &self,
        now: UnixMillis,
        limit: usize,
        within: Option<IpNet>,
    ) -> Result<Vec<ClientRecord>, StoreError> {
        self.environment.read("listing clients", |tables, txn| match within {
            None => tables.newest_clients(txn, now, limit, |_| true),
            Some(within) => tables.newest_clients_within(txn, now, limit, within),
        })
    }

    /// At most so many of [`Self::clients`] that pass, seen last first. Where few pass it looks at all of them.
    pub fn search_clients(
        &self,
        now: UnixMillis,
        limit: usize,
        passes: impl Fn(&ClientRecord) -> bool,
    ) -> Result<Vec<ClientRecord>, StoreError> {
        self.environment
            .read("searching clients", |tables, txn| tables.newest_clients(txn, now, limit, passes))
    }

    /// The findings of one client that hold; `None` when there are none.
    pub fn client(&self, now: UnixMillis, client: IpAddr) -> Result<Option<ClientRecord>, StoreError> {
        let client = client.to_canonical();
        self.environment.read("looking up a client", |tables, txn| tables.client(txn, now, client))
    }

    pub fn totals(&self) -> Result<Totals, StoreError> {
        self.environment.read("counting records", |tables, txn| {
            Ok(Totals {
                bytes_used: tables.bytes_used(txn)?,
                scan_records: tables.scan_records(txn)?,
                bans: tables.bans.len(txn)?,
                events: tables.events.len(txn)?,
                clients: tables.clients.len(txn)?,
            })
        })
    }
}
