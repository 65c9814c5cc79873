//! Every package that the workspace is built from may be used under a licence that `deny.toml` allows.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The list `allow` of `deny.toml`, an entry a line.
fn allowed(deny: &str) -> BTreeSet<String> {
    deny.lines()
        .skip_while(|line| *line != "allow = [")
        .skip(1)
        .take_while(|line| *line != "]")
        .filter_map(|line| Some(line.trim().strip_prefix('"')?.strip_suffix("\",")?.to_owned()))
        .collect()
}

/// A licence expression (SPDX 2.3, annex D), read from left to right. `/` is the `OR` of old manifests.
struct Expression {
    /// What is not read yet, last word first.
    words: Vec<String>,
}

impl Expression {
    /// Whether the allowed licences suffice. `None`: the expression is not understood.
    fn permits(text: &str, allowed: &BTreeSet<String>) -> Option<bool> {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut expression = Self { words: spaced.split_whitespace().rev().map(str::to_owned).collect() };
        let permitted = expression.either(allowed)?;
        expression.words.is_empty().then_some(permitted)
    }

    fn either(&mut self, allowed: &BTreeSet<String>) -> Option<bool> {
        let mut permitted = self.both(allowed)?;
        while self.takes("OR") {
            permitted |= self.both(allowed)?;
        }
        Some(permitted)
    }

    fn both(&mut self, allowed: &BTreeSet<String>) -> Option<bool> {
        let mut permitted = self.one(allowed)?;
        while self.takes("AND") {
            permitted &= self.one(allowed)?;
        }
        Some(permitted)
    }

    fn one(&mut self, allowed: &BTreeSet<String>) -> Option<bool> {
        if self.takes("(") {
            let permitted = self.either(allowed)?;
            return self.takes(")").then_some(permitted);
        }
        let mut licence =
            self.words.pop().filter(|word| !["OR", "AND", "WITH", ")"].contains(&word.as_str()))?;
        if self.takes("WITH") {
            licence = format!("{licence} WITH {}", self.words.pop()?);
        }
        Some(allowed.contains(&licence))
    }

    fn takes(&mut self, word: &str) -> bool {
        self.words.pop_if(|next| next == word).is_some()
    }
}

#[test]
fn every_package_of_the_tree_has_an_allowed_licence() {
    let allowed = allowed(&fs::read_to_string(root().join("deny.toml")).unwrap());
    assert!(allowed.contains("MIT"), "deny.toml lists no licences: {allowed:?}");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "a tree of {} packages is not ours", packages.len());
    let wrong: Vec<String> = packages
        .iter()
        .filter(|package| {
            let licence = package["license"].as_str().unwrap_or_default();
            Expression::permits(licence, &allowed) != Some(true)
        })
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(wrong.is_empty(), "deny.toml does not allow the licence of {wrong:#?}");
}

#[test]
fn an_expression_holds_when_one_of_its_ways_is_allowed() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned).into();
    for (expression, permitted) in [
        ("MIT", Some(true)),
        ("GPL-3.0", Some(false)),
        ("MIT/Apache-2.0", Some(true)),
        ("GPL-3.0 OR MIT", Some(true)),
        ("MIT AND GPL-3.0", Some(false)),
        ("MIT OR ISC AND GPL-3.0", Some(true)),
        ("(MIT OR ISC) AND GPL-3.0", Some(false)),
        ("Apache-2.0", Some(false)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("", None),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT ISC", None),
    ] {
        assert_eq!(Expression::permits(expression, &allowed), permitted, "{expression:?}");
    }
}
