//! The TC program on real devices with real packets: a scanner in one namespace, the host in another.

mod tc_support;

use glacis_abi::LAYOUT;
use glacis_loader::{
    Attachment, Counter, Detection, Hook, LoaderError, Options, ProbeEvent, Protocol, Settings, TcProgram,
};
use glacis_tests::netns::Namespace;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tc_support::*;

const SCANNER: &str = "192.0.2.1";
const HOST: &str = "192.0.2.2";
const FLOOD_PORT: u16 = 9999;
/// Of the loader, while the flood goes on.
const RESTARTS: usize = 5;

/// A scanner and a host on one wire; the program runs in the host.
struct Wire {
    scanner: Namespace,
    host: Namespace,
    bpffs: Bpffs,
}

impl Wire {
    fn new() -> Self {
        let wire =
            Self { scanner: Namespace::new("scan"), host: Namespace::new("host"), bpffs: Bpffs::mount() };
        wire.scanner.veth("wan0", &wire.host, "eth0");
        wire.scanner.address("wan0", "192.0.2.1/24");
        wire.host.address("eth0", "192.0.2.2/24");
        // The first packets must not wait for a neighbour's answer.
        let mac = wire.host.stdout(["cat", "/sys/class/net/eth0/address"]);
        let mac = mac.trim();
        wire.scanner.run(["ip", "neigh", "replace", HOST, "lladdr", mac, "dev", "wan0", "nud", "permanent"]);
        wire
    }

    fn load(&self, hook: Option<Hook>) -> TcProgram {
        let settings = Settings { detection: Detection::On, hook, ..Settings::default() };
        self.host.enter(|| TcProgram::load(&self.bpffs.pins(), settings)).expect("the program loads")
    }

    fn attached(&self, hook: Option<Hook>) -> TcProgram {
        let mut program = self.load(hook);
        self.host.enter(|| program.attach("eth0")).expect("the program attaches");
        program
    }

    /// SYN to the ports 1 to 200, by nmap.
    fn scan(&self) {
        self.scanner.run([
            "nmap",
            "-sS",
            "-Pn",
            "-n",
            "--max-retries",
            "0",
            "--host-timeout",
            "20s",
            "-p",
            "1-200",
            HOST,
        ]);
    }
}

fn drained(program: &mut TcProgram) -> Vec<ProbeEvent> {
    let mut events = program.take_events().expect("nobody has taken them");
    probes(&mut events, usize::MAX)
}

#[test]
fn a_scan_is_seen_port_by_port_and_ends_with_a_ban() {
    let wire = Wire::new();
    let mut program = wire.attached(None);
    let _open = wire.host.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))).unwrap();
    wire.scan();
    let events = drained(&mut program);
    let ports: BTreeSet<u16> = events.iter().map(|event| event.key.port()).collect();
    assert_eq!(ports, (1..=200).filter(|port| *port != 80).collect(), "every port but the open one");
    for event in &events {
        assert_eq!(event.key.source().to_string(), SCANNER);
        assert_eq!(event.key.protocol(), Some(Protocol::Tcp));
    }
    assert!(program.counter(Counter::Open).unwrap() >= 1);

    let source = "192.0.2.1/32".parse().unwrap();
    program.ban(source, None).unwrap();
    let probes = program.counter(Counter::Probes).unwrap();
    wire.scan();
    assert!(program.counter(Counter::Probes).unwrap() > probes, "a banned source is still counted");
    assert!(program.ban_drops(source).unwrap() >= Some(200), "its packets are dropped");
    assert!(program.unban(source).unwrap());
    wire.scan();
    assert!(program.counter(Counter::Probes).unwrap() > probes);
}

#[test]
fn restarts_under_a_flood_let_no_banned_packet_through() {
    for hook in [Hook::Tcx, Hook::Clsact] {
        let wire = Wire::new();
        let source = "192.0.2.1/32".parse().unwrap();
        let mut program = wire.attached(Some(hook));
        program.ban(source, None).unwrap();
        drop(program);
        let victim = wire.host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, FLOOD_PORT))).unwrap();
        victim.set_nonblocking(true).unwrap();

        let stop = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let flood = scope.spawn(|| wire.scanner.enter(|| flood(&stop)));
            for _ in 0..RESTARTS {
                let taken_over = wire.attached(Some(hook));
                assert_eq!(taken_over.bans().unwrap().len(), 1, "bans survive a restart");
            }
            stop.store(true, Ordering::Relaxed);
            flood.join().expect("the flood ends")
        });
        assert!(sent > 0);

        let mut buffer = [0; 64];
        let received = victim.recv(&mut buffer);
        assert!(
            received.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
            "{hook}: a packet came through: {received:?}"
        );
        let program = wire.load(Some(hook));
        let drops = program.ban_drops(source).unwrap().expect("the ban is there");
        assert_eq!(drops, sent, "{hook}: drops after {RESTARTS} restarts");
    }
}

/// Sends until told to stop, in bursts that the receiving end's backlog of 1000 packets holds; returns how many.
fn flood(stop: &AtomicBool) -> u64 {
    const BURST: u64 = 64;
    const SECONDS_MAX: u64 = 60;
    let socket = UdpSocket::bind((SCANNER, 0)).expect("the scanner has its address");
    socket.connect((HOST, FLOOD_PORT)).expect("the host is on the scanner's wire");
    let end = Instant::now() + Duration::from_secs(SECONDS_MAX);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        for _ in 0..BURST {
            socket.send(b"flood").expect("no answer comes that could fail the next send");
        }
        sent += BURST;
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

#[test]
fn one_program_per_device_whatever_hook_was_used_before() {
    let wire = Wire::new();
    for hook in [Hook::Clsact, Hook::Clsact, Hook::Tcx, Hook::Tcx, Hook::Clsact] {
        let program = wire.attached(Some(hook));
        let listed = wire.host.enter(|| program.attached()).unwrap();
        assert_eq!(listed.iter().map(|a| (a.device.as_str(), a.hook)).collect::<Vec<_>>(), [("eth0", hook)]);
        let filters = wire.host.stdout(["tc", "filter", "show", "dev", "eth0", "ingress"]);
        let expected = usize::from(hook == Hook::Clsact);
        assert_eq!(filters.matches("direct-action").count(), expected, "{hook}: {filters}");

        let packets = program.counter(Counter::Datagrams).unwrap();
        let socket = wire.scanner.enter(|| UdpSocket::bind((SCANNER, 0))).unwrap();
        socket.send_to(b"x", (HOST, FLOOD_PORT)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(program.counter(Counter::Datagrams).unwrap(), packets + 1, "{hook}: seen once");
    }
    let mut program = wire.load(None);
    assert!(wire.host.enter(|| program.detach("eth0")).unwrap());
    assert!(!wire.host.enter(|| program.detach("eth0")).unwrap());
    assert_eq!(wire.host.enter(|| program.attached()).unwrap(), []);
    let packets = program.counter(Counter::Packets).unwrap();
    wire.scan();
    assert_eq!(program.counter(Counter::Packets).unwrap(), packets, "detached, it sees nothing");
}

#[test]
fn packets_of_a_device_without_link_header_are_read_right() {
    let wire = Wire::new();
    let mut program = wire.attached(None);
    let mut tun = wire.host.enter(|| open_tun("tun0")).unwrap();
    wire.host.run(["ip", "link", "set", "tun0", "up"]);
    wire.host.address("tun0", "198.51.100.1/24");
    let attached = wire.host.enter(|| program.attach("tun0")).unwrap();
    assert_eq!(attached.device, "tun0");
    let (peer, local) = (Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(198, 51, 100, 1));
    tun.write_all(&ipv4(peer, local, TCP, 0, &tcp(1000, 81, SYN))).unwrap();
    tun.write_all(&ipv4(peer, local, UDP, 0, &udp(1000, 82))).unwrap();
    let seen = drained(&mut program);
    let seen: Vec<_> = seen.iter().filter(|e| e.ifindex == attached.ifindex).map(|e| e.key).collect();
    let named: Vec<_> = seen.iter().map(|k| (k.source().to_string(), k.protocol(), k.port())).collect();
    let from = peer.to_string();
    assert_eq!(named, [(from.clone(), Some(Protocol::Tcp), 81), (from, Some(Protocol::Udp), 82)]);

    program.set_options(Options { stealth: false, challenge: true, keep_established: false }).unwrap();
    tun.write_all(&ipv4(peer, local, TCP, 0, &tcp(1000, 83, SYN))).unwrap();
    let answer = std::iter::from_fn(|| {
        let mut packet = vec![0; 2048];
        let bytes = tun.read(&mut packet).ok()?;
        packet.truncate(bytes);
        Some(packet)
    });
    // The host has more to say by this device, in IPv6.
    let answer = answer.take(20).find(|packet| packet[0] == 0x45 && packet[9] == TCP).expect("an answer");
    assert_eq!((answer.len(), answer[33]), (40, ACK), "a bare ACK");
    let mut reset = tcp(1000, 83, 0x04);
    reset[4..8].copy_from_slice(&answer[28..32]);
    tun.write_all(&ipv4(peer, local, TCP, 0, &reset)).unwrap();
    assert_eq!(program.counter(Counter::Echoes).unwrap(), 1);
}

/// A tun device of this thread's namespace; gone when the file is closed.
fn open_tun(name: &str) -> std::io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is integers, arrays and unions of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`.
    let code = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if code == 0 { Ok(file) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn what_is_stale_goes_and_the_rest_stays() {
    let wire = Wire::new();
    wire.host.run(["ip", "link", "add", "va0", "type", "veth", "peer", "name", "vb0"]);
    wire.host.run(["ip", "link", "set", "va0", "up"]);
    let mut program = wire.attached(None);
    wire.host.enter(|| program.attach("va0")).unwrap();
    let names = |attached: Vec<Attachment>| attached.into_iter().map(|a| a.device).collect::<Vec<_>>();
    assert_eq!(names(wire.host.enter(|| program.attached()).unwrap()), ["eth0", "va0"]);

    // Another layout's link, as an older version would leave it: ours of this device, moved.
    let pins = wire.bpffs.pins();
    let older = pins.join("v0");
    std::fs::create_dir(&older).unwrap();
    let index = wire.host.stdout(["cat", "/sys/class/net/va0/ifindex"]);
    std::fs::rename(pins.join(format!("v{LAYOUT}/ingress_link_{}", index.trim())), older.join("link_7"))
        .unwrap();
    wire.host.run(["ip", "link", "del", "va0"]);
    wire.host.enter(|| program.remove_stale()).unwrap();
    assert!(!older.exists());
    assert_eq!(names(wire.host.enter(|| program.attached()).unwrap()), ["eth0"]);
    let packets = program.counter(Counter::Packets).unwrap();
    wire.scan();
    assert!(program.counter(Counter::Packets).unwrap() > packets);
}

#[test]
fn errors_say_what_to_do() {
    let nowhere = Path::new("/run/glacis-no-bpffs");
    let error = TcProgram::load(nowhere, Settings::default()).err().expect("no BPF file system");
    assert!(matches!(error, LoaderError::NotBpffs { .. }));
    assert!(error.to_string().contains("mount -t bpf bpf"), "{error}");
    let wire = Wire::new();
    let mut program = wire.load(None);
    let error = wire.host.enter(|| program.attach("nosuch0")).expect_err("no device");
    assert!(error.to_string().contains("nosuch0"), "{error}");
}
