//! An empty ext4 volume with a journal, of one block group (kernel: `Documentation/filesystems/ext4/`,
//! `fs/ext4/ext4.h`, `include/linux/jbd2.h`).
//!
//! ```text
//! block 0      superblock, at byte 1024
//!       1      group descriptor
//!       2      block bitmap
//!       3      inode bitmap
//!       4      inode table
//!       260    root directory
//!       261    lost+found
//!       262    journal
//! ```
//!
//! Features are those of today's mke2fs, without `resize_inode`: growing online, the kernel goes over to `meta_bg`
//! and needs no blocks kept aside.

use crc::{Algorithm, Crc, Table};

use crate::bytes::{put, put_u16, put_u32};
use crate::error::ImageError;

const BLOCK_BYTES: usize = 4096;
/// Blocks that one block of bitmap describes: the limit of one group.
const GROUP_BLOCKS: u64 = BLOCK_BYTES as u64 * 8;
const BYTES_MIN: u64 = 16 << 20;
const BYTES_MAX: u64 = GROUP_BLOCKS * BLOCK_BYTES as u64;
const JOURNAL_BLOCKS_MAX: u32 = 4096;

const INODE_BYTES: usize = 256;
/// In each group; a volume of 40 GiB has a million and more.
const INODES: u32 = 4096;
const INODE_EXTRA_BYTES: u16 = 32;
const ROOT_INODE: u32 = 2;
const JOURNAL_INODE: u32 = 8;
const LOST_FOUND_INODE: u32 = 11;

const GROUP_BLOCK: u32 = 1;
const BLOCK_BITMAP: u32 = 2;
const INODE_BITMAP: u32 = 3;
const INODE_TABLE: u32 = 4;
const ROOT_BLOCK: u32 = INODE_TABLE + INODES * INODE_BYTES as u32 / BLOCK_BYTES as u32;
const LOST_FOUND_BLOCK: u32 = ROOT_BLOCK + 1;
const JOURNAL_BLOCK: u32 = LOST_FOUND_BLOCK + 1;

const SUPERBLOCK_AT: usize = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const DESCRIPTOR_BYTES: usize = 64;
const MAGIC: u16 = 0xef53;
const JOURNAL_MAGIC: u32 = 0xc03b_3998;
const EXTENT_MAGIC: u16 = 0xf30a;
/// The checksum at a directory block's end, dressed as an entry without a name.
const DIRECTORY_TAIL_BYTES: usize = 12;
const DIRECTORY_TAIL_KIND: u8 = 0xde;
const KIND_DIRECTORY: u8 = 2;

/// `has_journal`, `ext_attr`, `dir_index`.
const FEATURES_COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;
/// `filetype`, `extents`, `64bit`, `flex_bg`.
const FEATURES_INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`, `metadata_csum`.
const FEATURES_READ_ONLY: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;
const INODE_USES_EXTENTS: u32 = 0x80000;
/// `user_xattr` and `acl`, as mke2fs sets them.
const DEFAULT_MOUNT_OPTIONS: u32 = 0xc;
const HASH_HALF_MD4: u8 = 1;
/// How x86 compares characters, which the directory hash depends on.
const SIGNED_DIRECTORY_HASH: u32 = 1;

/// 1 January 2024: the time of every inode and of the volume.
const TIME: u32 = 1_704_067_200;

/// CRC-32C without the final complement: the kernel's `crc32c_le`, which chains by its own result.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: !0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0x1cf9_6d7c,
    residue: 0,
});

/// A volume to be written.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'a> {
    /// A multiple of 4 KiB from 16 to 128 MiB.
    pub bytes: u64,
    pub uuid: [u8; 16],
    /// Seed of the directory hash.
    pub hash_seed: [u8; 16],
    /// At most 16 bytes.
    pub label: &'a str,
}

/// The volume's content. It ends with the journal's first block; the rest of the partition is zeros.
pub fn format(volume: &Volume<'_>) -> Result<Vec<u8>, ImageError> {
    if !volume.bytes.is_multiple_of(BLOCK_BYTES as u64) || !(BYTES_MIN..=BYTES_MAX).contains(&volume.bytes) {
        return Err(ImageError::Ext4Size { bytes: volume.bytes, least: BYTES_MIN, most: BYTES_MAX });
    }
    if volume.label.len() > 16 {
        return Err(ImageError::Ext4Label { label: volume.label.into() });
    }
    let blocks = (volume.bytes / BLOCK_BYTES as u64) as u32;
    let layout =
        Layout { blocks, journal_blocks: JOURNAL_BLOCKS_MAX.min(blocks / 4), seed: crc32c(!0, &volume.uuid) };
    let mut disk = vec![0; (JOURNAL_BLOCK as usize + 1) * BLOCK_BYTES];
    layout.write_bitmaps(&mut disk);
    for inode in layout.inodes() {
        layout.write_inode(&mut disk, &inode);
    }
    let root = [(ROOT_INODE, "."), (ROOT_INODE, ".."), (LOST_FOUND_INODE, "lost+found")];
    layout.write_directory(block_mut(&mut disk, ROOT_BLOCK), ROOT_INODE, &root);
    let lost_found = [(LOST_FOUND_INODE, "."), (ROOT_INODE, "..")];
    layout.write_directory(block_mut(&mut disk, LOST_FOUND_BLOCK), LOST_FOUND_INODE, &lost_found);
    layout.write_journal(block_mut(&mut disk, JOURNAL_BLOCK), &volume.uuid);
    layout.write_group(&mut disk);
    layout.write_superblock(&mut disk[SUPERBLOCK_AT..SUPERBLOCK_AT + SUPERBLOCK_BYTES], volume);
    Ok(disk)
}

fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes the seed in the polynomial's bit order, ext4 keeps it reflected.
    let mut digest = CRC.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

fn block_mut(disk: &mut [u8], number: u32) -> &mut [u8] {
    &mut disk[number as usize * BLOCK_BYTES..][..BLOCK_BYTES]
}

fn set_bits(bitmap: &mut [u8], bits: impl Iterator<Item = usize>) {
    for bit in bits {
        bitmap[bit / 8] |= 1 << (bit % 8);
    }
}

/// What the superblock, the group and the inodes all have to agree on.
struct Layout {
    blocks: u32,
    journal_blocks: u32,
    /// Checksum of the UUID, from which every other checksum of metadata goes on.
    seed: u32,
}

/// One of the inodes in use: its content is one run of blocks.
struct Inode {
    number: u32,
    mode: u16,
    links: u16,
    first_block: u32,
    blocks: u32,
}

impl Layout {
    fn used_blocks(&self) -> u32 {
        JOURNAL_BLOCK + self.journal_blocks
    }

    fn free_blocks(&self) -> u32 {
        self.blocks - self.used_blocks()
    }

    fn inodes(&self) -> [Inode; 3] {
        [
            Inode { number: ROOT_INODE, mode: 0o040_755, links: 3, first_block: ROOT_BLOCK, blocks: 1 },
            Inode {
                number: JOURNAL_INODE,
                mode: 0o100_600,
                links: 1,
                first_block: JOURNAL_BLOCK,
                blocks: self.journal_blocks,
            },
            Inode {
                number: LOST_FOUND_INODE,
                mode: 0o040_700,
                links: 2,
                first_block: LOST_FOUND_BLOCK,
                blocks: 1,
            },
        ]
    }

    /// Bits beyond the last block and the last inode count as in use.
    fn write_bitmaps(&self, disk: &mut [u8]) {
        let bits = BLOCK_BYTES * 8;
        let blocks = (0..self.used_blocks() as usize).chain(self.blocks as usize..bits);
        set_bits(block_mut(disk, BLOCK_BITMAP), blocks);
        let inodes = (0..LOST_FOUND_INODE as usize).chain(INODES as usize..bits);
        set_bits(block_mut(disk, INODE_BITMAP), inodes);
    }

    fn write_inode(&self, disk: &mut [u8], inode: &Inode) {
        let at = INODE_TABLE as usize * BLOCK_BYTES + (inode.number as usize - 1) * INODE_BYTES;
        let entry = &mut disk[at..at + INODE_BYTES];
        put_u16(entry, 0x00, inode.mode);
        put_u32(entry, 0x04, inode.blocks * BLOCK_BYTES as u32);
        for time in [0x08, 0x0c, 0x10, 0x90] {
            put_u32(entry, time, TIME);
        }
        put_u16(entry, 0x1a, inode.links);
        put_u32(entry, 0x1c, inode.blocks * (BLOCK_BYTES as u32 / 512));
        put_u32(entry, 0x20, INODE_USES_EXTENTS);
        put(entry, 0x28, &extents(inode.first_block, inode.blocks));
        put_u16(entry, 0x80, INODE_EXTRA_BYTES);
        let sum = self.inode_seed(inode.number);
        let sum = crc32c(sum, entry);
        put_u16(entry, 0x7c, sum as u16);
        put_u16(entry, 0x82, (sum >> 16) as u16);
    }

    /// Checksums of an inode and of its directory blocks go on from its number and generation.
    fn inode_seed(&self, number: u32) -> u32 {
        let generation = 0_u32;
        crc32c(crc32c(self.seed, &number.to_le_bytes()), &generation.to_le_bytes())
    }

    fn write_directory(&self, block: &mut [u8], number: u32, entries: &[(u32, &str)]) {
        let end = BLOCK_BYTES - DIRECTORY_TAIL_BYTES;
        let mut at = 0;
        for (index, (inode, name)) in entries.iter().enumerate() {
            // The last entry reaches to the end of the block.
            let bytes =
                if index + 1 == entries.len() { end - at } else { (8 + name.len()).next_multiple_of(4) };
            put_u32(block, at, *inode);
            put_u16(block, at + 4, bytes as u16);
            block[at + 6] = name.len() as u8;
            block[at + 7] = KIND_DIRECTORY;
            put(block, at + 8, name.as_bytes());
            at += bytes;
        }
        put_u16(block, end + 4, DIRECTORY_TAIL_BYTES as u16);
        block[end + 7] = DIRECTORY_TAIL_KIND;
        let sum = crc32c(self.inode_seed(number), &block[..end]);
        put_u32(block, end + 8, sum);
    }

    /// The journal's superblock, version 2; big endian, as all of the journal. An empty journal needs no more.
    fn write_journal(&self, block: &mut [u8], uuid: &[u8; 16]) {
        let (version_2_superblock, first_block, first_commit, users) = (4, 1, 1, 1);
        for (offset, value) in [
            (0, JOURNAL_MAGIC),
            (4, version_2_superblock),
            (12, BLOCK_BYTES as u32),
            (16, self.journal_blocks),
            (20, first_block),
            (24, first_commit),
            (64, users),
        ] {
            put(block, offset, &u32::to_be_bytes(value));
        }
        put(block, 48, uuid);
    }

    fn write_group(&self, disk: &mut [u8]) {
        let block_sum = crc32c(self.seed, block_mut(disk, BLOCK_BITMAP));
        let inode_sum = crc32c(self.seed, &block_mut(disk, INODE_BITMAP)[..INODES as usize / 8]);
        let group = &mut block_mut(disk, GROUP_BLOCK)[..DESCRIPTOR_BYTES];
        put_u32(group, 0x00, BLOCK_BITMAP);
        put_u32(group, 0x04, INODE_BITMAP);
        put_u32(group, 0x08, INODE_TABLE);
        put_u16(group, 0x0c, self.free_blocks() as u16);
        put_u16(group, 0x0e, (INODES - LOST_FOUND_INODE) as u16);
        let (directories, inode_table_is_zeroed) = (2, 4);
        put_u16(group, 0x10, directories);
        put_u16(group, 0x12, inode_table_is_zeroed);
        put_u16(group, 0x18, block_sum as u16);
        put_u16(group, 0x1a, inode_sum as u16);
        let inodes_never_used = (INODES - LOST_FOUND_INODE) as u16;
        put_u16(group, 0x1c, inodes_never_used);
        put_u16(group, 0x38, (block_sum >> 16) as u16);
        put_u16(group, 0x3a, (inode_sum >> 16) as u16);
        let group_number = 0_u32;
        let sum = crc32c(crc32c(self.seed, &group_number.to_le_bytes()), group);
        put_u16(group, 0x1e, sum as u16);
    }

    fn write_superblock(&self, superblock: &mut [u8], volume: &Volume<'_>) {
        let (log_block, state_clean, errors_continue, dynamic_revision, never) = (2, 1, 1, 1, 0xffff);
        for (offset, value) in [
            (0x00, INODES),
            (0x04, self.blocks),
            (0x08, self.blocks / 100), // kept for root
            (0x0c, self.free_blocks()),
            (0x10, INODES - LOST_FOUND_INODE),
            (0x18, log_block),
            (0x1c, log_block),
            (0x20, GROUP_BLOCKS as u32),
            (0x24, GROUP_BLOCKS as u32),
            (0x28, INODES),
            (0x30, TIME), // written
            (0x40, TIME), // checked
            (0x4c, dynamic_revision),
            (0x54, LOST_FOUND_INODE), // first inode that is not reserved
            (0x5c, FEATURES_COMPATIBLE),
            (0x60, FEATURES_INCOMPATIBLE),
            (0x64, FEATURES_READ_ONLY),
            (0xe0, JOURNAL_INODE),
            (0x100, DEFAULT_MOUNT_OPTIONS),
            (0x108, TIME), // made
            (0x14c, self.journal_blocks * BLOCK_BYTES as u32),
            (0x160, SIGNED_DIRECTORY_HASH),
        ] {
            put_u32(superblock, offset, value);
        }
        for (offset, value) in [
            (0x36, never), // mounts until a forced check
            (0x38, MAGIC),
            (0x3a, state_clean),
            (0x3c, errors_continue),
            (0x58, INODE_BYTES as u16),
            (0xfe, DESCRIPTOR_BYTES as u16),
            (0x15c, INODE_EXTRA_BYTES),
            (0x15e, INODE_EXTRA_BYTES),
        ] {
            put_u16(superblock, offset, value);
        }
        put(superblock, 0x68, &volume.uuid);
        put(superblock, 0x78, volume.label.as_bytes());
        put(superblock, 0xec, &volume.hash_seed);
        let (journal_backup_is_blocks, flex_group_of_16, checksum_crc32c) = (1, 4, 1);
        superblock[0xfc] = HASH_HALF_MD4;
        superblock[0xfd] = journal_backup_is_blocks;
        put(superblock, 0x10c, &extents(JOURNAL_BLOCK, self.journal_blocks));
        superblock[0x174] = flex_group_of_16;
        superblock[0x175] = checksum_crc32c;
        let sum = crc32c(!0, &superblock[..SUPERBLOCK_BYTES - 4]);
        put_u32(superblock, SUPERBLOCK_BYTES - 4, sum);
    }
}

/// An inode's block map: an extent tree of one leaf with one extent.
fn extents(first_block: u32, blocks: u32) -> [u8; 60] {
    let mut map = [0; 60];
    let (entries, entries_max) = (1, 4);
    put_u16(&mut map, 0, EXTENT_MAGIC);
    put_u16(&mut map, 2, entries);
    put_u16(&mut map, 4, entries_max);
    put_u16(&mut map, 16, blocks as u16);
    put_u32(&mut map, 20, first_block);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(bytes: u64) -> Volume<'static> {
        Volume { bytes, uuid: [7; 16], hash_seed: [9; 16], label: "glacis-data" }
    }

    #[test]
    fn the_checksum_is_the_kernel_s() {
        // RFC 3720, appendix B.4: 32 zero bytes give 8a9136aa with the final complement.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(crc32c(!0, b"ab"), b"c"), crc32c(!0, b"abc"));
    }

    #[test]
    fn sizes_are_accepted_up_to_one_group() {
        for bytes in [BYTES_MIN, BYTES_MIN + 4096, 64 << 20, BYTES_MAX] {
            assert!(format(&volume(bytes)).is_ok(), "{bytes}");
        }
        for bytes in [0, BYTES_MIN - 4096, BYTES_MIN + 1, BYTES_MAX + 4096] {
            let error = format(&volume(bytes)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("ext4: {bytes} bytes; ")), "{error}");
        }
    }

    #[test]
    fn a_label_has_at_most_16_bytes() {
        let labelled = |label| format(&Volume { label, ..volume(BYTES_MIN) });
        assert!(labelled("sixteen-letters!").is_ok());
        assert!(matches!(labelled("seventeen-letters"), Err(ImageError::Ext4Label { .. })));
    }
}
