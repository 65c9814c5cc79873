//! The status worker as the core starts it: what it answers, what it refuses, what it cannot do.

use glacis_control::report::FirewallState;
use glacis_control::{
    Ban, BanReason, EventKind, Evidence, ProbeKinds, Protocol, ScanHit, ScanShape, StatusReport, UnixMillis,
};
use glacis_store::{Bounds, Store};
use glacis_tests::bin::glacis;
use glacis_tests::status_worker::{StatusWorker, now, report};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Polls until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(20);
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn serving() -> StatusWorker {
    let mut worker = StatusWorker::start(None);
    worker.tell(&report());
    worker
}

#[test]
fn p15_every_endpoint_answers_with_strict_headers() {
    let worker = serving();
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "edge-1"),
        ("/scans", "text/html; charset=utf-8", "Probes of closed ports"),
        ("/bans", "text/html; charset=utf-8", "Blocked sources"),
        ("/events", "text/html; charset=utf-8", "Events"),
        ("/live.js", "text/javascript; charset=utf-8", "EventSource"),
        ("/style.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/icon.svg", "image/svg+xml", "<svg"),
        ("/api/v1/status", "application/json", "\"firewall\":\"applied\""),
        ("/healthz", "text/plain; charset=utf-8", "ok"),
        ("/readyz", "text/plain; charset=utf-8", "ready"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "glacis_policy_revision 12"),
    ] {
        let answer = worker.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
        let head = worker.request("HEAD", path, "127.0.0.1");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
    }
    for path in ["/", "/scans?port=x", "/nowhere", "/api/v1/scans?limit=x"] {
        let answer = worker.get(path);
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
}

#[test]
fn p15_no_method_but_get_and_head_is_answered() {
    let worker = serving();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for path in ["/", "/api/v1/bans", "/nowhere"] {
            let target = if method == "CONNECT" { "127.0.0.1:80" } else { path };
            let answer = worker.request(method, target, "127.0.0.1");
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
}

#[test]
fn requests_beyond_a_bound_are_refused_and_the_worker_goes_on() {
    let mut worker = serving();
    let head = |extra: &str| format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{extra}\r\n");
    let large = "a".repeat(9 << 10);
    assert_eq!(worker.ask(head(&format!("X: {large}\r\n")).as_bytes()).status, 431);
    let many = "X: 1\r\n".repeat(200);
    assert_eq!(worker.ask(head(&many).as_bytes()).status, 431);
    assert_eq!(worker.get(&format!("/{}", "a".repeat(1500))).status, 414);
    assert_eq!(worker.ask(head("Content-Length: 5\r\n").as_bytes()).status, 413);
    assert_eq!(worker.ask(head("Transfer-Encoding: chunked\r\n").as_bytes()).status, 413);
    assert_eq!(worker.get("/api/v1/status").status, 200);
    assert!(worker.ended().is_none());
}

#[test]
fn garbage_is_refused_and_the_worker_goes_on() {
    let mut worker = serving();
    let mut seed = 0x9e37_79b9_u32;
    for length in [1, 16, 200, 3000] {
        let mut garbage: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        garbage.extend(b"\r\n\r\n");
        let answer = worker.ask(&garbage);
        assert!(matches!(answer.status, 0 | 400 | 431), "{answer:?}");
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = worker.ask(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(matches!(answer.status, 0 | 400 | 405), "{request}: {answer:?}");
    }
    assert_eq!(worker.get("/healthz").status, 200);
    assert!(worker.ended().is_none());
}

#[test]
fn a_client_that_never_ends_its_request_is_closed_within_ten_seconds() {
    let worker = serving();
    let started = Instant::now();
    let mut slow = worker.connect();
    let mut feeder = slow.try_clone().unwrap();
    let mut idle = worker.connect();
    let drip = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if feeder.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    let closed_after = started.elapsed();
    assert!(closed_after < Duration::from_secs(10), "closed after {closed_after:?}");
    assert!(
        closed_after > Duration::from_secs(2),
        "closed after {closed_after:?}, too soon for an honest one"
    );
    let _ = idle.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(10), "a silent connection is closed as well");
    drip.join().unwrap();
}

#[test]
fn one_source_cannot_keep_the_others_out() {
    let worker = serving();
    let (taken, refused): (Vec<_>, Vec<_>) = {
        let held: Vec<_> = (0..40).map(|_| worker.connect()).collect();
        // A connection that was refused is at its end; one that holds a place is silent.
        let closed = |stream: &TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let ended = matches!(stream.peek(&mut [0; 1]), Ok(0));
            stream.set_nonblocking(false).unwrap();
            ended
        };
        eventually("8 of 40 connections of one source are refused", || {
            held.iter().filter(|stream| closed(stream)).count() >= 8
        });
        held.into_iter().partition(|stream| !closed(stream))
    };
    assert_eq!((taken.len(), refused.len()), (32, 8), "32 places for one source");
    for mut stream in taken {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "who has a place is served: {answer}");
    }
    eventually("the places come back", || worker.get("/healthz").status == 200);
    let metrics = worker.get("/metrics").body;
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("glacis_status_connections_refused_total "))
        .unwrap_or_else(|| panic!("{metrics}"));
    assert!(counted.parse::<u64>().unwrap() >= 8, "{counted}");
}

#[test]
fn a_page_of_a_stranger_that_rebinds_its_name_is_refused() {
    let worker = serving();
    for host in ["127.0.0.1", "127.0.0.1:9777", "[::1]", "localhost", "edge-1", "EDGE-1:9777"] {
        assert_eq!(worker.request("GET", "/api/v1/status", host).status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "edge-1.evil.example:9777"] {
        let answer = worker.request("GET", "/api/v1/status", host);
        assert_eq!(answer.status, 421, "{host}: {answer:?}");
        assert!(!answer.body.contains("evil"), "nothing is reflected");
    }
    assert_eq!(worker.request("GET", "/", "a b").status, 400);
}

#[test]
fn readiness_follows_the_firewall_and_the_freshness_of_the_feed() {
    let mut worker = StatusWorker::start(None);
    let answer = worker.get("/readyz");
    assert_eq!((answer.status, answer.body.trim_end()), (503, "the core has not reported yet"));
    assert_eq!(worker.get("/").status, 503);
    assert_eq!(worker.get("/healthz").status, 200, "the worker itself is up");
    for (firewall, status, words) in [
        (FirewallState::Applied, 200, "Applied"),
        (FirewallState::DropAll, 503, "All traffic dropped"),
        (FirewallState::Tampered, 503, "Tampered"),
    ] {
        worker.tell(&StatusReport { firewall, ..report() });
        assert_eq!(worker.get("/readyz").status, status, "{words}");
        assert!(worker.get("/").body.contains(words));
    }
    worker.tell(&report());
    assert_eq!(worker.get("/readyz").status, 200);
    eventually("a silent core makes the host unready", || worker.get("/readyz").status == 503);
    let answer = worker.get("/readyz");
    assert!(answer.body.contains("has not reported for"), "{answer:?}");
    assert!(worker.get("/").body.contains("No report for"), "the page says it too");
    assert!(worker.get("/api/v1/status").body.contains("\"stale\":true"));
    assert!(worker.get("/metrics").body.contains("glacis_up 0"));
}

#[test]
fn p17_the_worker_runs_without_any_privilege() {
    let worker = serving();
    for (name, expected) in [
        ("Uid", "65530 65530 65530 65530"),
        ("Gid", "65530 65530 65530 65530"),
        ("Groups", ""),
        ("Threads", "1"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(worker.proc_status(name), expected, "{name}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
    for (name, hard) in [("Max processes", "0"), ("Max core file size", "0"), ("Max open files", "320")] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let both: Vec<_> = line.split_whitespace().take(2).collect();
        assert_eq!(both, [hard, hard], "{name}");
    }
    // A process that may be traced belongs to its own user in /proc; this one belongs to root.
    assert_eq!(fs::metadata(format!("/proc/{}/mem", worker.pid())).unwrap().uid(), 0);
}

#[test]
fn p17_the_worker_holds_no_descriptor_beyond_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path(), Bounds::default()).unwrap();
    let worker = StatusWorker::start(Some(dir.path()));
    let mut held: Vec<String> = fs::read_dir(format!("/proc/{}/fd", worker.pid()))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !["0", "1", "2"].contains(&entry.file_name().to_str().unwrap()))
        .map(|entry| fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned())
        .map(|target| target.split(":[").next().unwrap().replace(dir.path().to_str().unwrap(), "store"))
        .collect();
    // Feed, listener, a pair for signals; two epolls and a wake-up of the event loop; the store.
    assert!(held.len() <= 10, "{held:?}");
    held.sort();
    held.dedup();
    assert_eq!(held, ["anon_inode", "socket", "store/data.mdb", "store/lock.mdb"]);
}

#[test]
fn p17_nothing_inside_the_sandbox_can_be_opened_executed_or_reached() {
    let output = Command::new(glacis()).args(["worker", "selftest"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let outcome = |worker: &str, attempt: &str| {
        let found = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut found = found.filter(|words| words[..3] == [worker, attempt, "all"]);
        found.next().unwrap_or_else(|| panic!("{worker} {attempt}: {text}"))[3..].join(" ")
    };
    for attempt in ["open-file", "inet-socket", "execute", "fork", "signal-parent", "executable-memory"] {
        assert_eq!(outcome("status", attempt), "killed by SIGSYS ok", "{attempt}");
    }
    for attempt in ["bind", "datagram-socket", "execute", "fork", "signal-parent", "executable-memory"] {
        assert_eq!(outcome("gate", attempt), "killed by SIGSYS ok", "{attempt}");
    }
    assert_eq!(outcome("gate", "open-file"), "refused ok");
    for (worker, attempt) in [("status", "allocate"), ("gate", "connect"), ("gate", "thread")] {
        assert_eq!(outcome(worker, attempt), "succeeded ok", "{worker} {attempt}");
    }
}

#[test]
fn the_worker_ends_with_its_core() {
    let worker = serving();
    let status = worker.hang_up();
    assert!(status.success(), "{status}");
}

#[test]
fn a_worker_that_nobody_passed_sockets_to_says_so() {
    let output = Command::new(glacis()).args(["worker", "status"]).env_clear().output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("GLACIS_LISTEN_FDS"));
}

fn hit(host: u32, port: u16, at: UnixMillis) -> ScanHit {
    let source = std::net::Ipv4Addr::from(0x0a00_0000 + host).into();
    ScanHit { source, port, protocol: Protocol::Tcp, kinds: ProbeKinds::default(), at, hits: 1 }
}

#[test]
fn p15_records_written_after_the_sandbox_closed_are_served_also_when_the_store_grows() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { bytes_initial: 1 << 20, bytes_max: 64 << 20, ..Bounds::default() };
    let store = Store::open(dir.path(), bounds).unwrap();
    let mut worker = StatusWorker::start(Some(dir.path()));
    worker.tell(&report());
    assert_eq!(worker.get("/api/v1/scans").body, "{\"scans\":[]}");

    // More than the first map can hold, so that the reader has to map the file anew.
    let earlier = UnixMillis(now().0 - 60_000);
    for chunk in 0..10 {
        let hits: Vec<_> = (0..8000).map(|n| hit(chunk * 8000 + n, 23, earlier)).collect();
        store.record(&hits).unwrap();
    }
    store.record(&[ScanHit { source: "203.0.113.9".parse().unwrap(), ..hit(0, 3389, now()) }]).unwrap();
    let ban = Ban {
        source: "203.0.113.9/32".parse().unwrap(),
        since: now(),
        until: Some(now().plus(Duration::from_hours(1))),
        reason: BanReason::Scan {
            shape: ScanShape::Volume,
            hits: 412,
            window_seconds: 300,
            evidence: Evidence { ports: 27, ..Evidence::default() },
        },
        author: "auto".into(),
    };
    store.put_ban(ban.clone()).unwrap();
    store.append_event(&EventKind::SourceBlocked { ban }, now()).unwrap();

    eventually("the ban is served", || {
        assert!(worker.ended().is_none(), "the worker died of a system call that the store needs");
        worker.get("/api/v1/bans").body.contains("203.0.113.9")
    });
    // One answer serves everyone for a second.
    eventually("the newest record is served", || {
        let scans = worker.get("/api/v1/scans?limit=1").body;
        scans.contains("\"port\":3389") && scans.matches("\"source\"").count() == 1
    });
    assert_eq!(worker.get("/api/v1/scans").body.matches("\"source\"").count(), 100);
    assert!(worker.get("/api/v1/events").body.contains("source-blocked"));
    let page = worker.get("/").body;
    for part in ["203.0.113.9", "412 probes", "3389/tcp", "80\u{202f}001"] {
        assert!(page.contains(part), "{part}");
    }
    for query in ["limit=0", "limit=101", "limit=-1", "limit=x", "offset=1", "limit=1&limit=2"] {
        let answer = worker.get(&format!("/api/v1/scans?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}
