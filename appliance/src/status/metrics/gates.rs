//! What is told of gates.

use super::{Exposition, Kind};
use crate::words::gate_count;
use glacis_control::StatusReport;
use glacis_control::gate::{BackendStatus, FastPathStatus, GateStatus, Histogram, PortOutcome};
use glacis_gate::GateCounter;
use std::collections::BTreeMap;

pub(super) fn render(text: &mut Exposition, report: &StatusReport) {
    text.family("glacis_gate_clients", Kind::Gauge, "Clients that gates know.");
    text.sample(&[], report.gate_clients);
    let gates = &report.gates;
    if gates.is_empty() {
        return;
    }
    connections(text, gates);
    looks(text, gates);
    backends(text, gates);
    fast_paths(text, gates);
}

fn connections(text: &mut Exposition, gates: &[GateStatus]) {
    text.family("glacis_gate_relaying", Kind::Gauge, "Connections that are relayed now.");
    for gate in gates {
        text.sample(&[("gate", &gate.name)], gate.relaying);
    }
    text.family("glacis_gate_waiting", Kind::Gauge, "Connections that wait for a verdict now.");
    for gate in gates {
        text.sample(&[("gate", &gate.name)], gate.waiting);
    }
    text.family("glacis_gate_connections_total", Kind::Counter, "Connections by what became of them.");
    for gate in gates {
        for end in GateCounter::ALL.iter().filter(|counter| counter.is_end()) {
            text.sample(&[("gate", &gate.name), ("end", end.name())], gate_count(gate, end.name()));
        }
    }
    // The others overlap, so each is a family of its own.
    for counter in GateCounter::ALL.iter().filter(|counter| !counter.is_end()) {
        let name = counter.name();
        let help = format!("Counter {name} of a gate, in connections unless its name says another thing.");
        text.family(&format!("glacis_gate_{}_total", name.replace('-', "_")), Kind::Counter, &help);
        for gate in gates {
            text.sample(&[("gate", &gate.name)], gate_count(gate, name));
        }
    }
    text.family("glacis_gate_bytes_total", Kind::Counter, "Relayed payload.");
    for gate in gates {
        for (direction, bytes) in
            [("to_backends", gate.bytes_to_backends), ("to_clients", gate.bytes_to_clients)]
        {
            text.sample(&[("gate", &gate.name), ("direction", direction)], bytes);
        }
    }
}

fn looks(text: &mut Exposition, gates: &[GateStatus]) {
    text.family("glacis_gate_probes_total", Kind::Counter, "Looks at ports of clients, by outcome.");
    for gate in gates {
        for tally in &gate.ports {
            let port = tally.port.to_string();
            for (outcome, count) in PortOutcome::ALL.into_iter().zip(tally.outcomes) {
                let labels = [("gate", gate.name.as_str()), ("port", &port), ("outcome", outcome.name())];
                text.sample(&labels, count);
            }
        }
    }
    text.family(
        "glacis_gate_verdict_seconds",
        Kind::Histogram,
        "From a new client's first connection to its verdict.",
    );
    for gate in gates {
        verdicts(text, &gate.name, &gate.latency);
    }
}

fn verdicts(text: &mut Exposition, gate: &str, latency: &Histogram) {
    let bounds = Histogram::BOUNDS_MICROS.iter().map(|micros| (*micros as f64 / 1e6).to_string());
    let bounds = bounds.chain(["+Inf".to_owned()]);
    let mut below = 0;
    for (bound, count) in bounds.zip(latency.counts) {
        below += count;
        text.suffixed("_bucket", &[("gate", gate), ("le", &bound)], below);
    }
    text.suffixed("_sum", &[("gate", gate)], latency.sum_micros as f64 / 1e6);
    text.suffixed("_count", &[("gate", gate)], below);
}

fn backends(text: &mut Exposition, gates: &[GateStatus]) {
    text.family("glacis_gate_backend_up", Kind::Gauge, "Whether the backend is in service.");
    for gate in gates {
        for (backend, (up, _)) in by_address(&gate.backends) {
            text.sample(&[("gate", &gate.name), ("backend", &backend)], u64::from(up));
        }
    }
    text.family("glacis_gate_backend_connections_total", Kind::Counter, "Connections led to the backend.");
    for gate in gates {
        for (backend, (_, connections)) in by_address(&gate.backends) {
            text.sample(&[("gate", &gate.name), ("backend", &backend)], connections);
        }
    }
}

/// Several pools may have the same backend, and no two samples the same labels: it is up when it is in all of them.
fn by_address(backends: &[BackendStatus]) -> BTreeMap<String, (bool, u64)> {
    let mut known: BTreeMap<String, (bool, u64)> = BTreeMap::new();
    for backend in backends {
        let (up, connections) = known.entry(backend.address.to_string()).or_insert((true, 0));
        *up &= backend.down.is_none();
        *connections += backend.connections;
    }
    known
}

/// One number of a fast path.
type Value = fn(FastPathStatus) -> u64;

fn fast_paths(text: &mut Exposition, gates: &[GateStatus]) {
    let fast: Vec<(&str, FastPathStatus)> =
        gates.iter().filter_map(|gate| Some((gate.name.as_str(), gate.fast_path?))).collect();
    let families: [(&str, Kind, &str, Value); 4] = [
        ("clients", Kind::Gauge, "Clients that the kernel admits by itself.", |fast| fast.clients),
        ("connections_total", Kind::Counter, "Connections that the kernel led to a backend.", |fast| {
            fast.connections
        }),
        ("packets_total", Kind::Counter, "Packets of these connections, both ways.", |fast| fast.packets),
        ("bytes_total", Kind::Counter, "Bytes of these connections, both ways.", |fast| fast.bytes),
    ];
    for (name, kind, help, value) in families {
        text.family(&format!("glacis_gate_fast_path_{name}"), kind, help);
        for (gate, fast) in &fast {
            text.sample(&[("gate", gate)], value(*fast));
        }
    }
}
