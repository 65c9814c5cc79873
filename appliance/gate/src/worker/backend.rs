//! Backends: who is in service, and who takes the next connection.

use glacis_plan::gate::{Backend, HealthCheck, Pool};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest reason that is told of a backend out of service, in bytes.
const REASON_BYTES_MAX: usize = 200;

/// One address that a gate leads to; it outlives a new configuration.
#[derive(Debug)]
pub struct BackendState {
    pub address: SocketAddr,
    serves: AtomicBool,
    /// Connections being relayed to it now.
    relaying: AtomicU64,
    /// Connections that were led to it.
    connections: AtomicU64,
    /// A success need not take the lock while there is nothing to forget.
    has_failed: AtomicBool,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// In a row, while it is in service.
    failures: u8,
    /// In a row, while it is out of service.
    successes: u8,
    down: Option<String>,
}

/// Whether an observation put a backend in or out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    Turned,
}

impl BackendState {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            serves: AtomicBool::new(true),
            relaying: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            health: Mutex::default(),
        }
    }

    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Why it is out of service.
    pub fn down(&self) -> Option<String> {
        self.health().down.clone()
    }

    pub fn relaying(&self) -> u64 {
        self.relaying.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// It did not take a connection.
    pub fn failed(&self, why: &str, check: &HealthCheck) -> Change {
        let mut health = self.health();
        self.has_failed.store(true, Ordering::Relaxed);
        health.successes = 0;
        let why = why[..why.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        if health.down.is_some() {
            health.down = Some(why);
            return Change::None;
        }
        health.failures = health.failures.saturating_add(1);
        if health.failures < check.fall {
            return Change::None;
        }
        health.failures = 0;
        health.down = Some(why);
        self.serves.store(false, Ordering::Relaxed);
        Change::Turned
    }

    /// It took a connection.
    pub fn succeeded(&self, check: &HealthCheck) -> Change {
        if !self.has_failed.load(Ordering::Relaxed) {
            return Change::None;
        }
        let mut health = self.health();
        health.failures = 0;
        if health.down.is_some() {
            health.successes = health.successes.saturating_add(1);
            if health.successes < check.rise {
                return Change::None;
            }
            self.put_in(&mut health);
            return Change::Turned;
        }
        self.has_failed.store(false, Ordering::Relaxed);
        Change::None
    }

    /// Nobody checks it any more, so it is taken as it is.
    pub fn trust(&self) -> Change {
        let mut health = self.health();
        let was_down = health.down.is_some();
        self.put_in(&mut health);
        if was_down { Change::Turned } else { Change::None }
    }

    fn put_in(&self, health: &mut Health) {
        *health = Health::default();
        self.has_failed.store(false, Ordering::Relaxed);
        self.serves.store(true, Ordering::Relaxed);
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Whole at every step, so a panic elsewhere leaves nothing half done.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is being led to a backend, which counts as busy with it as long as this lives.
#[derive(Debug)]
pub struct Led(Arc<BackendState>);

impl Led {
    /// From the choice on, so that those who choose at the same time see each other.
    pub fn to(backend: Arc<BackendState>) -> Self {
        backend.relaying.fetch_add(1, Ordering::Relaxed);
        Self(backend)
    }

    /// It took the connection.
    pub fn arrived(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        self.0.relaying.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One backend of a pool.
#[derive(Debug)]
pub struct Member {
    pub backend: Backend,
    pub state: Arc<BackendState>,
}

/// Chooses by weighted least connections: the fewest being relayed for its weight. Of equals, as with connections that
/// end at once, each gets its share by turns.
#[derive(Debug)]
pub struct Balance {
    members: Vec<Member>,
    /// Indices of members, each as often as its weight, spread evenly.
    turns: Vec<u8>,
    next: AtomicUsize,
}

impl Balance {
    pub fn new(pool: &Pool, mut state: impl FnMut(SocketAddr) -> Arc<BackendState>) -> Self {
        let members: Vec<Member> = pool
            .backends
            .iter()
            .map(|backend| Member { backend: *backend, state: state(backend.address) })
            .collect();
        let weights: Vec<u8> = pool.backends.iter().map(|backend| backend.weight).collect();
        Self { members, turns: turns(&weights), next: AtomicUsize::new(0) }
    }

    /// `None`: nobody who was not `tried` is in service.
    pub fn choose(&self, tried: &[SocketAddr]) -> Option<&Member> {
        // A second try takes nobody's turn: a backend that fails does not shift all others'.
        let begin = match tried {
            [] => self.next.fetch_add(1, Ordering::Relaxed),
            _ => self.next.load(Ordering::Relaxed),
        };
        let mut best: Option<(&Member, u64)> = None;
        for turn in 0..self.turns.len() {
            let member = &self.members[usize::from(self.turns[(begin + turn) % self.turns.len()])];
            if !member.state.serves() || tried.contains(&member.state.address) {
                continue;
            }
            let relaying = member.state.relaying();
            let weight = u64::from(member.backend.weight);
            // a/v < b/w, without dividing.
            let is_less = |(other, theirs): &(&Member, u64)| {
                relaying * u64::from(other.backend.weight) < theirs * weight
            };
            if best.as_ref().is_none_or(is_less) {
                best = Some((member, relaying));
            }
        }
        best.map(|(member, _)| member)
    }
}

/// Smooth weighted round robin: each step, everyone gains its weight, and the richest has its turn and pays the total.
fn turns(weights: &[u8]) -> Vec<u8> {
    let total: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
    let mut credit = vec![0_i32; weights.len()];
    let mut turns = Vec::with_capacity(total as usize);
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(weights) {
            *credit += i32::from(*weight);
        }
        let mut richest = 0;
        for (index, has) in credit.iter().enumerate() {
            if *has > credit[richest] {
                richest = index;
            }
        }
        credit[richest] -= total;
        turns.push(richest as u8);
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const CHECK: HealthCheck =
        HealthCheck { every: Duration::from_secs(1), timeout: Duration::from_secs(1), fall: 3, rise: 2 };

    fn pool(weights: &[u8]) -> Pool {
        let backends = weights.iter().enumerate().map(|(n, weight)| Backend {
            address: ([10, 0, 0, n as u8], 80).into(),
            weight: *weight,
            proxy_protocol: None,
        });
        Pool { backends: backends.collect() }
    }

    fn balance(weights: &[u8]) -> Balance {
        Balance::new(&pool(weights), |address| Arc::new(BackendState::new(address)))
    }

    #[test]
    fn b21_short_connections_are_shared_by_weight() {
        let balance = balance(&[3, 1, 2]);
        let mut shares = BTreeMap::<SocketAddr, u32>::new();
        for _ in 0..60 {
            *shares.entry(balance.choose(&[]).unwrap().state.address).or_default() += 1;
        }
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [30, 10, 20]);
    }

    #[test]
    fn b21_long_connections_are_shared_by_weight() {
        let balance = balance(&[1, 4]);
        let led: Vec<Led> =
            (0..50).map(|_| Led::to(Arc::clone(&balance.choose(&[]).unwrap().state))).collect();
        let now: Vec<u64> = balance.members.iter().map(|member| member.state.relaying()).collect();
        assert_eq!(now, [10, 40]);
        drop(led);
        assert!(balance.members.iter().all(|member| member.state.relaying() == 0));
    }

    #[test]
    fn b21_a_busy_backend_is_spared_until_the_others_are_as_busy() {
        let balance = balance(&[1, 1]);
        let first = Arc::clone(&balance.members[0].state);
        let _busy: Vec<Led> = (0..10).map(|_| Led::to(Arc::clone(&first))).collect();
        for _ in 0..5 {
            assert_eq!(balance.choose(&[]).unwrap().state.address, balance.members[1].state.address);
        }
    }

    #[test]
    fn nobody_out_of_service_and_nobody_tried_is_chosen() {
        let balance = balance(&[1, 1]);
        let [first, second] = [0, 1].map(|n| balance.members[n].state.address);
        for _ in 0..CHECK.fall {
            balance.members[0].state.failed("refused", &CHECK);
        }
        assert_eq!(balance.choose(&[]).unwrap().state.address, second);
        assert!(balance.choose(&[second]).is_none());
        assert_eq!(balance.members[0].state.down().as_deref(), Some("refused"));
        assert_eq!(balance.members[0].state.trust(), Change::Turned);
        assert_eq!(balance.choose(&[second]).unwrap().state.address, first);
    }

    #[test]
    fn b21_failures_in_a_row_take_it_out_and_successes_in_a_row_take_it_in() {
        let state = BackendState::new(([10, 0, 0, 1], 80).into());
        for _ in 0..2 {
            assert_eq!(state.failed("refused", &CHECK), Change::None);
            assert_eq!(state.failed("refused", &CHECK), Change::None);
            // The row is broken.
            assert_eq!(state.succeeded(&CHECK), Change::None);
        }
        assert_eq!(
            [(); 3].map(|()| state.failed("refused", &CHECK)),
            [Change::None, Change::None, Change::Turned]
        );
        assert!(!state.serves());
        assert_eq!(state.succeeded(&CHECK), Change::None);
        assert_eq!(state.failed("timed out", &CHECK), Change::None);
        assert_eq!(state.down().as_deref(), Some("timed out"));
        assert_eq!(state.succeeded(&CHECK), Change::None);
        assert_eq!(state.succeeded(&CHECK), Change::Turned);
        assert!(state.serves() && state.down().is_none());
    }
}
