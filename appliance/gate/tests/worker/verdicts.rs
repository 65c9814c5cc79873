//! What is made of clients.

use crate::harness::*;
use glacis_control::gate::{Finding, PortOutcome, Verdict};
use glacis_gate::GateCounter;
use glacis_gate::feed::ToWorker;
use glacis_plan::gate::{Exhausted, GateMode};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

#[test]
fn b6_a_client_that_refuses_is_admitted_at_once_and_remembered() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let begin = Instant::now();
        let mut client = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut client, "one", "hello").await;
        assert!(begin.elapsed() < Duration::from_millis(800), "{:?}", begin.elapsed());
        let (who, findings, verdict) = core.judged().await;
        assert_eq!((who, verdict), (address(CLIENT4), Verdict::Clean));
        let found: Vec<_> = findings.iter().map(|finding| (finding.port, finding.outcome)).collect();
        assert_eq!(found, [(22, PortOutcome::Refused), (8080, PortOutcome::Refused)]);
        let holds = findings[0].until.since(now());
        assert!(holds > Duration::from_secs(3590) && holds <= Duration::from_secs(3600), "{holds:?}");

        let mut again = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut again, "one", "again").await;
        let status = core.count("web", GateCounter::Known, 1).await;
        assert_eq!(counted(&status, GateCounter::Looks), 1);
        assert_eq!((status.relaying, status.latency.count()), (2, 1));
        assert_all_accounted_for(&status);
        drop((client, again));
        let status = core.count("web", GateCounter::Relayed, 2).await;
        assert_eq!((status.relaying, status.bytes_to_backends, status.bytes_to_clients), (0, 10, 18));
        core.end().unwrap();
    });
}

#[test]
fn b17_ipv6_clients_are_looked_at() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let mut client = connect(CLIENT6, 8443).await;
        assert_echoed_by(&mut client, "one", "hello").await;
        assert!(matches!(core.judged().await, (who, _, Verdict::Clean) if who == address(CLIENT6)));
        let _open = open_port("2001:db8:8::8", 22).await;
        let mut denied = connect("2001:db8:8::8", 8443).await;
        assert_closed(&mut denied).await;
        let (who, _, verdict) = core.judged().await;
        assert_eq!(who, address("2001:db8:8::8"));
        assert_eq!(verdict, Verdict::Open { port: 22, outcome: PortOutcome::Open });
        core.end().unwrap();
    });
}

#[test]
fn b7_an_open_port_denies_and_the_close_is_clean() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let _open = open_port(CLIENT4, 8080).await;
        silence(22);
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let begin = Instant::now();
        let mut client = connect(CLIENT4, 8443).await;
        // Unread when the gate closes, which would be a reset.
        client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
        assert_closed(&mut client).await;
        assert!(begin.elapsed() < Duration::from_millis(800), "the first proof wins: {:?}", begin.elapsed());
        let (_, findings, verdict) = core.judged().await;
        assert_eq!(verdict, Verdict::Open { port: 8080, outcome: PortOutcome::Open });
        let holds = findings[0].until.since(now());
        assert!(holds > Duration::from_secs(1790) && holds <= Duration::from_secs(1800), "{holds:?}");
        // Known from now on.
        assert_closed(&mut connect(CLIENT4, 8443).await).await;
        drop(client);
        let status = core.count("web", GateCounter::Denied, 2).await;
        assert_eq!(counted(&status, GateCounter::Looks), 1);
        assert_eq!(status.ports.len(), 1);
        assert_eq!(status.ports[0].outcomes[PortOutcome::Open as usize], 1);
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn b12_a_gate_that_only_detects_tells_and_admits() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let _open = open_port(CLIENT4, 22).await;
        let mut plan = gate("web", 8443);
        plan.mode = GateMode::Detect;
        let mut core = Core::start(&[plan]).await;
        let mut client = connect(CLIENT4, 8443).await;
        assert_echoed_by(&mut client, "one", "hello").await;
        assert!(matches!(core.judged().await.2, Verdict::Open { port: 22, .. }));
        core.status_with("web", |status| counted(status, GateCounter::Detected) == 1 && status.relaying == 1)
            .await;
        core.end().unwrap();
    });
}

#[test]
fn b13_ignored_private_and_own_clients_are_admitted_without_a_look() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        run("ip addr add 10.1.2.3/32 dev lo");
        let _open: Vec<_> = [
            open_port("10.1.2.3", 22).await,
            open_port(GATE4, 22).await,
            open_port("127.0.0.5", 22).await,
            open_port(CLIENT4, 22).await,
        ]
        .into();
        let mut plan = gate("web", 8443);
        plan.ignore = vec!["203.0.113.0/24".parse().unwrap()];
        let mut private_too = gate("private", 8444);
        private_too.private = true;
        let mut core = Core::start(&[plan, private_too]).await;
        for exempt in ["10.1.2.3", GATE4, CLIENT4, "127.0.0.5"] {
            assert_echoed_by(&mut connect(exempt, 8443).await, "one", "hello").await;
        }
        let status = core.count("web", GateCounter::Exempt, 4).await;
        assert_eq!(counted(&status, GateCounter::Looks), 0);
        // Told to look at private clients, it does; at itself, never.
        for never in [GATE4, "127.0.0.5"] {
            assert_echoed_by(&mut connect(never, 8444).await, "one", "hello").await;
        }
        assert_closed(&mut connect("10.1.2.3", 8444).await).await;
        assert!(matches!(core.judged().await, (who, _, Verdict::Open { .. }) if who == address("10.1.2.3")));
        core.end().unwrap();
    });
}

#[test]
fn b8_what_the_core_knows_is_known_and_what_it_forgets_is_not() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let until = now().plus(Duration::from_secs(60));
        core.learn(CLIENT4, &[Finding { port: 22, outcome: PortOutcome::Open, until }]).await;
        assert_closed(&mut connect(CLIENT4, 8443).await).await;
        let status = core.count("web", GateCounter::Denied, 1).await;
        assert_eq!(counted(&status, GateCounter::Looks), 0);
        core.tell(&ToWorker::Forget { within: vec!["203.0.113.0/24".parse().unwrap()] }).await;
        core.heard().await;
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        assert!(matches!(core.judged().await.2, Verdict::Clean));
        core.end().unwrap();
    });
}

#[test]
fn b8_a_gate_with_more_ports_looks_at_those_that_are_missing() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        let mut more = gate("more", 8444);
        more.ports = vec![22, 3128, 8080];
        let mut core = Core::start(&[gate("web", 8443), more]).await;
        assert_echoed_by(&mut connect(CLIENT4, 8443).await, "one", "hello").await;
        assert_eq!(core.judged().await.1.len(), 2);
        assert_echoed_by(&mut connect(CLIENT4, 8444).await, "one", "hello").await;
        let (_, findings, verdict) = core.judged().await;
        assert_eq!((findings.len(), findings[0].port, verdict), (1, 3128, Verdict::Clean));
        core.end().unwrap();
    });
}

#[test]
fn b9_a_thousand_connections_of_a_new_client_cost_one_look() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        silence(22);
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let mut clients = Vec::new();
        for _ in 0..1_000 {
            clients.push(connect(CLIENT4, 8443).await);
        }
        for client in &mut clients {
            assert_echoed_by(client, "one", "hello").await;
        }
        let status = core.status_with("web", |status| status.relaying == 1_000).await;
        assert_eq!(counted(&status, GateCounter::Looks), 1);
        let [joined, known] = [GateCounter::Joined, GateCounter::Known].map(|c| counted(&status, c));
        assert_eq!(joined + known, 999);
        assert!(joined > 500, "{joined} waited");
        assert_all_accounted_for(&status);
        core.end().unwrap();
    });
}

#[test]
fn b9_with_the_budget_spent_the_policy_decides_and_nothing_is_remembered() {
    alone(|| async {
        let _backend = echo("one", 9000).await;
        for (then, port) in [(Exhausted::Refuse, 8443), (Exhausted::Admit, 8444)] {
            let mut plan = gate("web", port);
            plan.timeout = Duration::from_millis(300);
            plan.budget.per_second = 1;
            plan.budget.then = then;
            let mut core = Core::start(&[plan]).await;
            assert_echoed_by(&mut connect("203.0.113.1", port).await, "one", "hello").await;
            let begin = Instant::now();
            let mut second = connect("203.0.113.2", port).await;
            match then {
                Exhausted::Refuse => assert_closed(&mut second).await,
                Exhausted::Admit => assert_echoed_by(&mut second, "one", "hello").await,
            }
            // One timeout, and no longer.
            let waited = begin.elapsed();
            assert!(waited > Duration::from_millis(290) && waited < Duration::from_millis(900), "{waited:?}");
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            assert_echoed_by(&mut connect("203.0.113.2", port).await, "one", "hello").await;
            let status = core.count("web", GateCounter::Looks, 2).await;
            assert_eq!(counted(&status, GateCounter::BudgetSpent), 1);
            assert_eq!(counted(&status, GateCounter::RefusedBudget), u64::from(then == Exhausted::Refuse));
            core.end().unwrap();
        }
    });
}

#[test]
fn a_look_by_hand_remembers_nothing() {
    alone(|| async {
        use glacis_gate::feed::FromWorker;
        let _open = open_port(CLIENT4, 22).await;
        let mut core = Core::start(&[gate("web", 8443)]).await;
        let test =
            |id, gate: &str, client| ToWorker::Test { id, gate: gate.to_owned(), client: address(client) };
        for (id, gate, client) in
            [(1, "web", CLIENT4), (2, "nobody", CLIENT4), (3, "web", "10.0.0.1"), (4, "web", CLIENT6)]
        {
            core.tell(&test(id, gate, client)).await;
        }
        let mut results = std::collections::BTreeMap::new();
        while results.len() < 4 {
            if let FromWorker::Tested { id, result } = core.next().await {
                results.insert(id, result);
            }
        }
        let open = results.remove(&1).unwrap().unwrap();
        assert_eq!(open.verdict, Verdict::Open { port: 22, outcome: PortOutcome::Open });
        assert_eq!(open.ignored, None);
        assert!(results.remove(&2).unwrap().unwrap_err().contains("nobody"));
        let private = results.remove(&3).unwrap().unwrap();
        assert!(private.ignored.is_some_and(|why| why.contains("private")) && private.ports.is_empty());
        let clean = results.remove(&4).unwrap().unwrap();
        assert_eq!(clean.verdict, Verdict::Clean);
        assert_eq!(clean.ports, [(22, PortOutcome::Refused), (8080, PortOutcome::Refused)]);
        let status = core.status_with("web", |_| true).await;
        assert_eq!(counted(&status, GateCounter::Looks), 0);
        core.end().unwrap();
    });
}
