//! Speaking with the core: what it says is done, what happened is told.

use super::backend::BackendState;
use super::banned::Banned;
use super::budget::Budget;
use super::countries::Countries;
use super::gate::{Gate, GateState, LookId, LookKind, Surroundings, own_networks};
use super::listen::Lane;
use super::shared::{MESSAGES_MAX, Shared, now};
use super::{THREADS_MAX, Threads, WorkerError, health, test};
use crate::feed::{FeedError, FeedReader, FeedWriter, FromWorker, ToWorker};
use glacis_control::UnixMillis;
use glacis_control::gate::ClientRecord;
use glacis_plan::GatePlan;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::MissedTickBehavior;

/// Between two messages about how the gates are doing.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Records that are learnt and bans that are minded in one go; then whoever wants to read the book can.
const ENTRIES_AT_ONCE: usize = 64;
/// Looks by hand at the same time.
const TESTS_MAX: usize = 16;

/// Does what the core says until it says nothing any more.
pub async fn follow(feed: std::os::unix::net::UnixStream) -> Result<(), WorkerError> {
    let feed = Rc::new(UnixStream::from_std(feed).map_err(WorkerError::Socket)?);
    let (core, messages) = mpsc::channel(MESSAGES_MAX);
    let mut writing = spawn_local(write(Rc::clone(&feed), messages));
    let mut link = Link::new(Arc::new(Shared::new(core)));
    let mut reader = FeedReader::<ToWorker>::new();
    let mut tick = tokio::time::interval(STATUS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shared = Arc::clone(&link.shared);
    let result = loop {
        tokio::select! {
            received = reader.next(&feed) => match received {
                Ok((message, descriptors)) => {
                    if let Err(error) = link.obey(message, descriptors).await {
                        break Err(error);
                    }
                }
                Err(error) if has_ended(&error) => break Ok(()),
                Err(error) => break Err(error.into()),
            },
            _ = tick.tick() => link.tick(),
            () = shared.backends_changed.notified() => link.tell_backends(),
            Ok(Err(error)) = &mut writing => {
                break if has_ended(&error) { Ok(()) } else { Err(error.into()) };
            }
        }
    };
    link.end().and(result)
}

/// Whether the core has gone, perhaps with messages that it had not read.
fn has_ended(error: &FeedError) -> bool {
    let gone = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    };
    match error {
        FeedError::Ended => true,
        FeedError::Read(error) | FeedError::Write(error) => gone(error),
        _ => false,
    }
}

async fn write(feed: Rc<UnixStream>, mut messages: mpsc::Receiver<FromWorker>) -> Result<(), FeedError> {
    let writer = FeedWriter::new();
    while let Some(message) = messages.recv().await {
        writer.send(&feed, &message, &[]).await?;
    }
    Ok(())
}

/// What the core has said so far.
struct Link {
    shared: Arc<Shared>,
    /// From the first configuration on.
    threads: Option<Threads>,
    gates: Vec<Arc<Gate>>,
    looks: Looks,
    /// Dropped with the configuration that wants them.
    checks: JoinSet<()>,
    tests: JoinSet<()>,
    /// What the core was told of backends, by gate. Those of whom it was told nothing are in service.
    told: BTreeMap<(String, SocketAddr), Option<String>>,
}

impl Link {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            threads: None,
            gates: Vec::new(),
            looks: Looks::default(),
            checks: JoinSet::new(),
            tests: JoinSet::new(),
            told: BTreeMap::new(),
        }
    }

    async fn obey(&mut self, message: ToWorker, descriptors: Vec<OwnedFd>) -> Result<(), WorkerError> {
        match message {
            ToWorker::Configure { gates, threads, own, countries } => {
                self.configure(gates, threads, &own, countries, descriptors).await?;
            }
            ToWorker::Learn { records } => self.learn(&records),
            ToWorker::Forget { within } => {
                let mut known = self.shared.known_mut();
                for network in &within {
                    known.book.forget(network);
                }
            }
            ToWorker::Bans { added, lifted } => {
                self.ban(&added);
                self.lift(&lifted);
            }
            ToWorker::Test { id, gate, client } => self.test(id, &gate, client),
        }
        Ok(())
    }

    async fn configure(
        &mut self,
        plans: Vec<GatePlan>,
        threads: usize,
        own: &[IpNet],
        has_countries: bool,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), WorkerError> {
        let is_first = self.threads.is_none();
        let expected = plans.len() * threads + usize::from(has_countries);
        if descriptors.len() != expected {
            let (gates, found) = (plans.len(), descriptors.len());
            return Err(WorkerError::Descriptors { gates, threads, expected, found });
        }
        let countries = match descriptors.pop_if(|_| has_countries) {
            Some(file) => Some(Arc::new(Countries::map(file)?)),
            None => None,
        };
        let running = match self.threads.take() {
            Some(running) if running.orders.len() == threads => running,
            None if (1..=THREADS_MAX).contains(&threads) => Threads::start(threads, &self.shared)?,
            Some(_) | None => return Err(WorkerError::Threads { threads }),
        };
        let running = self.threads.insert(running);

        let surroundings = Surroundings { own: own_networks(own), countries };
        let before = std::mem::take(&mut self.gates);
        self.gates = plans
            .into_iter()
            .map(|plan| gate(plan, &before, &mut self.looks, threads, &surroundings))
            .collect();

        let mut sockets = descriptors.into_iter();
        let mut of_threads: Vec<Vec<(Arc<Gate>, OwnedFd)>> = (0..threads).map(|_| Vec::new()).collect();
        for gate in &self.gates {
            for (of_thread, socket) in of_threads.iter_mut().zip(&mut sockets) {
                of_thread.push((Arc::clone(gate), socket));
            }
        }
        for (thread, gates) in of_threads.into_iter().enumerate() {
            running.serve(thread, gates).await?;
        }
        self.leave(&before);
        self.looks.keep(&self.gates);
        self.check_backends();
        self.retell_backends(is_first);
        let _ = self.shared.core().send(FromWorker::Ready).await;
        tracing::info!(gates = self.gates.len(), threads, "gates configured");
        Ok(())
    }

    /// Ends what waits at gates that are no more.
    fn leave(&self, before: &[Arc<Gate>]) {
        for gate in before {
            if !self.gates.iter().any(|kept| Arc::ptr_eq(&kept.state, &gate.state)) {
                gate.state.remove();
            }
        }
    }

    fn check_backends(&mut self) {
        self.checks = JoinSet::new();
        for gate in &self.gates {
            let addresses = gate.backends();
            gate.state.keep_backends(&addresses);
            let name: Arc<str> = gate.plan.name.as_str().into();
            for backend in addresses.into_iter().map(|address| gate.state.backend(address)) {
                match gate.plan.health {
                    Some(check) => {
                        let shared = Arc::clone(&self.shared);
                        self.checks.spawn_local(health::check(shared, Arc::clone(&name), backend, check));
                    }
                    None => drop(backend.trust()),
                }
            }
        }
    }

    /// After a new configuration the core may have begun anew with its backends: it is told of all.
    fn retell_backends(&mut self, is_first: bool) {
        self.told.clear();
        if !is_first {
            for (key, backend) in self.backends() {
                // Not what is so, and therefore to be told.
                let other = if backend.serves() { Some(String::new()) } else { None };
                self.told.insert(key, other);
            }
        }
        self.tell_backends();
    }

    /// Tells the core which backends were taken out of service or in since it was told last.
    fn tell_backends(&mut self) {
        for ((gate, address), backend) in self.backends() {
            let key = (gate, address);
            let down = backend.down();
            let told = self.told.get(&key).and_then(Option::as_ref);
            if told.is_some() == down.is_some() {
                continue;
            }
            let message = FromWorker::Backend { gate: key.0.clone(), address, down: down.clone() };
            // With a full queue, it is told at the next tick.
            if self.shared.core().try_send(message).is_ok() {
                self.told.insert(key, down);
            }
        }
    }

    fn backends(&self) -> Vec<((String, SocketAddr), Arc<BackendState>)> {
        let of = |gate: &Arc<Gate>| {
            let (name, state) = (gate.plan.name.clone(), Arc::clone(&gate.state));
            gate.backends().into_iter().map(move |address| ((name.clone(), address), state.backend(address)))
        };
        self.gates.iter().flat_map(of).collect()
    }

    fn learn(&self, records: &[ClientRecord]) {
        for some in records.chunks(ENTRIES_AT_ONCE) {
            let mut known = self.shared.known_mut();
            for record in some {
                known.book.learn_record(record);
            }
        }
    }

    /// First nobody begins to look any more, then those who look are stopped: in this order, nothing slips through.
    fn ban(&self, added: &[(IpNet, UnixMillis)]) {
        for some in added.chunks(ENTRIES_AT_ONCE) {
            let mut known = self.shared.known_mut();
            for (network, since) in some {
                known.banned.add(network);
                known.book.doubt(network, *since);
            }
        }
        if !added.is_empty() {
            let news: Banned = added.iter().map(|(network, _)| network).collect();
            self.shared.flights.ground(|client| news.contains(client));
        }
    }

    fn lift(&self, lifted: &[IpNet]) {
        for some in lifted.chunks(ENTRIES_AT_ONCE) {
            let mut known = self.shared.known_mut();
            for network in some {
                known.banned.lift(network);
            }
        }
    }

    fn tick(&mut self) {
        self.shared.known_mut().book.expire(now());
        self.tell_backends();
        if self.threads.is_some() {
            let gates = self.gates.iter().map(|gate| gate.status()).collect();
            // Another one follows in a second.
            let _ = self.shared.core().try_send(FromWorker::Status { gates });
        }
        while self.tests.try_join_next().is_some() {}
    }

    fn test(&mut self, id: u64, gate: &str, client: IpAddr) {
        while self.tests.try_join_next().is_some() {}
        let found = self.gates.iter().find(|known| known.plan.name == gate);
        let lane = match found {
            Some(_) if self.tests.len() >= TESTS_MAX => {
                Err(format!("{TESTS_MAX} looks by hand are under way; try again in a moment"))
            }
            Some(gate) => Ok(Lane { gate: Arc::clone(gate), shared: Arc::clone(&self.shared), thread: 0 }),
            None => Err(format!("there is no gate `{gate}`")),
        };
        let core = self.shared.core().clone();
        self.tests.spawn_local(async move {
            let result = match lane {
                Ok(lane) => test::test(&lane, client.to_canonical()).await,
                Err(why) => Err(why),
            };
            // Nobody waits for it when the worker ends.
            let _ = core.send(FromWorker::Tested { id, result }).await;
        });
    }

    fn end(&mut self) -> Result<(), WorkerError> {
        self.checks.abort_all();
        self.tests.abort_all();
        self.threads.take().map_or(Ok(()), Threads::end)
    }
}

/// Numbers of the kinds of looks that gates take.
#[derive(Default)]
struct Looks {
    numbers: HashMap<LookKind, LookId>,
    /// Never given twice: looks of gates that are no more may still be under way.
    next: u32,
}

impl Looks {
    fn number(&mut self, kind: LookKind) -> LookId {
        let number = *self.numbers.entry(kind).or_insert(LookId(self.next));
        self.next = self.next.max(number.0 + 1);
        number
    }

    fn keep(&mut self, gates: &[Arc<Gate>]) {
        self.numbers.retain(|_, number| gates.iter().any(|gate| gate.look == *number));
    }
}

/// A gate of a new configuration, with what it was before.
fn gate(
    plan: GatePlan,
    before: &[Arc<Gate>],
    looks: &mut Looks,
    threads: usize,
    surroundings: &Surroundings,
) -> Arc<Gate> {
    let known = before.iter().find(|known| known.plan.name == plan.name);
    let state = known.map_or_else(|| Arc::new(GateState::new(threads)), |known| Arc::clone(&known.state));
    let budget = match known {
        Some(known) if known.budget.is(plan.budget, plan.timeout) => Arc::clone(&known.budget),
        _ => Arc::new(Budget::new(plan.budget, plan.timeout)),
    };
    let look = looks.number(LookKind::of(&plan));
    Arc::new(Gate::new(plan, state, look, budget, surroundings))
}
