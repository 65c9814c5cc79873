//! The TC program: loaded, attached, its probes taken in and handed to the detector.

use super::troubles::Trouble;
use super::{Daemon, now};
use crate::log::whole;
use crate::scan::{Count, Findings, ProbeKey};
use glacis_control::{Protocol, UnixMillis};
use glacis_loader::{
    Detection, EventStream, LoaderError, MonotonicTime, ProbeCount, ProbeKey as KernelKey, Settings,
    TcProgram,
};
use glacis_plan::{ObservedLink, Plan, ScanDevices, ScanPlan};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot::{self, error::RecvError};

/// Probes taken in one turn of the loop, so that a flood leaves time for everything else.
const PROBES_PER_TURN: usize = 1_024;

/// UDP source ports that replies come from: DNS, DHCP, NTP, QUIC, IKE, DHCPv6, DNS over TLS, mDNS.
const UDP_REPLY_PORTS: [u16; 11] = [53, 67, 68, 123, 443, 500, 546, 547, 853, 4500, 5353];

/// Hits of one key so far, and when the last one came.
pub(super) struct Probe {
    kernel_key: KernelKey,
    count: Count,
    last: MonotonicTime,
}

impl Probe {
    /// `None` for a protocol that this version does not count.
    fn key(&self) -> Option<ProbeKey> {
        let protocol = Protocol::from_number(self.kernel_key.protocol)?;
        Some(ProbeKey { source: self.kernel_key.source(), port: self.kernel_key.port(), protocol })
    }
}

/// Everything that the kernel's table holds.
fn counts_of(program: &TcProgram) -> Result<Vec<Probe>, LoaderError> {
    let mut probes = vec![];
    program.sweep_counts(|kernel_key, ProbeCount { hits, first, last }| {
        probes.push(Probe { kernel_key, count: Count { first, hits }, last: MonotonicTime(last) });
    })?;
    Ok(probes)
}

/// The program as a thread loaded it.
pub(super) struct LoadedProgram {
    program: TcProgram,
    events: EventStream,
    /// What an earlier run of the daemon has recorded already.
    known: Vec<Probe>,
}

/// A program that is being loaded.
pub(super) type Loading = oneshot::Receiver<Result<LoadedProgram, String>>;

/// Loads the program; pinned maps of an earlier run are taken over with all that is in them.
fn load_program(pin_dir: &Path, bans: Vec<(IpNet, Option<Duration>)>) -> Result<LoadedProgram, String> {
    crate::bpffs::ensure(pin_dir)
        .map_err(|error| format!("cannot mount a bpffs for the pinned maps: {error}"))?;
    let load = || {
        // On, so that a program of an earlier run goes on counting; the plan decides a moment later.
        let settings = Settings { detection: Detection::On, hook: None };
        let mut program = TcProgram::load(pin_dir, settings)?;
        let now = MonotonicTime::now();
        let copies = bans.into_iter().map(|(net, left)| (net, left.map(|left| now.plus(left))));
        if let Err(error) = program.replace_bans(copies) {
            tracing::warn!(error = whole(&error), "the TC program's copy of the bans is incomplete");
        }
        program.set_udp_reply_ports(UDP_REPLY_PORTS)?;
        let events = program.take_events().expect("a program that was just loaded still has its events");
        let known = counts_of(&program)?;
        Ok(LoadedProgram { program, events, known })
    };
    load().map_err(|error: LoaderError| whole(&error))
}

/// The ring of probe events; empty until the program is loaded.
#[derive(Default)]
pub(super) struct ProbeSource {
    ring: Option<AsyncFd<EventStream>>,
    /// What is left of the last sweep.
    swept: Vec<Probe>,
}

impl ProbeSource {
    fn open(&mut self, events: EventStream) -> io::Result<()> {
        // SAFETY: the stream owns its descriptor for as long as it lives and never gives another.
        self.ring = Some(unsafe { AsyncFd::register(events) }?);
        Ok(())
    }

    /// Takes what a sweep found; it is handed out in turns, like what comes from the ring.
    fn swept(&mut self, probes: Vec<Probe>) {
        self.swept = probes;
    }

    /// Waits for probes, for ever while there is no ring; at most [`PROBES_PER_TURN`] of them.
    pub(super) async fn next(&mut self) -> Vec<Probe> {
        if !self.swept.is_empty() {
            let rest = self.swept.len().saturating_sub(PROBES_PER_TURN);
            return self.swept.split_off(rest);
        }
        let Some(ring) = &mut self.ring else { return std::future::pending().await };
        let Ok(mut ready) = ring.readable_mut().await else { return std::future::pending().await };
        let mut batch = vec![];
        let drained = ready.get_inner_mut().drain(PROBES_PER_TURN, |event| {
            let count = Count { first: event.first, hits: event.hits };
            batch.push(Probe { kernel_key: event.key, count, last: MonotonicTime(event.at) });
        });
        if drained < PROBES_PER_TURN {
            ready.clear_ready();
        }
        batch
    }
}

impl Daemon {
    /// Whether the program is still to be loaded.
    pub(super) async fn needs_program(&self) -> bool {
        self.kernel.run(|state| state.tc.is_none()).await
    }

    /// Begins to load the program, on a thread of its own: the kernel's verifier takes its time.
    pub(super) fn begin_loading_program(&self) -> Loading {
        let (pin_dir, bans) = (self.args.pin_dir.clone(), self.bans_with_time_left());
        let (done, loading) = oneshot::channel();
        let spawned = thread::Builder::new().name("tc-load".to_owned()).spawn(move || {
            // Nobody waits any more when the daemon is stopping.
            let _ = done.send(load_program(&pin_dir, bans));
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to load the TC program on");
        }
        loading
    }

    /// Takes a program over and attaches it.
    pub(super) async fn take_program(&mut self, loaded: Result<Result<LoadedProgram, String>, RecvError>) {
        let taken = match loaded {
            Ok(Ok(loaded)) => self.adopt(loaded).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err("it was not loaded".to_owned()),
        };
        match taken {
            Ok(()) => {
                self.troubles.clear(&Trouble::Program);
                let plan = self.wanted.clone();
                self.attach_program(&plan).await;
            }
            Err(error) => {
                tracing::error!(error, "scan awareness is off");
                self.troubles.add(Trouble::Program, format!("scan awareness is off: {error}"));
            }
        }
    }

    async fn adopt(&mut self, loaded: LoadedProgram) -> Result<(), String> {
        let LoadedProgram { program, events, known } = loaded;
        let clock = Clock::now();
        for probe in known {
            if let Some(key) = probe.key() {
                self.detector.resume(key, probe.count, clock.at(probe.last));
            }
        }
        self.kernel.run(move |state| state.tc = Some(program)).await;
        self.probes.open(events).map_err(|error| error.to_string())
    }

    /// Attaches the program where the plan wants it and detaches it elsewhere.
    pub(super) async fn attach_program(&mut self, plan: &Plan) {
        let devices = match &plan.scan {
            Some(ScanPlan { devices: ScanDevices::Outward, .. }) => detected(&self.observed),
            Some(ScanPlan { devices: ScanDevices::Named(devices), .. }) => devices.clone(),
            None => vec![],
        };
        let present = |device: &String| self.observed.iter().any(|link| link.device == *device);
        let devices: Vec<String> = devices.into_iter().filter(present).collect();
        let (tcp, udp) =
            plan.scan.as_ref().map_or((vec![], vec![]), |s| (s.exposed_tcp.clone(), s.exposed_udp.clone()));
        let failures = self.kernel.run(move |state| match &mut state.tc {
            Some(program) => converge_program(program, &mut state.attached, &devices, (&tcp, &udp)),
            None => vec![],
        });
        let failures = failures.await;
        self.troubles.clear(&Trouble::Attachment);
        for failure in failures {
            tracing::error!(failure = whole(&failure), "scan awareness is incomplete");
            self.troubles.add(Trouble::Attachment, whole(&failure));
        }
    }

    pub(super) async fn take_probes(&mut self, probes: Vec<Probe>) {
        let clock = Clock::now();
        for probe in probes {
            self.take_probe(&probe, &clock).await;
        }
    }

    /// Hits that came after a key's last event are only in the kernel's table.
    pub(super) async fn sweep_probes(&mut self) {
        let swept = self.kernel.run(|state| match &mut state.tc {
            Some(program) => counts_of(program),
            None => Ok(vec![]),
        });
        match swept.await {
            Ok(probes) => self.probes.swept(probes),
            Err(error) => tracing::warn!(error = whole(&error), "probe counts could not be read"),
        }
    }

    async fn take_probe(&mut self, probe: &Probe, clock: &Clock) {
        if self.wanted.scan.is_none() {
            return;
        }
        let Some(key) = probe.key() else { return };
        let Findings { hit, trigger } = self.detector.observe(key, probe.count, clock.at(probe.last));
        if let Some(hit) = hit {
            self.store.record(&hit);
        }
        if let Some(trigger) = trigger {
            self.take_trigger(trigger).await;
            // Each costs a write to disk: a flood of them must not look like a loop that stands still.
            crate::heartbeat::beat();
        }
    }
}

/// `ours` are the devices that this process attached. What an earlier one left attached is attached again, which puts
/// this version's program in the place of that one's without a gap.
fn converge_program(
    program: &mut TcProgram,
    ours: &mut BTreeSet<String>,
    devices: &[String],
    (tcp, udp): (&[u16], &[u16]),
) -> Vec<LoaderError> {
    let mut failures = vec![];
    let detection = if devices.is_empty() { Detection::Off } else { Detection::On };
    failures.extend(program.set_exposed(tcp.iter().copied(), udp.iter().copied()).err());
    failures.extend(program.set_detection(detection).err());
    let attached: Vec<String> = match program.attached() {
        Ok(attached) => attached.into_iter().map(|a| a.device).collect(),
        Err(error) => {
            failures.push(error);
            vec![]
        }
    };
    for device in attached.iter().filter(|device| !devices.contains(device)) {
        failures.extend(program.detach(device).err());
    }
    for device in devices {
        if attached.contains(device) && ours.contains(device) {
            continue;
        }
        match program.attach(device) {
            Ok(_) => _ = ours.insert(device.clone()),
            Err(error) => failures.push(error),
        }
    }
    failures.extend(program.remove_stale().err());
    failures
}

/// Every up interface with a default route or a public address; loopback never.
fn detected(links: &[ObservedLink]) -> Vec<String> {
    let faces_outside = |link: &&ObservedLink| {
        let default_route = link.routes.iter().any(|r| r.route.destination.prefix_len() == 0);
        link.up && !link.loopback && (default_route || link.addresses.iter().any(|a| is_public(a.net.addr())))
    };
    links.iter().filter(faces_outside).map(|link| link.device.clone()).collect()
}

fn is_public(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(a) => {
            let shared = a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64;
            !(a.is_private()
                || a.is_loopback()
                || a.is_link_local()
                || a.is_unspecified()
                || a.is_multicast()
                || shared)
        }
        std::net::IpAddr::V6(a) => (a.segments()[0] & 0xe000) == 0x2000,
    }
}

/// Turns the TC program's clock into wall time.
struct Clock {
    wall: UnixMillis,
    kernel: MonotonicTime,
}

impl Clock {
    fn now() -> Self {
        Self { wall: now(), kernel: MonotonicTime::now() }
    }

    fn at(&self, at: MonotonicTime) -> UnixMillis {
        UnixMillis(self.wall.0.saturating_sub(self.kernel.since(at).as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glacis_plan::RoutePlan;
    use glacis_plan::changes::{ObservedAddress, ObservedRoute};

    fn link(device: &str, address: Option<&str>, default_route: bool) -> ObservedLink {
        let route = RoutePlan { destination: "0.0.0.0/0".parse().unwrap(), gateway: None, metric: None };
        ObservedLink {
            device: device.into(),
            up: true,
            addresses: address
                .map(|a| ObservedAddress { net: a.parse().unwrap(), ours: false })
                .into_iter()
                .collect(),
            routes: default_route.then_some(ObservedRoute { route, ours: false }).into_iter().collect(),
            ..ObservedLink::default()
        }
    }

    #[test]
    fn a04_detection_takes_every_outward_interface() {
        let links = [
            link("wan0", None, true),
            link("wan1", Some("8.8.4.4/24"), false),
            link("wan2", Some("2001:db8::1/64"), false),
            link("lan0", Some("10.0.0.1/8"), false),
            link("cgn0", Some("100.64.0.1/10"), false),
            ObservedLink { up: false, ..link("off0", Some("8.8.8.8/24"), true) },
            ObservedLink { loopback: true, ..link("lo", Some("8.8.8.8/24"), true) },
        ];
        assert_eq!(detected(&links), ["wan0", "wan1", "wan2"]);
    }

    #[test]
    fn times_of_the_program_become_wall_times() {
        let clock = Clock { wall: UnixMillis(1_000_000), kernel: MonotonicTime(100_000_000_000) };
        assert_eq!(clock.at(MonotonicTime(99_000_000_000)), UnixMillis(999_000));
        assert_eq!(clock.at(MonotonicTime(101_000_000_000)), UnixMillis(1_000_000));
    }
}
