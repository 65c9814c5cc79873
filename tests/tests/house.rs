//! The house rules that a compiler does not check.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The workspace, and the two crates that stand apart because another toolchain builds them.
const WORKSPACES: [&str; 3] = [".", "ebpf/program", "fuzz"];

/// Every package of ours, as its manifest says.
fn packages() -> Vec<serde_json::Value> {
    let of = |workspace: &str| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(root().join(workspace))
            .output()
            .unwrap();
        assert!(output.status.success(), "{workspace}: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        metadata["packages"].as_array().unwrap().clone()
    };
    WORKSPACES.into_iter().flat_map(of).collect()
}

/// Crate name to the names of what it is built from; test-only and build-time dependencies left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    packages()
        .iter()
        .map(|package| {
            let needs = package["dependencies"].as_array().unwrap().iter();
            let needs = needs.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), needs.collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: [(&str, &[&str]); 13] = [
        ("glacis-plan", &[]),
        ("glacis-wire", &[]),
        ("glacis-control", &[]),
        ("glacis-abi", &[]),
        ("glacis-image", &[]),
        ("glacis-policy", &["glacis-plan"]),
        ("glacis-netlink", &["glacis-plan"]),
        ("glacis-store", &["glacis-control"]),
        ("glacis-relay", &[]),
        ("glacis-probe", &["glacis-control", "glacis-wire"]),
        ("glacis-gate", &["glacis-control", "glacis-plan", "glacis-probe", "glacis-relay", "glacis-wire"]),
        ("glacis-loader", &["glacis-abi"]),
        ("glacis-program", &["glacis-abi"]),
    ];
    let dependencies = dependencies();
    for (name, allowed) in allowed {
        let ours: BTreeSet<&str> =
            dependencies[name].iter().map(String::as_str).filter(|d| d.starts_with("glacis-")).collect();
        let beyond: Vec<_> = ours.iter().filter(|d| !allowed.contains(d)).collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
}

#[test]
fn pure_crates_have_no_way_to_the_world() {
    let worldly = ["tokio", "libc", "rustix", "rtnetlink", "heed", "aya", "mio", "socket2", "nix"];
    let dependencies = dependencies();
    for name in ["glacis-plan", "glacis-policy", "glacis-wire", "glacis-control"] {
        let found: Vec<_> = worldly.iter().filter(|d| dependencies[name].contains(**d)).collect();
        assert!(found.is_empty(), "{name} must stay pure and depends on {found:?}");
    }
    for folder in ["appliance/plan/src", "appliance/policy/src", "appliance/wire/src"] {
        for file in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            for word in
                ["std::fs::", "std::net::TcpStream", "std::net::UdpSocket", "SystemTime::now", "Instant::now"]
            {
                assert!(!text.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn every_dependency_has_its_line_and_every_line_its_dependency() {
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let lines: Vec<&str> = first_cells.filter(|cell| *cell != "crate").collect();
    let told: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!(told.len(), lines.len(), "docs/dependencies.md tells of a crate twice: {lines:?}");

    let packages = packages();
    let named = packages.iter().flat_map(|package| package["dependencies"].as_array().unwrap());
    let named = named.map(|dependency| dependency["name"].as_str().unwrap());
    let used: BTreeSet<&str> = named.filter(|name| !name.starts_with("glacis")).collect();
    let untold: Vec<_> = used.difference(&told).collect();
    assert!(untold.is_empty(), "docs/dependencies.md has no line for {untold:?}");
    let stale: Vec<_> = told.difference(&used).collect();
    assert!(stale.is_empty(), "docs/dependencies.md tells of {stale:?}, which nothing uses");
}

#[test]
fn no_file_holds_more_than_one_idea() {
    for folder in ["appliance", "ebpf", "netlink", "image", "tests", "benches"] {
        for file in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 800, "{} has {lines} lines; split it by responsibility", file.display());
        }
    }
}

#[test]
fn the_binary_needs_no_file_of_the_host() {
    let binary = fs::read(glacis_tests::bin::glacis()).unwrap();
    assert_eq!(&binary[..4], b"\x7fELF");
    let at = |offset: usize, bytes: usize| {
        binary[offset..offset + bytes].iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)) as usize
    };
    // ELF64 header: e_phoff at 32, e_phentsize at 54, e_phnum at 56; PT_INTERP is 3.
    let (table, size, count) = (at(32, 8), at(54, 2), at(56, 2));
    assert!(count > 0);
    let kinds: Vec<usize> = (0..count).map(|i| at(table + i * size, 4)).collect();
    assert!(!kinds.contains(&3), "the binary names a dynamic loader");

    let empty = tempfile::tempdir().unwrap();
    let inside = empty.path().join("glacis");
    fs::copy(glacis_tests::bin::glacis(), &inside).unwrap();
    let output = Command::new("chroot").arg(empty.path()).args(["/glacis", "--version"]).output().unwrap();
    assert!(output.status.success(), "in an empty root: {}", String::from_utf8_lossy(&output.stderr));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
