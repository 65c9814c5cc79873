//! The compiler, tried by what its rulesets do to packets.

use super::*;
use crate::simulate::{Decision, Network, Packet, Transport, Verdict, run_expects, walk};
use crate::{Facts, InterfaceFact, parse};
use glacis_plan::nft::{Chain, Statement};
use glacis_plan::{Mac, PciAddress, ScanDevices};
use std::net::IpAddr;

const SHIPPED: &str = include_str!("../../../../policy.kdl");

fn policy(text: &str) -> Policy {
    parse("policy.kdl", text.as_bytes()).unwrap_or_else(|report| panic!("{report}"))
}

fn compiled(text: &str) -> Compiled {
    compile(&policy(text), &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn errors(text: &str, facts: &Facts) -> Vec<String> {
    compile(&policy(text), facts).unwrap_err().iter().map(ToString::to_string).collect()
}

/// Three zones on three cards with static addresses, and the rules given.
fn three_zones(rules: &str) -> String {
    format!(
        r#"policy version=1 name="t"
interface wan {{
    address "192.0.2.1/24"
    address "2001:db8::1/64"
    route default via="192.0.2.254"
}}
interface lan {{
    address "10.0.1.1/24"
    address "fd00:1::1/64"
}}
interface dmz {{
    address "10.0.2.1/24"
}}
zone internet {{
    from wan
    default drop
}}
zone home {{
    from lan
    default reject
}}
zone servers {{
    from dmz
    default reject
}}
{rules}
"#
    )
}

struct Tried {
    verdict: Verdict,
    by: String,
    packet: Packet,
}

fn try_packet(compiled: &Compiled, input: &str, from: &str, to: &str, transport: Transport) -> Tried {
    let input = (input != "self").then(|| input.to_owned());
    let packet = Packet { input, source: from.parse().unwrap(), destination: to.parse().unwrap(), transport };
    let network = Network::new(&compiled.plan.interfaces);
    let outcome = walk(&compiled.plan.ruleset, &network, packet).unwrap();
    let by = match outcome.decided {
        Decision::Rule(step) => step.comment.unwrap_or_else(|| step.chain.to_string()),
        other => format!("{other:?}"),
    };
    Tried { verdict: outcome.verdict, by, packet: outcome.packet }
}

fn tcp(destination: u16) -> Transport {
    Transport::Tcp { source: 40_000, destination }
}

fn udp(destination: u16) -> Transport {
    Transport::Udp { source: 40_000, destination }
}

#[track_caller]
fn assert_decided(tried: &Tried, accepted: bool, by: &str) {
    assert_eq!((tried.verdict == Verdict::Accept, tried.by.as_str()), (accepted, by));
}

#[test]
fn the_shipped_policy_keeps_its_own_expectations() {
    let policy = policy(SHIPPED);
    let compiled = compile(&policy, &Facts::default()).unwrap();
    assert_eq!(run_expects(&policy, &compiled), []);
    assert_eq!(compiled.warnings, []);
    assert!(policy.expects.len() >= 6);
}

#[test]
fn a_false_expectation_names_the_rule_that_decided_instead() {
    let text = SHIPPED.replace("tcp=25 rule=no-direct-mail", "tcp=26");
    let policy =
        policy(&text.replace("expect never-blocked \"198.51.100.7\"", "expect never-blocked \"8.8.8.8\""));
    let failures = run_expects(&policy, &compile(&policy, &Facts::default()).unwrap());
    let line =
        policy.rules.iter().flat_map(|b| &b.rules).find(|r| r.id.is_none() && r.what == crate::What::All);
    let said: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            format!(
                "expected deny, but the packet is let through by `rule line {}` in chain home.internet",
                line.unwrap().line
            ),
            "8.8.8.8 can be auto-blocked: no `never` set holds it, and no rule names it as an administrator"
                .to_owned()
        ]
    );
    assert_eq!(failures[0].decided_at, Some(line.unwrap().span));
}

#[test]
fn rules_decide_in_order_and_the_zone_decides_the_rest() {
    let compiled = compiled(&three_zones(
        r#"set admins {
    entry "10.0.1.7"
    entry "fd00:1::7"
}
rules from=home to=self {
    allow ssh from=admins id=admin
    deny ssh id=nobody-else
    allow tcp="1-1000"
}
rules from=home to=servers {
    allow udp=53 to="10.0.2.53"
}
rules from=self to=internet {
    allow all
}"#,
    ));
    let home = |from: &str, to: &str, transport| try_packet(&compiled, "lan", from, to, transport);
    assert_eq!(home("10.0.1.7", "10.0.1.1", tcp(22)).verdict, Verdict::Accept);
    assert_eq!(home("fd00:1::7", "fd00:1::1", tcp(22)).verdict, Verdict::Accept);
    let other = home("10.0.1.8", "10.0.1.1", tcp(22));
    assert_eq!(other.verdict, Verdict::Reject(glacis_plan::nft::Reject::TcpReset));
    assert!(other.by.starts_with("nobody-else line "), "{}", other.by);
    assert_eq!(home("10.0.1.8", "10.0.1.1", tcp(1000)).verdict, Verdict::Accept);
    assert_decided(&home("10.0.1.8", "10.0.1.1", tcp(1001)), false, "default of home");
    assert_eq!(home("10.0.1.8", "10.0.2.53", udp(53)).verdict, Verdict::Accept);
    assert_decided(&home("10.0.1.8", "10.0.2.54", udp(53)), false, "default of home");
    let wan = try_packet(&compiled, "wan", "203.0.113.9", "192.0.2.1", tcp(22));
    assert_eq!(wan.verdict, Verdict::Drop);
    assert_decided(&wan, false, "default of internet");
    assert_eq!(try_packet(&compiled, "self", "192.0.2.1", "203.0.113.9", tcp(443)).verdict, Verdict::Accept);
    assert_decided(
        &try_packet(&compiled, "self", "10.0.1.1", "10.0.1.9", tcp(443)),
        false,
        "no rule from self",
    );
}

#[test]
fn forged_sources_and_unzoned_devices_are_dropped() {
    let compiled = compiled(&three_zones("rules from=internet to=self {\n    allow all\n}"));
    let wan = |from: &str, to: &str| try_packet(&compiled, "wan", from, to, tcp(22));
    for forged in ["10.0.1.9", "127.0.0.1", "192.0.2.1"] {
        assert_decided(&wan(forged, "192.0.2.1"), false, "forged address");
    }
    assert_decided(&wan("203.0.113.9", "127.0.0.1"), false, "forged address");
    assert_eq!(wan("203.0.113.9", "192.0.2.1").verdict, Verdict::Accept);
    assert_decided(
        &try_packet(&compiled, "eth9", "198.51.100.1", "192.0.2.1", tcp(22)),
        false,
        "forged address",
    );
}

#[test]
fn a_forward_leads_to_its_target_and_nowhere_else() {
    let compiled = compiled(&three_zones(
        "nat {\n    masquerade home servers out=wan\n    forward tcp=443 in=wan to=\"10.0.2.40\" to-port=8443 hairpin=#true\n}",
    ));
    let forwarded = try_packet(&compiled, "wan", "203.0.113.9", "192.0.2.1", tcp(443));
    assert_eq!(forwarded.verdict, Verdict::Accept);
    assert!(forwarded.by.starts_with("forward line "), "{}", forwarded.by);
    assert_eq!(forwarded.packet.destination.to_string(), "10.0.2.40");
    assert_eq!(forwarded.packet.transport, tcp(8443));
    assert_eq!(forwarded.packet.source.to_string(), "203.0.113.9");
    // Without translation the target is closed.
    assert_decided(
        &try_packet(&compiled, "wan", "203.0.113.9", "10.0.2.40", tcp(8443)),
        false,
        "default of internet",
    );
    // A neighbour of the target that uses our outside address comes back through us.
    let hairpin = try_packet(&compiled, "dmz", "10.0.2.7", "192.0.2.1", tcp(443));
    assert_eq!(hairpin.verdict, Verdict::Accept);
    assert_eq!(
        (hairpin.packet.source.to_string(), hairpin.packet.transport),
        ("10.0.2.1".to_owned(), tcp(8443))
    );
    // Our inside address is for ourselves.
    let own = try_packet(&compiled, "dmz", "10.0.2.7", "10.0.2.1", tcp(443));
    assert_decided(&own, false, "default of servers");
}

#[test]
fn only_masqueraded_zones_change_their_source() {
    let text = three_zones(
        "nat {\n    masquerade home out=wan\n}\nrules from=home to=internet {\n    allow all\n}\nrules from=servers to=internet {\n    allow all\n}",
    );
    let compiled = compiled(&text);
    let home = try_packet(&compiled, "lan", "10.0.1.9", "203.0.113.9", tcp(80));
    assert_eq!(home.packet.source, "192.0.2.1".parse::<IpAddr>().unwrap());
    let servers = try_packet(&compiled, "dmz", "10.0.2.9", "203.0.113.9", tcp(80));
    assert_eq!(servers.packet.source, "10.0.2.9".parse::<IpAddr>().unwrap());
}

#[test]
fn a_listed_source_is_dropped_and_a_listed_destination_too() {
    let text = three_zones(
        "blocklist bad file=\"bad.txt\" {\n    apply drop in=internet out=internet\n}\nrules from=internet to=self {\n    allow ping\n}\nrules from=home to=internet {\n    allow all\n}\nrules from=self to=internet {\n    allow all\n}",
    );
    let list = b"203.0.113.0/24\n2001:db8:bad::/48\n".to_vec();
    let facts = Facts { lists: [("bad.txt".to_owned(), Ok(list))].into(), ..Facts::default() };
    let compiled = compile(&policy(&text), &facts).unwrap();
    let dropped = |input: &str, from: &str, to: &str| try_packet(&compiled, input, from, to, Transport::Echo);
    assert_decided(&dropped("wan", "203.0.113.255", "192.0.2.1"), false, "blocklist bad");
    assert_decided(&dropped("lan", "10.0.1.9", "203.0.113.7"), false, "blocklist bad");
    assert_decided(&dropped("self", "192.0.2.1", "203.0.113.7"), false, "blocklist bad");
    assert_eq!(dropped("wan", "203.0.114.0", "192.0.2.1").verdict, Verdict::Accept);

    assert_eq!(
        errors(&text, &Facts::default()),
        ["blocklist `bad`: cannot read bad.txt: the file was not read"]
    );
    let own =
        Facts { lists: [("bad.txt".to_owned(), Ok(b"192.0.2.128/25".to_vec()))].into(), ..Facts::default() };
    let warnings = compile(&policy(&text), &own).unwrap().warnings;
    assert_eq!(
        warnings[0].to_string(),
        "blocklist `bad` covers 192.0.2.0/24, the network of interface `wan`"
    );
}

#[test]
fn interfaces_bind_by_hardware_and_a_missing_one_is_only_a_warning() {
    let policy = policy(SHIPPED);
    let card = |device: &str, mac: u8| InterfaceFact {
        device: device.to_owned(),
        mac: Some(Mac([0x52, 0x54, 0, 0xaa, 0, mac])),
        pci: PciAddress::parse(&format!("0000:00:0{mac}.0")),
    };
    let mut vlan = card("enp1s0.7", 1);
    vlan.pci = None;
    let facts = |interfaces| Facts { interfaces: Some(interfaces), ..Facts::default() };

    let both = compile(&policy, &facts(vec![vlan.clone(), card("enp1s0", 1), card("enp2s0", 2)])).unwrap();
    let devices: Vec<_> = both.plan.interfaces.iter().map(|i| i.device.as_str()).collect();
    assert_eq!(devices, ["enp1s0", "enp2s0"]);
    assert_eq!(both.plan.scan.unwrap().devices, ScanDevices::Named(vec!["enp1s0".to_owned()]));

    let one = compile(&policy, &facts(vec![card("enp1s0", 1)])).unwrap();
    assert_eq!(one.plan.interfaces.len(), 1);
    assert_eq!(
        one.warnings[0].to_string(),
        "interface `lan` is not present; its rules wait until it appears"
    );

    let two = facts(vec![card("a", 1), card("b", 1)]);
    let errors: Vec<_> = compile(&policy, &two).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["interface `wan` fits several devices: a, b"]);
}

#[test]
fn two_interfaces_on_one_device_are_an_error_with_both_places() {
    let text = three_zones("").replace("interface dmz {", "interface dmz {\n    match pci=\"0000:00:01.0\"");
    let device = "wan".to_owned();
    let card = InterfaceFact { device, mac: None, pci: PciAddress::parse("0000:00:01.0") };
    let facts = Facts { interfaces: Some(vec![card]), ..Facts::default() };
    let errors = compile(&policy(&text), &facts).unwrap_err();
    assert_eq!(errors[0].to_string(), "interfaces `wan` and `dmz` are both the device wan");
    let report = crate::Report::new(crate::Source::new("p.kdl", &text), vec![errors[0].problem()]);
    let shown = report.render(crate::Theme::Plain);
    assert!(shown.contains("wan first") && shown.contains("wan again"), "{shown}");
}

#[test]
fn a_rule_that_can_never_match_is_an_error() {
    let text = three_zones(
        "set six {\n    entry \"fd00:1::9\"\n}\nrules from=home to=servers {\n    allow all from=six to=\"10.0.2.9\"\n}",
    );
    assert_eq!(
        errors(&text, &Facts::default()),
        ["no packet can match this rule: its addresses are empty or of different families"]
    );
}

#[test]
fn forwarding_is_on_only_when_something_passes_between_zones() {
    let forwards = |rules: &str| compiled(&three_zones(rules)).plan.sysctls[0].clone();
    let host = forwards("rules from=home to=self {\n    allow ping\n}");
    assert_eq!((host.path.as_str(), host.value.as_str()), ("net/ipv4/ip_forward", "0"));
    assert_eq!(forwards("rules from=home to=internet {\n    allow ping\n}").value, "1");
}

#[test]
fn the_scan_plan_spares_sets_own_addresses_and_gateways() {
    let text = three_zones(
        "set friends {\n    entry \"203.0.113.64/28\"\n}\nnat {\n    forward udp=\"27000-27001\" tcp=27015 in=wan to=\"10.0.2.40\"\n}\nscan {\n    interfaces wan\n    auto-block {\n        mode enforce\n        never friends\n    }\n}\nstatus {\n    listen tcp=9777 on=home\n}",
    );
    let facts = Facts { never_block: vec!["9.9.9.9".parse().unwrap()], ..Facts::default() };
    let scan = compile(&policy(&text), &facts).unwrap().plan.scan.unwrap();
    assert_eq!((scan.exposed_tcp, scan.exposed_udp), (vec![9777, 27015], vec![27000, 27001]));
    let never: Vec<_> = scan.auto_block.unwrap().never.iter().map(ToString::to_string).collect();
    for spared in ["9.9.9.9/32", "203.0.113.64/28", "192.0.2.1/32", "192.0.2.254/32", "2001:db8::1/128"] {
        assert!(never.iter().any(|net| net == spared), "{spared} is not in {never:?}");
    }
}

#[test]
fn every_pair_has_a_chain_of_its_own_even_when_names_have_dots() {
    let text = three_zones("rules from=home to=self {\n    allow ping\n}")
        .replace("zone servers", "zone home.self")
        + "rules from=home.self to=home {\n    allow ping\n}\nrules from=home to=home.self {\n    allow ping\n}\n";
    let chains = compiled(&text).plan.ruleset.tables.remove(0).chains;
    let mut names: Vec<_> = chains.iter().map(|chain| chain.name.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(
        names.contains(&"home.self")
            && names.contains(&"home..self.home")
            && names.contains(&"home.home..self")
    );
}

#[test]
fn a_log_never_changes_a_verdict() {
    let compiled = compiled(&three_zones(
        "rules from=internet to=self {\n    allow ping log=all\n    deny ssh log=sample id=watch\n}",
    ));
    let chain = |name: &str| -> Chain {
        compiled.plan.ruleset.tables[0].chains.iter().find(|c| c.name.as_str() == name).unwrap().clone()
    };
    let logs = |rule: &glacis_plan::nft::Rule| rule.statements.iter().any(|s| matches!(s, Statement::Log(_)));
    let rules = chain("internet.self").rules;
    for rule in rules.iter().filter(|rule| logs(rule)) {
        let limited = rule.statements.iter().any(|s| matches!(s, Statement::Limit(_)));
        let decides = rule.statements.iter().any(|s| matches!(s, Statement::Verdict(_)));
        assert_ne!(limited, decides, "{rule:?}");
    }
    assert_eq!(rules.iter().filter(|rule| logs(rule)).count(), 3);
}
