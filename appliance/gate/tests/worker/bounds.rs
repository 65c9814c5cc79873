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

#[test]
fn a_network_waits_on_a_quarter_of_the_places_and_beyond_has_no_budget() {
    alone(|| async {
        // There is no backend: relayed, they would need twice as many descriptors.
        silence(22);
        let mut plan = gate("web", 8443);
        plan.timeout = Duration::from_secs(10);
        let mut core = Core::start(&[plan]).await;
        let mut clients = Vec::new();
        for host in 10..18 {
            for _ in 0..512 {
                clients.push(connect(&format!("203.0.113.{host}"), 8443).await);
            }
        }
        core.status_with("web", |status| status.waiting == 4_096).await;
        for _ in 0..20 {
            assert_closed(&mut connect("203.0.113.99", 8443).await).await;
        }
        let status = core.count("web", GateCounter::RefusedBudget, 20).await;
        assert_eq!((status.waiting, counted(&status, GateCounter::BudgetSpent)), (4_096, 20));
        let _other = connect("198.18.0.1", 8443).await;
        let status = core.status_with("web", |status| status.waiting == 4_097).await;
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn b9_who_joined_a_look_of_a_gate_whose_budget_was_spent_is_looked_at_by_its_own() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let [mut poor, mut rich] = [gate("poor", 8443), gate("rich", 8444)];
        (poor.budget.per_second, poor.timeout, rich.timeout) =
            (1, Duration::from_millis(300), Duration::from_millis(300));
        let mut core = Core::start(&[poor, rich]).await;
        assert_echoed_by(&mut connect("203.0.113.8", 8443).await, "one", "hello").await;
        let mut at_poor = connect(CLIENT4, 8443).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut at_rich = connect(CLIENT4, 8444).await;
        assert_closed(&mut at_poor).await;
        assert_echoed_by(&mut at_rich, "one", "hello").await;
        let rich = core.count("rich", GateCounter::Looks, 1).await;
        assert_eq!((counted(&rich, GateCounter::Joined), counted(&rich, GateCounter::BudgetSpent)), (1, 0));
        let poor = core.count("poor", GateCounter::RefusedBudget, 1).await;
        assert_eq!(counted(&poor, GateCounter::Looks), 1);
        assert_all_accounted_for(&rich);
        assert_all_accounted_for(&poor);
        core.end().unwrap();
    });
}

#[test]
fn b9_nobody_is_looked_at_who_left_before_there_was_budget() {
    alone(|| async {
        let _one = echo("one", 9000).await;
        let port = open_port(CLIENT4, 22).await;
        let mut plan = gate("web", 8443);
        (plan.budget.per_second, plan.timeout) = (1, Duration::from_secs(4));
        let mut core = Core::start(&[plan]).await;
        assert_echoed_by(&mut connect("203.0.113.8", 8443).await, "one", "hello").await;
        drop(connect(CLIENT4, 8443).await);
        core.count("web", GateCounter::Left, 1).await;
        let knock = tokio::time::timeout(Duration::from_secs(2), port.accept()).await;
        assert!(knock.is_err(), "no packet is sent");
        let status = core.status_with("web", |_| true).await;
        assert_eq!(counted(&status, GateCounter::Looks), 1);
        // Whoever comes later is looked at.
        assert_closed(&mut connect(CLIENT4, 8443).await).await;
        let status = core.count("web", GateCounter::Denied, 1).await;
        assert_eq!(counted(&status, GateCounter::Looks), 2);
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}
