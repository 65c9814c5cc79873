//! Network namespaces with veth pairs, made and removed by the test that uses them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace of its own, with loopback up; removed on drop.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// # Panics
    /// When the namespace cannot be made: these tests need root.
    pub fn new(label: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("gl{}-{serial}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let ns = Self { name };
        ns.run(["ip", "link", "set", "lo", "up"]);
        ns
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that starts inside the namespace.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(argv);
        command
    }

    /// Runs a command inside the namespace and returns its output.
    ///
    /// # Panics
    /// When it fails; the text carries what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Output {
        run(&mut self.command(argv))
    }

    /// Standard output of a command that must succeed.
    pub fn stdout<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> String {
        String::from_utf8(self.run(argv).stdout).expect("tools print UTF-8")
    }

    /// Runs a closure on a thread of its own that has entered the namespace.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                    // SAFETY: `setns` changes only this thread, which ends with the closure.
                    let code = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                    assert_eq!(code, 0, "setns {path}: {}", std::io::Error::last_os_error());
                    inside()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Joins two namespaces by a veth pair; both ends are up and named as given.
    pub fn veth(&self, device: &str, other: &Self, other_device: &str) {
        self.run([
            "ip",
            "link",
            "add",
            device,
            "type",
            "veth",
            "peer",
            "name",
            other_device,
            "netns",
            &other.name,
        ]);
        self.run(["ip", "link", "set", device, "up"]);
        other.run(["ip", "link", "set", other_device, "up"]);
    }

    /// Adds an address with its prefix length; IPv6 without duplicate address detection.
    pub fn address(&self, device: &str, address: &str) {
        let mut argv = vec!["ip", "address", "add", address, "dev", device];
        if address.contains(':') {
            argv.push("nodad");
        }
        self.run(argv);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot start or fails; the text carries what it printed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
