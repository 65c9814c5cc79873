//! What is known of clients: the core keeps it, the worker has a copy.
//!
//! Pure: the caller brings the time. Addresses are canonical throughout: an IPv4 address written as IPv6 is the IPv4
//! address. Everything is bounded; at a bound the record whose first finding ends soonest goes, and is counted.

mod judge;
#[cfg(test)]
mod tests;

pub use judge::{Judgement, judge};

use glacis_control::UnixMillis;
use glacis_control::gate::{ClientRecord, Finding};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Most clients of a book.
pub const CLIENTS_MAX: usize = 65_536;
/// Most findings of a book, of all clients together; 16 bytes each.
pub const FINDINGS_MAX: usize = 1_048_576;
/// How long before a ban a look may have ended that its packets spoilt: two of the longest timeouts, one for the look
/// and one for clocks and messages under way, and 5 s to spare.
const DOUBT: Duration = Duration::from_secs(25);

/// Records by client.
#[derive(Debug)]
pub struct Book {
    /// In the order of addresses, so that those of a network stand together.
    records: BTreeMap<IpAddr, ClientRecord>,
    /// When the first finding of each record ends, soonest first.
    ends: BTreeSet<(UnixMillis, IpAddr)>,
    findings: usize,
    /// Clients with an open port, by port.
    open: BTreeMap<u16, u64>,
    evicted: u64,
    clients_max: usize,
    findings_max: usize,
}

impl Default for Book {
    fn default() -> Self {
        Self::bounded(CLIENTS_MAX, FINDINGS_MAX)
    }
}

impl Book {
    /// An empty one with [`CLIENTS_MAX`] and [`FINDINGS_MAX`] as its bounds.
    pub fn new() -> Self {
        Self::default()
    }

    fn bounded(clients_max: usize, findings_max: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            ends: BTreeSet::new(),
            findings: 0,
            open: BTreeMap::new(),
            evicted: 0,
            clients_max,
            findings_max,
        }
    }

    /// Adds what a look at `seen` found. For a port that was known, the news win unless they are older than the
    /// record; what was known of other ports stays. Without findings nothing is learnt.
    ///
    /// Returns the clients that went to make room; the one that was to be learnt may be among them.
    pub fn learn(&mut self, client: IpAddr, findings: &[Finding], seen: UnixMillis) -> Vec<IpAddr> {
        let client = client.to_canonical();
        if findings.is_empty() {
            return Vec::new();
        }
        let mut record =
            self.remove(client).unwrap_or_else(|| ClientRecord { client, seen, findings: Vec::new() });
        let newer = seen >= record.seen;
        record.seen = record.seen.max(seen);
        for news in findings {
            match record.findings.binary_search_by_key(&news.port, |known| known.port) {
                Ok(at) if newer => record.findings[at] = *news,
                Ok(_) => {}
                Err(at) => record.findings.insert(at, *news),
            }
        }
        self.insert(record);
        self.make_room()
    }

    /// The same for a whole record, such as the other side's or a stored one.
    pub fn learn_record(&mut self, record: &ClientRecord) -> Vec<IpAddr> {
        self.learn(record.client, &record.findings, record.seen)
    }

    /// Forgets the clients within a network, and says who they were.
    pub fn forget(&mut self, within: &IpNet) -> Vec<IpAddr> {
        let known = self.within(within);
        for client in &known {
            self.remove(*client);
        }
        known
    }

    /// Drops what a ban may have made of looks: of the clients within that were looked at since, or up to 25 s before,
    /// every finding that is not open. Silence may be the ban's own, whereas an open port has answered.
    ///
    /// Of such a client findings of earlier looks go as well, since a record knows its latest look alone. Returns the
    /// clients of whom less is known now, or nothing.
    pub fn doubt(&mut self, within: &IpNet, since: UnixMillis) -> Vec<IpAddr> {
        let from = UnixMillis(since.0.saturating_sub(DOUBT.as_millis() as u64));
        let mut doubted = self.within(within);
        doubted.retain(|client| {
            let shaky = self.records.get(client).is_some_and(|record| {
                record.seen >= from && !record.findings.iter().all(|finding| finding.outcome.is_open())
            });
            if shaky && let Some(mut record) = self.remove(*client) {
                record.findings.retain(|finding| finding.outcome.is_open());
                self.insert(record);
            }
            shaky
        });
        doubted
    }

    /// Drops findings that have ended, and returns the clients of whom nothing is left.
    ///
    /// Costs what has ended, not what is known: it may be called often.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<IpAddr> {
        let mut gone = Vec::new();
        while let Some((end, client)) = self.ends.first().copied()
            && end <= now
        {
            let Some(mut record) = self.remove(client) else { break };
            record.findings.retain(|finding| finding.until > now);
            if record.findings.is_empty() {
                gone.push(client);
            } else {
                self.insert(record);
            }
        }
        gone
    }

    /// What is known of a client. Some of it may have ended; [`judge`] minds that.
    pub fn get(&self, client: IpAddr) -> Option<&ClientRecord> {
        self.records.get(&client.to_canonical())
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Records of clients that went for want of room since the book was opened.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All records, ascending by client.
    pub fn records(&self) -> impl Iterator<Item = &ClientRecord> {
        self.records.values()
    }

    /// The records of the clients that were looked at last, the latest first.
    pub fn newest(&self, limit: usize) -> Vec<&ClientRecord> {
        let mut records: Vec<&ClientRecord> = self.records.values().collect();
        let latest_first =
            |a: &&ClientRecord, b: &&ClientRecord| b.seen.cmp(&a.seen).then_with(|| a.client.cmp(&b.client));
        if limit < records.len() {
            records.select_nth_unstable_by(limit, latest_first);
            records.truncate(limit);
        }
        records.sort_unstable_by(latest_first);
        records
    }

    /// Ports found open, with the number of clients at which they are; most first, then ascending by port.
    pub fn open_ports(&self, limit: usize) -> Vec<(u16, u64)> {
        let mut ports: Vec<(u16, u64)> = self.open.iter().map(|(port, clients)| (*port, *clients)).collect();
        ports.sort_unstable_by_key(|(port, clients)| (std::cmp::Reverse(*clients), *port));
        ports.truncate(limit);
        ports
    }

    /// Clients of whom something is known, ascending.
    pub fn within(&self, network: &IpNet) -> Vec<IpAddr> {
        let network = canonical(network);
        let those = self.records.range(network.network()..=network.broadcast());
        those.map(|(client, _)| *client).collect()
    }

    /// A record without findings is none.
    fn insert(&mut self, record: ClientRecord) {
        let Some(end) = first_end(&record) else { return };
        self.findings += record.findings.len();
        for finding in record.findings.iter().filter(|finding| finding.outcome.is_open()) {
            *self.open.entry(finding.port).or_default() += 1;
        }
        self.ends.insert((end, record.client));
        self.records.insert(record.client, record);
    }

    fn remove(&mut self, client: IpAddr) -> Option<ClientRecord> {
        let record = self.records.remove(&client)?;
        if let Some(end) = first_end(&record) {
            self.ends.remove(&(end, client));
        }
        self.findings -= record.findings.len();
        for finding in record.findings.iter().filter(|finding| finding.outcome.is_open()) {
            if let Some(clients) = self.open.get_mut(&finding.port) {
                *clients -= 1;
                if *clients == 0 {
                    self.open.remove(&finding.port);
                }
            }
        }
        Some(record)
    }

    fn make_room(&mut self) -> Vec<IpAddr> {
        let mut gone = Vec::new();
        while self.records.len() > self.clients_max || self.findings > self.findings_max {
            let Some((_, client)) = self.ends.first().copied() else { break };
            self.remove(client);
            self.evicted += 1;
            gone.push(client);
        }
        gone
    }
}

fn first_end(record: &ClientRecord) -> Option<UnixMillis> {
    record.findings.iter().map(|finding| finding.until).min()
}

/// A network of IPv4 addresses written as IPv6 becomes the IPv4 network.
pub(crate) fn canonical(network: &IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return *network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(prefix)) => {
            IpNet::V4(Ipv4Net::new(address, prefix).expect("a prefix of at most 128 less 96 is at most 32"))
        }
        _ => *network,
    }
}
