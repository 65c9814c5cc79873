//! What a process and its children take.

use crate::Outcome;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A child that ends with its handle.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self { child: child.map_err(|error| format!("cannot start {command:?}: {error}"))? })
    }

    /// The process and all that descend from it, now.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = family.get(next) {
            family.extend(children(pid));
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The children of nginx's master and of `ip netns exec` do not end with it.
        for pid in self.family().into_iter().rev() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Processor time of some processes, softirqs in their name included.
pub(crate) struct ProcessorTime<'a>(pub(crate) &'a [u32]);

impl ProcessorTime<'_> {
    /// Seconds since they began.
    pub(crate) fn now(&self) -> Outcome<f64> {
        let mut nanoseconds = 0;
        for pid in self.0 {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                nanoseconds += task_nanoseconds(&task?.path().join("schedstat"))?;
            }
        }
        Ok(nanoseconds as f64 / 1e9)
    }
}

fn task_nanoseconds(path: &Path) -> Outcome<u64> {
    let text = fs::read_to_string(path)?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(first.ok_or_else(|| format!("not what {} holds: {text}", path.display()))?)
}

/// Memory of a process's own, in KiB: private pages without files behind them.
pub(crate) fn own_kibibytes(pids: &[u32]) -> Outcome<f64> {
    let mut sum = 0.0;
    for pid in pids {
        sum += crate::memory::smaps_mebibytes(*pid, "Pss_Anon:")? * 1024.0;
    }
    Ok(sum)
}
