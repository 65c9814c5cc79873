//! POLICY and DATA: found by the names of their GPT entries, mounted with the least that they need.

use super::console::{say, since_boot};
use super::modules::{ALL_DEVICES, Modules};
use super::{DATA_DIR, POLICY_DIR};
use glacis_image::partition::{DATA_NAME, POLICY_NAME};
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long a disk may take to appear after its driver was asked for.
const APPEAR_MAX: Duration = Duration::from_secs(10);
/// Between two looks for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const BLOCK_DEVICES: &str = "/sys/class/block";
const DATA_FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);
const POLICY_FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::RDONLY);

/// One partition, by its name below `/dev` and `/sys/class/block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub device: String,
    /// In the GPT, from 1.
    pub number: u32,
}

impl Partition {
    pub fn node(&self) -> String {
        format!("/dev/{}", self.device)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub policy: Option<Partition>,
    pub data: Option<Partition>,
}

impl Found {
    fn is_complete(&self) -> bool {
        self.policy.is_some() && self.data.is_some()
    }
}

/// Waits until both are there or their time is up. Disks appear behind drivers that appear behind drivers, so it goes on
/// loading them.
pub fn wait_for(modules: &mut Modules) -> Found {
    let deadline = since_boot() + APPEAR_MAX;
    loop {
        let found = look(Path::new(BLOCK_DEVICES));
        if found.is_complete() || since_boot() >= deadline {
            return found;
        }
        modules.coldplug(ALL_DEVICES);
        thread::sleep(LOOK_INTERVAL);
    }
}

/// With several partitions of one name, the first device by name counts: the same one at every boot of the same machine.
fn look(block_devices: &Path) -> Found {
    let mut named: Vec<(String, Partition)> = fs::read_dir(block_devices)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| parse_uevent(&fs::read_to_string(entry.path().join("uevent")).ok()?))
        .collect();
    named.sort_by(|(_, a), (_, b)| a.device.cmp(&b.device));
    let first = |name| named.iter().find(|(found, _)| found == name).map(|(_, partition)| partition.clone());
    Found { policy: first(POLICY_NAME), data: first(DATA_NAME) }
}

/// Name and place of a partition that has a name.
fn parse_uevent(text: &str) -> Option<(String, Partition)> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let number = value("PARTN")?.parse().ok()?;
    let partition = Partition { device: value("DEVNAME")?.to_owned(), number };
    Some((value("PARTNAME")?.to_owned(), partition))
}

/// Read-only: PID 1 and the core never change what the operator wrote.
pub fn mount_policy(policy: &Partition) {
    // A failure was told; the core says what it means.
    let _mounted = mount_at(policy, POLICY_DIR, "vfat", POLICY_FLAGS, Some(c"utf8,umask=0077"));
}

/// Whether it is mounted. A file system that was in use when the power failed is repaired from its journal.
pub fn mount_data(data: &Partition) -> bool {
    mount_at(data, DATA_DIR, "ext4", DATA_FLAGS, None)
}

fn mount_at(
    partition: &Partition,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> bool {
    let _ = fs::create_dir_all(target);
    match mount(partition.node(), target, kind, flags, options) {
        Ok(()) => true,
        Err(error) => {
            say(format_args!("{} not mounted at {target} as {kind}: {error}", partition.node()));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str =
        "MAJOR=254\nMINOR=3\nDEVNAME=vda3\nDEVTYPE=partition\nDISKSEQ=9\nPARTN=3\nPARTNAME=glacis-data\n";

    #[test]
    fn a_partition_is_read_from_its_uevent() {
        let (name, partition) = parse_uevent(DATA).unwrap();
        assert_eq!(name, "glacis-data");
        assert_eq!(partition, Partition { device: "vda3".into(), number: 3 });
        assert_eq!(partition.node(), "/dev/vda3");
    }

    #[test]
    fn a_disk_or_a_partition_without_a_name_is_none() {
        assert_eq!(parse_uevent("MAJOR=254\nDEVNAME=vda\nDEVTYPE=disk\n"), None);
        assert_eq!(parse_uevent("DEVNAME=vda1\nPARTN=1\n"), None);
        assert_eq!(parse_uevent(""), None);
    }

    #[test]
    fn the_first_device_by_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        for (device, name) in [("vdb1", POLICY_NAME), ("vda2", POLICY_NAME), ("vda1", "glacis-esp")] {
            fs::create_dir(folder.path().join(device)).unwrap();
            let text = format!("DEVNAME={device}\nPARTN=1\nPARTNAME={name}\n");
            fs::write(folder.path().join(device).join("uevent"), text).unwrap();
        }
        let found = look(folder.path());
        assert_eq!(found.policy, Some(Partition { device: "vda2".into(), number: 1 }));
        assert_eq!(found.data, None);
        assert!(!found.is_complete());
    }
}
