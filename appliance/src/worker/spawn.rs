//! The core's side: starting a worker with exactly the descriptors it is to have.

use super::inherited::{FEED_FD, LISTENERS_MAX};
use super::{LISTEN_FDS_VARIABLE, LOG_VARIABLE, STORE_VARIABLE};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// This very binary, even when its file has been replaced since.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a worker starts with.
#[derive(Debug)]
pub struct WorkerSpec<'a> {
    /// The word after `glacis worker`.
    pub name: &'a str,
    /// [`OWN_PROGRAM`], but in tests.
    pub program: &'a Path,
    /// Words after the name.
    pub args: &'a [&'a str],
    /// The worker's end; the core keeps the other. Its end of file tells the core that the worker died.
    pub feed: UnixStream,
    /// They stay open in the core, so visitors wait while a worker restarts.
    pub listeners: &'a [TcpListener],
    /// The folder of the store, for a worker that reads it.
    pub store: Option<&'a Path>,
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("{count} listeners for the worker {name}; it takes {LISTENERS_MAX} at most")]
    Listeners { name: String, count: usize },
    #[error("cannot duplicate a descriptor for the worker {name}: {source}")]
    Duplicate { name: String, source: io::Error },
    #[error("cannot start the worker {name}: {source}")]
    Start { name: String, source: io::Error },
}

/// A running worker; killed and reaped on drop.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Both fail only when it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a worker with a clean environment, its descriptors from 3 on, and no other above standard error.
///
/// Call it from a thread that lives as long as the core: a worker is killed when the *thread* that started it
/// ends (`PR_SET_PDEATHSIG` in prctl(2)).
pub fn spawn(spec: WorkerSpec<'_>) -> Result<WorkerProcess, SpawnError> {
    let name = || spec.name.to_owned();
    if spec.listeners.len() > LISTENERS_MAX {
        return Err(SpawnError::Listeners { name: name(), count: spec.listeners.len() });
    }
    let passed = Passed::duplicate(&spec).map_err(|source| SpawnError::Duplicate { name: name(), source })?;
    let mut command = Command::new(spec.program);
    command
        .arg0("glacis")
        .args(["worker", spec.name])
        .args(spec.args)
        .env_clear()
        .env(LISTEN_FDS_VARIABLE, spec.listeners.len().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(store) = spec.store {
        command.env(STORE_VARIABLE, store);
    }
    if let Some(filter) = std::env::var_os(LOG_VARIABLE) {
        command.env(LOG_VARIABLE, filter);
    }
    let numbers = passed.numbers();
    // SAFETY: between fork and exec only `dup2` and `close_range` are called, which are plain system calls, on
    // an array that was built before; the duplicates stay open until `spawn` returns.
    unsafe { command.pre_exec(move || install(&numbers)) };
    let child = command.spawn().map_err(|source| SpawnError::Start { name: name(), source })?;
    // From here on the worker alone has its end, so that its death ends the feed.
    drop(spec.feed);
    Ok(WorkerProcess { child })
}

/// Duplicates whose numbers lie above all that the worker will see, so that none is overwritten while they move.
struct Passed(Vec<OwnedFd>);

impl Passed {
    fn duplicate(spec: &WorkerSpec<'_>) -> io::Result<Self> {
        let above = FEED_FD + 1 + spec.listeners.len() as RawFd;
        let sources = std::iter::once(spec.feed.as_fd()).chain(spec.listeners.iter().map(AsFd::as_fd));
        let raise = |fd: BorrowedFd<'_>| Ok(rustix::io::fcntl_dupfd_cloexec(fd, above)?);
        Ok(Self(sources.map(raise).collect::<io::Result<_>>()?))
    }

    fn numbers(&self) -> Vec<RawFd> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// Moves the duplicates down to [`FEED_FD`] and on, and lets all others end with the execution.
fn install(sources: &[RawFd]) -> io::Result<()> {
    let mut target = FEED_FD;
    for source in sources {
        // SAFETY: runs in the child alone; `target` is below every source and overwrites only what ends here.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        target += 1;
    }
    // Not closed yet: the standard library reports a failed execution through a descriptor of its own.
    // SAFETY: sets a flag of descriptors of the child alone.
    let code = unsafe {
        libc::close_range(target as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/worker/testdata/probe.sh");

    fn spawn_probe(what: &str, listeners: &[TcpListener]) -> (WorkerProcess, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let program = Path::new(PROBE);
        let spec = WorkerSpec { name: "probe", program, args: &[what], feed: theirs, listeners, store: None };
        (spawn(spec).unwrap(), ours)
    }

    fn told(mut feed: UnixStream) -> String {
        let mut text = String::new();
        feed.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_worker_gets_its_words_a_clean_environment_and_only_its_descriptors() {
        let listeners =
            [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        // Open on purpose without close-on-exec, as a careless library would leave it.
        let leak = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let (_worker, feed) = spawn_probe("tell", &listeners);
        let text = told(feed);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["worker probe tell", "GLACIS_LISTEN_FDS=2", "0"], "{text}");
        let sockets = lines.iter().filter(|line| line.starts_with("socket:")).count();
        // The feed twice, as standard output and as 3, and two listeners.
        assert_eq!(sockets, 4, "{text}");
        assert_eq!(
            lines.iter().filter(|line| **line == "/dev/null").count(),
            1,
            "only standard input: {text}"
        );
    }

    #[test]
    fn a_worker_dies_with_its_handle() {
        let (worker, feed) = spawn_probe("sleep", &[]);
        let pid = worker.pid();
        drop(worker);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(told(feed), "", "the end of the feed tells the core");
    }

    #[test]
    fn a_program_that_is_missing_is_an_error_that_names_the_worker() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let program = Path::new("/nonexistent/glacis");
        let spec =
            WorkerSpec { name: "probe", program, args: &[], feed: theirs, listeners: &[], store: None };
        assert!(spawn(spec).unwrap_err().to_string().contains("probe"));
    }
}
