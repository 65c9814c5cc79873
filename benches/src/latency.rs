//! From the packet that decides to the ban in the kernel.
//!
//! Scanners come one after the other, each from an address of its own. The clock starts before the last probe that its
//! ban takes is handed to the kernel, and stops when nf_tables has told a listener of the new element: the ban was in
//! force before that, so the figure errs to our disadvantage.

use crate::{Bound, Figure, Outcome, Unit};
use glacis_tests::daemon::Daemon;
use glacis_tests::netns::Namespace;
use glacis_tests::traffic::{Flood, Packet, Sources, Wire, flags};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect, recv, socket_with};
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SCANNERS: u32 = 400;
/// Probes of different ports that ban a source.
const THRESHOLD: u16 = 10;
/// Between two scanners: what the ban before left to do is done.
const PAUSE: Duration = Duration::from_millis(20);
/// A ban that takes longer has not come.
const BAN_TIME_MAX: Duration = Duration::from_secs(5);
const MILLISECONDS_MAX: f64 = 5.0;
/// Forged probes a second beside the scanners.
const BACKGROUND: u32 = 5_000;
/// Writes to the disk that are timed for comparison.
const DISK_WRITES: usize = 100;

const FIREWALL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Each kind of scanner has a /16 of its own.
const QUIET_SCANNERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const FLOODED_SCANNERS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const REAL_SCANNERS: Ipv4Addr = Ipv4Addr::new(198, 20, 0, 0);
const FORGED: Ipv4Addr = Ipv4Addr::new(16, 0, 0, 0);

pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let (quiet, flooded, disk) = with_daemon("any", |scene| {
        let quiet = scene.scan_from(QUIET_SCANNERS, |source| Ok(scene.forger(source)))?;
        let flooded =
            scene.beside_a_flood(|| scene.scan_from(FLOODED_SCANNERS, |source| Ok(scene.forger(source))))?;
        Ok((quiet, flooded, disk_times(&scene.state)?))
    })?;
    let proven =
        with_daemon("spoof-proof", |scene| scene.scan_from(REAL_SCANNERS, |source| scene.connector(source)))?;
    let bound = Bound::AtMost(MILLISECONDS_MAX);
    Ok(vec![
        figure("from the deciding packet to the ban", &quiet, &disk, bound),
        figure(&format!("beside {BACKGROUND} forged probes/s"), &flooded, &disk, Bound::Told),
        figure("with proof, of a real stack", &proven, &disk, Bound::Told),
    ])
}

/// Runs a daemon that bans by this evidence, with scanners before it.
fn with_daemon<T>(evidence: &str, measure: impl FnOnce(&Scene) -> Outcome<T>) -> Outcome<T> {
    let (scanners, firewall) = (Namespace::new("scanners"), Namespace::new("firewall"));
    scanners.veth("p0", &firewall, "g0");
    scanners.address("p0", "192.0.2.2/24");
    // Its stack speaks for all of the real scanners, and asks for the firewall in its own name.
    scanners.run(["ip", "route", "add", "local", &format!("{REAL_SCANNERS}/16"), "dev", "lo"]);
    scanners.run(["sysctl", "-q", "-w", "net.ipv4.conf.p0.arp_announce=2"]);
    let daemon = Daemon::start(&firewall, &policy(evidence));
    daemon.wait_ready();
    let wire = Wire::open(&scanners, "p0", &firewall, "g0");
    let bans = firewall.enter(BanWatch::open)?;
    measure(&Scene { wire, scanners, bans, state: daemon.state_path() })
}

fn policy(evidence: &str) -> String {
    format!(
        r#"
        policy version=1 name="latency"
        interface g0 {{ address "192.0.2.1/24" }}
        zone internet {{ from g0; default drop }}
        rules from=internet to=self {{ allow ping }}
        rules from=self to=internet {{ allow all }}
        scan {{ interfaces g0; auto-block {{ evidence {evidence}; threshold {THRESHOLD}; window "5m"; duration "1h" }} }}
        "#
    )
}

fn figure(what: &str, times: &Times, disk: &Times, bound: Bound) -> Figure {
    Figure {
        what: format!("{what}: p99"),
        ours: format!("median {:.2}, worst {:.2} ms", times.percentile(50), times.percentile(100)),
        peer: format!("a synced write {:.2} ms", disk.percentile(99)),
        value: times.percentile(99),
        unit: Unit::Milliseconds,
        bound,
    }
}

/// Milliseconds in ascending order; at least one.
struct Times(Vec<f64>);

impl Times {
    fn new(times: &[Duration]) -> Self {
        let mut milliseconds: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        Self(milliseconds)
    }

    /// The smallest time that so many percent do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }
}

struct Scene {
    wire: Wire,
    scanners: Namespace,
    bans: BanWatch,
    /// The daemon's folder.
    state: PathBuf,
}

impl Scene {
    /// One scanner after the other, from this address on; `scanner` makes what sends its probes.
    fn scan_from<P: FnMut(u16) -> Outcome<()>>(
        &self,
        first: Ipv4Addr,
        scanner: impl Fn(Ipv4Addr) -> Outcome<P>,
    ) -> Outcome<Times> {
        let mut times = vec![];
        for index in 0..SCANNERS {
            let source = Ipv4Addr::from_bits(first.to_bits() + index);
            let mut probe = scanner(source)?;
            (1..THRESHOLD).try_for_each(&mut probe)?;
            self.bans.refuse_early(source)?;
            let start = Instant::now();
            probe(THRESHOLD)?;
            times.push(self.bans.wait_for(source)?.duration_since(start));
            thread::sleep(PAUSE);
        }
        Ok(Times::new(&times))
    }

    /// Sends SYNs in the name of someone who never hears of it.
    fn forger(&self, source: Ipv4Addr) -> impl FnMut(u16) -> Outcome<()> {
        move |port| {
            let (from, to) = (SocketAddr::from((source, 40_000)), SocketAddr::from((FIREWALL, port)));
            self.wire.send(&Packet::tcp(from, to, flags::SYN));
            Ok(())
        }
    }

    /// Connects from an address of the scanners' own stack, which answers challenges.
    fn connector(&self, source: Ipv4Addr) -> Outcome<impl FnMut(u16) -> Outcome<()>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let bound = || -> Outcome<OwnedFd> {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            bind(&socket, &SocketAddr::from((source, 0)))?;
            Ok(socket)
        };
        let sockets = self.scanners.enter(|| (0..THRESHOLD).map(|_| bound()).collect::<Outcome<Vec<_>>>())?;
        Ok(move |port: u16| {
            match connect(&sockets[usize::from(port) - 1], &SocketAddr::from((FIREWALL, port))) {
                Err(Errno::INPROGRESS) => Ok(()),
                Err(error) => Err(format!("a connection from {source} does not begin: {error}").into()),
                Ok(()) => Err(format!("port {port} is open").into()),
            }
        })
    }

    fn beside_a_flood<T>(&self, measure: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let flood = Flood {
            packets_per_second: Some(BACKGROUND),
            packets_max: u64::MAX,
            ..Flood::syn(Sources::forged(IpAddr::from(FORGED), 10_000_000), FIREWALL.into())
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| self.wire.flood_until(&flood, &stop));
            let measured = measure();
            stop.store(true, Ordering::Relaxed);
            measured
        })
    }
}

/// Hears of every element that is added to a set of this network namespace.
struct BanWatch {
    socket: OwnedFd,
}

impl BanWatch {
    /// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h, as a bit.
    const GROUP: u32 = 1 << (7 - 1);
    /// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWSETELEM`.
    const NEW_ELEMENT: u16 = 0x0a << 8 | 0x0c;
    /// More than the kernel puts into one datagram of notifications.
    const DATAGRAM_BYTES: usize = 64 << 10;

    fn open() -> Outcome<Self> {
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, Self::GROUP))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(BAN_TIME_MAX))?;
        Ok(Self { socket })
    }

    /// The moment at which the kernel's word arrived that an element with this address is in a set.
    fn wait_for(&self, address: Ipv4Addr) -> Outcome<Instant> {
        loop {
            let adds = self
                .next_adds(address, RecvFlags::empty())
                .map_err(|e| format!("no ban of {address} within {BAN_TIME_MAX:?}: {e}"))?;
            if adds {
                return Ok(Instant::now());
            }
        }
    }

    /// An address that is banned before it did what it takes would make the figure look better than it is.
    fn refuse_early(&self, address: Ipv4Addr) -> Outcome<()> {
        loop {
            match self.next_adds(address, RecvFlags::DONTWAIT) {
                Ok(false) => {}
                Ok(true) => return Err(format!("{address} is banned before its last probe").into()),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the next datagram says that an element with this address was added.
    fn next_adds(&self, address: Ipv4Addr, flags: RecvFlags) -> rustix::io::Result<bool> {
        let mut buffer = vec![0; Self::DATAGRAM_BYTES];
        let (bytes, _) = recv(&self.socket, &mut buffer[..], flags)?;
        Ok(messages(&buffer[..bytes]).any(|message| Self::adds(&message, address)))
    }

    /// Messages of nf_tables hold `nfgenmsg` of four bytes, then attributes.
    fn adds(Message { kind, payload }: &Message<'_>, address: Ipv4Addr) -> bool {
        const ELEMENTS: u16 = 3;
        const KEY: u16 = 1;
        const VALUE: u16 = 1;
        let has_key = |element: &[u8]| {
            let key = attribute(element, KEY).and_then(|key| attribute(key, VALUE));
            key == Some(&address.octets()[..])
        };
        let elements = payload.get(4..).and_then(|attributes| attribute(attributes, ELEMENTS));
        *kind == Self::NEW_ELEMENT
            && elements.is_some_and(|elements| attributes(elements).any(|(_, element)| has_key(element)))
    }
}

struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

/// Netlink messages of a datagram: length, kind, and twelve bytes further the payload; each begins at a multiple of 4.
fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    const HEADER_BYTES: usize = 16;
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let payload = rest.get(HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, payload })
    })
}

/// Netlink attributes: length and kind of two bytes each, then the value; each begins at a multiple of 4.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const HEADER_BYTES: usize = 4;
    /// The upper two bits say what the value is made of.
    const KIND: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & KIND;
        let value = rest.get(HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// How long this disk takes to write one page and to say that it is written.
fn disk_times(folder: &Path) -> Outcome<Times> {
    let path = folder.join("synced-write");
    let mut file = File::create(&path)?;
    let mut times = vec![];
    for _ in 0..DISK_WRITES {
        let start = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
        thread::sleep(PAUSE);
    }
    std::fs::remove_file(&path)?;
    Ok(Times::new(&times))
}
