//! Memory of the idle daemon, workers included.

use crate::{Bound, Figure, Outcome, Unit};
use glacis_tests::daemon::Daemon;
use glacis_tests::netns::Namespace;
use std::fs;
use std::time::Duration;

/// Idle, the daemon has nothing more to allocate after this.
const SETTLE: Duration = Duration::from_secs(3);
const MEBIBYTES_MAX: f64 = 40.0;

const POLICY: &str = r#"
policy version=1 name="idle"
interface g0 { address "192.0.2.1/24" }
zone internet { from g0; default drop }
rules from=internet to=self { allow ping }
rules from=self to=internet { allow all }
scan { interfaces g0; auto-block { threshold 100 } }
status { listen tcp=9777 on=internet }
"#;

/// Proportional set sizes of the core and its workers.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let (firewall, other) = (Namespace::new("idle"), Namespace::new("peer"));
    other.veth("p0", &firewall, "g0");
    let daemon = Daemon::start(&firewall, POLICY);
    let status = daemon.wait_for("the worker", |s| s["workers"][0]["pid"].is_u64());
    std::thread::sleep(SETTLE);
    let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let core = smaps_mebibytes(daemon.pid(), "Pss:")?;
    let mut all = core;
    for worker in workers {
        let pid = worker["pid"].as_u64().ok_or("a worker without a pid in the status")?;
        all += smaps_mebibytes(pid.try_into()?, "Pss:")?;
    }
    Ok(vec![Figure {
        what: "memory, idle: core and workers".to_owned(),
        ours: format!("{core:.1} + {:.1} MiB", all - core),
        peer: String::new(),
        value: all,
        unit: Unit::Mebibytes,
        bound: Bound::AtMost(MEBIBYTES_MAX),
    }])
}

/// One line of what the kernel sums up about all mappings of a process.
pub(crate) fn smaps_mebibytes(pid: u32, line: &str) -> Outcome<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let rest = text.lines().find_map(|found| found.strip_prefix(line));
    let kib = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| format!("no `{line}` in {path}"))? / 1024.0)
}
