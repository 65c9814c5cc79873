//! Judging a client by six of its ports: ours beside plain connects of tokio and beside nmap.
//!
//! Gate and client are namespaces joined by a veth. The two sides take turns, round by round, so that both meet the
//! same machine. A crowd is a thousand addresses of the client's that come at the same moment; each one's time
//! runs from that moment to its verdict, as its visitor would feel it.

use crate::{Bound, Figure, Outcome, Unit, median};
use glacis_control::gate::PortOutcome;
use glacis_probe::{Look, Stop, look};
use glacis_tests::netns::Namespace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PORTS: [u16; 6] = [22, 80, 443, 3128, 8000, 8080];
/// Nothing listens here either, and nobody looks: connecting to it takes one round trip.
const ROUND_TRIP_PORT: u16 = 1;
const TIMEOUT: Duration = Duration::from_millis(500);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Addresses of the client's as well.
const CROWD: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const CROWD_CLIENTS: u32 = 1_000;
/// Six sockets for each client, and what the runtime needs.
const OPEN_FILES: u64 = 16_384;

const SINGLE_ROUNDS: usize = 500;
const SILENT_ROUNDS: usize = 9;
const CROWD_ROUNDS: usize = 20;
const NMAP_ROUNDS: usize = 3;

const MILLISECONDS_BEYOND_ROUND_TRIP: f64 = 0.2;
const CROWD_RATIO: f64 = 1.5;
const SILENT_MILLISECONDS: f64 = 510.0;

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let _files = OpenFiles::allow(OPEN_FILES)?;
    let scene = Scene::new();
    let mut figures = scene.refusing()?;
    figures.push(scene.crowd("1,000 clients at once, six ports refusing: p99", Bound::AtMost(CROWD_RATIO))?);
    scene.drop_probes();
    figures.extend(scene.dropping()?);
    figures.push(scene.crowd("1,000 clients at once, six ports dropping: p99", Bound::Told)?);
    Ok(figures)
}

struct Scene {
    gate: Namespace,
    client: Namespace,
}

/// Who judges.
#[derive(Clone, Copy)]
enum Judge {
    Ours,
    /// The usual way: a connection to each port, all at once, each with a timeout.
    Plain,
}

impl Scene {
    fn new() -> Self {
        let (gate, client) = (Namespace::new("gate"), Namespace::new("client"));
        gate.veth("g0", &client, "c0");
        gate.address("g0", "192.0.2.1/24");
        client.address("c0", &format!("{CLIENT}/24"));
        client.run(["ip", "route", "add", "local", &format!("{CROWD}/16"), "dev", "lo"]);
        gate.run(["ip", "route", "add", &format!("{CROWD}/16"), "via", &CLIENT.to_string()]);
        Self { gate, client }
    }

    /// From now on the client answers nothing at these ports.
    fn drop_probes(&self) {
        let ports = PORTS.map(|port| port.to_string()).join(", ");
        let chain = format!("type filter hook input priority 0; tcp dport {{ {ports} }} drop");
        self.client.run(["nft", &format!("table ip bench {{ chain in {{ {chain}\n}}\n}}")]);
    }

    fn refusing(&self) -> Outcome<Vec<Figure>> {
        let (mut round_trips, mut ours, mut plain) = (vec![], vec![], vec![]);
        self.run(async {
            for _ in 0..SINGLE_ROUNDS {
                round_trips.push(round_trip()?);
                ours.push(judge(Judge::Ours, CLIENT.into(), PortOutcome::Refused).await?);
                plain.push(judge(Judge::Plain, CLIENT.into(), PortOutcome::Refused).await?);
            }
            Ok(())
        })?;
        let nmap = median(self.nmap()?);
        let (round_trip, p99) = (median(round_trips), percentile_99(&mut ours));
        let (ours, plain) = (median(ours), median(plain));
        let ours_text = format!("{ours:.3} ms, p99 {p99:.3}");
        Ok(vec![
            Figure {
                what: "verdict, six ports refusing: beyond a round trip".to_owned(),
                ours: ours_text.clone(),
                peer: format!("round trip {round_trip:.3} ms"),
                value: ours - round_trip,
                unit: Unit::Milliseconds,
                bound: Bound::AtMost(MILLISECONDS_BEYOND_ROUND_TRIP),
            },
            ratio("the same, against plain connects", &ours_text, ours, "tokio", plain),
            ratio("the same, against nmap", &ours_text, ours, "nmap", nmap),
        ])
    }

    fn dropping(&self) -> Outcome<Vec<Figure>> {
        let (mut ours, mut plain) = (vec![], vec![]);
        self.run(async {
            for _ in 0..SILENT_ROUNDS {
                ours.push(judge(Judge::Ours, CLIENT.into(), PortOutcome::Silent).await?);
                plain.push(judge(Judge::Plain, CLIENT.into(), PortOutcome::Silent).await?);
            }
            Ok(())
        })?;
        let nmap = median(self.nmap()?);
        let worst = percentile_99(&mut ours);
        let (ours, plain) = (median(ours), median(plain));
        Ok(vec![
            Figure {
                what: "verdict, six ports dropping, 500 ms".to_owned(),
                ours: format!("{ours:.1} ms, worst {worst:.1}"),
                peer: format!("tokio {plain:.1} ms"),
                value: ours,
                unit: Unit::Milliseconds,
                bound: Bound::AtMost(SILENT_MILLISECONDS),
            },
            ratio("the same, against nmap", &format!("{ours:.1} ms"), ours, "nmap", nmap),
        ])
    }

    /// Medians, over the rounds, of the time that one client in a hundred exceeds.
    fn crowd(&self, what: &str, bound: Bound) -> Outcome<Figure> {
        let expected = if bound == Bound::Told { PortOutcome::Silent } else { PortOutcome::Refused };
        let (mut ours, mut plain) = (vec![], vec![]);
        for round in 0..CROWD_ROUNDS {
            // Whoever is second finds the caches warm.
            let mut turns = [(Judge::Ours, &mut ours), (Judge::Plain, &mut plain)];
            turns.rotate_left(round % 2);
            for (judge, times) in turns {
                times.push(self.run(crowd_times(judge, expected))?);
            }
        }
        let of =
            |rounds: &mut [Vec<f64>]| median(rounds.iter_mut().map(|round| percentile_99(round)).collect());
        let (ours, plain) = (of(&mut ours), of(&mut plain));
        Ok(Figure { bound, ..ratio(what, &format!("{ours:.0} ms"), ours, "tokio", plain) })
    }

    /// In the gate's namespace, on a runtime such as a worker's thread has.
    fn run<T: Send>(&self, future: impl Future<Output = Outcome<T>> + Send) -> Outcome<T> {
        self.gate.enter(|| runtime()?.block_on(future))
    }

    /// Milliseconds of the better one of nmap's two ways, told to wait as long as we do and never twice.
    fn nmap(&self) -> Outcome<Vec<f64>> {
        let ports = PORTS.map(|port| port.to_string()).join(",");
        let wait = format!("{}ms", TIMEOUT.as_millis());
        let mut best: Option<Vec<f64>> = None;
        for way in ["-sS", "-sT"] {
            let mut times = vec![];
            for _ in 0..NMAP_ROUNDS {
                let argv = [
                    "nmap",
                    way,
                    "-n",
                    "-Pn",
                    "-T5",
                    "--max-retries",
                    "0",
                    "--min-parallelism",
                    "64",
                    "--initial-rtt-timeout",
                    &wait,
                    "--min-rtt-timeout",
                    &wait,
                    "--max-rtt-timeout",
                    &wait,
                    "-p",
                    &ports,
                ];
                let mut command = self.gate.command(argv);
                command.arg(CLIENT.to_string()).stdout(Stdio::null());
                let start = Instant::now();
                if !command.status()?.success() {
                    return Err(format!("nmap {way} failed").into());
                }
                times.push(milliseconds(start));
            }
            if best.as_ref().is_none_or(|best| median(times.clone()) < median(best.clone())) {
                best = Some(times);
            }
        }
        best.ok_or_else(|| "nmap was not run".into())
    }
}

fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Milliseconds of a blocking connect to one port that refuses.
fn round_trip() -> Outcome<f64> {
    let start = Instant::now();
    let answer = TcpStream::connect((CLIENT, ROUND_TRIP_PORT)).map(|_| ());
    let time = milliseconds(start);
    match answer {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(time),
        other => Err(format!("port {ROUND_TRIP_PORT} did not refuse: {other:?}").into()),
    }
}

/// Milliseconds to a verdict, which must be the expected one at all ports.
async fn judge(judge: Judge, client: IpAddr, expected: PortOutcome) -> Outcome<f64> {
    let start = Instant::now();
    let right = match judge {
        Judge::Ours => {
            let seen =
                look(Look { client, scope: 0, ports: &PORTS, timeout: TIMEOUT, stop: Stop::Open }).await;
            seen.outcomes.len() == PORTS.len()
                && seen.outcomes.iter().all(|(_, outcome)| *outcome == expected)
        }
        Judge::Plain => {
            let [a, b, c, d, e, f] = PORTS.map(|port| plain(client, port));
            let (a, b, c, d, e, f) = tokio::join!(a, b, c, d, e, f);
            [a, b, c, d, e, f].iter().all(|outcome| *outcome == Some(expected))
        }
    };
    let time = milliseconds(start);
    if right { Ok(time) } else { Err(format!("not every port of {client} was {expected:?}").into()) }
}

/// `None`: an open port, or an error of ours.
async fn plain(client: IpAddr, port: u16) -> Option<PortOutcome> {
    match timeout(TIMEOUT, tokio::net::TcpStream::connect((client, port))).await {
        Err(_) => Some(PortOutcome::Silent),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Some(PortOutcome::Refused),
        Ok(_) => None,
    }
}

/// Milliseconds to each client's verdict from the moment at which all were there.
async fn crowd_times(by: Judge, expected: PortOutcome) -> Outcome<Vec<f64>> {
    let mut clients = JoinSet::new();
    let start = Instant::now();
    for client in 0..CROWD_CLIENTS {
        let client = Ipv4Addr::from(u32::from(CROWD) + 1 + client).into();
        clients.spawn(async move {
            judge(by, client, expected).await?;
            Ok::<f64, Box<dyn std::error::Error + Send + Sync>>(milliseconds(start))
        });
    }
    let mut times = Vec::with_capacity(CROWD_CLIENTS as usize);
    while let Some(time) = clients.join_next().await {
        times.push(time??);
    }
    Ok(times)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Sorts; there is at least one.
fn percentile_99(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * 99).div_ceil(100) - 1]
}

fn ratio(what: &str, ours_text: &str, ours: f64, peer: &str, peers: f64) -> Figure {
    Figure {
        what: what.to_owned(),
        ours: ours_text.to_owned(),
        peer: format!("{peer} {peers:.*} ms", if peers < 10.0 { 3 } else { 0 }),
        value: ours / peers,
        unit: Unit::Ratio,
        bound: Bound::Told,
    }
}

/// The bound of open files; as it was before on drop.
struct OpenFiles(Rlimit);

impl OpenFiles {
    fn allow(files: u64) -> Outcome<Self> {
        let before = getrlimit(Resource::Nofile);
        let maximum = before.maximum.map(|maximum| maximum.max(files));
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum })?;
        Ok(Self(before))
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}
