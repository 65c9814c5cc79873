//! What a policy says of gates, as the plan has it.

use crate::{Compiled, Facts, InterfaceFact, compile, parse};
use glacis_plan::GatePlan;
use glacis_plan::gate::{
    Backend, Budget, Deny, Exhausted, FastPath, FastPathEstablished, FastPathSource, GateMode, GateProtocol,
    HealthCheck, NameRoute, Pool, Prove, ProxyVersion, Remember,
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const AROUND: &str = r#"policy version=1
interface wan { address "192.0.2.1/24"; address "2001:db8::1/64" }
interface backup
interface lan { address "10.10.0.1/24" }
zone internet { from wan backup }
zone home { from lan }
set admins { entry "198.51.100.7"; entry "198.51.100.6"; entry "10.99.0.1-10.99.0.2" }
geoip { city "City.mmdb" }
"#;

fn compiled(nodes: &str, facts: &Facts) -> Result<Compiled, Vec<String>> {
    let policy = parse("p.kdl", format!("{AROUND}{nodes}").as_bytes());
    let policy = policy.unwrap_or_else(|report| panic!("{report}"));
    compile(&policy, facts).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn gates(nodes: &str) -> Vec<GatePlan> {
    let compiled = compiled(nodes, &Facts::default());
    compiled.unwrap_or_else(|errors| panic!("{errors:?}")).plan.gates
}

/// A gate on port 443 of `wan` that says `words` besides.
fn saying(words: &str) -> GatePlan {
    let mut gates = gates(&format!("reverse-scan shop {{ listen tcp=443 on=wan; {words} }}"));
    gates.pop().expect("the policy has a gate")
}

/// A gate with a backend.
fn gate(words: &str) -> GatePlan {
    saying(&format!("backend \"10.10.0.30:443\"; {words}"))
}

fn refused(words: &str) -> Vec<String> {
    let text = format!("reverse-scan shop {{ listen tcp=443 on=wan; backend \"10.10.0.30\"; {words} }}");
    compiled(&text, &Facts::default()).expect_err("an error")
}

fn backend(address: &str) -> Backend {
    Backend { address: address.parse().unwrap(), weight: 1, proxy_protocol: None }
}

fn shown<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn b01_there_is_no_gate_unless_one_is_named() {
    assert_eq!(gates(""), []);
}

#[test]
fn a_gate_of_two_words_has_the_defaults_that_are_documented() {
    let line = AROUND.lines().count() as u32 + 1;
    let defaults = GatePlan {
        name: "shop".to_owned(),
        line,
        port: 443,
        devices: vec!["wan".to_owned()],
        protocol: GateProtocol::Tcp,
        fronts: None,
        pools: vec![Pool { backends: vec![backend("10.10.0.30:443")] }],
        routes: vec![],
        routes_only: false,
        health: Some(HealthCheck {
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        }),
        idle: HOUR,
        ports: vec![22, 80, 443, 3128, 8000, 8080],
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
    };
    assert_eq!(gate(""), defaults);
}

#[test]
fn b02_ports_of_the_client_are_a_list_that_comes_ascending() {
    assert_eq!(gate("ports 8080 22 65535 1").ports, [1, 22, 8080, 65_535]);
    let most: Vec<u16> = (1_000..1_064).collect();
    assert_eq!(gate(&format!("ports {}", shown(&most).join(" "))).ports, most);
}

#[test]
fn b03_presets_are_those_of_the_reference() {
    let preset = |words: &str| {
        let gate = gate(words);
        (gate.ports, gate.timeout.as_millis())
    };
    assert_eq!(preset("preset basic"), (vec![80, 443, 8080], 500));
    let comprehensive = vec![22, 80, 443, 1080, 3128, 3333, 8000, 8080, 8081, 8888];
    assert_eq!(preset("preset comprehensive"), (comprehensive.clone(), 1_000));
    assert_eq!(preset("preset fast"), (vec![80, 443, 8080], 250));
    let high = vec![
        22, 25, 80, 443, 1080, 3128, 3333, 4444, 5555, 6588, 6666, 7777, 8000, 8080, 8081, 8800, 8888, 9999,
    ];
    assert_eq!(preset("preset high"), (high, 1_500));
    assert_eq!(preset("preset comprehensive; timeout \"300ms\""), (comprehensive, 300));
}

#[test]
fn b04_the_timeout_of_a_port_is_10_ms_to_10_s() {
    assert_eq!(gate("timeout \"10ms\"").timeout, Duration::from_millis(10));
    assert_eq!(gate("timeout \"10s\"").timeout, Duration::from_secs(10));
}

#[test]
fn b07_what_proves_is_an_open_port_or_a_proxy() {
    assert_eq!(gate("prove open").prove, Prove::Open);
    assert_eq!(gate("prove proxy").prove, Prove::Proxy);
}

#[test]
fn b08_verdicts_are_remembered_from_a_minute_to_thirty_days() {
    let remember = gate("remember clean=\"1m\" open=\"30d\"").remember;
    assert_eq!(remember, Remember { clean: MINUTE, open: 30 * DAY });
    assert_eq!(gate("remember open=\"2h\"").remember, Remember { clean: DAY, open: 2 * HOUR });
}

#[test]
fn b09_the_budget_has_bounds_and_says_what_comes_then() {
    let least = Budget { in_flight: 64, per_second: 1, then: Exhausted::Refuse };
    assert_eq!(gate("budget in-flight=64 per-second=1 then=refuse").budget, least);
    let most = Budget { in_flight: 10_000, per_second: 10_000, then: Exhausted::Admit };
    assert_eq!(gate("budget in-flight=10000 per-second=10000").budget, most);
}

#[test]
fn b10_http_clients_are_shown_a_page_and_others_are_closed() {
    let page = |status, notice: Option<&str>, contact: Option<&str>| Deny::Page {
        status,
        notice: notice.map(str::to_owned),
        contact: contact.map(str::to_owned),
    };
    assert_eq!(gate("protocol http").deny, page(403, None, None));
    assert_eq!(gate("protocol http; deny close").deny, Deny::Close);
    assert_eq!(gate("protocol tls; deny close").deny, Deny::Close);
    let words = "deny status=599 notice=\"https://example.org/why?a=b\" contact=\"noc@example.org\"";
    let full = page(599, Some("https://example.org/why?a=b"), Some("noc@example.org"));
    assert_eq!(gate(&format!("protocol http; {words}")).deny, full);
    let ours = page(403, None, Some("Jörg, room 4"));
    assert_eq!(gate("protocol http; deny contact=\"Jörg, room 4\"").deny, ours);
}

#[test]
fn b11_names_lead_to_pools_of_their_own() {
    let gate = gate(
        "protocol tls
         route \"A.example.org\" \"*.b.example.org\" { backend \"10.10.0.4\" weight=10; backend \"10.10.0.5:8443\" }
         route \"*.example.org\" { backend \"[2001:db8:1::4]:443\" proxy-protocol=1 }",
    );
    assert_eq!(gate.pools[0].backends, [backend("10.10.0.30:443")]);
    let weighted = Backend { weight: 10, ..backend("10.10.0.4:443") };
    assert_eq!(gate.pools[1].backends, [weighted, backend("10.10.0.5:8443")]);
    let told = Backend { proxy_protocol: Some(ProxyVersion::V1), ..backend("[2001:db8:1::4]:443") };
    assert_eq!(gate.pools[2].backends, [told]);
    let route = |names: &[&str], pool| NameRoute { names: shown(names), pool };
    assert_eq!(gate.routes, [route(&["a.example.org", "*.b.example.org"], 1), route(&["*.example.org"], 2)]);
    assert!(!gate.routes_only);
}

#[test]
fn b11_with_routes_only_every_pool_is_a_routes() {
    let gate = saying("protocol tls; routes-only #true; route \"a.example.org\" { backend \"10.10.0.4\" }");
    assert_eq!(gate.pools, [Pool { backends: vec![backend("10.10.0.4:443")] }]);
    assert_eq!(gate.routes[0].pool, 0);
    assert!(gate.routes_only);
}

#[test]
fn b12_a_gate_that_detects_blocks_nobody() {
    let words = "on-open block=\"24h\"";
    assert_eq!(gate(words).on_open.unwrap().block, Some(DAY));
    let detecting = gate(&format!("mode detect; {words}"));
    assert_eq!((detecting.mode, detecting.on_open), (GateMode::Detect, None));
}

#[test]
fn b13_who_is_ignored_is_written_out() {
    let gate = gate(
        "ignore admins \"203.0.113.0/25\" \"203.0.113.128/25\" country=\"SE\"
         ignore \"2001:db8:7::/48\" country=\"DE\"
         private #true",
    );
    let ignored = ["10.99.0.1/32", "10.99.0.2/32", "198.51.100.6/31", "203.0.113.0/24", "2001:db8:7::/48"];
    assert_eq!(shown(&gate.ignore), ignored);
    assert_eq!(gate.ignore_countries, ["DE", "SE"]);
    assert!(gate.private);
}

#[test]
fn a_gate_that_ignores_one_family_looks_at_the_other_and_one_that_ignores_both_is_refused() {
    assert_eq!(shown(&gate("ignore \"::/0\"").ignore), ["::/0"]);
    assert_eq!(refused("ignore \"::/0\" \"0.0.0.0/1\" \"128.0.0.0/1\""), ["nobody is ever looked at"]);
}

#[test]
fn b19_a_block_may_be_for_ever() {
    assert_eq!(gate("on-open block=\"0\"").on_open.unwrap().block, None);
    assert_eq!(gate("on-open block=\"87600h\"").on_open.unwrap().block, Some(87_600 * HOUR));
}

#[test]
fn b19_whoever_the_host_needs_is_never_blocked() {
    let mut gates = gates(
        "rules from=internet to=self { allow ssh from=admins }
         reverse-scan shop { listen tcp=443 on=wan; backend \"10.10.0.30\"; on-open block=\"24h\"
             accept-proxy from=\"203.0.113.16/28\" }",
    );
    let never = shown(&gates.pop().unwrap().on_open.unwrap().never);
    for spared in [
        "198.51.100.6/31",
        "10.99.0.1/32",
        "192.0.2.1/32",
        "10.10.0.1/32",
        "203.0.113.16/28",
        "10.10.0.30/32",
    ] {
        assert!(never.iter().any(|net| net == spared), "{spared} is not in {never:?}");
    }
}

#[test]
fn b20_the_fast_path_is_on_where_the_kernel_can_do_the_gates_work() {
    for fits in [
        "backend \"10.10.0.30\"",
        "protocol tls; backend \"10.10.0.30\"",
        "protocol http; backend \"10.10.0.30\"; backend \"[2001:db8:1::4]:80\" weight=3",
    ] {
        assert!(saying(fits).fast_path.is_some(), "{fits}");
    }
    for not in [
        "protocol tls; backend \"10.10.0.30\"; route \"a.example.org\" { backend \"10.10.0.4\" }",
        "backend \"10.10.0.30\"; backend \"10.10.0.31\" proxy-protocol=2",
        "backend \"10.10.0.30\"; accept-proxy from=\"10.0.0.1\"",
        "backend \"127.0.0.1:8443\"",
        "backend \"10.10.0.1:8443\"",
        "backend \"10.10.0.30\"; fast-path #false",
    ] {
        assert_eq!(saying(not).fast_path, None, "{not}");
    }
    let asked = FastPath { source: FastPathSource::Client, established: FastPathEstablished::Drop };
    assert_eq!(gate("fast-path source=client established=drop").fast_path, Some(asked));
    assert_eq!(gate("fast-path #true source=client established=drop").fast_path, Some(asked));
}

#[test]
fn b21_backends_are_checked_as_the_policy_says() {
    assert_eq!(gate("health #false").health, None);
    let health = |words: &str| gate(&format!("health {words}")).health.unwrap();
    let ends = HealthCheck {
        every: Duration::from_millis(500),
        timeout: Duration::from_millis(500),
        fall: 1,
        rise: 10,
    };
    // Without a word of it, the timeout is never longer than the time between two checks.
    assert_eq!(health("every=\"500ms\" fall=1 rise=10"), ends);
    assert_eq!(health("every=\"5m\" timeout=\"30s\"").timeout, Duration::from_secs(30));
    assert_eq!(health("timeout=\"2s\"").timeout, Duration::from_secs(2));
}

#[test]
fn proxies_in_front_are_written_out_and_never_everybody() {
    let gate = gate("accept-proxy from=\"10.0.0.0/28\"; accept-proxy from=admins");
    let fronts = ["10.0.0.0/28", "10.99.0.1/32", "10.99.0.2/32", "198.51.100.6/31"];
    assert_eq!(shown(&gate.fronts.expect("the gate has fronts")), fronts);
    assert_eq!(refused("accept-proxy from=\"0.0.0.0/0\""), ["everybody may say which client they are"]);
}

#[test]
fn a_relayed_connection_may_idle_from_ten_seconds_to_seven_days() {
    assert_eq!(gate("idle \"10s\"").idle, Duration::from_secs(10));
    assert_eq!(gate("idle \"7d\"").idle, 7 * DAY);
}

#[test]
fn doors_are_zones_and_interfaces_and_lead_to_the_devices_that_are_present() {
    let gates = |listeners: &str, present: Option<&[&str]>| {
        let interfaces = present.map(|devices| {
            let fact = |device: &&str| InterfaceFact { device: (*device).to_owned(), mac: None, pci: None };
            devices.iter().map(fact).collect()
        });
        let text = format!("reverse-scan shop {{ {listeners}; backend \"10.10.0.30\" }}");
        let compiled = compiled(&text, &Facts { interfaces, ..Facts::default() });
        compiled.unwrap_or_else(|errors| panic!("{errors:?}")).plan.gates
    };
    let both = "listen tcp=443 on=internet; listen tcp=443 on=lan";
    assert_eq!(gates(both, None)[0].devices, ["wan", "backup", "lan"]);
    assert_eq!(gates(both, Some(&["lan", "wan"]))[0].devices, ["wan", "lan"]);
    assert_eq!(gates("listen tcp=443 on=internet", Some(&["lan"])), []);
}

#[test]
fn gates_come_in_the_order_of_the_file_with_their_lines() {
    let two = "reverse-scan b { listen tcp=2 on=wan; backend \"10.10.0.2\" }\n\n\
               reverse-scan a_-1 { listen tcp=1 on=wan; backend \"10.10.0.3\" }";
    let first = AROUND.lines().count() as u32 + 1;
    let named: Vec<_> = gates(two).into_iter().map(|gate| (gate.name, gate.line, gate.port)).collect();
    assert_eq!(named, [("b".to_owned(), first, 2), ("a_-1".to_owned(), first + 2, 1)]);
}
