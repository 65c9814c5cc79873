//! A gate as the worker has it: the settings of one configuration, and what outlives them.

use super::backend::{BackendState, Balance};
use super::budget::Budget;
use super::counter::{Counters, GateCounter};
use super::countries::Countries;
use super::networks::{Networks, is_private};
use glacis_control::gate::{BackendStatus, GateStatus, Histogram, PortOutcome, PortTally};
use glacis_plan::GatePlan;
use glacis_plan::gate::{Prove, Remember};
use glacis_relay::{Settings, Tally};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// One configuration of a gate. Connections keep the one that they began with.
pub struct Gate {
    pub plan: GatePlan,
    pub state: Arc<GateState>,
    pub look: LookId,
    pub budget: Arc<Budget>,
    pub relay: Settings,
    pub fronts: Option<Networks>,
    /// In the order of the plan's.
    pub pools: Vec<Balance>,
    ignore: Networks,
    own: Arc<Networks>,
    countries: Option<Arc<Countries>>,
}

/// Number of a [`LookKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LookId(pub u32);

/// Gates that look in the same way share the looks that are under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookKind {
    ports: Vec<u16>,
    timeout: Duration,
    /// The port that proxies are asked to connect to. `None`: they are not asked.
    target: Option<u16>,
    remember: (Duration, Duration),
}

impl LookKind {
    pub fn of(plan: &GatePlan) -> Self {
        let Remember { clean, open } = plan.remember;
        Self {
            ports: plan.ports.clone(),
            timeout: plan.timeout,
            target: (plan.prove == Prove::Proxy).then_some(plan.port),
            remember: (clean, open),
        }
    }
}

/// Why a client is admitted without a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    Own,
    Ignored,
    Private,
    Country,
}

impl Exemption {
    pub const fn why(self) -> &'static str {
        match self {
            Self::Own => "an address of this host",
            Self::Ignored => "in the gate's ignore list",
            Self::Private => "a private or link-local address",
            Self::Country => "of a country in the gate's ignore list",
        }
    }
}

/// What several gates of one configuration have in common.
pub struct Surroundings {
    pub own: Arc<Networks>,
    pub countries: Option<Arc<Countries>>,
}

impl Gate {
    pub fn new(
        plan: GatePlan,
        state: Arc<GateState>,
        look: LookId,
        budget: Arc<Budget>,
        surroundings: &Surroundings,
    ) -> Self {
        Self {
            relay: Settings { idle: Some(plan.idle) },
            fronts: plan.fronts.as_deref().map(Networks::new),
            pools: plan
                .pools
                .iter()
                .map(|pool| Balance::new(pool, |address| state.backend(address)))
                .collect(),
            ignore: Networks::new(&plan.ignore),
            own: Arc::clone(&surroundings.own),
            countries: surroundings.countries.clone().filter(|_| !plan.ignore_countries.is_empty()),
            plan,
            state,
            look,
            budget,
        }
    }

    /// Whether a client is admitted without a look.
    pub fn exempts(&self, client: IpAddr) -> Option<Exemption> {
        if client.is_loopback() || self.own.contains(client) {
            return Some(Exemption::Own);
        }
        if self.ignore.contains(client) {
            return Some(Exemption::Ignored);
        }
        if !self.plan.private && is_private(client) {
            return Some(Exemption::Private);
        }
        let is_of = |countries: &Arc<Countries>| countries.is_of(client, &self.plan.ignore_countries);
        self.countries.as_ref().is_some_and(is_of).then_some(Exemption::Country)
    }

    /// The pool for the server that a TLS client names. `None`: it leads nowhere.
    pub fn route(&self, server_name: Option<&str>) -> Option<&Balance> {
        let matches = |pattern: &String| {
            server_name.is_some_and(|name| glacis_wire::client_hello::matches(pattern, name))
        };
        match self.plan.routes.iter().find(|route| route.names.iter().any(matches)) {
            Some(route) => self.pools.get(route.pool),
            None if self.plan.routes_only => None,
            None => self.pools.first(),
        }
    }

    /// Addresses of all backends, each once, ascending.
    pub fn backends(&self) -> Vec<SocketAddr> {
        let of_pools = self.plan.pools.iter().flat_map(|pool| &pool.backends);
        let mut addresses: Vec<SocketAddr> = of_pools.map(|backend| backend.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    pub fn status(&self) -> GateStatus {
        let state = &self.state;
        let sum = |bytes: fn(&Tally) -> u64| state.tallies.iter().map(bytes).sum();
        GateStatus {
            name: self.plan.name.clone(),
            port: self.plan.port,
            protocol: self.plan.protocol.name().to_owned(),
            mode: self.plan.mode.name().to_owned(),
            relaying: state.relaying.now(),
            waiting: state.waiting.now(),
            counters: state.counters.named(),
            bytes_to_backends: sum(Tally::to_server),
            bytes_to_clients: sum(Tally::to_client),
            ports: state.port_tallies(),
            latency: lock(&state.latency).clone(),
            backends: self.backends().into_iter().map(|address| state.backend_status(address)).collect(),
            fast_path: self.plan.fast_path.map(|_| glacis_control::gate::FastPathStatus::default()),
        }
    }
}

/// What a gate is and did, from one configuration to the next, as long as it has its name.
pub struct GateState {
    pub counters: Counters,
    pub relaying: Gauge,
    /// Connections that wait for a verdict.
    pub waiting: Gauge,
    /// Relayed bytes; one for each thread.
    pub tallies: Vec<Tally>,
    ports: Mutex<BTreeMap<u16, [u64; PortOutcome::ALL.len()]>>,
    latency: Mutex<Histogram>,
    backends: Mutex<BTreeMap<SocketAddr, Arc<BackendState>>>,
    /// By which address clients of IPv4 and of IPv6 reached the gate last.
    reached: Mutex<[Option<IpAddr>; 2]>,
    removed: watch::Sender<bool>,
}

impl GateState {
    pub fn new(threads: usize) -> Self {
        Self {
            counters: Counters::new(threads),
            relaying: Gauge::default(),
            waiting: Gauge::default(),
            tallies: (0..threads).map(|_| Tally::new()).collect(),
            ports: Mutex::default(),
            latency: Mutex::default(),
            backends: Mutex::default(),
            reached: Mutex::default(),
            removed: watch::Sender::new(false),
        }
    }

    /// The gate is no more: connections that are not relayed yet end.
    pub fn remove(&self) {
        self.removed.send_replace(true);
    }

    /// Waits until it is removed.
    pub async fn removed(&self) {
        let mut removed = self.removed.subscribe();
        // It cannot fail: the sender lives as long as `self`.
        let _ = removed.wait_for(|removed| *removed).await;
    }

    /// Counts a look: what it found, and how long its first connection waited.
    pub fn looked(&self, outcomes: &[(u16, PortOutcome)], waited: Duration) {
        let mut ports = lock(&self.ports);
        for (port, outcome) in outcomes {
            // In the order of `PortOutcome::ALL`, which is that of the variants.
            ports.entry(*port).or_default()[*outcome as usize] += 1;
        }
        drop(ports);
        lock(&self.latency).observe(waited.as_micros() as u64);
    }

    pub fn reached_at(&self, address: IpAddr) {
        lock(&self.reached)[usize::from(address.is_ipv6())] = Some(address);
    }

    /// By which address clients of the same family as this one reached the gate last.
    pub fn reached(&self, like: IpAddr) -> Option<IpAddr> {
        lock(&self.reached)[usize::from(like.is_ipv6())]
    }

    pub fn backend(&self, address: SocketAddr) -> Arc<BackendState> {
        let mut backends = lock(&self.backends);
        let new = || Arc::new(BackendState::new(address));
        Arc::clone(backends.entry(address).or_insert_with(new))
    }

    /// Forgets backends that the gate does not lead to any more.
    pub fn keep_backends(&self, addresses: &[SocketAddr]) {
        lock(&self.backends).retain(|address, _| addresses.contains(address));
    }

    fn backend_status(&self, address: SocketAddr) -> BackendStatus {
        let backend = self.backend(address);
        BackendStatus {
            address,
            down: backend.down(),
            relaying: backend.relaying(),
            connections: backend.connections(),
        }
    }

    fn port_tallies(&self) -> Vec<PortTally> {
        let ports = lock(&self.ports);
        ports.iter().map(|(port, outcomes)| PortTally { port: *port, outcomes: *outcomes }).collect()
    }

    pub fn count(&self, thread: usize, counter: GateCounter) {
        self.counters.add(thread, counter);
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> Inside<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(&self.0)
    }

    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub struct Inside<'a>(&'a AtomicU64);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A panic ends the process, so a poisoned lock is never met.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Networks of this host, canonical.
pub fn own_networks(own: &[IpNet]) -> Arc<Networks> {
    Arc::new(Networks::new(own))
}
