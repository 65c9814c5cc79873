//! What a flood of forged sources costs in the TC program, against an nft set that does less.
//!
//! A veth hands a packet to the far end within the sender's own system call, so nothing is lost on the way, and what
//! one processor can send is what it can receive. Packets are counted per second of that processor's time: what other
//! programs take of it meanwhile does not count. Behind the program, and behind the set, the same rule drops the
//! same packets.

use crate::tc::Bpffs;
use crate::{Bound, Figure, Outcome, Unit, median};
use glacis_loader::{Counter, Detection, EventStream, Options, PROBES_MAX, Settings, TcProgram};
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Flood, Sources, Wire};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FIRST_SOURCE: u32 = Ipv4Addr::new(16, 0, 0, 0).to_bits();
/// All sides have a slice in turn, of the same packets.
const SLICE_PACKETS: u32 = 100_000;
/// The figures are their medians. One before them fills the tables and does not count.
const SLICES: u32 = 7;
/// A slice that takes longer has failed.
const SLICE_TIME_MAX: Duration = Duration::from_secs(20);
/// Sources that come again and again, each at one port: they fit into every table.
const KNOWN_SOURCES: u32 = 32_768;
/// Of a set that never fills up here.
const LARGE_SET: usize = 4_194_304;
/// How often the reader of the program's events looks for some.
const READ_EVERY: Duration = Duration::from_millis(1);
/// Ours over the peer's.
const RATIO_MIN: f64 = 1.0;

/// Asks the kernel to time BPF programs.
const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let mut ours = Side::new("ours", "");
    let events = ours.load_program()?;
    let sides = Sides {
        bare: Side::new("bare", ""),
        small: Side::new("small", &remembering(PROBES_MAX)),
        large: Side::new("large", &remembering(LARGE_SET)),
        ours,
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| read_until(&stop, events));
        let figures = sides.figures();
        stop.store(true, Ordering::Relaxed);
        figures
    })
}

/// Takes events as they come, as the daemon does, on another processor than the flood's.
fn read_until(stop: &AtomicBool, mut events: EventStream) {
    while !stop.load(Ordering::Relaxed) {
        events.drain(usize::MAX, |_| ());
        thread::sleep(READ_EVERY);
    }
}

/// A set of so many keys, and the rule that counts a packet in it and does nothing else.
fn remembering(keys: usize) -> String {
    format!(
        "set seen {{ type ipv4_addr . inet_service; flags dynamic,timeout; size {keys}; timeout 5m; }}
        chain in {{ update @seen {{ ip saddr . tcp dport timeout 5m counter }}; }}"
    )
}

struct Sides {
    ours: Side,
    /// Drops and does nothing before.
    bare: Side,
    /// As many keys as the program has. Once full it learns no new one until an old one times out.
    small: Side,
    large: Side,
}

/// Seconds of a processor per packet, one value a slice.
#[derive(Default)]
struct Costs {
    ours: Vec<f64>,
    bare: Vec<f64>,
    small: Vec<f64>,
    large: Vec<f64>,
}

impl Sides {
    fn figures(&self) -> Outcome<Vec<Figure>> {
        let endless = |slice| Wave {
            first: FIRST_SOURCE + slice * SLICE_PACKETS,
            sources: SLICE_PACKETS,
            ports: 1..=u16::MAX,
        };
        let known = |_| Wave { first: FIRST_SOURCE, sources: KNOWN_SOURCES, ports: 81..=81 };
        let strangers = self.costs(endless)?;
        let nanoseconds = nanoseconds_per_run_while(|| self.ours.slice(&endless(SLICES + 1)))?;
        let acquaintances = self.costs(known)?;
        let full = format!("nft, {PROBES_MAX} keys, full");
        Ok(vec![
            rate(
                "flood, endless sources",
                &strangers.ours,
                &full,
                &strangers.small,
                Bound::AtLeast(RATIO_MIN),
            ),
            rate(
                "flood, endless sources",
                &strangers.ours,
                "nft, room for all",
                &strangers.large,
                Bound::Told,
            ),
            rate(
                "flood, sources known",
                &acquaintances.ours,
                "nft, sources known",
                &acquaintances.small,
                Bound::Told,
            ),
            above_the_drop(
                "flood, endless sources",
                &strangers.ours,
                &strangers.bare,
                &full,
                &strangers.small,
            ),
            above_the_drop(
                "flood, sources known",
                &acquaintances.ours,
                &acquaintances.bare,
                "nft",
                &acquaintances.small,
            ),
            Figure {
                what: "flood, endless sources: the program alone".to_owned(),
                ours: format!("{nanoseconds:.0} ns"),
                peer: String::new(),
                value: nanoseconds,
                unit: Unit::Nanoseconds,
                bound: Bound::Told,
            },
        ])
    }

    /// Every side's slices of these waves, one after the other.
    fn costs(&self, wave: impl Fn(u32) -> Wave) -> Outcome<Costs> {
        let mut costs = Costs::default();
        for slice in 0..=SLICES {
            let wave = wave(slice);
            let bare = self.bare.slice(&wave)?;
            let small = self.small.slice(&wave)?;
            let ours = self.ours.slice(&wave)?;
            let large = self.large.slice(&wave)?;
            if slice > 0 {
                costs.bare.push(bare);
                costs.small.push(small);
                costs.ours.push(ours);
                costs.large.push(large);
            }
        }
        Ok(costs)
    }
}

/// Ours over the peer's packets per second; the ratio is the median of the slices' ratios.
fn rate(what: &str, ours: &[f64], peer_name: &str, peer: &[f64], bound: Bound) -> Figure {
    let ratios = peer.iter().zip(ours).map(|(peer, ours)| peer / ours);
    let thousands = |costs: &[f64]| 1e-3 / median(costs.to_vec());
    Figure {
        what: format!("{what}: packets/s"),
        ours: format!("{:.0} k/s", thousands(ours)),
        peer: format!("{peer_name}: {:.0} k/s", thousands(peer)),
        value: median(ratios.collect()),
        unit: Unit::Ratio,
        bound,
    }
}

fn above_the_drop(what: &str, ours: &[f64], bare: &[f64], peer_name: &str, peer: &[f64]) -> Figure {
    let above =
        |costs: &[f64]| 1e9 * median(costs.iter().zip(bare).map(|(cost, bare)| cost - bare).collect());
    Figure {
        what: format!("{what}: above a bare drop"),
        ours: format!("{:.0} ns", above(ours)),
        peer: format!("{peer_name}: {:.0} ns", above(peer)),
        value: above(ours),
        unit: Unit::Nanoseconds,
        bound: Bound::Told,
    }
}

/// The packets of one slice.
struct Wave {
    first: u32,
    sources: u32,
    ports: RangeInclusive<u16>,
}

/// A crowd, a firewall, and a veth between them.
struct Side {
    wire: Wire,
    firewall: Namespace,
    _crowd: Namespace,
    program: Option<(TcProgram, Bpffs)>,
}

impl Side {
    /// `work` is what nft does in the device's ingress chain `in` before it drops.
    fn new(label: &str, work: &str) -> Self {
        let (crowd, firewall) = (Namespace::new("crowd"), Namespace::new(label));
        crowd.veth("p0", &firewall, "g0");
        firewall.address("g0", "192.0.2.1/24");
        firewall.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
        let table = format!(
            "table netdev bench {{
                chain in {{ type filter hook ingress device \"g0\" priority -500; policy accept; }}
                {work}
                chain in {{ drop; }}
            }}"
        );
        firewall.run(["nft", &table]);
        let wire = Wire::open(&crowd, "p0", &firewall, "g0");
        Self { wire, firewall, _crowd: crowd, program: None }
    }

    /// Puts the program, everything on, before the drop.
    fn load_program(&mut self) -> Outcome<EventStream> {
        let bpffs = Bpffs::mount()?;
        let options = Options { stealth: true, challenge: true, keep_established: false };
        let settings = Settings { detection: Detection::On, options, hook: None };
        let mut program = TcProgram::load(&bpffs.0.path().join("glacis"), settings)?;
        self.firewall.enter(|| program.attach("g0"))?;
        let events = program.take_events().ok_or("a fresh program has its events")?;
        self.program = Some((program, bpffs));
        Ok(events)
    }

    /// Seconds of processor time per packet. Every packet must have come to the far end, and to the program if there
    /// is one.
    fn slice(&self, wave: &Wave) -> Outcome<f64> {
        let flood = Flood {
            ports: wave.ports.clone(),
            packets_max: SLICE_PACKETS.into(),
            time_max: SLICE_TIME_MAX,
            ..Flood::syn(Sources::forged(Ipv4Addr::from(wave.first).into(), wave.sources), TARGET.into())
        };
        let (received, probes) = (self.received()?, self.probes()?);
        let start = processor_time();
        let sent = self.wire.flood(&flood);
        let spent = processor_time().saturating_sub(start);
        let received = self.received()? - received;
        let counted = self.probes()?.zip(probes).map_or(received, |(after, before)| after - before);
        // The far end's own stack sends a packet now and then, too.
        if [sent.packets, received, counted].into_iter().any(|packets| packets < SLICE_PACKETS.into()) {
            let sent = sent.packets;
            let lost =
                format!("of {SLICE_PACKETS} packets {sent} left, {received} came, {counted} were counted");
            return Err(lost.into());
        }
        Ok(spent.as_secs_f64() / f64::from(SLICE_PACKETS))
    }

    /// Packets that came in by the device and were not lost in a queue behind it.
    fn received(&self) -> Outcome<u64> {
        let text = self.firewall.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("g0:")).ok_or("g0 is gone")?;
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [_bytes, packets, _errors, dropped, ..] = numbers[..] else {
            return Err("not what /proc/net/dev holds".into());
        };
        Ok(packets - dropped)
    }

    /// Those shed in a flood are counted as such.
    fn probes(&self) -> Outcome<Option<u64>> {
        let Some((program, _)) = &self.program else { return Ok(None) };
        Ok(Some(program.counter(Counter::Probes)? + program.counter(Counter::ProbesShed)?))
    }
}

/// Of this thread, with the work of the network stack in its name.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The kernel's timing of BPF programs, which costs a little itself; as it was before on drop.
struct BpfStats {
    before: String,
}

impl BpfStats {
    fn enable() -> Outcome<Self> {
        let before = fs::read_to_string(BPF_STATS)?;
        fs::write(BPF_STATS, "1")?;
        Ok(Self { before })
    }

    /// Nanoseconds and runs of all programs that this process has descriptors of.
    fn totals() -> Outcome<(u64, u64)> {
        let (mut nanoseconds, mut runs) = (0, 0);
        for entry in fs::read_dir("/proc/self/fdinfo")? {
            // The descriptor of this very reading is gone.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            let field =
                |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            nanoseconds += field("run_time_ns:").unwrap_or(0);
            runs += field("run_cnt:").unwrap_or(0);
        }
        Ok((nanoseconds, runs))
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        let _ = fs::write(BPF_STATS, &self.before);
    }
}

fn nanoseconds_per_run_while(run: impl FnOnce() -> Outcome<f64>) -> Outcome<f64> {
    let _timing = BpfStats::enable()?;
    let before = BpfStats::totals()?;
    run()?;
    let after = BpfStats::totals()?;
    Ok((after.0 - before.0) as f64 / (after.1 - before.1) as f64)
}
