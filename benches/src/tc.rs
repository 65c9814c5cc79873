//! Nanoseconds per packet in the TC program, by `BPF_PROG_TEST_RUN`, above the floor of an empty program.

use crate::{Bound, Figure, Outcome, Unit};
use glacis_loader::{Detection, MonotonicTime, Settings, TcProgram, Verdict};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
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

    let ack = frame(SOURCE, CLOSED, ACK);
    let syn = |source, port| frame(source, port, SYN);
    let bound = Bound::AtMost(NANOSECONDS_MAX);
    let floor = median(ROUNDS, || empty_program(&ack))?;
    let packet = |what, frame: Vec<u8>, verdict, bound| Packet { what, frame, verdict, bound, floor };
    let mut figures = vec![
        packet("packet passes: ACK", ack.clone(), Verdict::Next, bound).cost(&program)?,
        packet("packet dropped: banned for ever", syn(BANNED_FOR_EVER, CLOSED), Verdict::Drop, bound)
            .cost(&program)?,
        packet("packet dropped: banned for an hour", syn(BANNED_FOR_AN_HOUR, CLOSED), Verdict::Drop, bound)
            .cost(&program)?,
        packet("SYN to an exposed port", syn(SOURCE, EXPOSED), Verdict::Next, Bound::Told).cost(&program)?,
        packet("SYN to a closed port, counted before", syn(SOURCE, CLOSED), Verdict::Next, Bound::Told)
            .cost(&program)?,
    ];
    program.set_detection(Detection::Off)?;
    figures.push(packet("ACK, detection off", ack.clone(), Verdict::Next, Bound::Told).cost(&program)?);
    program.set_detection(Detection::On)?;
    program.ban("198.51.100.0/24".parse()?, None)?;
    figures.push(packet("ACK, a prefix banned", ack, Verdict::Next, Bound::Told).cost(&program)?);
    figures.push(
        packet("packet of a banned prefix", syn(BANNED_BY_PREFIX, CLOSED), Verdict::Drop, Bound::Told)
            .cost(&program)?,
    );
    Ok(figures)
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
struct Bpffs(TempDir);

impl Bpffs {
    fn mount() -> Outcome<Self> {
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

/// Nanoseconds that the kernel needs to run a program that does nothing: `r0 = -1; exit`.
fn empty_program(packet: &[u8]) -> Outcome<f64> {
    const PROGRAM: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

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

    let load = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instruction_count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // SAFETY: the kernel reads `load` and what it points at, all of which lives on.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: a descriptor that the kernel just made and nobody else knows.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut run = Run {
        program: program.as_raw_fd() as u32,
        return_value: 0,
        data_in_bytes: packet.len() as u32,
        data_out_bytes: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat: REPEAT,
        nanoseconds: 0,
    };
    // SAFETY: the kernel reads and writes `run` and reads the packet, both of which live on.
    let code = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<Run>()) };
    if code < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(f64::from(run.nanoseconds))
}
