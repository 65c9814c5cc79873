//! The README stays true: its policies check, its commands run, its targets and pictures exist.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_tests::daemon::Daemon;
use glacis_tests::netns::{self, Namespace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The contents of fenced blocks in a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// The command lines of all `sh` blocks, comments cut off.
fn commands(text: &str) -> Vec<String> {
    let lines = blocks(text, "sh").into_iter().flat_map(str::lines);
    lines
        .map(|line| line.split(" #").next().unwrap().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn its_make_targets_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let text = readme();
    let targets: Vec<String> =
        commands(&text).iter().filter_map(|line| line.strip_prefix("make ")).map(str::to_owned).collect();
    assert!(targets.len() >= 4, "{targets:?}");
    for target in targets {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "no target {target}");
        let output = netns::run(Command::new("make").arg("-n").arg(&target).current_dir(root()));
        assert!(!output.stdout.is_empty(), "make {target} does nothing");
    }
}

#[test]
fn ci_runs_the_readmes_test_command() {
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(commands(&readme()).contains(&"make test".to_owned()));
    assert!(ci.lines().any(|line| line == "exec make test"));
}

#[test]
fn its_policy_checks_and_its_links_lead_somewhere() {
    let text = readme();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.kdl");
    let policies = blocks(&text, "kdl");
    assert_eq!(policies.len(), 1);
    fs::write(&file, policies[0]).unwrap();
    netns::run(Command::new(glacis_tests::bin::glacis()).arg("check").arg(&file));
    for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(link.starts_with("https://") || root().join(link).exists(), "{link} leads nowhere");
    }
}

#[test]
fn its_glacis_commands_run_as_printed() {
    let namespace = Namespace::new("readme");
    let outside = Namespace::new("outside");
    outside.veth("o0", &namespace, "wan0");
    outside.veth("o1", &namespace, "lan0");
    namespace.run(["ip", "link", "set", "wan0", "address", "52:54:00:aa:00:01"]);
    namespace.run(["ip", "link", "set", "lan0", "address", "52:54:00:aa:00:02"]);
    let text = readme();
    let lines: Vec<String> = commands(&text).into_iter().filter(|line| line.starts_with("glacis ")).collect();
    let shipped = fs::read_to_string(root().join("policy.kdl")).unwrap();
    let daemon = Daemon::start(&namespace, &shipped);
    daemon.wait_ready();
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("policy.kdl"), &shipped).unwrap();
    let mut ran = 0;
    for line in &lines {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        if words[0] == "run" {
            continue; // It runs: the daemon above was started by these very words.
        }
        let words: Vec<&str> = words.iter().map(|word| word.trim_matches('"')).collect();
        let words = rejoined(line, &words);
        let output = Command::new(glacis_tests::bin::glacis())
            .args(&words)
            .env("GLACIS_SOCKET", daemon.socket_path())
            .current_dir(work.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 9, "only {ran} commands ran");
    assert!(work.path().join("glacis.img").metadata().unwrap().len() > 1 << 20);
}

/// Words of a command line, with what stands between quotes as one word.
fn rejoined(line: &str, plain: &[&str]) -> Vec<String> {
    if !line.contains('"') {
        return plain.iter().map(|word| (*word).to_owned()).collect();
    }
    let mut words = vec![];
    for (i, part) in line.strip_prefix("glacis ").unwrap().split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
