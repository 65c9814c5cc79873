//! Gates: the worker, its listening sockets, the book of clients, and what the kernel holds of admitted ones.
//!
//! The worker judges; the core keeps what it says, bans, and lets the kernel take over clients that a gate admits. It trusts
//! the worker no further than it must: what it tells of gates, ports or times that the policy does not name counts for
//! nothing.

mod banned;
mod fast_path;
mod judged;
mod listeners;
mod requests;
#[cfg(test)]
mod sample;
mod tally;
mod worker;

pub(super) use worker::{HEARD_MAX, WORKER};

use super::troubles::Trouble;
use super::{Daemon, now};
use crate::log::whole;
use banned::Lifted;
use fast_path::Admitted;
use glacis_control::gate::{GateStatus, parts};
use glacis_control::report::WorkerStatus;
use glacis_control::{ClientRecord, EventKind, UnixMillis};
use glacis_gate::book::Book;
use glacis_gate::feed::{BANS_PER_MESSAGE, FromWorker, ToWorker};
use glacis_plan::gate::GatePlan;
use glacis_plan::{GeoipFile, GeoipKind};
use ipnet::IpNet;
use listeners::Listeners;
use requests::Tests;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use tally::Tallies;
use tokio::sync::mpsc;
use worker::GateWorker;

/// Events of found clients and of backends within a second; more are in the records and in the status, but not among the
/// events.
const EVENTS_PER_TICK: u32 = 20;

/// All that the core knows of gates.
pub(super) struct Gates {
    worker: GateWorker,
    listeners: Listeners,
    book: Book,
    /// What the worker works with.
    configured: Option<Configured>,
    /// Backends out of service, with the reason.
    down: BTreeMap<(String, SocketAddr), String>,
    admitted: Admitted,
    lifted: Lifted,
    tallies: Tallies,
    tests: Tests,
    /// Events that may still be written in this tick.
    events_left: u32,
}

/// What the worker was told last.
#[derive(PartialEq)]
struct Configured {
    gates: Vec<GatePlan>,
    own: Vec<IpNet>,
    countries: Option<FileIdentity>,
}

impl Configured {
    fn plan(&self, gate: &str) -> Option<&GatePlan> {
        self.gates.iter().find(|plan| plan.name == gate)
    }
}

/// Tells whether a file is still the same: device, inode, and when it was written, in nanoseconds.
type FileIdentity = (u64, u64, i64);

impl Gates {
    /// Also returns where the worker's messages come out.
    pub(super) fn new(records: &[ClientRecord]) -> io::Result<(Self, mpsc::Receiver<FromWorker>)> {
        let (heard_in, heard) = mpsc::channel(HEARD_MAX);
        let mut book = Book::new();
        for record in records {
            book.learn_record(record);
        }
        let gates = Self {
            worker: GateWorker::new(heard_in)?,
            listeners: Listeners::new(),
            book,
            configured: None,
            down: BTreeMap::new(),
            admitted: Admitted::default(),
            lifted: Lifted::default(),
            tallies: Tallies::default(),
            tests: Tests::default(),
            events_left: EVENTS_PER_TICK,
        };
        Ok((gates, heard))
    }

    /// Waits until the worker has ended; for ever while there is none.
    pub(super) async fn exited(&mut self) -> String {
        self.worker.exited().await
    }

    pub(super) fn stop(&mut self) {
        self.worker.stop();
    }

    /// In policy order.
    pub(super) fn status(&self) -> Vec<GateStatus> {
        let gates = self.configured.iter().flat_map(|configured| &configured.gates);
        gates.map(|gate| self.tallies.status(gate)).collect()
    }

    pub(super) fn known_clients(&self) -> u64 {
        self.book.len() as u64
    }

    /// `None`: the policy has no gate.
    pub(super) fn worker_status(&self) -> Option<WorkerStatus> {
        self.configured.as_ref().map(|_| self.worker.status())
    }

    fn plan(&self, gate: &str) -> Option<&GatePlan> {
        self.configured.as_ref()?.plan(gate)
    }

    /// Tells the worker its gates, with their sockets.
    fn configure(&mut self, countries: Option<File>) -> io::Result<()> {
        let Some(configured) = &self.configured else { return Ok(()) };
        let gates: Vec<GatePlan> =
            configured.gates.iter().filter(|gate| self.listeners.listens(gate)).cloned().collect();
        let mut descriptors = self.listeners.duplicates(&gates)?;
        let message = ToWorker::Configure {
            gates,
            threads: self.listeners.threads(),
            own: configured.own.clone(),
            countries: countries.is_some(),
        };
        descriptors.extend(countries.map(Into::into));
        self.worker.tell(message, descriptors);
        Ok(())
    }

    fn hand_over_book(&mut self) {
        for records in parts(self.book.records().cloned()) {
            self.worker.tell(ToWorker::Learn { records }, vec![]);
        }
    }

    fn tell_bans(&mut self, added: &[(IpNet, UnixMillis)], lifted: &[IpNet]) {
        for added in added.chunks(BANS_PER_MESSAGE) {
            self.worker.tell(ToWorker::Bans { added: added.to_vec(), lifted: vec![] }, vec![]);
        }
        for lifted in lifted.chunks(BANS_PER_MESSAGE) {
            self.worker.tell(ToWorker::Bans { added: vec![], lifted: lifted.to_vec() }, vec![]);
        }
    }
}

impl Daemon {
    /// Serves the plan's gates; no worker runs without one.
    pub(super) async fn converge_gates(&mut self) {
        self.troubles.clear(&Trouble::Gates);
        let plans = self.wanted.gates.clone();
        for error in self.gates.listeners.converge(&plans) {
            tracing::error!(%error, "a gate is closed");
            self.troubles.add(Trouble::Gates, error.to_string());
        }
        self.gates.tallies.keep(&plans);
        self.gates.down.retain(|(gate, backend), _| {
            let holds = |plan: &GatePlan| {
                plan.name == *gate
                    && plan.pools.iter().flat_map(|pool| &pool.backends).any(|b| b.address == *backend)
            };
            plans.iter().any(holds)
        });
        let changed = !plans.is_empty() && self.configure_gates(plans);
        if self.wanted.gates.is_empty() {
            self.gates.worker.stop();
            self.gates.configured = None;
        }
        self.fill_fast_paths().await;
        if changed {
            // Who applied a policy is to find it in force.
            self.gates.worker.serves().await;
            // An address may be ours now, or no more.
            self.fill_backends().await;
        }
    }

    /// Returns whether the worker has something else to go by now.
    fn configure_gates(&mut self, gates: Vec<GatePlan>) -> bool {
        let countries = self.country_database(&gates);
        let own = self.observed.iter().flat_map(|link| &link.addresses);
        let configured = Configured {
            gates,
            own: own.map(|address| IpNet::from(address.net.addr())).collect(),
            countries: countries.as_ref().and_then(identity),
        };
        let changed = self.gates.configured.as_ref() != Some(&configured);
        self.gates.configured = Some(configured);
        if !self.gates.worker.is_wanted() {
            self.start_gate_worker();
        } else if changed
            && self.gates.worker.is_running()
            && let Err(error) = self.gates.configure(countries)
        {
            // It would go on by the settings of before. The next one is told everything.
            self.troubles
                .add(Trouble::Gates, format!("the gates' sockets could not be handed over: {error}"));
            self.gates.worker.ended();
        }
        changed
    }

    fn start_gate_worker(&mut self) {
        let gates =
            self.gates.configured.as_ref().map(|configured| configured.gates.clone()).unwrap_or_default();
        let countries = self.country_database(&gates);
        if let Err(error) = self.gates.worker.start() {
            tracing::error!(error = whole(&error), "the gate worker does not start");
            self.troubles.add(Trouble::Gates, whole(&error));
            self.gates.worker.put_off();
            return;
        }
        // Bans and book first: clients may be waiting in the sockets that come with the gates.
        let at = now();
        let bans: Vec<(IpNet, UnixMillis)> =
            self.bans.iter().filter(|ban| !ban.is_over(at)).map(|ban| (ban.source, ban.since)).collect();
        self.gates.tell_bans(&bans, &[]);
        self.gates.hand_over_book();
        if let Err(error) = self.gates.configure(countries) {
            self.troubles
                .add(Trouble::Gates, format!("the gates' sockets could not be handed over: {error}"));
            self.gates.worker.ended();
        }
    }

    /// The database by which gates know countries, when one of them asks.
    fn country_database(&mut self, gates: &[GatePlan]) -> Option<File> {
        if gates.iter().all(|gate| gate.ignore_countries.is_empty()) {
            return None;
        }
        let tells_countries = |file: &&GeoipFile| matches!(file.kind, GeoipKind::City | GeoipKind::Country);
        let file = self.wanted.geoip.iter().find(tells_countries)?;
        let path = self.policy_folder().join(&file.path);
        match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                // Then nobody is ignored for where they are, which refuses more and not less.
                let line = format!("gates cannot tell countries: {}: {error}", path.display());
                self.troubles.add(Trouble::Gates, line);
                None
            }
        }
    }

    /// Once a second: starts the worker again when its pause is over, forgets what has ended.
    pub(super) async fn tick_gates(&mut self) {
        self.gates.events_left = EVENTS_PER_TICK;
        self.gates.tests.give_up();
        if let Some(cause) = self.gates.worker.overdue() {
            self.take_gate_worker_exit(cause).await;
        }
        if self.gates.worker.is_due() {
            self.start_gate_worker();
        }
        let gone = self.gates.book.expire(now());
        self.gates.admitted.expire(now());
        if !gone.is_empty() {
            self.store.forget_clients(gone);
        }
        self.refresh_fast_path_counts().await;
    }

    /// The worker ended, or has to be ended. Its sockets stay; what it counted is kept.
    pub(super) async fn take_gate_worker_exit(&mut self, cause: String) {
        tracing::error!(worker = WORKER, cause, "a worker ended and is started again");
        self.gates.worker.ended();
        self.gates.tallies.worker_ended();
        self.gates.tests.refuse_all("the gate worker ended meanwhile; try again");
        // The next one takes every backend for serving until it has looked.
        if !std::mem::take(&mut self.gates.down).is_empty() {
            self.fill_backends().await;
        }
        self.note(EventKind::WorkerRestarted { worker: WORKER.to_owned(), cause });
    }
}

fn identity(file: &File) -> Option<FileIdentity> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()))
}

/// Ends that a worker may name, at most this far ahead.
fn latest_end(gate: &GatePlan, now: UnixMillis) -> UnixMillis {
    now.plus(gate.remember.clean.max(gate.remember.open))
}
