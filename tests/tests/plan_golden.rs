//! Golden plans: each folder of `tests/plan` holds a policy, what a host has, what must change and the ruleset.
//!
//! `GLACIS_BLESS=1` writes what the compiler says now; read the difference before committing it.
//! A case without `policy.kdl` takes the shipped one. `observed.json` may name the policy whose ruleset is
//! loaded; without the file nothing is there.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_plan::changes::{ObservedAddress, ObservedRoute};
use glacis_plan::nft::{Inventory, text};
use glacis_plan::{Changes, Observed, ObservedLink, Plan, RoutePlan, Sysctl, describe};
use glacis_policy::simulate::run_expects;
use glacis_policy::{Compiled, Facts, Policy, compile, parse};
use glacis_tests::netns::Namespace;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plan")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 4, "cases are missing from {}", root().display());
    cases
}

fn compiled(path: &Path) -> (Policy, Compiled) {
    let bytes = fs::read(path).unwrap();
    let policy = parse(&path.to_string_lossy(), &bytes).unwrap_or_else(|report| panic!("{report}"));
    let folder = path.parent().unwrap();
    let read = |name: &str| fs::read(folder.join(name)).map_err(|error| error.to_string());
    let lists = policy.blocklists.iter().map(|list| (list.file.value.clone(), read(&list.file)));
    let facts = Facts { lists: lists.collect(), ..Facts::default() };
    let compiled = compile(&policy, &facts).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
    (policy, compiled)
}

fn policy_of(case: &Path) -> (Policy, Compiled) {
    let own = case.join("policy.kdl");
    let shipped = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy.kdl");
    compiled(&if own.exists() { own } else { shipped() })
}

fn observed(case: &Path) -> Observed {
    let Ok(bytes) = fs::read(case.join("observed.json")) else { return Observed::default() };
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let loaded = json["policy"].as_str().map(|file| compiled(&case.join(file)).1.plan);
    let named = json["sysctls"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, value)| Sysctl { path: path.clone(), value: value.as_str().unwrap().to_owned() });
    let mut sysctls: Vec<_> = named.collect();
    sysctls.extend(loaded.iter().flat_map(|plan| plan.sysctls.clone()));
    Observed {
        links: json["links"].as_array().into_iter().flatten().map(link).collect(),
        ruleset: loaded.map(|plan| plan.ruleset),
        sysctls,
    }
}

fn link(json: &Value) -> ObservedLink {
    let list = |key: &str| json[key].as_array().cloned().unwrap_or_default();
    ObservedLink {
        device: json["device"].as_str().unwrap().to_owned(),
        mtu: u32::try_from(json["mtu"].as_u64().unwrap()).unwrap(),
        up: json["up"].as_bool().unwrap(),
        addresses: list("addresses")
            .iter()
            .map(|a| ObservedAddress {
                net: a["net"].as_str().unwrap().parse().unwrap(),
                ours: a["ours"].as_bool().unwrap(),
            })
            .collect(),
        routes: list("routes")
            .iter()
            .map(|r| ObservedRoute {
                route: RoutePlan {
                    destination: r["destination"].as_str().unwrap().parse().unwrap(),
                    gateway: r["gateway"].as_str().map(|gateway| gateway.parse().unwrap()),
                    metric: None,
                },
                ours: r["ours"].as_bool().unwrap(),
            })
            .collect(),
        ..ObservedLink::default()
    }
}

fn changes_text(plan: &Plan, observed: &Observed) -> String {
    let changes = Changes::between(plan, observed, &Inventory::default());
    let lines = describe(&changes, observed.ruleset.as_ref(), plan);
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// Compares with the committed text, or writes it.
fn golden(path: &Path, text: &str) -> Result<(), String> {
    if std::env::var_os("GLACIS_BLESS").is_some() {
        fs::write(path, text).unwrap();
        return Ok(());
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    let differs = wanted.lines().zip(text.lines()).position(|(a, b)| a != b);
    match differs {
        _ if wanted == text => Ok(()),
        Some(line) => Err(format!(
            "{} line {}:\n  committed {}\n  now       {}",
            path.display(),
            line + 1,
            wanted.lines().nth(line).unwrap_or_default(),
            text.lines().nth(line).unwrap_or_default(),
        )),
        None => Err(format!("{} has another length", path.display())),
    }
}

#[test]
fn plans_are_as_committed() {
    let mut differences = Vec::new();
    for case in cases() {
        let plan = policy_of(&case).1.plan;
        differences.extend(golden(&case.join("ruleset.nft"), &text::render(&plan.ruleset)).err());
        differences.extend(golden(&case.join("changes.txt"), &changes_text(&plan, &observed(&case))).err());
    }
    assert!(differences.is_empty(), "{}\nGLACIS_BLESS=1 writes them anew", differences.join("\n"));
}

#[test]
fn expectations_of_every_case_hold() {
    for case in cases() {
        let (policy, compiled) = policy_of(&case);
        let failures: Vec<_> = run_expects(&policy, &compiled).iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{}: {failures:?}", case.display());
    }
}

#[test]
fn a_host_that_is_as_planned_needs_no_change() {
    for case in cases() {
        let plan = policy_of(&case).1.plan;
        let links = plan.interfaces.iter().map(|interface| ObservedLink {
            device: interface.device.clone(),
            mtu: interface.mtu.unwrap_or(1500),
            up: true,
            addresses: interface
                .addressing
                .iter()
                .filter_map(|addressing| match addressing {
                    glacis_plan::Addressing::Static(net) => Some(ObservedAddress { net: *net, ours: true }),
                    glacis_plan::Addressing::Dhcp4 => None,
                })
                .collect(),
            routes: interface
                .routes
                .iter()
                .map(|route| ObservedRoute { route: *route, ours: true })
                .collect(),
            ..ObservedLink::default()
        });
        let observed = Observed {
            links: links.collect(),
            ruleset: Some(plan.ruleset.clone()),
            sysctls: plan.sysctls.clone(),
        };
        assert_eq!(changes_text(&plan, &observed), "", "{}", case.display());
    }
}

#[test]
fn nft_takes_every_ruleset() {
    let namespace = Namespace::new("golden");
    for case in cases() {
        let ruleset = text::render(&policy_of(&case).1.plan.ruleset);
        let mut nft = namespace.command(["nft", "-c", "-f", "-"]);
        let mut child = nft.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&output.stderr));
    }
}
