//! DATA grows to the end of the disk.
//!
//! The image ships it small. At every boot the partition is compared with the disk: entry in the GPT, the kernel's idea of
//! the partition, and the file system. Each step is skipped when there is nothing to gain, so a boot that was cut short is
//! finished by the next one. A failure leaves a small DATA and a warning.

use super::console::say;
use super::partitions::Partition;
use gpt::partition::Partition as Entry;
use gpt::{DiskDevice, GptConfig, GptError};
use rustix::fs::statfs;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

/// `BLKPG` of `linux/blkpg.h`.
const BLKPG: libc::c_ulong = 0x1269;
/// `BLKPG_RESIZE_PARTITION` of `linux/blkpg.h`.
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;
/// `EXT4_IOC_RESIZE_FS` of `fs/ext4/ext4.h`: `_IOW('f', 16, __u64)`.
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// The only sector size that images are built for; sysfs counts in it whatever the disk has.
const SECTOR_BYTES: u64 = 512;
/// Partitions begin and end on a MiB, and the last one holds the second GPT.
const ALIGNMENT_SECTORS: u64 = (1 << 20) / SECTOR_BYTES;

#[derive(Debug, thiserror::Error)]
enum GrowError {
    #[error("{path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} holds no number")]
    Malformed { path: String },
    #[error("the disk has sectors of {bytes} bytes, the image is made for {SECTOR_BYTES}")]
    SectorSize { bytes: u64 },
    #[error("the partition table: {0}")]
    Table(#[from] GptError),
    #[error("the partition table has no entry {0}")]
    NoEntry(u32),
    #[error("another partition follows it")]
    NotLast,
    #[error("telling the kernel: {0}")]
    Kernel(io::Error),
    #[error("growing the file system: {0}")]
    FileSystem(io::Error),
}

/// `struct blkpg_partition` of `linux/blkpg.h`; bytes.
#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    data_length: libc::c_int,
    data: *const BlkpgPartition,
}

/// Where a partition lies, in sectors; both are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first: u64,
    last: u64,
}

/// Widens the partition in the GPT and in the kernel. It may be mounted.
///
/// Runs in a child, because the partition table is foreign bytes and a parser's panic must not be PID 1's.
pub fn grow_partition(data: &Partition) {
    // SAFETY: PID 1 has one thread at this point, so the child may do all that its parent could.
    match unsafe { libc::fork() } {
        -1 => say(format_args!("{} not grown: {}", data.device, io::Error::last_os_error())),
        0 => {
            grow_partition_here(data);
            // SAFETY: ends the child at once, without what the parent registered for its own end.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child just made and writes its status to a live integer.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            if waited != child || status != 0 {
                say(format_args!("{} not grown: its partition table cannot be read", data.device));
            }
        }
    }
}

fn grow_partition_here(data: &Partition) {
    match try_grow_partition(data) {
        Ok(None) => {}
        Ok(Some(extent)) => {
            let mib = (extent.last - extent.first + 1) / ALIGNMENT_SECTORS;
            say(format_args!("{} grown to {mib} MiB", data.device));
        }
        Err(error) => say(format_args!("{} not grown: {error}", data.device)),
    }
}

/// Widens the mounted file system to its partition.
pub fn grow_file_system(data: &Partition, mount_point: &Path) {
    if let Err(error) = try_grow_file_system(data, mount_point) {
        say(format_args!("{} not grown: {error}", mount_point.display()));
    }
}

fn try_grow_partition(data: &Partition) -> Result<Option<Extent>, GrowError> {
    let in_sysfs = format!("/sys/class/block/{}", data.device);
    let read_error = |path: &str| {
        let path = path.to_owned();
        |source| GrowError::Read { path, source }
    };
    // The partition's folder lies in its disk's.
    let folder = fs::canonicalize(&in_sysfs).map_err(read_error(&in_sysfs))?;
    let disk = folder.parent().unwrap_or(&folder);
    let sector_bytes = number_in(&disk.join("queue/logical_block_size"))?;
    if sector_bytes != SECTOR_BYTES {
        return Err(GrowError::SectorSize { bytes: sector_bytes });
    }
    let disk_sectors = number_in(&disk.join("size"))?;
    let node = Path::new("/dev").join(disk.file_name().unwrap_or_default());
    let node_name = node.display().to_string();
    let device = OpenOptions::new().read(true).write(true).open(&node).map_err(read_error(&node_name))?;
    let kernel = device.try_clone().map_err(read_error(&node_name))?;
    let Some(extent) = rewrite_table(device, data.number, disk_sectors)? else { return Ok(None) };
    kernel.sync_all().map_err(read_error(&node_name))?;
    tell_kernel(&kernel, data.number, extent).map_err(GrowError::Kernel)?;
    Ok(Some(extent))
}

fn try_grow_file_system(data: &Partition, mount_point: &Path) -> Result<(), GrowError> {
    let sectors = number_in(&Path::new("/sys/class/block").join(&data.device).join("size"))?;
    let block_bytes = statfs(mount_point).map_err(|error| GrowError::FileSystem(error.into()))?.f_bsize;
    // The block size of a mounted ext4 is a power of two between 1024 and 65536.
    let blocks: u64 = sectors * SECTOR_BYTES / block_bytes.unsigned_abs().max(1024);
    let folder = File::open(mount_point).map_err(GrowError::FileSystem)?;
    // SAFETY: the ioctl reads one u64, which lives until the call returns. With the present size it does nothing.
    let outcome = unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) };
    if outcome == 0 { Ok(()) } else { Err(GrowError::FileSystem(io::Error::last_os_error())) }
}

fn number_in(path: &Path) -> Result<u64, GrowError> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| GrowError::Malformed { path: name }),
        Err(source) => Err(GrowError::Read { path: name, source }),
    }
}

/// Writes both GPTs anew with the entry widened; the second one moves to the disk's end. `None`: nothing to gain.
fn rewrite_table<D: DiskDevice>(
    device: D,
    number: u32,
    disk_sectors: u64,
) -> Result<Option<Extent>, GrowError> {
    // On a disk that grew, the second GPT is not where the first one says.
    let config = GptConfig::new().writable(true).only_valid_headers(false);
    let mut table = config.open_from_device(device)?;
    let mut entries = table.partitions().clone();
    let Some(extent) = widened(&entries, number, disk_sectors)? else { return Ok(None) };
    if let Some(entry) = entries.get_mut(&number) {
        entry.last_lba = extent.last;
    }
    table.update_partitions(entries)?;
    table.write()?;
    Ok(Some(extent))
}

/// Up to the last whole MiB but one.
fn widened(
    entries: &BTreeMap<u32, Entry>,
    number: u32,
    disk_sectors: u64,
) -> Result<Option<Extent>, GrowError> {
    let entry = entries.get(&number).ok_or(GrowError::NoEntry(number))?;
    if entries.values().any(|other| other.is_used() && other.first_lba > entry.last_lba) {
        return Err(GrowError::NotLast);
    }
    let whole = (disk_sectors / ALIGNMENT_SECTORS).saturating_sub(1) * ALIGNMENT_SECTORS;
    let last = whole.saturating_sub(1);
    Ok((last > entry.last_lba).then_some(Extent { first: entry.first_lba, last }))
}

fn tell_kernel(disk: &impl AsRawFd, number: u32, extent: Extent) -> io::Result<()> {
    let bytes = |sectors: u64| libc::c_longlong::try_from(sectors * SECTOR_BYTES).map_err(io::Error::other);
    let partition = BlkpgPartition {
        start: bytes(extent.first)?,
        length: bytes(extent.last - extent.first + 1)?,
        number: libc::c_int::try_from(number).map_err(io::Error::other)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        data_length: size_of::<BlkpgPartition>() as libc::c_int,
        data: &raw const partition,
    };
    let disk: RawFd = disk.as_raw_fd();
    // SAFETY: the kernel reads the argument and the partition it points at; both live until the call returns.
    let outcome = unsafe { libc::ioctl(disk, BLKPG, &raw const argument) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::disk::LogicalBlockSize;
    use gpt::partition_types;
    use std::io::{Seek, SeekFrom};

    const MIB: u64 = 1 << 20;

    /// A disk of 32 MiB with two partitions of 8 MiB, as the builder leaves it; then enlarged.
    fn disk(enlarged_to: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(32 * MIB).unwrap();
        gpt::mbr::ProtectiveMBR::with_lb_size(u32::try_from(32 * MIB / 512 - 1).unwrap())
            .overwrite_lba0(&mut file)
            .unwrap();
        let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
        let mut table = config.create_from_device(file.try_clone().unwrap(), None).unwrap();
        for name in ["glacis-policy", "glacis-data"] {
            table.add_partition(name, 8 * MIB, partition_types::LINUX_FS, 0, Some(2048)).unwrap();
        }
        table.write().unwrap();
        file.set_len(enlarged_to).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn rewrite(file: &File, number: u32, bytes: u64) -> Result<Option<Extent>, GrowError> {
        rewrite_table(file.try_clone().unwrap(), number, bytes / 512)
    }

    #[test]
    fn the_last_partition_grows_to_the_last_whole_mib_and_only_once() {
        let file = disk(256 * MIB);
        let extent = rewrite(&file, 2, 256 * MIB).unwrap().unwrap();
        assert_eq!(extent.last, 255 * MIB / 512 - 1);
        assert_eq!(rewrite(&file, 2, 256 * MIB).unwrap(), None);

        // Both tables are where a strict reader looks for them.
        let config = GptConfig::new().only_valid_headers(true);
        let table = config.open_from_device(file.try_clone().unwrap()).unwrap();
        assert_eq!(table.primary_header().unwrap().backup_lba, 256 * MIB / 512 - 1);
        assert_eq!(table.backup_header().unwrap().current_lba, 256 * MIB / 512 - 1);
        let grown = &table.partitions()[&2];
        assert_eq!((grown.first_lba, grown.last_lba), (extent.first, extent.last));
        assert_eq!(grown.name, "glacis-data");
        assert_eq!(table.partitions()[&1].name, "glacis-policy");
    }

    #[test]
    fn a_partition_that_others_follow_stays() {
        let file = disk(256 * MIB);
        assert!(matches!(rewrite(&file, 1, 256 * MIB), Err(GrowError::NotLast)));
        assert!(matches!(rewrite(&file, 7, 256 * MIB), Err(GrowError::NoEntry(7))));
    }

    #[test]
    fn a_disk_that_is_no_larger_is_left_alone() {
        let entry = Entry { first_lba: 2048, last_lba: 20479, ..Entry::zero() };
        let used = Entry { part_type_guid: partition_types::LINUX_FS, ..entry };
        let entries = BTreeMap::from([(1, used)]);
        for (mib, grows) in [(0, false), (1, false), (10, false), (11, false), (12, true)] {
            let extent = widened(&entries, 1, mib * ALIGNMENT_SECTORS).unwrap();
            assert_eq!(extent.is_some(), grows, "{mib} MiB");
        }
    }
}
