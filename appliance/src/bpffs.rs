//! The file system that pinned maps and links live in.

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use std::io;
use std::path::Path;

/// Where every distribution mounts it; a minimal one may not have.
const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const MAGIC: i64 = 0xcafe_4a11;

/// Mounts a bpffs at its usual place if a pin folder below it needs one. Pins elsewhere are their owner's business.
pub fn ensure(pin_dir: &Path) -> io::Result<()> {
    if !pin_dir.starts_with(MOUNT_POINT) || statfs(MOUNT_POINT)?.f_type == MAGIC {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", MOUNT_POINT, "bpf", flags, Some(c"mode=0700"))?;
    tracing::info!(path = MOUNT_POINT, "mounted a bpffs for the pinned maps");
    Ok(())
}
