//! What the comparison asks of a peer, and the processes that a peer is.

use glacis_tests::netns::Namespace;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a service may take to end when it is asked to.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// A program that watches the victim and blocks scanners.
pub trait Peer {
    /// Name, version and mode.
    fn title(&self) -> String;

    /// Starts it, or starts it again with the state that it kept, and returns when it watches.
    fn start(&mut self);

    /// Ends it as its service is stopped.
    fn stop(&mut self);

    /// Ends it as a power cut does.
    fn kill(&mut self);

    /// Whether it has a record of this source, blocked or not.
    fn saw(&self, source: IpAddr) -> bool;

    /// How many sources it holds blocked, all told.
    fn blocked(&self) -> usize;

    /// How long this source is still to be blocked, where the peer says so.
    fn remaining(&self, source: IpAddr) -> Option<Duration>;

    /// CPU time of all its processes so far, and of the log daemon that it needs.
    fn cpu(&self) -> Duration;

    /// Lines that reached the log it reads; `None` when it reads none.
    fn lines_logged(&self) -> Option<usize> {
        None
    }
}

/// Processes that are counted and ended together: a control group (version 2).
pub struct ProcessGroup {
    folder: PathBuf,
    children: Vec<Child>,
}

impl ProcessGroup {
    pub fn new(label: &str) -> Self {
        let folder = cgroup_mount().join(format!("glacis-comparison-{}-{label}", std::process::id()));
        fs::create_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        Self { folder, children: vec![] }
    }

    /// Starts a program inside the namespace and the group; what it prints is added to a file.
    pub fn spawn(&mut self, namespace: &Namespace, argv: &[&str], output: &Path) {
        let output = File::options().create(true).append(true).open(output).expect("the folder is ours");
        let inside = namespace.command(argv);
        // `ip netns exec` hides control groups behind a /sys of its own, so the group is joined before it.
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.folder.join("cgroup.procs"));
        command.arg(inside.get_program()).args(inside.get_args());
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a descriptor can be duplicated"))
            .stderr(output);
        self.children.push(command.spawn().unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}")));
    }

    /// Takes in a process that was started otherwise, with its children.
    pub fn adopt(&self, pid: u32) {
        let mut pids = vec![pid.to_string()];
        while let Some(pid) = pids.pop() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().map(str::to_owned));
            fs::write(self.folder.join("cgroup.procs"), &pid).expect("the process is ours");
        }
    }

    /// CPU time of all that ever ran in the group.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(self.folder.join("cpu.stat")).expect("the group has a count");
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        Duration::from_micros(micros.expect("every kernel counts CPU time of groups"))
    }

    /// Asks every process to end, and ends those that do not.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        let deadline = Instant::now() + END_PATIENCE;
        while !self.pids().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            self.reap();
        }
        self.kill();
    }

    pub fn kill(&mut self) {
        while !self.pids().is_empty() {
            self.signal("-KILL");
            std::thread::sleep(Duration::from_millis(20));
            self.reap();
        }
        // Its last threads may hold sockets for a moment after a process has left its group.
        for mut child in self.children.drain(..) {
            let _ = child.wait();
        }
    }

    fn signal(&self, signal: &str) {
        for pid in self.pids() {
            let _ = Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
        }
    }

    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn reap(&mut self) {
        for child in &mut self.children {
            let _ = child.try_wait();
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir(&self.folder);
    }
}

fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.into_iter().find(|fields| fields[2] == "cgroup2");
    mount.expect("CPU time is counted by control groups: mount cgroup2").remove(1).into()
}

/// Standard output of a command in the namespace, empty when it fails.
pub fn listing(namespace: &Namespace, argv: &[&str]) -> String {
    let output = namespace.command(argv).output().unwrap_or_else(|e| panic!("cannot start {argv:?}: {e}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a text names an address, and not a longer one that begins or ends like it.
pub fn names(text: &str, source: IpAddr) -> bool {
    let source = source.to_string();
    text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':')).any(|word| {
        let word = word.trim_end_matches([':', '.']);
        word == source || word.parse::<IpAddr>().is_ok_and(|address| address.to_string() == source)
    })
}

/// How many addresses of iptables rules are dropped as sources.
pub fn iptables_sources(victim: &Namespace) -> usize {
    let rules = listing(victim, &["iptables-save"]) + &listing(victim, &["ip6tables-save"]);
    let mut sources: Vec<&str> = rules
        .lines()
        .filter(|line| line.contains("INPUT"))
        .filter_map(|line| line.split(" -s ").nth(1))
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources.len()
}

/// A time as nft writes it, such as `3h59m43s212ms`.
pub fn nft_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit_and_more) = rest.split_at(digits);
        let letters = unit_and_more.find(|c: char| c.is_ascii_digit()).unwrap_or(unit_and_more.len());
        let (unit, more) = unit_and_more.split_at(letters);
        let millis = match unit {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        sum += Duration::from_millis(number.parse::<u64>().ok()? * millis);
        rest = more;
    }
    Some(sum)
}
