//! Nanoseconds per packet in the TC program, by `BPF_PROG_TEST_RUN`, above the floor of an empty program.

use crate::{Bound, Figure, Outcome, Unit};
use glacis_loader::{Counter, Detection, MonotonicTime, Options, PROBES_MAX, Settings, TcProgram, Verdict};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::ptr;
use std::time::Duration;
use tempfile::TempDir;

/// Single addresses that are banned while the packets pass.
const BANS: u32 = 10_000;
/// Runs of one packet in one measurement, and measurements whose median is the figure.
const REPEAT: u32 = 500_000;
const ROUNDS: usize = 7;
/// Lets the clock and the caches settle first.
const WARM_UP: u32 = 50_000;
/// What passing and dropping have to keep to, floor subtracted.
const NANOSECONDS_MAX: f64 = 40.0;
const KNOWN_KEY: Bound = Bound::AtMost(160.0);
const NEW_KEY: Bound = Bound::AtMost(800.0);

const SOURCE: [u8; 4] = [192, 0, 2, 7];
const BANNED_FOR_EVER: [u8; 4] = [10, 0, 3, 9];
const BANNED_FOR_AN_HOUR: [u8; 4] = [203, 0, 113, 9];
const BANNED_BY_PREFIX: [u8; 4] = [198, 51, 100, 9];
const CLOSED: u16 = 81;
const EXPOSED: u16 = 8080;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Every kind of packet with 10 000 bans in place, the floor of an empty program subtracted. Needs root.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let bpffs = Bpffs::mount()?;
    let settings = Settings { detection: Detection::On, ..Settings::default() };
    let mut program = TcProgram::load(&bpffs.0.path().join("glacis"), settings)?;
    program.set_exposed([EXPOSED], [])?;
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    for n in 0..BANS {
        program.ban(IpAddr::from(Ipv4Addr::from(first + n)).into(), None)?;
    }
    let hour = MonotonicTime::now().plus(Duration::from_hours(1));
    program.ban(IpAddr::from(BANNED_FOR_AN_HOUR).into(), Some(hour))?;

    let ack = |port| frame(SOURCE, port, ACK);
    let syn = |source, port| frame(source, port, SYN);
    let bound = Bound::AtMost(NANOSECONDS_MAX);
    let empty = load(&EMPTY)?;
    let floor = median(ROUNDS, || run(&empty, &ack(CLOSED), REPEAT))?;
    let packet = |what, frame: Vec<u8>, verdict, bound| Packet { what, frame, verdict, bound, floor };
    let mut figures = vec![
        packet("packet passes: ACK", ack(CLOSED), Verdict::Next, bound).cost(&program)?,
        packet("packet dropped: banned for ever", syn(BANNED_FOR_EVER, CLOSED), Verdict::Drop, bound)
            .cost(&program)?,
        packet("packet dropped: banned for an hour", syn(BANNED_FOR_AN_HOUR, CLOSED), Verdict::Drop, bound)
            .cost(&program)?,
        packet("SYN to an exposed port", syn(SOURCE, EXPOSED), Verdict::Next, Bound::Told).cost(&program)?,
    ];
    program.set_options(Options { stealth: true, challenge: true, keep_established: false })?;
    figures.extend([
        packet("SYN to a closed port, known key", syn(SOURCE, CLOSED), Verdict::Next, KNOWN_KEY)
            .cost(&program)?,
        new_keys(&program, &empty)?,
        packet("ACK to an exposed port, stealth probes looked for", ack(EXPOSED), Verdict::Next, Bound::Told)
            .cost(&program)?,
        packet("ACK of no connection, known key", ack(CLOSED), Verdict::Next, Bound::Told).cost(&program)?,
    ]);
    program.set_options(Options::default())?;
    program.set_detection(Detection::Off)?;
    figures.push(packet("ACK, detection off", ack(CLOSED), Verdict::Next, Bound::Told).cost(&program)?);
    program.set_detection(Detection::On)?;
    program.ban("198.51.100.0/24".parse()?, None)?;
    figures.push(packet("ACK, a prefix banned", ack(CLOSED), Verdict::Next, Bound::Told).cost(&program)?);
    figures.push(
        packet("packet of a banned prefix", syn(BANNED_BY_PREFIX, CLOSED), Verdict::Drop, Bound::Told)
            .cost(&program)?,
    );
    Ok(figures)
}

/// SYNs of more forged sources than the tables hold. A test run repeats one frame, so a small program goes before ours
/// that draws a source and then calls it; the floor is what the same program and the empty one need.
fn new_keys(program: &TcProgram, empty: &OwnedFd) -> Outcome<Figure> {
    let syn = frame(SOURCE, CLOSED, SYN);
    let forger = Forger::before(program.ingress_fd()?)?;
    let floor = median(ROUNDS, || run(&Forger::before(empty.as_fd())?.program, &syn, REPEAT))?;
    run(&forger.program, &syn, 2 * PROBES_MAX as u32)?;
    let counts = || -> Outcome<_> {
        let rationed = program.counter(Counter::ProbesLost)? + program.counter(Counter::ProbesShed)?;
        Ok((program.counter(Counter::NewKeys)?, rationed))
    };
    let (keys_before, rationed_before) = counts()?;
    let whole = median(ROUNDS, || run(&forger.program, &syn, REPEAT))?;
    let (keys, rationed) = counts()?;
    let (made, rationed) = (keys - keys_before, rationed - rationed_before);
    let wanted = u64::from(REPEAT) * ROUNDS as u64;
    // Of so many numbers of 32 bits some come twice while the table still knows them.
    if made == 0 || made + rationed < wanted - wanted / 100 {
        return Err(format!("{made} + {rationed} of {wanted} forged sources were new").into());
    }
    let entered = 100 * made / wanted;
    Ok(Figure {
        what: format!("SYN to a closed port, new key of a flood ({entered} % within the ration of keys)"),
        ours: format!("{whole:.0} ns"),
        peer: format!("empty program {floor:.0} ns"),
        value: whole - floor,
        unit: Unit::Nanoseconds,
        bound: NEW_KEY,
    })
}

/// One kind of packet and what is to come of it.
struct Packet {
    what: &'static str,
    frame: Vec<u8>,
    verdict: Verdict,
    bound: Bound,
    /// Nanoseconds of an empty program.
    floor: f64,
}

impl Packet {
    fn cost(self, program: &TcProgram) -> Outcome<Figure> {
        let verdict = program.try_frame(&self.frame, WARM_UP)?.verdict;
        if verdict != self.verdict {
            return Err(format!("{}: {verdict:?} instead of {:?}", self.what, self.verdict).into());
        }
        let run = || Ok(program.try_frame(&self.frame, REPEAT)?.per_packet.as_secs_f64() * 1e9);
        let whole = median(ROUNDS, run)?;
        Ok(Figure {
            what: self.what.to_owned(),
            ours: format!("{whole:.0} ns"),
            peer: format!("empty program {:.0} ns", self.floor),
            value: whole - self.floor,
            unit: Unit::Nanoseconds,
            bound: self.bound,
        })
    }
}

fn median(rounds: usize, mut run: impl FnMut() -> Outcome<f64>) -> Outcome<f64> {
    Ok(crate::median((0..rounds).map(|_| run()).collect::<Outcome<Vec<f64>>>()?))
}

/// A TCP segment from a source to this host, in an Ethernet frame.
fn frame(source: [u8; 4], port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend(Ipv4Addr::LOCALHOST.octets());
    frame.extend(1000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0; 8]);
    frame.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    frame
}

/// A BPF file system of the benchmark's own.
pub(crate) struct Bpffs(pub(crate) TempDir);

impl Bpffs {
    pub(crate) fn mount() -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let status = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()).status()?;
        if !status.success() {
            return Err("cannot mount a BPF file system: the figures of the TC program need root".into());
        }
        Ok(Self(directory))
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// A program that draws a random IPv4 source for an Ethernet frame and then calls another.
struct Forger {
    program: OwnedFd,
    /// Holds the other.
    _calls: OwnedFd,
}

impl Forger {
    fn before(other: BorrowedFd<'_>) -> Outcome<Self> {
        let calls = program_array()?;
        let element = Element {
            map: calls.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const FIRST) as u64,
            value: (&raw const other) as u64,
            flags: 0,
        };
        // The owner of the map is who uses it first, so the caller must be there before the called.
        let program = load(&forge_and_call(&calls))?;
        // SAFETY: the kernel reads `element`, and a number of 32 bits at each of its addresses: a descriptor is one.
        succeed(unsafe { bpf(BPF_MAP_UPDATE_ELEM, &element) })?;
        Ok(Self { program, _calls: calls })
    }
}

static FIRST: u32 = 0;
const EMPTY: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// `r6 = r1; *(u32 *)(r10 - 4) = bpf_get_prandom_u32(); bpf_skb_store_bytes(r6, 26, r10 - 4, 4, 0);
/// bpf_tail_call(r6, calls, 0); r0 = -1; exit`.
fn forge_and_call(calls: &OwnedFd) -> [u64; 17] {
    const SOURCE_OFFSET: i32 = 14 + 12;
    const PRANDOM: i32 = 7;
    const STORE_BYTES: i32 = 9;
    const TAIL_CALL: i32 = 12;
    const MAP_FD: u8 = 1;
    let op = |code: u8, to: u8, from: u8, offset: i16, value: i32| {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = value.to_le_bytes();
        u64::from_le_bytes([code, to | from << 4, low, high, a, b, c, d])
    };
    let (copy, set, add, store, call) = (0xbf, 0xb7, 0x07, 0x63, 0x85);
    [
        op(copy, 6, 1, 0, 0),
        op(call, 0, 0, 0, PRANDOM),
        op(store, 10, 0, -4, 0),
        op(copy, 1, 6, 0, 0),
        op(set, 2, 0, 0, SOURCE_OFFSET),
        op(copy, 3, 10, 0, 0),
        op(add, 3, 0, 0, -4),
        op(set, 4, 0, 0, 4),
        op(set, 5, 0, 0, 0),
        op(call, 0, 0, 0, STORE_BYTES),
        op(copy, 1, 6, 0, 0),
        op(0x18, 2, MAP_FD, 0, calls.as_raw_fd()),
        0,
        op(set, 3, 0, 0, 0),
        op(call, 0, 0, 0, TAIL_CALL),
        op(set, 0, 0, 0, -1),
        0x95,
    ]
}

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// The head of `bpf_attr` for `BPF_MAP_CREATE`, linux/bpf.h.
#[repr(C)]
struct Create {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
}

/// `bpf_attr` for `BPF_MAP_UPDATE_ELEM`, linux/bpf.h.
#[repr(C)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The head of `bpf_attr` for `BPF_PROG_LOAD`, linux/bpf.h.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The head of `bpf_attr` for `BPF_PROG_TEST_RUN`, linux/bpf.h.
#[repr(C)]
struct Run {
    program: u32,
    return_value: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    nanoseconds: u32,
}

/// # Safety
/// `attributes` is what the command reads and writes, and what it points at lives on.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> libc::c_long {
    // SAFETY: by the caller.
    unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), size_of::<T>()) }
}

fn succeed(code: libc::c_long) -> io::Result<i32> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code as i32) }
}

fn program_array() -> io::Result<OwnedFd> {
    let create = Create { kind: BPF_MAP_TYPE_PROG_ARRAY, key_bytes: 4, value_bytes: 4, entries_max: 1 };
    // SAFETY: the kernel reads `create`, and the descriptor is one that it just made and nobody else knows.
    succeed(unsafe { bpf(BPF_MAP_CREATE, &create) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn load(instructions: &[u64]) -> Outcome<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // SAFETY: the kernel reads `load` and what it points at, all of which lives on; as above for the descriptor.
    Ok(succeed(unsafe { bpf(BPF_PROG_LOAD, &load) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })?)
}

/// Nanoseconds that the kernel needs to run a program.
fn run(program: &OwnedFd, packet: &[u8], repeat: u32) -> Outcome<f64> {
    let mut run = Run {
        program: program.as_raw_fd() as u32,
        return_value: 0,
        data_in_bytes: packet.len() as u32,
        data_out_bytes: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat,
        nanoseconds: 0,
    };
    // SAFETY: the kernel reads and writes `run` and reads the packet, both of which live on.
    let code = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<Run>()) };
    succeed(code)?;
    Ok(f64::from(run.nanoseconds))
}
