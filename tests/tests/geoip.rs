//! Where scanners are said to be: real packets from addresses that the test databases know, files that come and go.

#![expect(clippy::unwrap_used, reason = "a test panics when its ground gives way")]

use glacis_tests::daemon::{Daemon, eventually};
use glacis_tests::netns::Namespace;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLICY: &str = r#"
policy version=1 name="geo"
interface g0 { address "81.2.69.1/24"; address "89.160.20.1/24" }
zone internet { from g0; default drop }
geoip { city "city.mmdb"; asn "databases/asn.mmdb" }
rules from=internet to=self { allow ping }
scan { interfaces g0 }
"#;

/// A file is looked at every ten seconds.
const NOTICED: Duration = Duration::from_secs(30);

struct Scene {
    firewall: Namespace,
    scanner: Namespace,
}

fn scene() -> Scene {
    let (firewall, scanner) = (Namespace::new("fw"), Namespace::new("geo"));
    scanner.veth("s0", &firewall, "g0");
    for address in ["81.2.69.160/24", "81.2.69.200/24", "89.160.20.112/24"] {
        scanner.address("s0", address);
    }
    Scene { firewall, scanner }
}

impl Scene {
    fn probe(&self, from: &str, port: u16) {
        let port = port.to_string();
        let scan = [
            "nmap",
            "-n",
            "-Pn",
            "-sS",
            "-S",
            from,
            "-e",
            "s0",
            "--max-retries",
            "0",
            "-p",
            &port,
            "81.2.69.1",
        ];
        self.scanner.run(scan);
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/geoip").join(name)
}

/// Replaces a database as people do: the new file gets the name when it is whole.
fn install(daemon: &Daemon<'_>, name: &str, bytes: &[u8]) {
    let path = daemon.policy_path().with_file_name(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_extension("new"), bytes).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn geoip_error(status: &Value, kind: &str) -> Option<String> {
    let databases = status["scan"]["geoip"].as_array()?;
    let database = databases.iter().find(|database| database["kind"] == kind)?;
    Some(database["error"].as_str().unwrap_or_default().to_owned())
}

fn location(daemon: &Daemon<'_>, source: &str) -> Value {
    let sources: Value = serde_json::from_str(&daemon.ask(&["scans", "sources", "--json"])).unwrap();
    let rows = sources["rows"].as_array().unwrap();
    rows.iter().find(|row| row["source"] == source).map_or(Value::Null, |row| row["location"].clone())
}

fn recorded(daemon: &Daemon<'_>, source: &str) -> Value {
    eventually("the scan is recorded", NOTICED, || !location(daemon, source).is_null());
    location(daemon, source)
}

#[test]
fn a11_scanners_get_the_location_of_their_time_and_files_may_come_late_break_and_be_mended() {
    let scene = scene();
    let mut daemon = Daemon::prepare(&scene.firewall);
    daemon.write_policy(POLICY);
    install(&daemon, "city.mmdb", &fs::read(fixture("GeoLite2-City-Test.mmdb")).unwrap());
    daemon.run();
    daemon.wait_ready();
    daemon.wait_for("the city file is in use and the other is missing", |s| {
        geoip_error(s, "city").is_some_and(|e| e.is_empty())
            && geoip_error(s, "asn").is_some_and(|e| e.contains("No such file"))
    });
    assert!(daemon.status()["problems"].to_string().contains("asn.mmdb"), "a missing file is a problem");

    scene.probe("81.2.69.160", 1);
    let london = recorded(&daemon, "81.2.69.160");
    assert_eq!((&london["country_code"], &london["city"]), (&"GB".into(), &"London".into()));
    assert_eq!(london["asn"], 0);

    install(&daemon, "databases/asn.mmdb", &fs::read(fixture("GeoLite2-ASN-Test.mmdb")).unwrap());
    daemon.wait_for("the late file is in use", |s| geoip_error(s, "asn").is_some_and(|e| e.is_empty()));
    scene.probe("89.160.20.112", 1);
    let linkoping = recorded(&daemon, "89.160.20.112");
    assert_eq!((&linkoping["city"], &linkoping["asn"]), (&"Linköping".into(), &29_518.into()));
    assert_eq!(linkoping["isp"], "Bredband2 AB");

    install(&daemon, "city.mmdb", b"<html>no licence key</html>");
    daemon.wait_for("the broken file is told", |s| {
        geoip_error(s, "city").is_some_and(|e| e.ends_with("the former version stays in use"))
    });
    scene.probe("81.2.69.200", 1);
    assert_eq!(recorded(&daemon, "81.2.69.200")["city"], "London", "the former version answers");
    install(&daemon, "city.mmdb", &fs::read(fixture("GeoIP2-City-Test.mmdb")).unwrap());
    let status = daemon.wait_for("all is well", |s| geoip_error(s, "city").is_some_and(|e| e.is_empty()));
    assert_eq!(status["firewall"], "applied");
    assert_eq!(status["problems"], Value::Array(vec![]));
}
