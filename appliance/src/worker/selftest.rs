//! `glacis worker selftest`: enters the status worker's sandbox and tries to get out of it.
//!
//! Each attempt runs in a process of its own, once behind every layer and, where another layer than the
//! seccomp filter must hold by itself, once without the filter. Control attempts must succeed.

use super::profile::STATUS;
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
    name: &'static str,
    layers: Layers,
    expected: Expected,
    run: fn() -> io::Result<()>,
}

const fn attempt(
    name: &'static str,
    layers: Layers,
    expected: Expected,
    run: fn() -> io::Result<()>,
) -> Attempt {
    Attempt { name, layers, expected, run }
}

const ATTEMPTS: &[Attempt] = &[
    attempt("allocate", Layers::All, Expected::Succeeds, allocate),
    attempt("allocate", Layers::NoFilter, Expected::Succeeds, allocate),
    attempt("open-file", Layers::All, Expected::Killed, || open(c"/etc/passwd")),
    attempt("inet-socket", Layers::All, Expected::Killed, || socket(libc::AF_INET, libc::SOCK_STREAM)),
    attempt("execute", Layers::All, Expected::Killed, execute),
    attempt("fork", Layers::All, Expected::Killed, fork),
    attempt("signal-parent", Layers::All, Expected::Killed, signal_parent),
    attempt("executable-memory", Layers::All, Expected::Killed, map_executable),
    attempt("become-root", Layers::All, Expected::Killed, become_root),
    attempt("root-file", Layers::NoFilter, Expected::Refused, || open(c"/proc/1/mem")),
    attempt("raw-socket", Layers::NoFilter, Expected::Refused, || socket(libc::AF_INET, libc::SOCK_RAW)),
    attempt("fork", Layers::NoFilter, Expected::Refused, fork),
    attempt("signal-parent", Layers::NoFilter, Expected::Refused, signal_parent),
    attempt("become-root", Layers::NoFilter, Expected::Refused, become_root),
    attempt("allocate-beyond-bound", Layers::NoFilter, Expected::Refused, allocate_beyond_bound),
];

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
        println!("{:<22} {:<10} {found:<20} {verdict}", attempt.name, attempt.layers.name());
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
        Layers::All => sandbox::enter(&STATUS),
        Layers::NoFilter => sandbox::enter_unfiltered(&STATUS),
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

fn allocate_beyond_bound() -> io::Result<()> {
    map(STATUS.data_bytes_max as usize, libc::PROT_READ | libc::PROT_WRITE)
}

fn map_executable() -> io::Result<()> {
    map(1 << 12, libc::PROT_READ | libc::PROT_EXEC)
}
