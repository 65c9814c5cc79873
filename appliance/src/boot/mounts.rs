//! File systems that exist before any partition does: a table, and one loop over it.

use super::console::say;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::fs;

/// What the absence of a file system means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The boot goes on without it, and says that it will not go far.
    Required,
    /// The kernel or the firmware may not have it; passed over in silence.
    Optional,
}

struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: Option<&'static CStr>,
    need: Need,
}

const PRIVATE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// In this order: later ones lie inside earlier ones.
const MOUNTS: [Mount; 7] = [
    Mount {
        source: "devtmpfs",
        target: "/dev",
        kind: "devtmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: Some(c"mode=0755"),
        need: Need::Required,
    },
    Mount { source: "proc", target: "/proc", kind: "proc", flags: PRIVATE, data: None, need: Need::Required },
    Mount {
        source: "sysfs",
        target: "/sys",
        kind: "sysfs",
        flags: PRIVATE,
        data: None,
        need: Need::Required,
    },
    Mount {
        source: "tmpfs",
        target: "/run",
        kind: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: Some(c"mode=0755,size=25%"),
        need: Need::Required,
    },
    Mount {
        source: "bpf",
        target: "/sys/fs/bpf",
        kind: "bpf",
        flags: PRIVATE,
        data: Some(c"mode=0700"),
        need: Need::Required,
    },
    Mount {
        source: "cgroup2",
        target: "/sys/fs/cgroup",
        kind: "cgroup2",
        flags: PRIVATE,
        data: None,
        need: Need::Optional,
    },
    Mount {
        source: "efivarfs",
        target: "/sys/firmware/efi/efivars",
        kind: "efivarfs",
        flags: PRIVATE,
        data: None,
        need: Need::Optional,
    },
];

/// What could not be mounted, told when there is a console to tell it on.
pub struct Mounted {
    failures: Vec<(&'static str, Errno)>,
}

pub fn mount_all() -> Mounted {
    let mut failures = Vec::new();
    for entry in &MOUNTS {
        // In sysfs and procfs the mount points are the kernel's.
        let _ = fs::create_dir_all(entry.target);
        match mount(entry.source, entry.target, entry.kind, entry.flags, entry.data) {
            // The kernel mounts devtmpfs by itself when it was built to.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) if entry.need == Need::Required => failures.push((entry.target, error)),
            Err(_) => {}
        }
    }
    Mounted { failures }
}

impl Mounted {
    pub fn report(&self) {
        for (target, error) in &self.failures {
            say(format_args!("{target} not mounted: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_mounted_after_the_one_it_lies_in() {
        for (index, inner) in MOUNTS.iter().enumerate() {
            for outer in &MOUNTS[index + 1..] {
                assert!(!inner.target.starts_with(&format!("{}/", outer.target)), "{}", inner.target);
            }
        }
    }

    #[test]
    fn no_file_system_honours_set_user_id() {
        for entry in &MOUNTS {
            assert!(entry.flags.contains(MountFlags::NOSUID), "{}", entry.target);
        }
    }
}
