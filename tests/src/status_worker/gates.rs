//! Gates with some work behind them, made up and always the same.

use glacis_control::gate::{BackendStatus, FastPathStatus, GateStatus, Histogram, PortTally};

/// One that enforces, with everything a gate can have, and one that only detects.
pub fn gates() -> Vec<GateStatus> {
    vec![web(), mail()]
}

fn web() -> GateStatus {
    let tallies = [
        (22, [1_204, 12, 311, 0, 88, 0, 0, 0]),
        (80, [1_180, 12, 322, 0, 101, 0, 0, 0]),
        (443, [1_176, 12, 324, 0, 103, 0, 0, 0]),
        (3128, [1_221, 11, 340, 0, 2, 37, 0, 0]),
        (8000, [1_260, 12, 335, 0, 3, 1, 4, 0]),
        (8080, [1_207, 12, 339, 0, 9, 14, 0, 34]),
    ];
    GateStatus {
        name: "web".into(),
        port: 443,
        protocol: "tls".into(),
        mode: "enforce".into(),
        relaying: 118,
        waiting: 4,
        counters: counters(&[
            ("accepted", 48_213),
            ("relayed", 47_702),
            ("denied", 389),
            ("no-backend", 0),
            ("known", 44_120),
            ("looks", 3_610),
        ]),
        bytes_to_backends: 1_903_441_220,
        bytes_to_clients: 61_877_120_940,
        ports: tallies.map(|(port, outcomes)| PortTally { port, outcomes }).into(),
        latency: latency([0, 0, 0, 3, 22, 140, 401, 488, 305, 61, 12, 183, 0, 0, 0, 0]),
        backends: vec![
            backend("10.0.2.11:443", None, 61),
            backend("10.0.2.12:443", Some("connection refused"), 0),
            backend("[fd00:2::13]:443", None, 57),
        ],
        fast_path: Some(FastPathStatus {
            clients: 1_412,
            connections: 391_204,
            packets: 91_220_410,
            bytes: 88_412_990_112,
        }),
    }
}

fn mail() -> GateStatus {
    let tallies = [(25, [80, 0, 21, 9, 0, 0, 0, 0]), (1080, [104, 0, 4, 2, 0, 0, 0, 0])];
    GateStatus {
        name: "mail".into(),
        port: 25,
        protocol: "tcp".into(),
        mode: "detect".into(),
        relaying: 3,
        waiting: 0,
        counters: counters(&[("accepted", 611), ("relayed", 608), ("denied", 0)]),
        bytes_to_backends: 41_220_113,
        bytes_to_clients: 2_113_007,
        ports: tallies.map(|(port, outcomes)| PortTally { port, outcomes }).into(),
        latency: latency([0, 0, 0, 0, 0, 4, 21, 40, 31, 2, 0, 12, 0, 0, 0, 0]),
        backends: vec![backend("10.0.2.25:25", None, 3)],
        fast_path: None,
    }
}

fn counters(counters: &[(&str, u64)]) -> Vec<(String, u64)> {
    counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn latency(counts: [u64; Histogram::BOUNDS_MICROS.len() + 1]) -> Histogram {
    Histogram { counts, sum_micros: 120_400_000 }
}

fn backend(address: &str, down: Option<&str>, relaying: u64) -> BackendStatus {
    BackendStatus {
        address: address.parse().expect("written as an address"),
        down: down.map(str::to_owned),
        relaying,
        connections: 23_000 + relaying,
    }
}
