//! What a policy says of scans, as the plan has it.

use crate::simulate::run_expects;
use crate::{Compiled, Facts, compile, parse};
use glacis_plan::{
    AutoBlock, AutoBlockMode, DistinctLimit, EstablishedFlows, EvidenceRule, GeoipKind, Ladder, ScanDevices,
    ScanPlan, Shapes, SourceGroup,
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// One interface of one zone, and the nodes given.
fn compiled(nodes: &str) -> Compiled {
    let text = format!("policy version=1\ninterface wan\nzone internet {{ from wan }}\n{nodes}");
    let policy = parse("p.kdl", text.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
    compile(&policy, &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn scan(nodes: &str) -> ScanPlan {
    compiled(nodes).plan.scan.expect("the policy has a `scan`")
}

fn auto_block(words: &str) -> AutoBlock {
    scan(&format!("scan {{ auto-block {{ {words} }} }}")).auto_block.expect("the policy has an `auto-block`")
}

fn never(nodes: &str) -> Vec<String> {
    let block = scan(&format!("{nodes}\nscan {{ auto-block }}")).auto_block;
    block.expect("the policy has an `auto-block`").never.iter().map(ToString::to_string).collect()
}

const fn limit(count: u16, within: Duration) -> DistinctLimit {
    DistinctLimit { count, within }
}

#[test]
fn a01_scan_awareness_is_off_unless_named_and_blocks_nobody_by_itself() {
    assert_eq!(compiled("").plan.scan, None);
    let watching = ScanPlan {
        devices: ScanDevices::Outward,
        retention: 30 * DAY,
        exposed_tcp: vec![],
        exposed_udp: vec![],
        stealth: true,
        shapes: Shapes::default(),
        auto_block: None,
    };
    assert_eq!(scan("scan"), watching);
}

#[test]
fn an_auto_block_without_a_word_has_the_defaults_that_are_documented() {
    let defaults = AutoBlock {
        mode: AutoBlockMode::Enforce,
        evidence: EvidenceRule::SpoofProof,
        threshold: 100,
        window: 5 * MINUTE,
        duration: None,
        ladder: None,
        group: SourceGroup { v4: 32, v6: 64 },
        never: vec![],
        established: EstablishedFlows::Keep,
    };
    assert_eq!(auto_block(""), defaults);
    assert_eq!(
        auto_block("evidence any; duration \"90m\"; drop-established #true"),
        AutoBlock {
            evidence: EvidenceRule::Any,
            duration: Some(90 * MINUTE),
            established: EstablishedFlows::Drop,
            ..defaults
        }
    );
}

#[test]
fn a27_shapes_are_looked_for_where_they_are_named() {
    assert_eq!(scan("scan { stealth #false }").shapes, Shapes::default());
    assert!(!scan("scan { stealth #false }").stealth);
    let named_alone = Shapes {
        vertical: Some(limit(15, MINUTE)),
        horizontal: Some(limit(20, MINUTE)),
        slow: Some(limit(40, 6 * HOUR)),
    };
    assert_eq!(scan("scan { vertical; horizontal; slow }").shapes, named_alone);
    let ends = Shapes {
        vertical: Some(limit(2, Duration::from_secs(10))),
        horizontal: Some(limit(1_000, DAY)),
        slow: Some(limit(3, 6 * HOUR)),
    };
    let text = "scan { vertical ports=2 within=\"10s\"; horizontal hosts=1000 within=\"1d\"; slow ports=3 }";
    assert_eq!(scan(text).shapes, ends);
}

#[test]
fn a31_the_first_step_of_a_ladder_is_how_long_a_first_block_lasts() {
    let block = auto_block("ladder \"1h\" \"24h\" \"0\" forgive=\"365d\"");
    assert_eq!(block.duration, Some(HOUR));
    let steps = vec![Some(HOUR), Some(DAY), None];
    assert_eq!(block.ladder, Some(Ladder { steps, forgive: 365 * DAY }));
    let ladder = auto_block("ladder \"1s\" \"87600h\"").ladder.expect("it was named");
    assert_eq!(ladder.forgive, 30 * DAY);
}

#[test]
fn a16_whoever_may_administrate_is_never_auto_blocked() {
    let rules = |rules: &str| {
        never(&format!(
            "service admin {{ tcp 2222; udp 51820 }}
             set office {{ entry \"198.51.100.0/28\"; entry \"2001:db8:7::/48\" }}
             rules from=internet to=self {{ {rules} }}"
        ))
    };
    let office = ["198.51.100.0/28", "2001:db8:7::/48"];
    for opened in ["ssh", "tcp=22", "tcp=\"20-30\"", "admin", "tcp=2222", "udp=51820", "ping ssh", "all"] {
        assert_eq!(rules(&format!("allow {opened} from=office")), office, "{opened}");
    }
    for other in ["deny ssh from=office", "allow ssh", "allow tcp=23 from=office", "allow udp=22 from=office"]
    {
        assert_eq!(rules(other), [""; 0], "{other}");
    }
    assert_eq!(rules("allow ssh from=\"203.0.113.4-203.0.113.6\""), ["203.0.113.4/31", "203.0.113.6/32"]);
    // Whoever reaches a host behind us does not administrate us.
    let elsewhere = "set office { entry \"198.51.100.7\" }\ninterface lan\nzone home { from lan }
        rules from=internet to=home { allow ssh from=office }";
    assert_eq!(never(elsewhere), [""; 0]);
}

#[test]
fn an_expectation_knows_who_is_never_blocked() {
    let text = |address: &str| {
        format!(
            "policy version=1\ninterface wan\nzone internet {{ from wan }}
             rules from=internet to=self {{ allow ssh from=\"198.51.100.7\" }}
             scan {{ auto-block }}\nexpect never-blocked \"{address}\""
        )
    };
    let fails = |address| {
        let policy = parse("p.kdl", text(address).as_bytes()).unwrap_or_else(|report| panic!("{report}"));
        let compiled = compile(&policy, &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
        run_expects(&policy, &compiled).len()
    };
    for spared in ["198.51.100.7", "127.0.0.1", "::1", "0.0.0.0", "::"] {
        assert_eq!(fails(spared), 0, "{spared}");
    }
    assert_eq!(fails("198.51.100.8"), 1);
}

#[test]
fn a_rule_that_makes_half_the_world_administrators_is_a_warning() {
    let warnings = |from: &str| {
        let rule =
            format!("rules from=internet to=self {{ allow ssh from=\"{from}\" }}\nscan {{ auto-block }}");
        compiled(&rule).warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = "nobody in 0.0.0.0/1 is ever auto-blocked: this rule lets them administrate";
    assert_eq!(warnings("0.0.0.0/1"), [told]);
    assert_eq!(warnings("2000::/15").len(), 1);
    assert_eq!(warnings("10.0.0.0/8"), [""; 0]);
    assert_eq!(warnings("2000::/16"), [""; 0]);
}

#[test]
fn a11_databases_come_in_the_order_of_their_kinds() {
    let geoip = compiled("geoip { asn \"/var/lib/ASN.mmdb\"; city \"../City.mmdb\" }").plan.geoip;
    let named: Vec<_> = geoip.iter().map(|file| (file.kind, file.path.to_str().unwrap())).collect();
    assert_eq!(named, [(GeoipKind::City, "../City.mmdb"), (GeoipKind::Asn, "/var/lib/ASN.mmdb")]);
    assert!(compiled("").plan.geoip.is_empty());
}

#[test]
fn masqueraded_ports_are_watched_like_any_other() {
    let text = "nat { masquerade internet out=wan }\nstatus { listen tcp=9777 on=internet }\nscan";
    let scan = scan(text);
    assert_eq!((scan.exposed_tcp, scan.exposed_udp), (vec![9777], vec![]));
}
