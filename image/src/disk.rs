//! The disk: a GPT with partitions of known content, as a sparse file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::Type;
use gpt::{GptConfig, GptError};
use uuid::Uuid;

use crate::error::ImageError;
use crate::fat::SECTOR_BYTES;

/// Partitions start on whole MiB: flash and RAID stripes are multiples of less.
const ALIGNMENT_BYTES: u64 = 1 << 20;
/// Runs of zeros of this length are left as holes.
const HOLE_BYTES: usize = 4096;

/// A partition to be written.
pub(crate) struct Partition {
    pub(crate) name: &'static str,
    pub(crate) kind: Type,
    pub(crate) uuid: Uuid,
    /// A multiple of 1 MiB.
    pub(crate) bytes: u64,
    /// At most as long as the partition; zeros follow.
    pub(crate) content: Vec<u8>,
}

/// First sector of each of the partitions when they have these sizes.
pub(crate) fn first_sectors<const N: usize>(sizes: [u64; N]) -> [u32; N] {
    let mut next = ALIGNMENT_BYTES;
    sizes.map(|bytes| {
        let first = next;
        next += bytes;
        u32::try_from(first / SECTOR_BYTES).expect("an image is far below 2 TiB")
    })
}

/// Writes the partitions in order and returns the size of the disk. `file` is empty, `path` is for errors.
pub(crate) fn write(
    mut file: File,
    path: &Path,
    disk: Uuid,
    partitions: &[Partition],
) -> Result<u64, ImageError> {
    // One MiB before for the table and one behind for its backup.
    let bytes = 2 * ALIGNMENT_BYTES + partitions.iter().map(|partition| partition.bytes).sum::<u64>();
    file.set_len(bytes).map_err(ImageError::write(path))?;
    let mut at = ALIGNMENT_BYTES;
    for partition in partitions {
        write_sparse(&mut file, at, &partition.content).map_err(ImageError::write(path))?;
        at += partition.bytes;
    }
    let table = |source| ImageError::PartitionTable { path: path.into(), source };
    let file = write_table(file, bytes, disk, partitions).map_err(table)?;
    file.sync_all().map_err(ImageError::write(path))?;
    Ok(bytes)
}

fn write_sparse(file: &mut File, at: u64, content: &[u8]) -> io::Result<()> {
    for (index, chunk) in content.chunks(HOLE_BYTES).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(at + (index * HOLE_BYTES) as u64))?;
            file.write_all(chunk)?;
        }
    }
    Ok(())
}

fn write_table(mut file: File, bytes: u64, disk: Uuid, partitions: &[Partition]) -> Result<File, GptError> {
    let sectors = u32::try_from(bytes / SECTOR_BYTES).map_err(|_| GptError::NotEnoughSpace)?;
    let protective = ProtectiveMBR::with_lb_size(sectors - 1);
    protective.overwrite_lba0(&mut file).map_err(|error| GptError::Io(io::Error::other(error)))?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file, Some(disk))?;
    let mut entries = BTreeMap::new();
    let mut first_lba = ALIGNMENT_BYTES / SECTOR_BYTES;
    for (index, partition) in partitions.iter().enumerate() {
        let next_lba = first_lba + partition.bytes / SECTOR_BYTES;
        let entry = gpt::partition::Partition {
            part_type_guid: partition.kind.clone(),
            part_guid: partition.uuid,
            first_lba,
            last_lba: next_lba - 1,
            flags: 0,
            name: partition.name.into(),
        };
        entries.insert(index as u32 + 1, entry);
        first_lba = next_lba;
    }
    table.update_partitions(entries)?;
    table.write()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn partitions_lie_where_they_were_said_to_and_holes_stay_holes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sizes = [8 << 20, 4 << 20];
        let partitions = sizes.map(|bytes| Partition {
            name: "part",
            kind: gpt::partition_types::LINUX_FS,
            uuid: Uuid::from_bytes([bytes as u8; 16]),
            bytes,
            content: [vec![0; 65536], format!("content of {bytes}").into_bytes()].concat(),
        });
        let bytes =
            write(file.reopen().unwrap(), file.path(), Uuid::from_bytes([1; 16]), &partitions).unwrap();
        assert_eq!(bytes, 14 << 20);
        let metadata = file.as_file().metadata().unwrap();
        assert!(metadata.len() == bytes && metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());

        let table = GptConfig::new().open(file.path()).unwrap();
        let image = std::fs::read(file.path()).unwrap();
        for (entry, (first, size)) in
            table.partitions().values().zip(first_sectors(sizes).into_iter().zip(sizes))
        {
            assert_eq!(entry.first_lba, u64::from(first));
            assert_eq!(entry.sectors_len().unwrap() * 512, size);
            let content = format!("content of {size}");
            assert!(image[first as usize * 512 + 65536..].starts_with(content.as_bytes()));
        }
    }
}
