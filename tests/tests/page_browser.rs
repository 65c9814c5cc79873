//! The status page in a real browser: what it says, that it is quiet, named, usable without script, and live with it.

mod page_support;

use glacis_control::gate::{ClientRecord, Finding, PortOutcome};
use glacis_control::{Ban, BanReason, EventKind, StatusReport};
use glacis_store::{Bounds, Store};
use glacis_tests::status_worker::{StatusWorker, now, report, story};
use page_support::Browser;
use serde_json::json;
use std::time::Duration;

const PAGES: [&str; 5] = ["/", "/scans", "/bans", "/gates", "/events"];

/// A worker that shows the story, and the store behind it.
struct Site {
    worker: StatusWorker,
    store: Store,
    bans: u64,
    _dir: tempfile::TempDir,
}

impl Site {
    fn open() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let store = Store::open(dir.path(), Bounds::default()).expect("a new store opens");
        let bans = story::fill(&store);
        let mut worker = StatusWorker::start(Some(dir.path()));
        worker.tell(&StatusReport { bans_active: bans, ..report() });
        Self { worker, store, bans, _dir: dir }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.worker.address())
    }
}

#[test]
fn every_page_is_quiet_named_and_fits_a_phone() {
    let mut site = Site::open();
    let mut browser = Browser::start();
    for path in PAGES {
        site.worker.tell(&StatusReport { bans_active: site.bans, ..report() });
        browser.show_as(1200, "light");
        browser.visit(&site.url(path));
        let name = path.trim_start_matches('/');
        let name = if name.is_empty() { "overview" } else { name };
        everything_is_named(&mut browser, path);
        let ground = "getComputedStyle(document.body).backgroundColor";
        let light = browser.ask(ground);
        assert!(browser.picture(&format!("{name}-light")) > 10_000);
        browser.show_as(1200, "dark");
        assert_ne!(light, browser.ask(ground), "{path} has a dark palette");
        assert!(browser.picture(&format!("{name}-dark")) > 10_000);
        browser.show_as(390, "light");
        let wide = browser.ask(
            "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > 391)
                .map((e) => e.outerHTML.slice(0, 90)).slice(0, 5)",
        );
        assert_eq!(browser.ask("document.documentElement.scrollWidth"), json!(390), "{path}: {wide}");
        assert!(browser.picture(&format!("{name}-phone")) > 10_000);
        assert_eq!(browser.complaints(), [json!(null); 0], "{path}");
    }
}

/// Whoever listens to the page instead of looking knows what each thing is for.
fn everything_is_named(browser: &mut Browser, path: &str) {
    const NAMED: [&str; 16] = [
        "RootWebArea",
        "button",
        "checkbox",
        "combobox",
        "columnheader",
        "Date",
        "form",
        "heading",
        "image",
        "link",
        "meter",
        "navigation",
        "region",
        "search",
        "spinbutton",
        "table",
    ];
    let tree = browser.accessible();
    let count = |role: &str| tree.iter().filter(|(found, _)| found == role).count();
    for (role, name) in &tree {
        let must = NAMED.contains(&role.as_str()) || role == "textbox";
        assert!(!must || !name.is_empty(), "{path}: a {role} without a name");
    }
    assert_eq!(count("main"), 1, "{path}: {tree:?}");
    assert!(count("table") + count("list") >= 2 && count("navigation") >= 1, "{path}: {tree:?}");
    if path == "/" {
        let chart = tree.iter().find(|(role, _)| role == "image" || role == "img");
        assert!(chart.is_some_and(|(_, name)| name.contains("most on")), "the chart is described: {tree:?}");
        assert_eq!((count("table") >= 4, count("meter")), (true, 1), "{tree:?}");
    }
    if path == "/gates" {
        assert!(count("table") >= 6 && count("region") >= 4, "{path}: {tree:?}");
        assert_eq!((count("textbox"), count("combobox")), (1, 1), "{tree:?}");
    }
    if path == "/scans" {
        assert_eq!((count("textbox"), count("spinbutton") >= 1, count("combobox")), (2, true, 2), "{tree:?}");
    }
}

#[test]
fn a23_the_form_filters_and_the_links_page() {
    let site = Site::open();
    let mut browser = Browser::start();
    browser.visit(&site.url("/scans"));
    filter_and_page(&mut browser);
    assert_eq!(browser.complaints(), [json!(null); 0]);
}

#[test]
fn b15_clients_are_filtered_paged_and_kept_fresh() {
    let mut site = Site::open();
    let mut browser = Browser::start();
    browser.visit(&site.url("/gates"));
    browser.wait_for("document.getElementById('live').textContent === 'Live'");
    assert_eq!(browser.texts("#part-clients tbody tr").len(), 20);
    assert!(browser.texts("#part-gates").concat().contains("down: connection refused"));
    let finding =
        Finding { port: 1080, outcome: PortOutcome::Socks5Proxy, until: now().plus(Duration::from_hours(1)) };
    let client = "192.0.2.250".parse().unwrap();
    site.store.learn(&[ClientRecord { client, seen: now(), findings: vec![finding] }]).unwrap();
    let mut changed = report();
    changed.gates[0].waiting = 4_321;
    site.worker.tell(&changed);
    browser.wait_for("document.querySelector('#part-clients tbody tr').textContent.includes('192.0.2.250')");
    browser.wait_for("document.getElementById('part-gates').textContent.includes('4\u{202f}321')");

    browser.follow("a[href='/gates?verdict=open']");
    let rows = browser.texts("#part-clients tbody tr");
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert!(rows.iter().all(|row| row.contains("open") && !row.contains("none open")), "{rows:?}");
    browser.ask("document.getElementById('address').value = '2001:db8'");
    browser.follow("form.filters button");
    let rows = browser.texts("#part-clients tbody tr");
    assert!(rows.len() == 1 && rows[0].contains("2001:db8:bad:9::4"), "{rows:?}");
    browser.follow("form.filters a");
    browser.follow("a[rel=next]");
    assert!(browser.texts("#part-clients .pager").concat().contains("21–40 of 71"));
    assert_eq!(browser.complaints(), [json!(null); 0]);
}

#[test]
fn the_page_works_with_script_off() {
    let site = Site::open();
    let mut browser = Browser::start();
    browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.visit(&site.url("/"));
    assert_eq!(browser.texts("#part-now .badge"), ["Applied"]);
    assert_eq!(browser.texts("#part-bans tbody tr").len(), 4);
    assert_eq!(
        browser.ask("document.getElementById('live').hidden"),
        json!(true),
        "nothing claims to be live"
    );
    let refresh = browser.ask("document.querySelector('meta[http-equiv=refresh]')?.content ?? 'none'");
    assert_eq!(refresh, json!("60"), "the page reloads itself");
    browser.follow("a[href='/scans']");
    filter_and_page(&mut browser);
    browser.follow("a[href='/bans']");
    assert!(browser.texts("main").concat().contains("abuse report 4711"));
    assert_eq!(browser.complaints(), [json!(null); 0]);
}

fn filter_and_page(browser: &mut Browser) {
    assert_eq!(browser.texts("tbody tr").len(), 20, "A23: twenty unless asked otherwise");
    let first = browser.texts("tbody tr");
    browser.follow("a[rel=next]");
    let second = browser.texts("tbody tr");
    assert!(!second.is_empty() && second.iter().all(|row| !first.contains(row)), "{second:?}");
    browser.follow("a[rel=first]");
    assert_eq!(browser.texts("tbody tr th .address").len(), 20);

    browser.ask("document.getElementById('port').value = '3389'");
    browser.ask("document.getElementById('location').value = 'new york'");
    browser.ask("document.getElementById('limit').value = '50'");
    browser.follow("form.filters button");
    let rows = browser.texts("tbody tr");
    assert!(!rows.is_empty() && rows.len() < 50, "{rows:?}");
    assert!(rows.iter().all(|row| row.contains("3389/tcp") && row.contains("New York")), "{rows:?}");
    assert_eq!(
        browser.ask("document.getElementById('port').value"),
        json!("3389"),
        "the form keeps what was asked"
    );

    browser.ask("document.getElementById('location').value = 'atlantis'");
    browser.follow("form.filters button");
    assert!(browser.texts("main").concat().contains("with this filter."));
    browser.follow("form.filters a");
    assert_eq!(browser.texts("tbody tr").len(), 20, "cleared");
}

#[test]
fn what_happens_is_on_the_open_page_within_seconds() {
    let mut site = Site::open();
    let mut browser = Browser::start();
    browser.visit(&site.url("/"));
    browser.wait_for("document.getElementById('live').textContent === 'Live'");
    browser.ask("window.sameDocument = true");
    let ban = Ban {
        source: "198.51.100.99/32".parse().unwrap(),
        since: now(),
        until: None,
        reason: BanReason::Manual { note: "<b>seen</b> live".into() },
        author: "root".into(),
    };
    site.store.put_ban(ban.clone()).unwrap();
    site.store.append_event(&EventKind::SourceBlocked { ban }, now()).unwrap();
    let bans_active = site.bans + 1;
    site.worker.tell(&StatusReport { bans_active, ..report() });
    browser.wait_for("document.getElementById('part-bans').textContent.includes('198.51.100.99')");
    browser.wait_for("document.getElementById('part-events').textContent.includes('<b>seen</b> live')");
    browser.wait_for("[...document.querySelectorAll('#part-figures dd')].some((d) => d.textContent === '5')");

    // What the visitor is using stays until they are done.
    browser.ask("document.querySelector('#part-scan details').open = true");
    let problems = vec!["something to act on".to_owned()];
    let mut changed = StatusReport { bans_active, problems, ..report() };
    changed.scan.sources = 9_999;
    site.worker.tell(&changed);
    browser.wait_for("document.getElementById('part-now').textContent.includes('something to act on')");
    assert!(!browser.texts("#part-scan").concat().contains("9\u{202f}999"), "an open table is left alone");
    browser.ask("document.querySelector('#part-scan details').open = false");
    browser.wait_for("document.getElementById('part-scan').textContent.includes('9\u{202f}999')");
    assert_eq!(browser.ask("window.sameDocument"), json!(true), "without loading the page again");
    assert_eq!(browser.complaints(), [json!(null); 0]);
}
