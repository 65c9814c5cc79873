//! How much looking a gate does, and who has the next turn.
//!
//! A bucket that fills with `per_second` clients and holds as many; and `in_flight` ports at a time. Who finds nothing
//! left waits, in a queue of its own network. The queues have turns, so that a network with thousands of clients waits
//! for itself; and one network holds at most a quarter of the ports while others wait, and never more than three
//! quarters, so that a newcomer finds some.

use super::networks::Network;
use glacis_plan::gate::Budget as Limits;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The ports in flight have so many parts.
const PARTS: u32 = 4;
/// Of which one network may hold so many while others wait; one look it always may hold.
const PARTS_AMONG_OTHERS: u32 = 1;
/// And so many while nobody else does.
const PARTS_ALONE: u32 = 3;
/// What a client costs in the bucket.
const CLIENT: u64 = 1_000_000_000;

/// The budget of one gate; all threads share it.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    /// For how long a client waits at most.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Billionths of a client.
    bucket: u64,
    filled: Instant,
    in_flight: u32,
    /// Ports in flight by network; never zero.
    held: HashMap<Network, u32>,
    /// Networks with somebody who waits, in the order of their turns.
    turns: VecDeque<Network>,
    queues: HashMap<Network, VecDeque<Waiting>>,
    /// Whether a task wakes up when the bucket has the next client.
    is_filling: bool,
}

#[derive(Debug)]
struct Waiting {
    ports: u32,
    granted: oneshot::Sender<Permit>,
}

/// Ports that may be looked at. They are free again when it is dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    network: Network,
    ports: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let budget = Arc::clone(&self.budget);
        budget.give_back(self.network, self.ports);
    }
}

impl Budget {
    pub fn new(limits: Limits, patience: Duration) -> Self {
        let state = State {
            bucket: u64::from(limits.per_second) * CLIENT,
            filled: Instant::now(),
            in_flight: 0,
            held: HashMap::new(),
            turns: VecDeque::new(),
            queues: HashMap::new(),
            is_filling: false,
        };
        Self { limits, patience, state: Mutex::new(state) }
    }

    pub fn is(&self, limits: Limits, patience: Duration) -> bool {
        self.limits == limits && self.patience == patience
    }

    /// Waits for its turn, for as long as `patience` at most. `None`: there was none.
    pub async fn claim(self: &Arc<Self>, client: IpAddr, ports: usize) -> Option<Permit> {
        // More than all there is would wait for ever.
        let ports = (ports as u32).min(self.limits.in_flight);
        let (granted, waiting) = oneshot::channel();
        let network = Network::of(client);
        self.settle(|state| {
            let queue = state.queues.entry(network).or_default();
            if queue.is_empty() {
                state.turns.push_back(network);
            }
            queue.push_back(Waiting { ports, granted });
        });
        tokio::time::timeout(self.patience, waiting).await.ok()?.ok()
    }

    fn give_back(self: &Arc<Self>, network: Network, ports: u32) {
        self.settle(|state| {
            state.in_flight -= ports;
            if let Some(held) = state.held.get_mut(&network) {
                *held -= ports;
                if *held == 0 {
                    state.held.remove(&network);
                }
            }
        });
    }

    /// Changes something, and lets everybody begin who now may.
    fn settle(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.fill(self.limits, Instant::now());
        let mut granted = Vec::new();
        while let Some((network, next)) = state.next(self.limits) {
            state.bucket -= CLIENT;
            state.in_flight += next.ports;
            *state.held.entry(network).or_default() += next.ports;
            granted.push((Permit { budget: Arc::clone(self), network, ports: next.ports }, next.granted));
        }
        let must_fill = !state.is_filling && !state.turns.is_empty() && state.bucket < CLIENT;
        let missing = CLIENT.saturating_sub(state.bucket);
        state.is_filling |= must_fill;
        drop(state);
        for (permit, waiting) in granted {
            // Who has given up meanwhile drops the permit, which gives the ports back.
            drop(waiting.send(permit));
        }
        if must_fill {
            let filling = Arc::clone(self).fill_until_nobody_waits(missing);
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(filling)),
                // The thread ends, and so does everybody who waits.
                Err(_) => self.state().is_filling = false,
            }
        }
    }

    async fn fill_until_nobody_waits(self: Arc<Self>, mut missing: u64) {
        while missing > 0 {
            let nanos = missing.div_ceil(u64::from(self.limits.per_second));
            tokio::time::sleep(Duration::from_nanos(nanos)).await;
            self.settle(|_| {});
            let mut state = self.state();
            missing = if state.turns.is_empty() { 0 } else { CLIENT.saturating_sub(state.bucket) };
            // With clients left in the bucket, ports are what is waited for, and they tell by themselves.
            state.is_filling = missing > 0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fill(&mut self, limits: Limits, now: Instant) {
        let rate = u64::from(limits.per_second);
        let nanos = now.saturating_duration_since(self.filled).as_nanos().min(u128::from(CLIENT)) as u64;
        self.filled = now;
        self.bucket = (self.bucket + nanos * rate).min(rate * CLIENT);
    }

    /// Whose turn it is, if there is enough left.
    ///
    /// Waiting costs little: the longest waits are at the front, so those who gave up are met, once, before those who
    /// did not.
    fn next(&mut self, limits: Limits) -> Option<(Network, Waiting)> {
        if self.bucket < CLIENT {
            return None;
        }
        let mut turn = 0;
        while let Some(network) = self.turns.get(turn).copied() {
            let Some(ports) = self.first_live(network) else {
                self.turns.remove(turn);
                continue;
            };
            let parts = if self.turns.len() > 1 { PARTS_AMONG_OTHERS } else { PARTS_ALONE };
            let held = self.held.get(&network).copied().unwrap_or(0);
            if held > 0 && held + ports > limits.in_flight * parts / PARTS {
                turn += 1;
                continue;
            }
            if self.in_flight + ports > limits.in_flight {
                // Nobody smaller overtakes: large looks would never have their turn.
                return None;
            }
            self.turns.remove(turn);
            let queue = self.queues.get_mut(&network)?;
            let waiting = queue.pop_front()?;
            if queue.is_empty() {
                self.queues.remove(&network);
            } else {
                self.turns.push_back(network);
            }
            return Some((network, waiting));
        }
        None
    }

    /// Ports that the first client of a network waits for, of those who have not given up.
    fn first_live(&mut self, network: Network) -> Option<u32> {
        let queue = self.queues.get_mut(&network)?;
        while queue.front().is_some_and(|waiting| waiting.granted.is_closed()) {
            queue.pop_front();
        }
        let ports = queue.front().map(|waiting| waiting.ports);
        if ports.is_none() {
            self.queues.remove(&network);
        }
        ports
    }
}

#[cfg(test)]
mod tests;
