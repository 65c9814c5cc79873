//! What our encoder loads is what `nft` loads: of our rendered text, and of the same rules written by hand.
//!
//! Compared are the listing without state, and the listing of the kernel's expressions and elements.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

#[path = "../fixtures/nft/corners.rs"]
mod corners;
#[path = "../fixtures/nft/features.rs"]
mod features;
#[path = "../fixtures/nft/words.rs"]
mod words;

use glacis_netlink::nft::Connection;
use glacis_plan::nft::{Ruleset, between, text};
use glacis_tests::netns::Namespace;
use std::io::Write;
use std::process::Stdio;

#[test]
fn every_feature_loads_as_nft_loads_it() {
    agree(&features::features(), include_str!("../fixtures/nft/features.nft"));
}

#[test]
fn corner_cases_load_as_nft_loads_them() {
    agree(&corners::corners(), include_str!("../fixtures/nft/corners.nft"));
}

#[test]
fn the_drop_all_ruleset_loads_as_nft_loads_it() {
    let ruleset = glacis_plan::closed::drop_all();
    agree(&ruleset, &text::render(&ruleset));
}

/// The committed text of the golden plan stands for the handwritten one.
#[test]
fn gates_load_as_nft_loads_them() {
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/plan/gates");
    let policy = glacis_policy::parse("policy.kdl", &std::fs::read(format!("{case}/policy.kdl")).unwrap());
    let policy = policy.unwrap_or_else(|report| panic!("{report}"));
    let compiled = glacis_policy::compile(&policy, &glacis_policy::Facts::default()).unwrap();
    agree(&compiled.plan.ruleset, &std::fs::read_to_string(format!("{case}/ruleset.nft")).unwrap());
}

/// Loads the ruleset by our encoder, by `nft -f` of our text, and by `nft -f` of the handwritten text.
fn agree(ruleset: &Ruleset, handwritten: &str) {
    let (ours, rendered, reference) =
        (Namespace::new("ours"), Namespace::new("text"), Namespace::new("hand"));
    ours.enter(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(&between(None, ruleset), None).unwrap_or_else(|e| panic!("{e}: {:?}", source(&e)));
        let mismatches = connection.verify(ruleset).unwrap();
        assert!(mismatches.is_empty(), "{mismatches:#?}");
    });
    nft_load(&rendered, &text::render(ruleset));
    nft_load(&reference, handwritten);
    let wanted = listing(&reference);
    assert_same("our text", &wanted, &listing(&rendered));
    assert_same("our encoder", &wanted, &listing(&ours));
    let wanted = bytecode(&reference);
    assert_same("our text, as bytecode", &wanted, &bytecode(&rendered));
    assert_same("our encoder, as bytecode", &wanted, &bytecode(&ours));
}

fn source(error: &dyn std::error::Error) -> Option<String> {
    error.source().map(ToString::to_string)
}

fn nft_load(ns: &Namespace, text: &str) {
    for check in [&["nft", "-c", "-f", "-"][..], &["nft", "-f", "-"]] {
        let mut child = ns.command(check).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}\nof\n{text}", String::from_utf8_lossy(&output.stderr));
    }
}

fn listing(ns: &Namespace) -> String {
    ns.stdout(["nft", "-s", "list", "ruleset"])
}

/// The kernel's expressions and elements, without what differs between two loads of one text: handles, the
/// order of a hash, what is left of a timeout, and the element with which nft starts an interval set to say that
/// nothing lies below the first range, which the kernel does not need.
fn bytecode(ns: &Namespace) -> String {
    let text = ns.stdout(["nft", "--debug=netlink", "list", "ruleset"]);
    let (debug, _) = text.split_once("\ntable ").expect("the listing follows the expressions");
    let mut out: Vec<String> = vec![];
    let mut elements: Vec<String> = vec![];
    for line in debug.lines() {
        if line.trim_start().starts_with("element ") {
            let zero = line.split_once(':').is_some_and(|(key, rest)| {
                key.trim().trim_start_matches("element").chars().all(|c| c == '0' || c == ' ')
                    && rest.trim_start().starts_with("1 [end]")
            });
            if !zero {
                // nft marks a range up to the highest value for its own printing.
                elements.push(line.split("  userdata").next().unwrap().to_owned());
            }
            continue;
        }
        elements.sort();
        out.append(&mut elements);
        let is_rule = !line.starts_with(' ') && !line.contains('@') && !line.is_empty();
        let words: Vec<&str> = line.split(' ').collect();
        out.push(if is_rule { words[..words.len().min(3)].join(" ") } else { line.to_owned() });
    }
    elements.sort();
    out.append(&mut elements);
    out.join("\n")
}

fn assert_same(what: &str, wanted: &str, found: &str) {
    let differing: Vec<_> = wanted
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None))
        .zip(found.lines().map(Some).chain(std::iter::repeat(None)))
        .take_while(|(wanted, found)| wanted.is_some() || found.is_some())
        .filter(|(wanted, found)| wanted != found)
        .take(5)
        .collect();
    assert!(
        differing.is_empty(),
        "{what} differs from what nft loads of the handwritten text: {differing:#?}"
    );
}
