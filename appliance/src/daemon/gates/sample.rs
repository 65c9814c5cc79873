//! A gate to test with.

use glacis_plan::gate::{
    Backend, Budget, Deny, Exhausted, FastPath, FastPathEstablished, FastPathSource, GateMode, GatePlan,
    GateProtocol, Pool, Prove, Remember,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// One backend, a fast path, and findings that hold for a day.
pub(super) fn gate(name: &str, ports: &[u16]) -> GatePlan {
    let address = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 10), 443));
    GatePlan {
        name: name.to_owned(),
        line: 1,
        port: 443,
        devices: vec!["eth0".to_owned()],
        protocol: GateProtocol::Tcp,
        fronts: None,
        pools: vec![Pool { backends: vec![Backend { address, weight: 1, proxy_protocol: None }] }],
        routes: vec![],
        routes_only: false,
        health: None,
        idle: DAY,
        ports: ports.to_vec(),
        timeout: Duration::from_millis(500),
        prove: Prove::Open,
        mode: GateMode::Enforce,
        budget: Budget { in_flight: 200, per_second: 50, then: Exhausted::Admit },
        remember: Remember { clean: DAY, open: DAY },
        deny: Deny::Close,
        on_open: None,
        ignore: vec![],
        ignore_countries: vec![],
        private: false,
        fast_path: Some(FastPath { source: FastPathSource::Own, established: FastPathEstablished::Keep }),
    }
}
