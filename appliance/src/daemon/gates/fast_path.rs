//! Clients that the kernel admits by itself, and the backends to which it leads them.
//!
//! The kernel's sets are a function of the book, the gates and the backends in service; they are written whole when the
//! ruleset is loaded, and by single steps in between.

use super::super::{Daemon, now};
use super::Gates;
use crate::log::whole;
use glacis_control::gate::FastPathStatus;
use glacis_control::{Ban, UnixMillis};
use glacis_gate::book::{Judgement, judge};
use glacis_plan::closed::{TABLE, TABLE_FAMILY};
use glacis_plan::gate::{Backend, FAST_PATH_CLIENTS_MAX, GatePlan};
use glacis_plan::gate_elements;
use glacis_plan::nft::Op;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// Who is in the kernel's sets, and until when.
#[derive(Debug, Default)]
pub(super) struct Admitted(BTreeMap<String, OfGate>);

#[derive(Debug)]
struct OfGate {
    /// The settings by which it was filled.
    plan: GatePlan,
    clients: HashMap<IpAddr, UnixMillis>,
    ends: BTreeSet<(UnixMillis, IpAddr)>,
}

impl OfGate {
    fn new(plan: GatePlan) -> Self {
        Self { plan, clients: HashMap::new(), ends: BTreeSet::new() }
    }

    /// Whether there was room, or the client had a place already.
    fn enter(&mut self, client: IpAddr, until: UnixMillis) -> bool {
        self.strike(client);
        // The kernel has so many places for each family.
        if self.clients.len() >= FAST_PATH_CLIENTS_MAX as usize {
            return false;
        }
        self.clients.insert(client, until);
        self.ends.insert((until, client));
        true
    }

    fn strike(&mut self, client: IpAddr) -> bool {
        let until = self.clients.remove(&client);
        until.is_some_and(|until| self.ends.remove(&(until, client)))
    }

    fn expire(&mut self, now: UnixMillis) {
        while let Some((until, client)) = self.ends.first().copied()
            && until <= now
        {
            self.strike(client);
        }
    }
}

impl Admitted {
    /// The kernel lets go of them by itself.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        for gate in self.0.values_mut() {
            gate.expire(now);
        }
    }

    /// Gates whose sets are to be filled, and forgets those that are not among them any more.
    fn stale<'a>(&mut self, gates: &'a [GatePlan]) -> Vec<&'a GatePlan> {
        let fast = || gates.iter().filter(|gate| gate.fast_path.is_some());
        self.0.retain(|name, of_gate| fast().any(|gate| gate.name == *name && *gate == of_gate.plan));
        fast().filter(|gate| !self.0.contains_key(&gate.name)).collect()
    }

    pub(super) fn count(&self, gate: &str) -> u64 {
        self.0.get(gate).map_or(0, |gate| gate.clients.len() as u64)
    }
}

impl Gates {
    /// Steps after which the kernel's sets of all fast paths are as the book and the backends say, whatever they held.
    /// The gates are those of the ruleset that is being loaded, or that is in force.
    pub(in crate::daemon) fn fill_all(&mut self, gates: &[GatePlan], now: UnixMillis) -> Vec<Op> {
        self.admitted.0.clear();
        self.fill_stale(gates, now)
    }

    /// The same for gates that are new or that judge otherwise than when their sets were filled.
    pub(in crate::daemon) fn fill_stale(&mut self, gates: &[GatePlan], now: UnixMillis) -> Vec<Op> {
        let stale = self.admitted.stale(gates);
        stale.into_iter().flat_map(|gate| self.fill(gate, now)).collect()
    }

    fn fill(&mut self, gate: &GatePlan, now: UnixMillis) -> Vec<Op> {
        let mut of_gate = OfGate::new(gate.clone());
        for record in self.book.records() {
            if let Judgement::Clean { until } = judge(Some(record), &gate.ports, gate.prove, now) {
                of_gate.enter(record.client, until);
            }
        }
        let left = |until: &UnixMillis| Some(until.since(now));
        let admitted: Vec<(IpAddr, Option<Duration>)> =
            of_gate.clients.iter().map(|(client, until)| (*client, left(until))).collect();
        self.admitted.0.insert(gate.name.clone(), of_gate);
        let mut ops = gate_elements::fill_clients_ops(gate, &admitted);
        ops.extend(gate_elements::backends_ops(gate, &self.in_service(gate)));
        ops
    }

    /// Backends to which the kernel may lead. One at an address of ours, such as a leased one that no policy can know, is
    /// not behind us: only the worker reaches it.
    fn in_service(&self, gate: &GatePlan) -> Vec<Backend> {
        let backends = gate.pools.first().map_or(&[][..], |pool| &pool.backends);
        let own = self.configured.as_ref().map_or(&[][..], |configured| &configured.own);
        let serves = |backend: &&Backend| {
            !self.down.contains_key(&(gate.name.clone(), backend.address))
                && !own.iter().any(|net| net.contains(&backend.address.ip()))
        };
        backends.iter().filter(serves).copied().collect()
    }

    /// Steps that follow what is now known of some clients, for all gates.
    pub(super) fn follow(&mut self, clients: &[IpAddr], now: UnixMillis) -> Vec<Op> {
        let Some(configured) = &self.configured else { return vec![] };
        let mut ops = vec![];
        for gate in configured.gates.iter().filter(|gate| gate.fast_path.is_some()) {
            // One that is not filled yet will be, with all of the book.
            let Some(of_gate) = self.admitted.0.get_mut(&gate.name) else { continue };
            for client in clients {
                match judge(self.book.get(*client), &gate.ports, gate.prove, now) {
                    Judgement::Clean { until } => {
                        if of_gate.enter(*client, until) {
                            ops.extend(gate_elements::clients_ops(gate, *client, Some(until.since(now))));
                        }
                    }
                    Judgement::Denied { .. } | Judgement::Unknown { .. } => {
                        if of_gate.strike(*client) {
                            ops.extend(gate_elements::remove_client_ops(gate, *client));
                        }
                    }
                }
            }
        }
        ops
    }

    /// Steps that take clients out of all sets, because they are banned; what was known of them before stays.
    pub(super) fn leave(&mut self, bans: &[Ban]) -> Vec<Op> {
        let Some(configured) = &self.configured else { return vec![] };
        let mut ops = vec![];
        for gate in &configured.gates {
            let Some(of_gate) = self.admitted.0.get_mut(&gate.name) else { continue };
            let banned = |client: &&IpAddr| bans.iter().any(|ban| ban.source.contains(*client));
            let leaving: Vec<IpAddr> = of_gate.clients.keys().filter(banned).copied().collect();
            for client in leaving {
                of_gate.strike(client);
                ops.extend(gate_elements::remove_client_ops(gate, client));
            }
        }
        ops
    }
}

impl Daemon {
    /// Fills what the last load of the ruleset did not.
    pub(super) async fn fill_fast_paths(&mut self) {
        if self.loaded.is_some() {
            let ops = self.gates.fill_stale(&self.wanted.gates, now());
            self.commit_gate_ops(ops).await;
        }
    }

    /// Leads admitted clients to the backends that are in service now.
    pub(super) async fn fill_backends(&mut self) {
        let Some(configured) = &self.gates.configured else { return };
        let fast = configured.gates.iter().filter(|gate| gate.fast_path.is_some());
        let ops =
            fast.flat_map(|gate| gate_elements::backends_ops(gate, &self.gates.in_service(gate))).collect();
        self.commit_gate_ops(ops).await;
    }

    /// Does nothing while the ruleset is not ours: loading it writes all elements.
    pub(super) async fn commit_gate_ops(&mut self, ops: Vec<Op>) {
        if ops.is_empty() || self.loaded.is_none() {
            return;
        }
        if let Err(refusal) = self.enforce(ops, |_| Ok(())).await {
            tracing::warn!(%refusal, "the kernel does not admit clients as it should yet");
        }
    }

    /// Reads what the kernel counted of the connections that it led.
    pub(super) async fn refresh_fast_path_counts(&mut self) {
        let Some(configured) = &self.gates.configured else { return };
        let fast: Vec<GatePlan> =
            configured.gates.iter().filter(|gate| gate.fast_path.is_some()).cloned().collect();
        if fast.is_empty() || self.loaded.is_none() {
            return;
        }
        let counters = match self.kernel.run(|state| state.nft.named_counters(TABLE_FAMILY, &TABLE)).await {
            Ok(counters) => counters,
            Err(error) => {
                tracing::debug!(error = whole(&error), "the counters of gates could not be read");
                return;
            }
        };
        for gate in fast {
            let of = |name| counters.iter().find(|(found, _)| *found == name).map(|(_, count)| *count);
            let (led, carried) = (of(gate.led_counter()), of(gate.carried_counter()));
            let status = FastPathStatus {
                clients: self.gates.admitted.count(&gate.name),
                connections: led.map_or(0, |count| count.packets),
                packets: carried.map_or(0, |count| count.packets),
                bytes: carried.map_or(0, |count| count.bytes),
            };
            self.gates.tallies.led(&gate.name, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::net::Ipv4Addr;

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from(0xcb00_7100 + number).into()
    }

    #[test]
    fn a_client_leaves_with_its_verdict_and_one_too_many_gets_no_place() {
        let mut of_gate = OfGate::new(sample::gate("shop", &[80]));
        for number in 0..FAST_PATH_CLIENTS_MAX {
            assert!(of_gate.enter(client(number), UnixMillis(u64::from(number) + 1)));
        }
        assert!(!of_gate.enter(client(FAST_PATH_CLIENTS_MAX), UnixMillis(9)));
        assert!(of_gate.enter(client(0), UnixMillis(u64::MAX)), "one that is in stays in, with its new end");
        of_gate.expire(UnixMillis(2));
        assert_eq!(of_gate.clients.len(), FAST_PATH_CLIENTS_MAX as usize - 1);
        assert!(!of_gate.clients.contains_key(&client(1)) && of_gate.clients.contains_key(&client(0)));
        assert!(of_gate.enter(client(FAST_PATH_CLIENTS_MAX), UnixMillis(9)));
        assert!(of_gate.strike(client(0)) && !of_gate.strike(client(0)));
    }

    #[test]
    fn sets_are_filled_again_only_when_a_gate_judges_otherwise() {
        let gate = sample::gate("shop", &[80]);
        let mut admitted = Admitted::default();
        admitted.0.insert("shop".into(), OfGate::new(gate.clone()));
        admitted.0.insert("gone".into(), OfGate::new(sample::gate("gone", &[80])));
        assert!(admitted.stale(std::slice::from_ref(&gate)).is_empty());
        assert_eq!(admitted.0.len(), 1, "a gate that is gone is forgotten");
        let other = sample::gate("shop", &[80, 443]);
        assert_eq!(admitted.stale(std::slice::from_ref(&other)), [&other]);
        assert!(admitted.0.is_empty(), "what was filled under other settings counts for nothing");
    }
}
