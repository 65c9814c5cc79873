//! The core as a child of PID 1: started, listened to, killed when it is silent, started again when it ends.
//!
//! Whatever happens to the core, the ruleset and the TC program stay in the kernel.

use super::console::{say, since_boot};
use super::reap::{self, Exit};
use super::signals::Signals;
use super::stop::Ending;
use super::watch::{Due, Watch};
use super::watchdog::{FEED_INTERVAL, Watchdog};
use crate::heartbeat;
use crate::worker::spawn::OWN_PROGRAM;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio, read};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The loop turns at least so often, so that a lost signal delays nothing for longer.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Time for the core to end by itself when the machine stops.
const CORE_END_MAX: Duration = Duration::from_secs(10);

/// How the core is started.
pub struct CoreCommand {
    arguments: Vec<OsString>,
}

impl CoreCommand {
    pub fn new(policy: &Path, state: &Path) -> Self {
        let arguments: [&std::ffi::OsStr; 6] = [
            "run".as_ref(),
            "--policy".as_ref(),
            policy.as_os_str(),
            "--state".as_ref(),
            state.as_os_str(),
            "--appliance".as_ref(),
        ];
        Self { arguments: arguments.into_iter().map(OsString::from).collect() }
    }

    /// The child's id, and the end of the pipe that its heartbeats arrive at.
    fn spawn(&self) -> io::Result<(Pid, PipeReader)> {
        let (ours, theirs): (PipeReader, PipeWriter) = io::pipe()?;
        ioctl_fionbio(&ours, true)?;
        ioctl_fionbio(&theirs, true)?;
        // Nothing else is spawned while this end is inheritable: PID 1 has one thread.
        fcntl_setfd(&theirs, FdFlags::empty())?;
        let child = Command::new(OWN_PROGRAM)
            .arg0("glacis")
            .args(&self.arguments)
            .env_clear()
            .env(heartbeat::VARIABLE, theirs.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .spawn()?;
        // Reaped with all other children, so the handle is not needed.
        let pid = Pid::from_child(&child);
        Ok((pid, ours))
    }
}

/// A running core.
struct Running {
    pid: Pid,
    heartbeats: PipeReader,
}

/// Runs until the end is asked for; the core has ended by then, or its time was up.
pub fn supervise(command: &CoreCommand, signals: &Signals, mut watchdog: Option<Watchdog>) -> Ending {
    let mut watch = Watch::new(since_boot());
    let mut running: Option<Running> = None;
    loop {
        let now = since_boot();
        match watch.due(now) {
            Due::Start => running = start(command, &mut watch, now),
            Due::Kill => kill_silent(running.as_ref(), &mut watch),
            Due::Nothing => {}
        }
        if let Some(watchdog) = &mut watchdog
            && watch.is_alive(now)
        {
            watchdog.feed(now);
        }
        let heartbeats = running.as_ref().map(|core| &core.heartbeats);
        wait_for_something(signals, heartbeats, watch.next_due());
        if heartbeats.is_some_and(has_beaten) {
            watch.beat(since_boot());
        }
        let asked = signals.drain();
        reap_children(&mut running, &mut watch);
        if let Some(ending) = Ending::asked(&asked) {
            say(format_args!("{ending}"));
            end_core(running.as_ref());
            if let Some(watchdog) = watchdog {
                watchdog.disarm();
            }
            return ending;
        }
    }
}

/// For a machine without a core: reaps orphans until the end is asked for.
pub fn wait_for_the_end(signals: &Signals) -> Ending {
    loop {
        wait_for_something(signals, None, None);
        while reap::next().is_some() {}
        if let Some(ending) = Ending::asked(&signals.drain()) {
            return ending;
        }
    }
}

fn start(command: &CoreCommand, watch: &mut Watch, now: Duration) -> Option<Running> {
    match command.spawn() {
        Ok((pid, heartbeats)) => {
            watch.started(now);
            say(format_args!("core started as process {}", pid.as_raw_nonzero()));
            Some(Running { pid, heartbeats })
        }
        Err(error) => {
            let wait = watch.ended(now);
            say(format_args!("core not started: {error}; again in {} ms", wait.as_millis()));
            None
        }
    }
}

fn kill_silent(running: Option<&Running>, watch: &mut Watch) {
    if let Some(core) = running {
        say(format_args!("core silent for too long, killed"));
        // Only fails when the process is gone, which is about to be reaped.
        let _ = kill_process(core.pid, Signal::KILL);
    }
    watch.killed();
}

fn reap_children(running: &mut Option<Running>, watch: &mut Watch) {
    while let Some((pid, exit)) = reap::next() {
        if running.as_ref().is_some_and(|core| core.pid == pid) {
            *running = None;
            report_end(exit, watch.ended(since_boot()));
        }
    }
}

fn report_end(exit: Exit, wait: Duration) {
    say(format_args!(
        "core ended with {exit}; the firewall stands. Started again in {} ms",
        wait.as_millis()
    ));
}

/// Asks the core to end and waits until it has, or its time is up.
fn end_core(running: Option<&Running>) {
    let Some(core) = running else { return };
    let _ = kill_process(core.pid, Signal::TERM);
    let deadline = since_boot() + CORE_END_MAX;
    while since_boot() < deadline {
        while let Some((pid, _)) = reap::next() {
            if pid == core.pid {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    say(format_args!("core did not end in time"));
}

/// Returns when a signal or a heartbeat came, at `until`, or after [`TURN_MAX`].
fn wait_for_something(signals: &Signals, heartbeats: Option<&PipeReader>, until: Option<Duration>) {
    let turn = TURN_MAX.min(FEED_INTERVAL);
    let wait = until.map_or(turn, |until| until.saturating_sub(since_boot()).min(turn));
    let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
    let descriptors = [signals.descriptor(), heartbeats.map(AsFd::as_fd)];
    let mut polled: Vec<PollFd<'_>> =
        descriptors.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let outcome = poll(&mut polled, Some(&timeout));
    // A pipe whose writer is gone is always ready: without a pause the loop would spin until the core is reaped.
    let hung_up = polled.iter().any(|fd| fd.revents().contains(PollFlags::HUP));
    if outcome.is_err() || hung_up {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Empties the pipe. Whether anything was in it.
fn has_beaten(heartbeats: &PipeReader) -> bool {
    let mut buffer = [0; 64];
    let mut beaten = false;
    loop {
        match read(heartbeats, &mut buffer) {
            Ok(bytes) if bytes > 0 => beaten = true,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return beaten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_core_gets_policy_state_and_its_role() {
        let command = CoreCommand::new(Path::new("/policy/policy.kdl"), Path::new("/data/glacis"));
        let expected = ["run", "--policy", "/policy/policy.kdl", "--state", "/data/glacis", "--appliance"];
        assert_eq!(command.arguments, expected);
    }

    #[test]
    fn heartbeats_are_heard_once_and_a_closed_pipe_is_silent() {
        let (ours, mut theirs) = io::pipe().unwrap();
        ioctl_fionbio(&ours, true).unwrap();
        assert!(!has_beaten(&ours));
        theirs.write_all(&[1; 200]).unwrap();
        assert!(has_beaten(&ours));
        assert!(!has_beaten(&ours));
        drop(theirs);
        assert!(!has_beaten(&ours));
    }
}
