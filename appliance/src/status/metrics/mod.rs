//! Metrics in the Prometheus text format 0.0.4.
//!
//! Labels have few values by construction: names from the policy and the program, addresses of its backends, never one
//! that a stranger can choose.

mod gates;

use super::feed::Snapshot;
use super::records::BansByReason;
use super::server::Counters;
use glacis_control::report::FirewallState;
use std::fmt::{Display, Write};
use std::sync::Arc;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the format calls the kind of a metric.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// What is known at one moment.
#[derive(Default)]
pub struct Moment {
    pub latest: Option<Arc<Snapshot>>,
    /// `None` when the store cannot be read now.
    pub bans: Option<BansByReason>,
    /// Open event streams.
    pub streams: u64,
}

/// The metrics of one moment. Without a snapshot there are only the worker's own.
pub fn render(moment: &Moment, counters: &Counters) -> String {
    let latest = moment.latest.as_deref();
    let mut text = Exposition::default();
    worker(&mut text, counters, moment.streams);
    text.family("glacis_up", Kind::Gauge, "Whether the core's newest report is fresh.");
    text.sample(&[], u64::from(latest.is_some_and(|snapshot| !snapshot.is_stale())));
    if let Some(snapshot) = latest {
        text.family("glacis_report_age_seconds", Kind::Gauge, "Age of the core's newest report.");
        text.sample(&[], snapshot.age().as_secs_f64());
        core(&mut text, snapshot);
        bans(&mut text, snapshot, moment.bans);
        scan(&mut text, snapshot);
        counted(&mut text, snapshot);
        gates::render(&mut text, &snapshot.report);
        geoip(&mut text, snapshot);
        store(&mut text, snapshot);
    }
    text.text
}

fn worker(text: &mut Exposition, counters: &Counters, streams: u64) {
    text.family(
        "glacis_status_connections_total",
        Kind::Counter,
        "Connections that the status worker accepted.",
    );
    text.sample(&[], counters.accepted.get());
    text.family(
        "glacis_status_connections_refused_total",
        Kind::Counter,
        "Connections closed unheard because their source had too many.",
    );
    text.sample(&[], counters.refused.get());
    text.family("glacis_status_streams", Kind::Gauge, "Event streams that are open.");
    text.sample(&[], streams);
    text.family("glacis_status_streams_total", Kind::Counter, "Event streams that were opened.");
    text.sample(&[], counters.streams.get());
    text.family(
        "glacis_status_streams_refused_total",
        Kind::Counter,
        "Event streams for which there was no place.",
    );
    text.sample(&[], counters.streams_refused.get());
}

fn core(text: &mut Exposition, snapshot: &Snapshot) {
    let report = &snapshot.report;
    text.family("glacis_build_info", Kind::Gauge, "Always 1; its labels tell the build.");
    text.sample(&[("version", &report.version)], 1);
    text.family("glacis_start_time_seconds", Kind::Gauge, "When the core started, in Unix time.");
    text.sample(&[], report.started.0 / 1000);
    text.family("glacis_firewall_state", Kind::Gauge, "1 for the state that the firewall is in.");
    for (name, state) in [
        ("applied", FirewallState::Applied),
        ("drop-all", FirewallState::DropAll),
        ("tampered", FirewallState::Tampered),
    ] {
        text.sample(&[("state", name)], u64::from(report.firewall == state));
    }
    text.family("glacis_policy_revision", Kind::Gauge, "Policies applied so far.");
    text.sample(&[], report.policy.revision);
    text.family("glacis_policy_refused", Kind::Gauge, "Whether the newest policy was refused.");
    text.sample(&[], u64::from(report.policy.refused.is_some()));
    text.family("glacis_policy_rules", Kind::Gauge, "Rules of the running policy.");
    text.sample(&[], u64::from(report.policy.rules));
    text.family("glacis_problems", Kind::Gauge, "Things that an operator should act on.");
    text.sample(&[], report.problems.len() as u64);
    text.family("glacis_interface_up", Kind::Gauge, "Whether the interface is there and has carrier.");
    for interface in &report.interfaces {
        let labels = [("interface", interface.name.as_str()), ("device", interface.device.as_str())];
        text.sample(&labels, u64::from(interface.present && interface.carrier));
    }
    text.family("glacis_worker_restarts_total", Kind::Counter, "Restarts of a worker.");
    for worker in &report.workers {
        text.sample(&[("worker", &worker.name)], u64::from(worker.restarts));
    }
}

fn bans(text: &mut Exposition, snapshot: &Snapshot, by_reason: Option<BansByReason>) {
    text.family("glacis_bans_active", Kind::Gauge, "Sources that are blocked now.");
    text.sample(&[], snapshot.report.bans_active);
    if let Some(BansByReason(reasons)) = by_reason {
        text.family("glacis_bans", Kind::Gauge, "Sources that are blocked now, by the shape of their scan.");
        for (reason, count) in reasons {
            text.sample(&[("reason", reason)], count);
        }
    }
}

fn scan(text: &mut Exposition, snapshot: &Snapshot) {
    let scan = &snapshot.report.scan;
    text.family("glacis_scan_enabled", Kind::Gauge, "Whether scan awareness is on.");
    text.sample(&[], u64::from(scan.enabled));
    text.family("glacis_scan_devices", Kind::Gauge, "Devices that the TC program watches.");
    text.sample(&[], scan.devices.len() as u64);
    text.family("glacis_scan_sources", Kind::Gauge, "Sources that the detector watches.");
    text.sample(&[], scan.sources);
    text.family(
        "glacis_scan_sources_forgotten_total",
        Kind::Counter,
        "Sources forgotten because the detector watches only so many.",
    );
    text.sample(&[], scan.sources_forgotten);
    text.family(
        "glacis_scan_hits_lost_total",
        Kind::Counter,
        "Hits that were seen and could not be recorded.",
    );
    text.sample(&[], scan.lost);
    let auto = scan.auto_block.as_ref();
    text.family("glacis_auto_block_mode", Kind::Gauge, "1 for the mode of the auto-block.");
    for mode in ["off", "observe", "enforce"] {
        text.sample(&[("mode", mode)], u64::from(auto.map_or("off", |auto| auto.mode.as_str()) == mode));
    }
    text.family("glacis_auto_block_suspended", Kind::Gauge, "Whether the auto-block cannot work now.");
    text.sample(&[], u64::from(auto.is_some_and(|auto| auto.suspended.is_some())));
}

/// The TC program's counters: a family of its own for each, because they overlap and their sum means nothing.
fn counted(text: &mut Exposition, snapshot: &Snapshot) {
    for (name, value) in &snapshot.report.scan.counters {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name: String = name.chars().map(|c| if is_word(c) { c } else { '_' }).collect();
        let help =
            format!("Counter {name} of the TC program, in packets unless its name says another thing.");
        text.family(&format!("glacis_tc_{name}_total"), Kind::Counter, &help);
        text.sample(&[], *value);
    }
}

fn geoip(text: &mut Exposition, snapshot: &Snapshot) {
    let files = &snapshot.report.scan.geoip;
    text.family("glacis_geoip_up", Kind::Gauge, "Whether the newest version of the database is in use.");
    for file in files {
        text.sample(&[("kind", &file.kind), ("file", &file.file)], u64::from(file.error.is_none()));
    }
    text.family(
        "glacis_geoip_build_timestamp_seconds",
        Kind::Gauge,
        "When the database was built, in Unix time.",
    );
    for file in files {
        if let Some(built) = file.built {
            text.sample(&[("kind", &file.kind), ("file", &file.file)], built.0 / 1000);
        }
    }
}

fn store(text: &mut Exposition, snapshot: &Snapshot) {
    let store = &snapshot.report.store;
    text.family("glacis_store_used_bytes", Kind::Gauge, "Bytes of the store in use.");
    text.sample(&[], store.bytes_used);
    text.family("glacis_store_limit_bytes", Kind::Gauge, "Bytes that the store may grow to.");
    text.sample(&[], store.bytes_max);
    text.family("glacis_store_scan_records", Kind::Gauge, "Scan records kept.");
    text.sample(&[], store.scan_records);
    text.family("glacis_store_events", Kind::Gauge, "Events kept.");
    text.sample(&[], store.events);
    text.family("glacis_store_writes_dropped_total", Kind::Counter, "Writes that the store could not take.");
    text.sample(&[], store.dropped);
}

/// The text so far; each family is followed by its samples.
#[derive(Default)]
struct Exposition {
    text: String,
    family: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.family);
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    /// One value of the family that was named last.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// One value of a part of the histogram that was named last.
    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let family = format!("{}{suffix}", self.family);
        if labels.is_empty() {
            return self.line(format_args!("{family} {value}"));
        }
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        self.line(format_args!("{family}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("writing to a String cannot fail");
    }
}

/// Backslash, quote and line feed are the three that the format reserves in a label's value.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::super::feed::Latest;
    use super::super::sample;
    use super::*;
    use glacis_control::StatusReport;

    fn rendered(report: StatusReport) -> String {
        let latest = Latest::default();
        latest.set(report);
        let bans = Some(sample::recent().bans_by_reason);
        render(&Moment { latest: latest.get(), bans, streams: 1 }, &Counters::default())
    }

    #[test]
    fn the_state_of_the_firewall_and_every_loss_are_told() {
        let text = rendered(sample::report());
        for line in [
            "glacis_up 1",
            "glacis_build_info{version=\"0.1.0\"} 1",
            "glacis_firewall_state{state=\"applied\"} 1",
            "glacis_firewall_state{state=\"drop-all\"} 0",
            "glacis_bans_active 2",
            "glacis_bans{reason=\"vertical\"} 1",
            "glacis_bans{reason=\"slow\"} 0",
            "glacis_status_streams 1",
            "glacis_tc_packets_total 1204311",
            "glacis_scan_sources 17",
            "glacis_scan_sources_forgotten_total 4",
            "glacis_auto_block_mode{mode=\"enforce\"} 1",
            "glacis_auto_block_mode{mode=\"off\"} 0",
            "glacis_auto_block_suspended 0",
            "glacis_geoip_up{kind=\"asn\",file=\"asn.mmdb\"} 0",
            "glacis_geoip_build_timestamp_seconds{kind=\"city\",file=\"city.mmdb\"} 1793664000",
            "glacis_scan_hits_lost_total 3",
            "glacis_store_writes_dropped_total 1",
            "glacis_worker_restarts_total{worker=\"status\"} 2",
            "glacis_interface_up{interface=\"wan\",device=\"eth0\"} 1",
            "glacis_bans{reason=\"gate\"} 0",
            "glacis_gate_clients 1300",
            "glacis_gate_relaying{gate=\"web\"} 12",
            "glacis_gate_waiting{gate=\"mail\"} 0",
            "glacis_gate_accepted_total{gate=\"web\"} 2345",
            "glacis_gate_connections_total{gate=\"web\",end=\"denied\"} 45",
            "glacis_gate_connections_total{gate=\"mail\",end=\"no-backend\"} 0",
            "glacis_gate_looks_total{gate=\"web\"} 90",
            "glacis_gate_looks_failed_total{gate=\"web\"} 0",
            "glacis_gate_bytes_total{gate=\"web\",direction=\"to_backends\"} 5242880",
            "glacis_gate_probes_total{gate=\"web\",port=\"3128\",outcome=\"http-proxy\"} 2",
            "glacis_gate_backend_up{gate=\"web\",backend=\"10.0.0.3:443\"} 0",
            "glacis_gate_backend_up{gate=\"mail\",backend=\"[fd00::25]:25\"} 1",
            "glacis_gate_backend_connections_total{gate=\"web\",backend=\"10.0.0.2:443\"} 1150",
            "glacis_gate_fast_path_clients{gate=\"web\"} 8",
            "glacis_gate_fast_path_bytes_total{gate=\"web\"} 2097152",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_sample_follows_the_type_of_its_family_and_no_family_comes_twice() {
        let text = rendered(sample::report());
        let (mut families, mut all_series, mut is_histogram) = (Vec::new(), Vec::new(), false);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(!families.contains(&name), "{name} comes twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                families.push(name);
                is_histogram = kind == "histogram";
            } else if !line.starts_with('#') {
                let series = line.rsplit_once(' ').unwrap().0;
                assert!(!all_series.contains(&series), "{series} comes twice");
                all_series.push(series);
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(families.last().unwrap()).unwrap_or("of another family");
                let suffixes: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
            }
        }
        assert!(families.iter().all(|name| name.starts_with("glacis_")));
    }

    #[test]
    fn b14_the_histogram_of_verdicts_is_cumulative_and_ends_with_all_of_them() {
        let text = rendered(sample::report());
        let all = text.lines().filter_map(|line| line.strip_prefix("glacis_gate_verdict_seconds"));
        let web: Vec<&str> = all.filter(|line| line.contains("gate=\"web\"")).collect();
        assert_eq!(web.len(), 18, "{web:#?}");
        let bucket = |le: &str, count: u64| format!("_bucket{{gate=\"web\",le=\"{le}\"}} {count}");
        for line in [
            bucket("0.0001", 0),
            bucket("0.0005", 0),
            bucket("0.001", 1),
            bucket("0.25", 1),
            bucket("0.5", 2),
            bucket("10", 2),
            bucket("+Inf", 2),
            "_sum{gate=\"web\"} 0.4009".into(),
            "_count{gate=\"web\"} 2".into(),
        ] {
            assert!(web.contains(&line.as_str()), "{line} is missing in {web:#?}");
        }
    }

    #[test]
    fn a_backend_of_several_pools_is_told_once() {
        let mut report = sample::report();
        let backends = &mut report.gates[0].backends;
        backends[1].address = backends[0].address;
        let text = rendered(report);
        assert!(
            text.contains("\nglacis_gate_backend_up{gate=\"web\",backend=\"10.0.0.2:443\"} 0\n"),
            "{text}"
        );
        assert!(text.contains("_connections_total{gate=\"web\",backend=\"10.0.0.2:443\"} 2300\n"), "{text}");
    }

    #[test]
    fn without_a_gate_only_the_number_of_known_clients_is_told() {
        let mut report = sample::report();
        report.gates.clear();
        let text = rendered(report);
        let lines = text.lines().filter(|line| line.contains("glacis_gate_") && !line.starts_with('#'));
        assert_eq!(lines.collect::<Vec<_>>(), ["glacis_gate_clients 1300"]);
    }

    #[test]
    fn no_address_of_a_stranger_is_told() {
        let text = rendered(sample::report());
        for part in ["203.0.113", "2001:db8"] {
            assert!(!text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_counter_s_name_stays_a_name() {
        let mut report = sample::report();
        report.scan.counters = vec![("a\n b{}-9".into(), 1)];
        let text = rendered(report);
        assert!(text.contains("\nglacis_tc_a__b___9_total 1\n"), "{text}");
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut report = sample::report();
        report.interfaces[0].name = "a\"} 1\n\\x".into();
        let text = rendered(report);
        assert!(text.contains(r#"glacis_interface_up{interface="a\"} 1\n\\x",device="eth0"} 1"#), "{text}");
    }

    #[test]
    fn before_the_first_report_only_the_worker_speaks_of_itself() {
        let text = render(&Moment::default(), &Counters::default());
        assert!(text.contains("\nglacis_up 0\n") && !text.contains("glacis_bans_active"), "{text}");
    }
}
