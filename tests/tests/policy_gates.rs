//! The shipped example of a gate, and the one that fuzzing begins with, are what they look like.

use glacis_plan::GatePlan;
use glacis_policy::simulate::run_expects;
use glacis_policy::{Facts, Theme, compile, parse};

const SHIPPED: &str = include_str!("../../policy.kdl");
const FUZZED: &str = include_str!("../../fuzz/corpus/policy/gate");
/// What takes the shipped gate out.
const TAKEN_OUT: &str = "/- reverse-scan";

fn gates(text: &str) -> Vec<GatePlan> {
    let policy = parse("p.kdl", text.as_bytes()).unwrap_or_else(|r| panic!("{}", r.render(Theme::Plain)));
    let compiled = compile(&policy, &Facts::default()).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(run_expects(&policy, &compiled), []);
    compiled.plan.gates
}

#[test]
fn b01_the_shipped_gate_is_off_and_only_waits_to_be_let_in() {
    assert_eq!(gates(SHIPPED), []);
    assert_eq!(SHIPPED.matches(TAKEN_OUT).count(), 1, "the shipped policy has an example of a gate");
    let [shop] = gates(&SHIPPED.replace(TAKEN_OUT, "reverse-scan")).try_into().unwrap();
    assert_eq!((shop.name.as_str(), shop.port, shop.ports.len()), ("shop", 443, 10));
    assert!(shop.fast_path.is_some());
    assert_eq!(shop.ignore.len(), 2);
}

#[test]
fn the_gates_that_fuzzing_begins_with_are_right() {
    let named: Vec<_> = gates(FUZZED).into_iter().map(|gate| gate.name).collect();
    assert_eq!(named, ["shop", "web"]);
}
