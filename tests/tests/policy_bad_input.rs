//! What each broken policy under `policies/bad` is told, line by line and with the marked source.
//!
//! `GLACIS_BLESS=1 cargo test -p glacis-tests --test policy_bad_input` writes the `.expected` files anew;
//! read the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_policy::{POLICY_BYTES_MAX, Theme, parse};
use std::fs;
use std::path::{Path, PathBuf};

fn bad_policies() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/bad");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "kdl"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_bad_policy_is_told_what_is_wrong_and_where() {
    let files = bad_policies();
    assert!(files.len() > 20, "the bad policies are gone");
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let report = parse(&name, &fs::read(&path).unwrap()).expect_err(&name);
        let told = format!("{report}\n{}", report.render(Theme::Plain));
        let golden = path.with_extension("expected");
        if std::env::var_os("GLACIS_BLESS").is_some() {
            fs::write(&golden, told).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            differing.push(format!("{name} is told:\n{told}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The first line of a report.
fn told(bytes: &[u8]) -> String {
    parse("p.kdl", bytes).expect_err("an error").to_string().lines().next().unwrap().to_owned()
}

#[test]
fn a_file_of_ten_megabytes_is_refused_by_its_size() {
    let told = told(&vec![b'x'; 10_000_000]);
    assert!(told.starts_with("p.kdl:1:1: the policy has 10000000 bytes, and 1048576 are the most"), "{told}");
}

#[test]
fn a_file_of_just_the_greatest_size_is_read() {
    let mut text = b"policy version=1\n//".to_vec();
    text.resize(POLICY_BYTES_MAX, b'x');
    assert!(parse("p.kdl", &text).is_ok());
    text.push(b'x');
    assert!(told(&text).contains("are the most"));
}

#[test]
fn a_file_that_is_not_utf_8_is_told_the_byte() {
    let told = told(b"policy version=1\nzone \xff\xfe {}\n");
    assert!(told.starts_with("p.kdl:2:6: the file is not UTF-8: byte 22, counted from 0, is 0xff"), "{told}");
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
    let text = "\u{feff}/- kdl-version 2\r\npolicy version=1 name=\"a\"\r\ninterface lan\r\n";
    let policy = parse("p.kdl", text.as_bytes()).expect("no error");
    assert_eq!(policy.name, "a");
}

#[test]
fn an_empty_file_is_no_policy() {
    assert!(told(b"").starts_with("p.kdl:1:1: the file does not say that it is a policy"));
}

#[test]
fn json_names_place_message_and_hint() {
    let report = parse("p.kdl", b"policy version=1\nzon lan\n").expect_err("an error");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["file"], "p.kdl");
    assert_eq!(json["count"], 1);
    let problem = &json["problems"][0];
    assert_eq!((&problem["line"], &problem["column"], &problem["length"]), (&2.into(), &1.into(), &3.into()));
    assert_eq!(problem["message"], "there is no `zon` in a policy");
    assert_eq!(problem["hint"], "did you mean `zone`?");
}

#[test]
fn a_thousand_errors_are_bounded_and_counted() {
    let text = format!("policy version=1\n{}", "nonsense\n".repeat(1_500));
    let report = parse("p.kdl", text.as_bytes()).expect_err("an error");
    assert_eq!(report.count(), 1_500);
    assert_eq!(report.problems().len(), 50);
    assert!(report.render(Theme::Plain).ends_with("… and 1450 more\n"));
}
