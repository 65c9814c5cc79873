//! What happens at the bounds.

use crate::harness::*;
use glacis_gate::GateCounter;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

#[test]
fn more_connections_of_one_client_than_may_wait_are_let_go() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        silence(22);
        let mut plan = gate("web", 8443);
        plan.timeout = Duration::from_secs(4);
        let mut core = Core::start(&[plan]).await;
        let mut clients = Vec::new();
        for _ in 0..1_100 {
            clients.push(connect(CLIENT4, 8443).await);
        }
        let status = core.count("web", GateCounter::WaitingFull, 1_100 - 1_024).await;
        assert_eq!(status.waiting, 1_024);
        assert_all_accounted_for(&status);
        // Those who waited are led on.
        let status = core.status_with("web", |status| status.relaying == 1_024).await;
        assert_eq!(counted(&status, GateCounter::Looks), 1);
        core.end().unwrap();
    });
}

#[test]
fn b9_three_thousand_clients_at_once_are_judged_or_refused_within_the_budget() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        silence(22);
        let mut plan = gate("web", 8443);
        plan.ports = vec![22];
        plan.budget.in_flight = 64;
        plan.budget.per_second = 10_000;
        let mut core = Core::start(&[plan]).await;
        let mut clients = Vec::new();
        for n in 0..3_000_u32 {
            let client = IpAddr::from(Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 1, 0).to_bits() + n * 7));
            clients.push(connect(&client.to_string(), 8443).await);
        }
        let done = |counters: &glacis_control::gate::GateStatus| {
            counted(counters, GateCounter::RefusedBudget) + counters.relaying == 3_000
        };
        let status = core.status_with("web", done).await;
        assert!(status.relaying >= 64, "{}", status.relaying);
        assert_eq!(status.relaying, counted(&status, GateCounter::Looks));
        assert_eq!(status.latency.count(), status.relaying);
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}
