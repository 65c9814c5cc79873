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

#[test]
fn proxy_headers_are_refused_or_read_the_same_again() {
    use glacis_wire::proxy_protocol::{Parsed, ProxyHeaderError};
    let parsed = replay("proxy_protocol", promises::gate::proxy_protocol);
    let client = |name: &str| match parsed.get(name) {
        Some(Ok(Parsed::Complete { header, .. })) => header.map(|header| header.source.to_string()),
        other => panic!("{name}: {other:?}"),
    };
    for (name, source) in [
        ("haproxy-v1-ipv4", Some("127.0.0.1:39286")),
        ("haproxy-v2-extensions-ipv6", Some("[::1]:33926")),
        ("v1-mapped", Some("192.0.2.1:40000")),
        ("v1-longest", None),
        ("v2-local-addresses", None),
        ("v2-unspecified", None),
    ] {
        assert_eq!(client(name).as_deref(), source, "{name}");
    }
    for (name, expected) in [
        ("v1-cut", Ok(Parsed::Incomplete)),
        ("v1-endless", Err(ProxyHeaderError::LineTooLong)),
        ("v2-unix", Err(ProxyHeaderError::UnsupportedFamily(0x31))),
        ("v2-extension-beyond", Err(ProxyHeaderError::ExtensionTooLong)),
        ("v2-wrong-checksum", Err(ProxyHeaderError::Checksum)),
    ] {
        assert_eq!(parsed.get(name), Some(&expected), "{name}");
    }
}

#[test]
fn hellos_of_tls_clients_are_refused_or_name_a_server() {
    use glacis_wire::client_hello::{ClientHelloError, Hello};
    let hellos = replay("client_hello", promises::gate::client_hello);
    for (name, server) in [
        ("chromium", Some("www.example.org")),
        ("openssl-split", Some("split.example.org")),
        ("records-of-two", Some("a.example")),
        ("grease", Some("a.example")),
        ("openssl-no-name", None),
        ("no-extensions", None),
        ("address", None),
    ] {
        let expected = Hello::Complete { server_name: server.map(str::to_owned) };
        assert_eq!(hellos.get(name), Some(&Ok(expected)), "{name}");
    }
    for (name, error) in [
        ("two-names", ClientHelloError::WrongServerName),
        ("twice", ClientHelloError::DuplicateExtension(0)),
        ("records-of-one", ClientHelloError::TooManyRecords),
        ("empty-record", ClientHelloError::WrongRecord(0)),
        ("not-alone", ClientHelloError::NotAlone),
        ("ssl2", ClientHelloError::NotTls),
    ] {
        assert_eq!(hellos.get(name), Some(&Err(error)), "{name}");
    }
}

#[test]
fn tokens_are_found_where_they_are() {
    use glacis_wire::token::Found;
    let found = replay("token", promises::gate::token);
    for name in ["line", "get", "absolute", "ipv6"] {
        assert!(matches!(found.get(name), Some(Found::Token(_))), "{name} in {found:?}");
    }
    for name in ["upper-case", "digits", "query", "long-host", "no-host", "tls", "carriage-return"] {
        assert_eq!(found.get(name), Some(&Found::No), "{name} in {found:?}");
    }
    assert_eq!(found.get("cut"), Some(&Found::Incomplete), "{found:?}");
}

#[test]
fn answers_of_ports_bring_the_token_or_the_end() {
    let steps = replay("proxy_speech", promises::gate::proxy_speech);
    for (name, expected) in [
        ("connect", &["token", "wait"][..]),
        ("connect-interim", &["wait", "token"]),
        ("connect-refused", &["over", "over"]),
        ("get", &["over"]),
        ("get-interim", &["wait", "over"]),
        ("socks4", &["token"]),
        ("socks4-refused", &["over"]),
        ("socks4-ipv6", &[]),
        ("socks5", &["ask", "token"]),
        ("socks5-ipv6", &["wait", "ask", "wait", "token"]),
        ("socks5-early", &["over"]),
        ("ssh", &["over"]),
        ("silent", &["wait", "wait"]),
    ] {
        assert_eq!(steps.get(name).map(Vec::as_slice), Some(expected), "{name} in {steps:?}");
    }
}

#[test]
fn refused_requests_are_known_and_their_text_stays_text() {
    use glacis_wire::denial::{Body, Head};
    let heads = replay("denial", promises::gate::denial);
    for (name, expected) in [
        ("get", Head::Complete(Body::Sent)),
        ("head", Head::Complete(Body::LeftOut)),
        ("long", Head::Complete(Body::LeftOut)),
        ("many-headers", Head::Complete(Body::Sent)),
        ("cut", Head::Incomplete),
        ("long-path", Head::NotHttp),
        ("http2", Head::NotHttp),
        ("tls", Head::NotHttp),
    ] {
        assert_eq!(heads.get(name), Some(&expected), "{name} in {heads:?}");
    }
}
