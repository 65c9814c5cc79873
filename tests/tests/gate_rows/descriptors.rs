//! How many descriptors the gate worker may have.

use glacis_tests::netns::run;
use std::collections::BTreeSet;
use std::process::Command;

/// A process's limit, as it was when it was first looked at; restored on drop.
pub struct Descriptors {
    pid: u32,
    soft: u64,
}

impl Descriptors {
    pub fn of(pid: u32) -> Self {
        Self { pid, soft: limit_of(pid) }
    }

    /// Lets it open so many more than it has.
    pub fn leave(&self, more: u64) {
        let open = open_of(self.pid);
        let free = (0..).filter(|number| !open.contains(number));
        let limit = free.take(usize::try_from(more).expect("a small number") + 1).last();
        self.set(limit.expect("there is always another number"));
    }

    pub fn restore(&self) {
        self.set(self.soft);
    }

    fn set(&self, soft: u64) {
        // Another user's limits are only for who may do more than root can in a container; its own user may do it anywhere.
        let user = glacis_plan::gate::GATE_UID.to_string();
        let limit = format!("--nofile={soft}:");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        run(command.args(["prlimit", "--pid", &self.pid.to_string(), &limit]));
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.restore();
        }
    }
}

fn limit_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the worker runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("it has this limit");
    let soft = line.split_whitespace().next().expect("a soft limit first");
    soft.parse().expect("the kernel prints a number")
}

/// Numbers of its open descriptors.
pub fn open_of(pid: u32) -> BTreeSet<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("root reads anybody's descriptors");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}
