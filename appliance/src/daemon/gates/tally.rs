//! What gates counted: the running worker's numbers on top of those of the workers before it.

use glacis_control::gate::{BackendStatus, FastPathStatus, GateStatus, Histogram, PortTally};
use glacis_plan::GatePlan;
use std::collections::BTreeMap;

/// By gate, in no other order than the policy's when they are told.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// As the running worker told last.
    current: BTreeMap<String, GateStatus>,
    /// Of workers that ended.
    past: BTreeMap<String, GateStatus>,
    led: BTreeMap<String, FastPathStatus>,
}

impl Tallies {
    pub(super) fn take(&mut self, gates: Vec<GateStatus>) {
        self.current = gates.into_iter().map(|gate| (gate.name.clone(), gate)).collect();
    }

    pub(super) fn led(&mut self, gate: &str, status: FastPathStatus) {
        self.led.insert(gate.to_owned(), status);
    }

    /// Forgets gates that a policy does not name any more.
    pub(super) fn keep(&mut self, gates: &[GatePlan]) {
        let is_named = |name: &String| gates.iter().any(|gate| gate.name == *name);
        self.current.retain(|name, _| is_named(name));
        self.past.retain(|name, _| is_named(name));
        self.led.retain(|name, _| gates.iter().any(|g| g.name == *name && g.fast_path.is_some()));
    }

    pub(super) fn worker_ended(&mut self) {
        for (name, mut status) in std::mem::take(&mut self.current) {
            if let Some(past) = self.past.remove(&name) {
                add(&mut status, &past);
            }
            (status.relaying, status.waiting) = (0, 0);
            for backend in &mut status.backends {
                backend.relaying = 0;
            }
            self.past.insert(name, status);
        }
    }

    /// Of one gate, whether or not a worker has told of it yet.
    pub(super) fn status(&self, plan: &GatePlan) -> GateStatus {
        let told = self.current.get(&plan.name).cloned();
        let mut status = told.unwrap_or_else(|| unheard(plan));
        if let Some(past) = self.past.get(&plan.name) {
            add(&mut status, past);
        }
        status.fast_path = plan.fast_path.map(|_| self.led.get(&plan.name).copied().unwrap_or_default());
        status
    }
}

fn unheard(plan: &GatePlan) -> GateStatus {
    let backends = plan.pools.iter().flat_map(|pool| &pool.backends);
    GateStatus {
        name: plan.name.clone(),
        port: plan.port,
        protocol: plan.protocol.name().to_owned(),
        mode: plan.mode.name().to_owned(),
        backends: backends
            .map(|backend| BackendStatus {
                address: backend.address,
                down: None,
                relaying: 0,
                connections: 0,
            })
            .collect(),
        ..GateStatus::default()
    }
}

/// Adds what another worker counted; what is now stays.
fn add(status: &mut GateStatus, past: &GateStatus) {
    for (name, count) in &past.counters {
        match status.counters.iter_mut().find(|(known, _)| known == name) {
            Some((_, total)) => *total += count,
            None => status.counters.push((name.clone(), *count)),
        }
    }
    status.bytes_to_backends += past.bytes_to_backends;
    status.bytes_to_clients += past.bytes_to_clients;
    for tally in &past.ports {
        add_port(&mut status.ports, tally);
    }
    add_latency(&mut status.latency, &past.latency);
    for backend in &mut status.backends {
        let same = past.backends.iter().find(|before| before.address == backend.address);
        backend.connections += same.map_or(0, |before| before.connections);
    }
}

fn add_port(ports: &mut Vec<PortTally>, past: &PortTally) {
    match ports.binary_search_by_key(&past.port, |tally| tally.port) {
        Ok(at) => {
            for (total, count) in ports[at].outcomes.iter_mut().zip(past.outcomes) {
                *total += count;
            }
        }
        Err(at) => ports.insert(at, past.clone()),
    }
}

fn add_latency(latency: &mut Histogram, past: &Histogram) {
    for (total, count) in latency.counts.iter_mut().zip(past.counts) {
        *total += count;
    }
    latency.sum_micros = latency.sum_micros.saturating_add(past.sum_micros);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(accepted: u64, relaying: u64) -> GateStatus {
        let mut latency = Histogram::default();
        latency.observe(200);
        GateStatus {
            name: "shop".into(),
            relaying,
            counters: vec![("accepted".into(), accepted)],
            bytes_to_clients: 7 * accepted,
            ports: vec![PortTally { port: 80, outcomes: [1; 8] }],
            latency,
            ..GateStatus::default()
        }
    }

    #[test]
    fn counters_go_on_when_a_worker_is_replaced() {
        let mut tallies = Tallies::default();
        tallies.take(vec![told(5, 2)]);
        tallies.worker_ended();
        tallies.take(vec![told(3, 1)]);
        tallies.worker_ended();
        tallies.take(vec![told(1, 4)]);
        let mut status = tallies.current["shop"].clone();
        add(&mut status, &tallies.past["shop"]);
        assert_eq!(status.counters, [("accepted".to_owned(), 9)]);
        assert_eq!((status.relaying, status.bytes_to_clients), (4, 63));
        assert_eq!(status.ports[0].outcomes, [3; 8]);
        assert_eq!((status.latency.count(), status.latency.sum_micros), (3, 600));
    }

    #[test]
    fn a_gate_that_no_policy_names_is_forgotten() {
        let mut tallies = Tallies::default();
        tallies.take(vec![told(5, 2)]);
        tallies.keep(&[]);
        assert!(tallies.current.is_empty());
    }
}
