//! A real `glacis run` in a network namespace, and its command line.

use crate::netns::Namespace;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where pinned maps of test daemons live; mounted once when it is not there.
const BPFFS: &str = "/sys/fs/bpf";

/// A daemon with a state folder, a socket and a pin folder of its own.
pub struct Daemon<'a> {
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl<'a> Daemon<'a> {
    /// Writes the policy and starts the daemon; [`Self::wait_for`] waits for it.
    pub fn start(namespace: &'a Namespace, policy: &str) -> Self {
        let mut daemon = Self::prepare(namespace);
        daemon.write_policy(policy);
        daemon.run();
        daemon
    }

    /// A daemon that does not run yet and has no policy.
    pub fn prepare(namespace: &'a Namespace) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { namespace, folder, child: None }
    }

    pub fn policy_path(&self) -> PathBuf {
        self.folder.path().join("policy.kdl")
    }

    pub fn state_path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn pin_dir(&self) -> PathBuf {
        Path::new(BPFFS).join(self.namespace.name())
    }

    pub fn write_policy(&self, text: &str) {
        fs::write(self.policy_path(), text).expect("the policy can be written");
    }

    /// Starts the daemon, or starts it again.
    pub fn run(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut command = Command::new(crate::bin::glacis());
        command
            .arg("run")
            .args(["--policy".as_ref(), self.policy_path().as_os_str()])
            .args(["--state".as_ref(), self.state_path().as_os_str()])
            .args(["--socket".as_ref(), self.socket_path().as_os_str()])
            .args(["--pin-dir".as_ref(), self.pin_dir().as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be duplicated"))
            .stderr(log);
        // Not by `ip netns exec`, which would also give it a /sys of its own, and pins would die with it.
        let child = self.namespace.enter(|| command.spawn()).expect("the daemon starts");
        self.child = Some(child);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a command of the command line against this daemon.
    pub fn glacis(&self, words: &[&str]) -> Output {
        Command::new(crate::bin::glacis())
            .args(words)
            .env("GLACIS_SOCKET", self.socket_path())
            .output()
            .expect("glacis starts")
    }

    /// Standard output of a command that must succeed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.glacis(words);
        assert!(
            output.status.success(),
            "glacis {words:?} failed:\n{}{}\nlog:\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("glacis prints UTF-8")
    }

    /// Standard error of a command that must fail.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.glacis(words);
        assert!(!output.status.success(), "glacis {words:?} succeeded");
        String::from_utf8(output.stderr).expect("glacis prints UTF-8")
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ask(&["status", "--json"])).expect("the status is JSON")
    }

    pub fn blocks(&self) -> Value {
        serde_json::from_str(&self.ask(&["blocks", "--json"])).expect("the blocks are JSON")
    }

    /// Waits until the status has something.
    ///
    /// # Panics
    /// When it has not within 20 s; the text carries status and log.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.glacis(&["status", "--json"]);
            let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
            if let Some(status) = status.as_ref().filter(|s| holds(s)) {
                return status.clone();
            }
            assert!(Instant::now() < deadline, "{what}: not within 20 s\n{status:#?}\nlog:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the policy's ruleset is in the kernel and everything around it stands.
    pub fn wait_ready(&self) -> Value {
        self.wait_for("ready", |s| s["firewall"] == "applied")
    }

    /// SIGKILL, as when the machine's memory runs out.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// What nft lists in the daemon's namespace.
    pub fn nft(&self, words: &[&str]) -> String {
        self.namespace.stdout([&["nft"], words].concat())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = remove_pins(&self.pin_dir());
    }
}

/// bpffs has no recursive removal of its own that stops at nothing; two levels are all there is.
fn remove_pins(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_pins(&path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    fs::remove_dir(folder)
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within the time.
pub fn eventually(what: &str, at_most: Duration, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + at_most;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {at_most:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
