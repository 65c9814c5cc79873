//! The committed corpora of the fuzz targets keep holding, without a fuzzer.

use std::collections::BTreeMap;
use std::path::Path;

/// The fuzz crate is built apart with sanitizers; the promises are the same file.
#[path = "../../fuzz/src/lib.rs"]
mod promises;

/// What each file of a target's corpus comes to, by its name.
fn replay<T>(target: &str, promise: impl Fn(&[u8]) -> T) -> BTreeMap<String, T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files = files.map(|entry| entry.expect("a folder that opens can be listed"));
    files
        .map(|file| {
            let bytes =
                std::fs::read(file.path()).unwrap_or_else(|e| panic!("{}: {e}", file.path().display()));
            (file.file_name().to_string_lossy().into_owned(), promise(&bytes))
        })
        .collect()
}

#[test]
fn dhcp_scripts_are_survived_and_reach_leases() {
    let leases = replay("dhcp", promises::dhcp_script::play);
    for (name, expected) in
        [("lease", 1), ("renew", 2), ("nak", 1), ("all-options", 1), ("hardware-length", 0)]
    {
        assert_eq!(leases.get(name), Some(&expected), "{name} in {leases:?}");
    }
    assert!(leases.len() >= 14, "the corpus is gone: {leases:?}");
}

#[test]
fn policies_are_read_or_reported() {
    let read = replay("policy", promises::policy);
    assert_eq!((read.get("shipped"), read.get("binary")), (Some(&true), Some(&false)), "{read:?}");
    assert!(read.len() >= 10, "the corpus is gone: {read:?}");
}

#[test]
fn blocklists_become_ranges_or_errors() {
    let ranges = replay("blocklist", promises::blocklist);
    for (name, expected) in [
        ("forms", Some(4)),
        ("overlaps", Some(2)),
        ("everything", Some(2)),
        ("only-comments", Some(0)),
        ("wrong-lines", None),
        ("binary", None),
    ] {
        assert_eq!(ranges.get(name), Some(&expected), "{name} in {ranges:?}");
    }
}

#[test]
fn control_frames_are_understood_by_whom_they_are_for() {
    let understood = replay("control", promises::control);
    for (name, expected) in [
        ("block", &["request"][..]),
        ("host-bits", &["request"]),
        ("happenings", &["reply"]),
        ("status-reply", &["reply"]),
        ("snapshot", &["feed"]),
        ("unknown", &[]),
        ("duration-overflow", &[]),
        ("deep", &[]),
    ] {
        assert_eq!(understood.get(name).map(Vec::as_slice), Some(expected), "{name} in {understood:?}");
    }
}

#[test]
fn records_of_the_store_are_refused_or_understood() {
    let understood = replay("store", promises::store::record);
    for (name, expected) in [
        ("scan", &["scan"][..]),
        ("scan-ipv6", &["scan"]),
        ("scan-by-port", &["scan by port"]),
        ("source", &["source"]),
        ("day", &["day"]),
        ("place", &["place"]),
        ("ban", &["ban"]),
        ("offences", &["port", "offences"]),
        ("event", &["event"]),
        ("wrong-family", &[]),
        ("wrong-protocol", &[]),
        ("cut", &[]),
        ("ban-json", &[]),
        ("host-bits", &[]),
    ] {
        assert_eq!(understood.get(name).map(Vec::as_slice), Some(expected), "{name} in {understood:?}");
    }
}

#[test]
fn udp_packets_are_refused_or_stay_within_bounds() {
    let payloads = replay("udp4", promises::udp4);
    for (name, expected) in [
        ("datagram", Some(9)),
        ("padded", Some(1)),
        ("options", Some(12)),
        ("no-checksum", Some(3)),
        ("wrong-checksum", None),
        ("fragment", None),
        ("length-lies", None),
    ] {
        assert_eq!(payloads.get(name), Some(&expected), "{name} in {payloads:?}");
    }
}
