//! Memory of the daemon and of its maps while ten million forged sources scan it.

use crate::memory::smaps_mebibytes;
use crate::{Bound, Figure, Outcome, Unit};
use glacis_tests::daemon::Daemon;
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Flood, Sources, Wire};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Where the daemon's memory is looked at: after so many sources in all.
const STAGES: [u32; 3] = [1_000_000, 5_000_000, 10_000_000];
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(16, 0, 0, 0);
const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A stage ends here at the latest, and the measurement fails.
const STAGE_TIME_MAX: Duration = Duration::from_secs(120);
/// How often memory is looked at for its peak.
const SAMPLE: Duration = Duration::from_millis(250);

const MEBIBYTES_MAX: f64 = 64.0;
/// Growth from the first stage to the last that still is flat.
const GROWTH_MEBIBYTES_MAX: f64 = 4.0;

const POLICY: &str = r#"
policy version=1 name="forged"
interface g0 { address "192.0.2.1/24" }
zone internet { from g0; default drop }
rules from=internet to=self { allow ping }
rules from=self to=internet { allow all }
scan { interfaces g0; auto-block { threshold 100 } }
status { listen tcp=9777 on=internet }
"#;

/// The sum is held against the bound: what processes have of their own, and the maps and programs of the kernel.
/// Pages of the store's file that are mapped belong to the page cache, which takes them back when it wants them, and
/// are told apart.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let (crowd, firewall) = (Namespace::new("crowd"), Namespace::new("firewall"));
    crowd.veth("p0", &firewall, "g0");
    let daemon = Daemon::start(&firewall, POLICY);
    daemon.wait_ready();
    let status = daemon.wait_for("the worker", |s| s["workers"][0]["pid"].is_u64());
    let worker = status["workers"][0]["pid"].as_u64().ok_or("a worker without a pid in the status")?;
    let processes = Processes { core: daemon.pid(), worker: worker as u32 };
    let wire = Wire::open(&crowd, "p0", &firewall, "g0");

    let mut stages = vec![processes.memory()?];
    let stop = AtomicBool::new(false);
    let peak = thread::scope(|scope| {
        let sampler = scope.spawn(|| processes.peak_until(&stop));
        let flooded = flood_in_stages(&wire, || {
            stages.push(processes.memory()?);
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let peak = sampler.join().map_err(|_| "the sampler panicked")?;
        flooded.and(peak)
    })?;
    let [idle, first, .., last] = stages[..] else { return Err("a stage was not measured".into()) };
    let alone = |what: &str, ours: String, value, bound| Figure {
        what: format!("10 million forged sources: {what}"),
        ours,
        peer: String::new(),
        value,
        unit: Unit::Mebibytes,
        bound,
    };
    Ok(vec![
        alone(
            "memory, peak",
            format!("processes {:.1} + maps {:.1} MiB", peak.processes, peak.maps),
            peak.sum(),
            Bound::AtMost(MEBIBYTES_MAX),
        ),
        alone(
            "growth after the first million",
            format!("idle {:.1}, then {:.1}, {:.1} MiB", idle.sum(), first.sum(), last.sum()),
            last.sum() - first.sum(),
            Bound::AtMost(GROWTH_MEBIBYTES_MAX),
        ),
        alone(
            "mapped pages of files",
            format!("idle {:.1}, peak {:.1} MiB", idle.mapped_files, peak.mapped_files),
            peak.mapped_files,
            Bound::Told,
        ),
    ])
}

fn flood_in_stages(wire: &Wire, mut after_each: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let mut sent_before = 0;
    for stage in STAGES {
        let first = IpAddr::from(Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + sent_before));
        let count = stage - sent_before;
        let flood = Flood {
            packets_max: count.into(),
            time_max: STAGE_TIME_MAX,
            ..Flood::syn(Sources::forged(first, count), TARGET.into())
        };
        let sent = wire.flood(&flood);
        eprintln!("  {stage} sources, {:.0} a second", sent.packets as f64 / sent.took.as_secs_f64());
        if sent.packets + sent.refused < count.into() {
            return Err(format!("only {} of {count} packets left in {:?}", sent.packets, sent.took).into());
        }
        after_each()?;
        sent_before = stage;
    }
    Ok(())
}

struct Processes {
    core: u32,
    worker: u32,
}

/// Mebibytes.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    processes: f64,
    /// And programs.
    maps: f64,
    /// Of the core: its own binary and the store's file.
    mapped_files: f64,
}

impl Memory {
    fn sum(self) -> f64 {
        self.processes + self.maps
    }
}

impl Processes {
    fn memory(&self) -> Outcome<Memory> {
        let of_its_own = |pid| smaps_mebibytes(pid, "Pss_Anon:");
        Ok(Memory {
            processes: of_its_own(self.core)? + of_its_own(self.worker)?,
            maps: bpf_mebibytes(self.core)?,
            mapped_files: smaps_mebibytes(self.core, "Pss_File:")?,
        })
    }

    fn peak_until(&self, stop: &AtomicBool) -> Outcome<Memory> {
        let mut peak = self.memory()?;
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(SAMPLE);
            let now = self.memory()?;
            let mapped_files = peak.mapped_files.max(now.mapped_files);
            peak = Memory { mapped_files, ..if now.sum() > peak.sum() { now } else { peak } };
        }
        Ok(peak)
    }
}

/// What the kernel says its maps and programs take that a process has descriptors of.
fn bpf_mebibytes(pid: u32) -> Outcome<f64> {
    let mut bytes_by_id = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that was closed meanwhile is no map.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let id = field("map_id:").map(|id| ("map", id)).or(field("prog_id:").map(|id| ("program", id)));
        if let (Some((kind, id)), Some(bytes)) = (id, field("memlock:")) {
            bytes_by_id.insert((kind, id.to_owned()), bytes.parse::<u64>()?);
        }
    }
    if bytes_by_id.is_empty() {
        return Err("the daemon has no maps: scan awareness is off".into());
    }
    Ok(bytes_by_id.values().sum::<u64>() as f64 / f64::from(1 << 20))
}
