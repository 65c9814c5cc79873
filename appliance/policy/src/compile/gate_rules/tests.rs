//! Who reaches a gate, tried on the compiled ruleset; what the kernel leads by itself is tried with real packets.

use super::*;
use crate::compile::{Compiled, compile};
use crate::simulate::Verdict as Fate;
use crate::simulate::{Decision, Network, Packet, Transport, run_expects, walk};
use crate::{Facts, Policy, parse};
use glacis_plan::nft::{Elements, Table};

fn policy(gate: &str, rest: &str) -> Policy {
    let text = format!(
        r#"policy version=1 name="t"
interface wan {{
    address "192.0.2.1/24"
    route default via="192.0.2.254"
}}
interface lan {{
    address "10.0.1.1/24"
}}
zone internet {{
    from wan
    default drop
}}
zone home {{
    from lan
    default reject
}}
reverse-scan web {{
    listen tcp=443 on=wan
    backend "10.0.1.30:8443"
    {gate}
}}
{rest}
"#
    );
    parse("policy.kdl", text.as_bytes()).unwrap_or_else(|report| panic!("{report}"))
}

fn compiled(gate: &str, rest: &str) -> Compiled {
    compile(&policy(gate, rest), &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn table(compiled: &Compiled) -> &Table {
    &compiled.plan.ruleset.tables[0]
}

/// The fate of a first packet, and what decided over it.
fn tried(compiled: &Compiled, input: Option<&str>, from: &str, to: &str, port: u16) -> (bool, String) {
    let packet = Packet {
        input: input.map(str::to_owned),
        source: from.parse().unwrap(),
        destination: to.parse().unwrap(),
        transport: Transport::Tcp { source: 40_000, destination: port },
    };
    let outcome = walk(&compiled.plan.ruleset, &Network::new(&compiled.plan.interfaces), packet).unwrap();
    let by = match outcome.decided {
        Decision::Rule(step) => step.comment.unwrap_or_default(),
        other => format!("{other:?}"),
    };
    (outcome.verdict == Fate::Accept, by)
}

#[test]
fn a_gates_port_is_open_on_its_devices_alone() {
    let compiled = compiled("", "");
    let gate = "gate web line 17".to_owned();
    assert_eq!(tried(&compiled, Some("wan"), "203.0.113.9", "192.0.2.1", 443), (true, gate));
    let closed = (false, "default of internet".to_owned());
    assert_eq!(tried(&compiled, Some("wan"), "203.0.113.9", "192.0.2.1", 444), closed);
    let closed = (false, "default of home".to_owned());
    assert_eq!(tried(&compiled, Some("lan"), "10.0.1.9", "10.0.1.1", 443), closed);
}

#[test]
fn an_expectation_may_speak_of_a_gate() {
    let holds = "expect allow in=wan from=\"203.0.113.9\" to=self tcp=443";
    let fails = "expect deny in=wan from=\"203.0.113.9\" to=self tcp=443";
    let policy = policy("", &format!("{holds}\n{fails}"));
    let failures = run_expects(&policy, &compile(&policy, &Facts::default()).unwrap());
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].span, policy.expects[1].span);
    assert_eq!(failures[0].decided_at, Some(policy.gates[0].name.span), "the gate is shown beside it");
}

#[test]
fn fronts_shut_out_everybody_else_whatever_the_rules_say() {
    let rest = "rules from=internet to=self {\n    allow all\n}";
    let compiled = compiled("accept-proxy from=\"203.0.113.0/29\"", rest);
    assert!(tried(&compiled, Some("wan"), "203.0.113.7", "192.0.2.1", 443).0);
    assert!(!tried(&compiled, Some("wan"), "203.0.113.8", "192.0.2.1", 443).0);
    assert!(tried(&compiled, Some("wan"), "203.0.113.8", "192.0.2.1", 444).0);
}

#[test]
fn what_the_worker_may_open_is_open_to_nobody_else() {
    let compiled = compiled("ports 80 3128", "");
    assert!(!tried(&compiled, None, "192.0.2.1", "203.0.113.9", 80).0);
    assert!(!tried(&compiled, None, "10.0.1.1", "10.0.1.30", 8443).0);
}

#[test]
fn a_gate_without_a_fast_path_adds_nothing_to_forwarded_packets() {
    let without = compiled("fast-path #false", "");
    let names = |compiled: &Compiled| {
        let table = table(compiled);
        let chains = table.chains.iter().map(|chain| chain.name.to_string());
        let sets = table.sets.iter().map(|set| set.name.to_string());
        let objects = table.objects.iter().map(|object| object.name.to_string());
        let all: Vec<_> = chains.chain(sets).chain(objects).filter(|name| name.contains("gate")).collect();
        all
    };
    assert_eq!(names(&without), ["gates_output"]);
    let rules = |compiled: &Compiled, chain: &'static str| {
        table(compiled).chain(&Name::literal(chain)).map_or(0, |chain| chain.rules.len())
    };
    let with = compiled("", "");
    for chain in ["dstnat", "forward", "forwards", "srcnat"] {
        assert!(rules(&with, chain) > rules(&without, chain), "{chain}");
    }
    let forwarding = |compiled: &Compiled| {
        let sysctls = &compiled.plan.sysctls;
        sysctls.iter().find(|s| s.path == "net/ipv4/ip_forward").unwrap().value.clone()
    };
    assert_eq!((forwarding(&without), forwarding(&with)), ("0".to_owned(), "1".to_owned()));
}

#[test]
fn clients_and_places_are_filled_at_run_time() {
    let with = compiled("", "");
    let gate = &with.plan.gates[0];
    for family in FAMILIES {
        for name in [gate.clients_set(family), gate.backends_map(family)] {
            let set = table(&with).set(&name).unwrap();
            assert_eq!(set.elements, Elements::Runtime);
            assert!(set.size.is_some());
        }
    }
}

#[test]
fn probing_a_gates_port_is_no_scan() {
    let scan = "scan {\n}";
    assert_eq!(compiled("", scan).plan.scan.unwrap().exposed_tcp, [443]);
}
