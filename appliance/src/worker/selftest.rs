//! `glacis worker selftest`: enters each worker's sandbox and tries to get out of it.
//!
//! Each attempt runs in a process of its own, once behind every layer and, where another layer than the
//! seccomp filter must hold by itself, once without the filter. Control attempts must succeed.

use super::profile::{GATE, Profile, STATUS};
use super::sandbox;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// Exit codes of one attempt's process.
const SUCCEEDED: u8 = 0;
const REFUSED: u8 = 10;
const BROKEN: u8 = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    All,
    /// User, capabilities, limits and Landlock only.
    NoFilter,
}

impl Layers {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::NoFilter => "no-filter",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Killed,
    Refused,
    Succeeds,
}

struct Attempt {
    profile: &'static Profile,
    name: &'static str,
    layers: Layers,
    expected: Expected,
    run: fn() -> io::Result<()>,
}

const fn status(
    name: &'static str,
    layers: Layers,
    expected: Expected,
    run: fn() -> io::Result<()>,
) -> Attempt {
    Attempt { profile: &STATUS, name, layers, expected, run }
}

const fn gate(
    name: &'static str,
    layers: Layers,
    expected: Expected,
    run: fn() -> io::Result<()>,
) -> Attempt {
    Attempt { profile: &GATE, name, layers, expected, run }
}

const ATTEMPTS: &[Attempt] = &[
    status("allocate", Layers::All, Expected::Succeeds, allocate),
    status("allocate", Layers::NoFilter, Expected::Succeeds, allocate),
    status("open-file", Layers::All, Expected::Killed, || open(c"/etc/passwd")),
    status("inet-socket", Layers::All, Expected::Killed, || socket(libc::AF_INET, libc::SOCK_STREAM)),
    status("execute", Layers::All, Expected::Killed, execute),
    status("fork", Layers::All, Expected::Killed, fork),
    status("signal-parent", Layers::All, Expected::Killed, signal_parent),
    status("executable-memory", Layers::All, Expected::Killed, map_executable),
    status("become-root", Layers::All, Expected::Killed, become_root),
    status("root-file", Layers::NoFilter, Expected::Refused, || open(c"/proc/1/mem")),
    status("raw-socket", Layers::NoFilter, Expected::Refused, || socket(libc::AF_INET, libc::SOCK_RAW)),
    status("fork", Layers::NoFilter, Expected::Refused, fork),
    status("signal-parent", Layers::NoFilter, Expected::Refused, signal_parent),
    status("become-root", Layers::NoFilter, Expected::Refused, become_root),
    status("allocate-beyond-bound", Layers::NoFilter, Expected::Refused, || allocate_beyond(&STATUS)),
    gate("thread", Layers::All, Expected::Succeeds, thread),
    gate("stream-socket", Layers::All, Expected::Succeeds, || socket(libc::AF_INET6, STREAM)),
    gate("connect", Layers::All, Expected::Succeeds, connect),
    gate("datagram-socket", Layers::All, Expected::Killed, || socket(libc::AF_INET, libc::SOCK_DGRAM)),
    gate("open-file", Layers::All, Expected::Refused, || open(c"/etc/passwd")),
    gate("give-memory-back", Layers::All, Expected::Succeeds, give_memory_back),
    gate("bind", Layers::All, Expected::Killed, bind),
    gate("execute", Layers::All, Expected::Killed, execute),
    gate("fork", Layers::All, Expected::Killed, fork),
    gate("signal-parent", Layers::All, Expected::Killed, signal_parent),
    gate("executable-memory", Layers::All, Expected::Killed, map_executable),
    gate("become-root", Layers::All, Expected::Killed, become_root),
    gate("connect", Layers::NoFilter, Expected::Succeeds, connect),
    gate("bind", Layers::NoFilter, Expected::Refused, bind),
    gate("raw-socket", Layers::NoFilter, Expected::Refused, || socket(libc::AF_INET, libc::SOCK_RAW)),
    gate("root-file", Layers::NoFilter, Expected::Refused, || open(c"/proc/1/mem")),
    gate("signal-parent", Layers::NoFilter, Expected::Refused, signal_parent),
    gate("become-root", Layers::NoFilter, Expected::Refused, become_root),
    gate("allocate-beyond-bound", Layers::NoFilter, Expected::Refused, || allocate_beyond(&GATE)),
];

/// As the gate worker makes its sockets.
const STREAM: libc::c_int = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Without arguments: every attempt, one line each; fails when one went otherwise than it must.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match arguments.next() {
        None => run_all(),
        Some(index) => index
            .to_str()
            .and_then(|text| text.parse::<usize>().ok())
            .and_then(|index| ATTEMPTS.get(index))
            .map_or(ExitCode::from(2), run_one),
    }
}

fn run_all() -> ExitCode {
    let mut all_held = true;
    for (index, attempt) in ATTEMPTS.iter().enumerate() {
        let status = Command::new(super::spawn::OWN_PROGRAM)
            .args(["worker", "selftest", &index.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .status();
        let (found, holds) = match status {
            Ok(status) => (describe(status), outcome(status) == Some(attempt.expected)),
            Err(error) => (error.to_string(), false),
        };
        let verdict = if holds { "ok" } else { "NOT AS IT MUST BE" };
        println!(
            "{:<8} {:<22} {:<10} {found:<20} {verdict}",
            attempt.profile.name,
            attempt.name,
            attempt.layers.name()
        );
        all_held &= holds;
    }
    if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn outcome(status: ExitStatus) -> Option<Expected> {
    match (status.signal(), status.code()) {
        (Some(libc::SIGSYS), _) => Some(Expected::Killed),
        (None, Some(code)) if code == i32::from(REFUSED) => Some(Expected::Refused),
        (None, Some(code)) if code == i32::from(SUCCEEDED) => Some(Expected::Succeeds),
        _ => None,
    }
}

fn describe(status: ExitStatus) -> String {
    match outcome(status) {
        Some(Expected::Killed) => "killed by SIGSYS".into(),
        Some(Expected::Refused) => "refused".into(),
        Some(Expected::Succeeds) => "succeeded".into(),
        None => status.to_string(),
    }
}

fn run_one(attempt: &Attempt) -> ExitCode {
    let entered = match attempt.layers {
        Layers::All => sandbox::enter(attempt.profile),
        Layers::NoFilter => sandbox::enter_unfiltered(attempt.profile),
    };
    if let Err(error) = entered {
        eprintln!("selftest: {error}");
        return ExitCode::from(BROKEN);
    }
    match (attempt.run)() {
        Ok(()) => ExitCode::from(SUCCEEDED),
        Err(_) => ExitCode::from(REFUSED),
    }
}

/// The result of a system call that tells its failure by -1.
fn result(code: libc::c_long) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn open(path: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: `path` ends with a NUL; the descriptor ends with the process.
    result(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }.into())
}

fn socket(family: libc::c_int, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer; the descriptor ends with the process.
    result(unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) }.into())
}

/// The discard port of this host, where nobody listens: being refused is being heard.
static NOBODY: libc::sockaddr_in = libc::sockaddr_in {
    sin_family: libc::AF_INET as libc::sa_family_t,
    sin_port: 9_u16.to_be(),
    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
    sin_zero: [0; 8],
};
const NOBODY_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn stream() -> io::Result<libc::c_int> {
    // SAFETY: takes no pointer; the descriptor ends with the process.
    let fd = unsafe { libc::socket(libc::AF_INET, STREAM, 0) };
    result(fd.into()).map(|()| fd)
}

fn connect() -> io::Result<()> {
    let fd = stream()?;
    // SAFETY: the address lives for ever and is as long as it says.
    let connected = unsafe { libc::connect(fd, (&raw const NOBODY).cast(), NOBODY_BYTES) };
    match result(connected.into()) {
        Err(error)
            if [libc::ECONNREFUSED, libc::EINPROGRESS].contains(&error.raw_os_error().unwrap_or(0)) =>
        {
            Ok(())
        }
        connected => connected,
    }
}

/// A high port, which needs no capability.
fn bind() -> io::Result<()> {
    let fd = stream()?;
    let own = libc::sockaddr_in { sin_port: 50_009_u16.to_be(), ..NOBODY };
    // SAFETY: the address lives over the call and is as long as it says.
    result(unsafe { libc::bind(fd, (&raw const own).cast(), NOBODY_BYTES) }.into())
}

fn thread() -> io::Result<()> {
    let thread = std::thread::Builder::new().name("selftest".to_owned()).spawn(|| ())?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))
}

/// Many threads whose heaps grow and shrink, for which the C library would like to read files.
fn give_memory_back() -> io::Result<()> {
    let shrink = || {
        let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 100 << 10]).collect();
        std::hint::black_box(&blocks);
    };
    let threads: Vec<_> = (0..32).map(|_| std::thread::spawn(shrink)).collect();
    threads
        .into_iter()
        .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked")))
}

fn execute() -> io::Result<()> {
    let path = c"/proc/self/exe".as_ptr();
    let arguments = [path, std::ptr::null()];
    // SAFETY: both lists end with a null pointer and live over the call.
    result(unsafe { libc::execv(path, arguments.as_ptr()) }.into())
}

fn fork() -> io::Result<()> {
    // SAFETY: the process has one thread, and the child does nothing but end.
    match unsafe { libc::fork() } {
        // SAFETY: ends the child at once, without handlers.
        0 => unsafe { libc::_exit(0) },
        pid => result(pid.into()),
    }
}

fn signal_parent() -> io::Result<()> {
    // SAFETY: signal 0 only asks whether one could be sent.
    result(unsafe { libc::kill(libc::getppid(), 0) }.into())
}

fn become_root() -> io::Result<()> {
    // SAFETY: takes no pointer; the process has one thread.
    result(unsafe { libc::setresuid(0, 0, 0) }.into())
}

fn map(bytes: usize, protection: libc::c_int) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at a place of the kernel's choice overlaps nothing; nothing reads it.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn allocate() -> io::Result<()> {
    map(1 << 20, libc::PROT_READ | libc::PROT_WRITE)
}

fn allocate_beyond(profile: &Profile) -> io::Result<()> {
    map(profile.data_bytes_max as usize, libc::PROT_READ | libc::PROT_WRITE)
}

fn map_executable() -> io::Result<()> {
    map(1 << 12, libc::PROT_READ | libc::PROT_EXEC)
}
