use super::*;
use crate::nft::{
    Atom, BasePolicy, ChainType, Datatype, Element, Hook, HookPoint, Quota, SetFlags, Statement, Verdict,
};
use std::net::Ipv4Addr;
use std::time::Duration;

const MAIN: Name = Name::literal("main");

fn ranges(first: u8) -> Elements {
    Elements::Ipv4Ranges(vec![(Ipv4Addr::new(first, 0, 0, 0), Ipv4Addr::new(first, 0, 0, 9))])
}

fn list(name: &'static str, elements: Elements) -> Set {
    let flags = SetFlags { interval: true, ..SetFlags::default() };
    Set { flags, elements, ..Set::new(Name::literal(name), [Datatype::Ipv4Addr]) }
}

fn bans() -> Set {
    let flags = SetFlags { timeout: true, ..SetFlags::default() };
    Set { flags, elements: Elements::Runtime, ..Set::new(Name::literal("bans"), [Datatype::Ipv4Addr]) }
}

fn verdicts() -> Set {
    let element = Element::atom(Atom::InetService(22)).verdict(Verdict::Jump(Name::literal("side")));
    Set {
        data: Some(MapData::Verdict),
        elements: Elements::List(vec![element]),
        ..Set::new(Name::literal("verdicts"), [Datatype::InetService])
    }
}

fn input(policy: BasePolicy) -> Chain {
    let hook = Hook { kind: ChainType::Filter, point: HookPoint::Input, priority: 0, device: None, policy };
    Chain { name: Name::literal("input"), hook: Some(hook), rules: vec![Rule::new([Statement::ACCEPT])] }
}

fn ruleset() -> Ruleset {
    let mut table = Table::new(Family::Inet, MAIN);
    table.sets = vec![bans(), list("geo", ranges(1)), list("lan", ranges(10)), verdicts()];
    table.chains =
        vec![Chain { name: Name::literal("side"), hook: None, rules: vec![] }, input(BasePolicy::Drop)];
    table.objects = vec![Object { name: Name::literal("hits"), kind: ObjectKind::Counter, comment: None }];
    Ruleset { tables: vec![table] }
}

fn changed(change: impl FnOnce(&mut Table)) -> Ruleset {
    let mut wanted = ruleset();
    change(&mut wanted.tables[0]);
    wanted
}

/// What a step does, short enough to compare.
fn brief(ops: &[Op]) -> Vec<String> {
    ops.iter()
        .map(|op| match op {
            Op::AddTable { .. } => "+table".to_owned(),
            Op::DeleteTable { .. } => "-table".to_owned(),
            Op::DeleteRules { .. } => "-rules".to_owned(),
            Op::AddObject { object, .. } => format!("+object {}", object.name),
            Op::DeleteObject { object, .. } => format!("-object {}", object.name),
            Op::AddSet { set, .. } => format!("+set {}", set.name),
            Op::DeleteSet { set, .. } => format!("-set {set}"),
            Op::FlushSet { set, .. } => format!("flush {set}"),
            Op::AddElements { set, .. } => format!("fill {}", set.name),
            Op::DeleteElements { set, .. } => format!("drain {}", set.name),
            Op::AddFlowtable { flowtable, .. } => format!("+flowtable {}", flowtable.name),
            Op::DeleteFlowtable { flowtable, .. } => format!("-flowtable {flowtable}"),
            Op::AddChain { chain, .. } => format!("+chain {}", chain.name),
            Op::DeleteChain { chain, .. } => format!("-chain {chain}"),
            Op::AddRule { chain, .. } => format!("+rule {chain}"),
        })
        .collect()
}

const DECLARED: [&str; 7] =
    ["+object hits", "+chain side", "+chain input", "+set bans", "+set geo", "+set lan", "+set verdicts"];

#[test]
fn equal_rulesets_need_no_step() {
    assert_eq!(between(Some(&ruleset()), &ruleset()), []);
}

#[test]
fn only_the_elements_of_a_changed_set_are_sent() {
    let wanted = changed(|table| table.sets[1].elements = ranges(2));
    let steps = [&["+table", "-rules", "flush geo"], &DECLARED[..], &["fill geo", "+rule input"]].concat();
    assert_eq!(brief(&between(Some(&ruleset()), &wanted)), steps);
}

#[test]
fn a_changed_rule_sends_no_elements() {
    let wanted = changed(|table| table.chains[1].rules = vec![Rule::new([Statement::DROP])]);
    let steps = [&["+table", "-rules"], &DECLARED[..], &["+rule input"]].concat();
    assert_eq!(brief(&between(Some(&ruleset()), &wanted)), steps);
}

#[test]
fn a_set_of_another_type_is_made_anew() {
    let wanted = changed(|table| {
        table.sets[0].key = vec![Datatype::Ipv6Addr];
        table.sets[2].flags.interval = false;
    });
    let ops = between(Some(&ruleset()), &wanted);
    let steps = [&["+table", "-rules", "-set bans", "-set lan"], &DECLARED[..], &["fill lan", "+rule input"]]
        .concat();
    assert_eq!(brief(&ops), steps);
    let emptied: Vec<&str> =
        emptied(&ops, &ruleset().tables).iter().map(|(_, _, set)| set.name.as_str()).collect();
    assert_eq!(emptied, ["bans"]);
}

#[test]
fn runtime_sets_keep_their_elements_over_timeout_size_and_comment() {
    let wanted = changed(|table| {
        table.sets[0].timeout = Some(Duration::from_secs(60));
        table.sets[0].size = Some(9);
        table.sets[0].comment = Some("bans".to_owned());
    });
    let ops = between(Some(&ruleset()), &wanted);
    assert!(!brief(&ops).iter().any(|step| step.contains("-set") || step.contains("flush")), "{ops:?}");
    assert_eq!(emptied(&ops, &ruleset().tables), []);
}

#[test]
fn verdict_maps_let_go_of_a_chain_before_it_is_deleted() {
    let wanted = changed(|table| {
        table.chains.remove(0);
        table.sets[3].elements = Elements::List(vec![]);
    });
    let steps = brief(&between(Some(&ruleset()), &wanted));
    let at =
        |step: &str| steps.iter().position(|s| s == step).unwrap_or_else(|| panic!("no {step} in {steps:?}"));
    assert!(at("-rules") < at("flush verdicts") && at("flush verdicts") < at("-chain side"));
}

#[test]
fn a_verdict_map_is_refilled_when_any_chain_is_remade() {
    let wanted = changed(|table| table.chains[1].hook.as_mut().unwrap().priority = 5);
    let steps = brief(&between(Some(&ruleset()), &wanted));
    for step in ["flush verdicts", "-chain input", "+chain input", "fill verdicts"] {
        assert!(steps.iter().any(|s| s == step), "no {step} in {steps:?}");
    }
    assert!(!steps.contains(&"-chain side".to_owned()));
}

#[test]
fn a_policy_changes_in_place() {
    let wanted = changed(|table| table.chains[1] = input(BasePolicy::Accept));
    assert!(!brief(&between(Some(&ruleset()), &wanted)).iter().any(|s| s.starts_with("-chain")));
}

#[test]
fn a_constant_set_is_made_anew_when_its_elements_change() {
    let loaded = changed(|table| table.sets[1].flags.constant = true);
    let wanted = changed(|table| {
        table.sets[1].flags.constant = true;
        table.sets[1].elements = ranges(2);
    });
    let steps = brief(&between(Some(&loaded), &wanted));
    assert!(steps.contains(&"-set geo".to_owned()) && steps.contains(&"fill geo".to_owned()), "{steps:?}");
    assert!(!steps.contains(&"flush geo".to_owned()), "{steps:?}");
}

#[test]
fn objects_are_made_anew_when_their_parameters_change() {
    let quota = |bytes| ObjectKind::Quota(Quota { bytes, over: true });
    let loaded = changed(|table| table.objects[0].kind = quota(1));
    let wanted = changed(|table| table.objects[0].kind = quota(2));
    assert!(brief(&between(Some(&loaded), &wanted)).contains(&"-object hits".to_owned()));
}

#[test]
fn tables_that_are_not_wanted_go() {
    assert_eq!(brief(&between(Some(&ruleset()), &Ruleset::default())), ["+table", "-table"]);
}

#[test]
fn with_nothing_known_static_sets_are_flushed_and_runtime_sets_kept() {
    let ops = between(None, &ruleset());
    let fills =
        ["flush geo", "fill geo", "flush lan", "fill lan", "flush verdicts", "fill verdicts", "+rule input"];
    assert_eq!(brief(&ops), [&["+table", "-rules"], &DECLARED[..], &fills].concat());
    assert_eq!(emptied(&ops, &[]).len(), 1);
}

/// The structure as an inventory has it.
fn found(ruleset: &Ruleset) -> Inventory {
    let mut tables = ruleset.tables.clone();
    for table in &mut tables {
        table.chains.iter_mut().for_each(|chain| chain.rules.clear());
        table.sets.iter_mut().for_each(|set| set.elements = Elements::Runtime);
    }
    Inventory { tables, foreign: vec![] }
}

#[test]
fn an_inventory_clears_what_is_not_wanted_and_keeps_bans() {
    let old = changed(|table| {
        table.sets.push(list("old", ranges(7)));
        table.chains.push(Chain { name: Name::literal("old-chain"), hook: None, rules: vec![] });
    });
    let inventory = found(&old);
    let ops = onto(&inventory, &ruleset());
    let removed =
        ["+table", "-rules", "flush geo", "flush lan", "flush verdicts", "-set old", "-chain old-chain"];
    let fills = ["fill geo", "fill lan", "fill verdicts", "+rule input"];
    assert_eq!(brief(&ops), [&removed[..], &DECLARED[..], &fills].concat());
    assert_eq!(emptied(&ops, &inventory.tables), []);
}

#[test]
fn a_table_that_someone_wrote_into_is_made_anew() {
    let inventory = Inventory { tables: vec![], foreign: vec![(Family::Inet, MAIN)] };
    let ops = onto(&inventory, &ruleset());
    assert_eq!(brief(&ops)[..3], ["+table", "-table", "+table"]);
    assert_eq!(emptied(&ops, &inventory.tables).len(), 1);
}
