//! What the status worker tells about scans over HTTP: JSON with filters, and the event stream.

use glacis_control::EventKind;
use glacis_store::{Batch, Bounds, Store};
use glacis_tests::status_worker::{StatusWorker, now, report, story};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A worker that shows the story, and the store behind it.
fn open() -> (StatusWorker, Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let store = Store::open(dir.path(), Bounds::default()).expect("a new store opens");
    story::fill(&store);
    let mut worker = StatusWorker::start(Some(dir.path()));
    worker.tell(&report());
    (worker, store, dir)
}

fn json(worker: &StatusWorker, path: &str) -> Value {
    let answer = worker.get(path);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json")),
        "{path}: {answer:?}"
    );
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body))
}

fn rows(answer: &Value) -> &[Value] {
    answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a20_a21_a22_totals_trend_and_tops_agree_with_each_other() {
    let (worker, _store, _dir) = open();
    let summary = json(&worker, "/api/v1/scans/summary?days=7");
    let trend = json(&worker, "/api/v1/scans/trend?days=7");
    let days = trend["days"].as_array().unwrap();
    assert_eq!(days.len(), 7);
    let sum: u64 = days.iter().map(|day| day["hits"].as_u64().unwrap()).sum();
    assert!(sum > 0 && summary["hits"]["current"] == sum, "{summary} {trend}");
    assert!(summary["hits"]["previous"].as_u64().unwrap() > 0, "{summary}");

    let sources = json(&worker, "/api/v1/scans/sources?days=7&limit=100");
    assert_eq!(rows(&sources).len() as u64, summary["sources"]["current"]["count"]);
    assert_eq!(rows(&sources).iter().map(|row| row["hits"].as_u64().unwrap()).sum::<u64>(), sum);
    assert_eq!(rows(&json(&worker, "/api/v1/scans/sources?days=7")).len(), 10);
    let ports = json(&worker, "/api/v1/scans/ports?days=7&limit=100");
    assert_eq!(rows(&ports).iter().map(|row| row["hits"].as_u64().unwrap()).sum::<u64>(), sum);
    let hits: Vec<u64> = rows(&ports).iter().map(|row| row["hits"].as_u64().unwrap()).collect();
    assert!(hits.is_sorted_by(|a, b| a >= b), "{hits:?}");
}

#[test]
fn a23_records_are_filtered_and_paged_without_gap_or_repetition() {
    let (worker, _store, _dir) = open();
    let filtered = |query: &str| rows(&json(&worker, &format!("/api/v1/scans/records?{query}"))).to_vec();
    for (query, field, expected) in [
        ("port=3389", "port", Value::from(3389)),
        ("address=2001:db8:BAD", "source", Value::from("2001:db8:bad:7::51")),
        ("protocol=sctp", "protocol", Value::from("sctp")),
    ] {
        let rows = filtered(query);
        assert!(!rows.is_empty() && rows.iter().all(|row| row[field] == expected), "{query}: {rows:?}");
    }
    let rows_in = filtered("location=NEW%20york&days=14");
    assert!(!rows_in.is_empty() && rows_in.iter().all(|row| row["location"]["city"] == "New York"));
    assert!(filtered("location=atlantis").is_empty());

    let all = filtered("days=7&limit=100");
    let (mut paged, mut after) = (vec![], String::new());
    loop {
        let page = json(&worker, &format!("/api/v1/scans/records?days=7&limit=9{after}"));
        paged.extend_from_slice(rows(&page));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
        assert!(paged.len() <= 1000, "the pages come to an end");
    }
    assert!(
        all.len() > 9 && paged[..all.len().min(paged.len())] == all[..],
        "{} of {}",
        paged.len(),
        all.len()
    );
}

#[test]
fn b15_gates_and_the_newest_clients_are_told() {
    let (worker, store, _dir) = open();
    let gates = json(&worker, "/api/v1/gates");
    assert_eq!(
        (&gates["gates"][0]["name"], &gates["gates"][0]["backends"][1]["down"]),
        (&"web".into(), &"connection refused".into())
    );
    assert_eq!(gates["clients"], 70);
    let clients = |query: &str| {
        let answer = json(&worker, &format!("/api/v1/gates/clients?{query}"));
        answer["clients"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    };
    let all = clients("");
    assert_eq!(all.len(), 70);
    assert_eq!(all[0]["client"], "203.0.113.201");
    let proxy = &all[0]["findings"][3];
    assert_eq!((&proxy["port"], &proxy["outcome"]), (&3128.into(), &"http-proxy".into()));
    let seen: Vec<u64> = all.iter().map(|client| client["seen"].as_u64().unwrap()).collect();
    assert!(seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
    assert_eq!(clients("limit=2"), all[..2]);
    let within = clients("within=2001:db8::/32");
    assert!(
        within.len() == 2
            && within.iter().all(|row| row["client"].as_str().unwrap().starts_with("2001:db8:"))
    );
    assert_eq!(clients("within=203.0.113.230").len(), 1);

    store
        .apply(&Batch { forgotten_clients: vec!["203.0.113.230".parse().unwrap()], ..Batch::default() })
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !clients("within=203.0.113.230").is_empty() {
        assert!(Instant::now() < deadline, "what is forgotten is not told");
        std::thread::sleep(Duration::from_millis(100));
    }
    let page = worker.get("/gates?address=203.0.113.2&verdict=open").body;
    for (part, shown) in [("203.0.113.201", true), ("203.0.113.222", true), ("198.51.100.14", false)] {
        assert_eq!(page.contains(part), shown, "{part}: {page}");
    }
    assert!(worker.get("/").body.contains("70 clients are known"));
}

#[test]
fn what_cannot_be_asked_is_refused_with_which_and_why() {
    let (worker, _store, _dir) = open();
    for (path, which) in [
        ("/api/v1/scans/summary?days=0", "`days` must be a number from 1 to 365"),
        ("/api/v1/scans/trend?from=2026-02-30", "`from` must be a day as YYYY-MM-DD"),
        ("/api/v1/scans/trend?from=2026-02-02&to=2026-02-01", "`from` must not be after `to`"),
        ("/api/v1/scans/sources?limit=101", "`limit` must be a number from 1 to 100"),
        ("/api/v1/scans/ports?port=22", "it takes days, from, to, limit"),
        ("/api/v1/scans/records?port=70000", "`port` must be a number from 0 to 65535"),
        ("/api/v1/scans/records?protocol=icmp", "`protocol` must be one of tcp, udp, sctp"),
        ("/api/v1/scans/records?address=%3Cb%3E", "`address` must be a part of an address"),
        ("/api/v1/scans/records?after=x", "`after` is no place in this listing"),
        ("/api/v1/scans/records?port=1&port=2", "`port` is given twice"),
        ("/api/v1/events/stream?parts=all", "`parts` must be one of overview, bans, gates, events"),
        ("/api/v1/gates?limit=1", "it takes none"),
        ("/api/v1/gates/clients?within=203.0.113", "`within` must be an address, or a network"),
        ("/api/v1/gates/clients?limit=101", "`limit` must be a number from 1 to 100"),
        ("/api/v1/gates/clients?address=1", "it takes within, limit"),
    ] {
        let answer = worker.get(path);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let error: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(which), "{path}: {error}");
    }
    for path in [
        "/?days=x",
        "/scans?port=x",
        "/scans?limit=21",
        "/bans?skip=-1",
        "/events?show=x",
        "/scans?after=x",
        "/gates?verdict=bad",
        "/gates?skip=1001",
    ] {
        let answer = worker.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(
            answer.body.contains("This cannot be shown") && answer.body.contains("role=\"alert\""),
            "{path}"
        );
    }
}

/// An open event stream.
struct Stream {
    lines: BufReader<TcpStream>,
    head: String,
}

impl Stream {
    fn open(worker: &StatusWorker, path: &str, headers: &str) -> Self {
        let mut connection = worker.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        connection.write_all(request.as_bytes()).expect("the worker listens");
        let mut lines = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("an answer in time") > 0, "{head}");
        }
        Self { lines, head }
    }

    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The next lines up to one that begins so.
    fn until(&mut self, start: &str) -> Vec<String> {
        let mut heard = vec![];
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).expect("a pulse in time") > 0,
                "the stream ended before {start}: {heard:?}"
            );
            heard.push(line.trim_end().to_owned());
            if line.starts_with(start) {
                return heard;
            }
        }
    }
}

#[test]
fn the_event_stream_tells_what_happens_and_what_was_missed() {
    let (worker, store, _dir) = open();
    let newest = json(&worker, "/api/v1/events?limit=1")["events"][0]["id"].as_u64().unwrap();
    let mut stream = Stream::open(&worker, "/api/v1/events/stream", "");
    assert_eq!(stream.status(), "200");
    assert!(stream.head.to_lowercase().contains("content-type: text/event-stream"), "{}", stream.head);
    let first = stream.until("event: status");
    assert!(first.contains(&"retry: 2000".to_owned()), "{first:?}");
    let data = stream.until("data: ").pop().unwrap();
    let status: Value = serde_json::from_str(&data["data: ".len()..]).unwrap();
    assert_eq!((&status["firewall"], &status["stale"]), (&"applied".into(), &false.into()), "{status}");
    assert!(!first.iter().any(|line| line.starts_with("event: log")), "only what is new: {first:?}");

    store.append_event(&EventKind::LinkChanged { device: "eth7".into(), up: true }, now()).unwrap();
    let told = stream.until("id: ").pop().unwrap();
    assert_eq!(told, format!("id: {}", newest + 1));
    let data = stream.until("data: ").pop().unwrap();
    assert!(data.contains("\"event\":\"link-changed\"") && data.contains("eth7"), "{data}");

    let mut returned =
        Stream::open(&worker, "/api/v1/events/stream", &format!("Last-Event-ID: {}\r\n", newest - 1));
    assert_eq!(returned.until("id: ").pop().unwrap(), format!("id: {newest}"));
    assert_eq!(returned.until("id: ").pop().unwrap(), format!("id: {}", newest + 1));
}

#[test]
fn streams_have_places_of_their_own() {
    let (worker, _store, _dir) = open();
    let mut held = vec![];
    for _ in 0..2 {
        let stream = Stream::open(&worker, "/api/v1/events/stream", "");
        assert_eq!(stream.status(), "200");
        held.push(stream);
    }
    let third = Stream::open(&worker, "/api/v1/events/stream", "Connection: close\r\n");
    assert_eq!(third.status(), "503");
    assert!(third.head.to_lowercase().contains("retry-after: 30"), "{}", third.head);
    assert_eq!(worker.get("/").status, 200, "everything else is served");
    let metrics = worker.get("/metrics").body;
    for line in ["glacis_status_streams 2", "glacis_status_streams_refused_total 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !worker.get("/metrics").body.contains("glacis_status_streams 0\n") {
        assert!(Instant::now() < deadline, "the places come back");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_stream_outlives_the_minute_that_other_connections_have() {
    let (worker, _store, _dir) = open();
    let started = Instant::now();
    let mut stream = Stream::open(&worker, "/api/v1/events/stream", "");
    let mut other = worker.connect();
    // Asked again and again, it is never idle, and closed for its age alone.
    let closed_after = loop {
        let request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        if other.write_all(request).is_err() || !matches!(other.read(&mut [0; 4096]), Ok(1..)) {
            break started.elapsed();
        }
        stream.until("event: status");
        assert!(started.elapsed() < Duration::from_secs(90), "the other connection is never closed");
    };
    assert!(closed_after > Duration::from_secs(55), "closed after {closed_after:?}");
    while started.elapsed() < Duration::from_secs(68) {
        stream.until("event: status");
    }
}
