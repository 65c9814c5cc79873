//! The TC program: loaded, taken over from an earlier run, attached where the plan wants it.

use super::Daemon;
use super::scanning::{Message, counted, probes_counted};
use super::troubles::Trouble;
use crate::log::whole;
use glacis_loader::{Detection, EventStream, LoaderError, MonotonicTime, Options, Settings, TcProgram};
use glacis_plan::{EstablishedFlows, EvidenceRule, ObservedLink, Plan, ScanDevices, ScanPlan};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot::{self, error::RecvError};

/// UDP source ports that replies come from: DNS, DHCP, NTP, QUIC, IKE, DHCPv6, DNS over TLS, mDNS.
const UDP_REPLY_PORTS: [u16; 11] = [53, 67, 68, 123, 443, 500, 546, 547, 853, 4500, 5353];

/// The program as a thread loaded it.
pub(super) struct LoadedProgram {
    program: TcProgram,
    events: EventStream,
    /// Probes that it ever counted.
    probes: u64,
    /// What an earlier run of the daemon has recorded already.
    known: Vec<Message>,
}

/// A program that is being loaded.
pub(super) type Loading = oneshot::Receiver<Result<LoadedProgram, String>>;

/// Loads the program; pinned maps of an earlier run are taken over with all that is in them.
fn load_program(pin_dir: &Path, bans: Vec<(IpNet, Option<Duration>)>) -> Result<LoadedProgram, String> {
    crate::bpffs::ensure(pin_dir)
        .map_err(|error| format!("cannot mount a bpffs for the pinned maps: {error}"))?;
    let load = || {
        // On, so that a program of an earlier run goes on counting; the plan decides a moment later.
        let settings = Settings { detection: Detection::On, ..Settings::default() };
        let mut program = TcProgram::load(pin_dir, settings)?;
        let now = MonotonicTime::now();
        let copies = bans.into_iter().map(|(net, left)| (net, left.map(|left| now.plus(left))));
        if let Err(error) = program.replace_bans(copies) {
            tracing::warn!(error = whole(&error), "the TC program's copy of the bans is incomplete");
        }
        program.set_udp_reply_ports(UDP_REPLY_PORTS)?;
        let events = program.take_events().expect("a program that was just loaded still has its events");
        let known = counted(&program, Duration::ZERO)?;
        let probes = probes_counted(&program)?;
        Ok(LoadedProgram { program, events, probes, known })
    };
    load().map_err(|error: LoaderError| whole(&error))
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
        let LoadedProgram { program, events, probes, known } = loaded;
        self.resume_detection(&known);
        self.unrecorded.begin(probes);
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
        let settings = DetectionPlan::of(plan.scan.as_ref(), &devices);
        let failures = self.kernel.run(move |state| match &mut state.tc {
            Some(program) => converge_program(program, &mut state.attached, &devices, &settings),
            None => vec![],
        });
        let failures = failures.await;
        self.troubles.clear(&Trouble::Attachment);
        for failure in failures {
            tracing::error!(failure = whole(&failure), "scan awareness is incomplete");
            self.troubles.add(Trouble::Attachment, whole(&failure));
        }
    }
}

/// What the plan asks of the program, whatever device it is on.
struct DetectionPlan {
    exposed_tcp: Vec<u16>,
    exposed_udp: Vec<u16>,
    detection: Detection,
    options: Options,
}

impl DetectionPlan {
    fn of(scan: Option<&ScanPlan>, devices: &[String]) -> Self {
        let block = scan.and_then(|scan| scan.auto_block.as_ref());
        Self {
            exposed_tcp: scan.map_or_else(Vec::new, |scan| scan.exposed_tcp.clone()),
            exposed_udp: scan.map_or_else(Vec::new, |scan| scan.exposed_udp.clone()),
            detection: if devices.is_empty() { Detection::Off } else { Detection::On },
            options: Options {
                stealth: scan.is_some_and(|scan| scan.stealth),
                challenge: block.is_some_and(|block| block.evidence == EvidenceRule::SpoofProof),
                keep_established: block.is_some_and(|block| block.established == EstablishedFlows::Keep),
            },
        }
    }
}

/// `ours` are the devices that this process attached. What an earlier one left attached is attached again, which puts
/// this version's program in the place of that one's without a gap.
fn converge_program(
    program: &mut TcProgram,
    ours: &mut BTreeSet<String>,
    devices: &[String],
    settings: &DetectionPlan,
) -> Vec<LoaderError> {
    let mut failures = vec![];
    let (tcp, udp) = (settings.exposed_tcp.iter().copied(), settings.exposed_udp.iter().copied());
    failures.extend(program.set_exposed(tcp, udp).err());
    failures.extend(program.set_options(settings.options).err());
    failures.extend(program.set_detection(settings.detection).err());
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
}
