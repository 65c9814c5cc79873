//! FAT16 and FAT32 volumes with a known set of files (Microsoft, "FAT: General Overview of On-Disk Format", 1.03).
//!
//! ```text
//! sector 0          boot sector
//! sector 1, 6, 7    FAT32: FSInfo, and copies of both
//!                   two allocation tables
//!                   FAT16: root directory of 512 entries
//!                   clusters
//! ```
//!
//! Written for firmware as much as for kernels: EDK2 refuses to rename a file with a zero date, which would leave
//! an update's boot counter stuck, so every entry carries one fixed date.

mod name;
mod tree;

use crate::bytes::{put, put_u16, put_u32};
use crate::error::ImageError;
use tree::{Clusters, Directory};

pub(crate) const SECTOR_BYTES: u64 = 512;
const TABLES: u64 = 2;
/// FAT16 keeps its root directory apart from the clusters, in a fixed size.
const FAT16_ROOT_ENTRIES: u64 = 512;
const FAT32_ROOT_CLUSTER: u32 = 2;
const FSINFO_SECTOR: usize = 1;
const BACKUP_SECTOR: usize = 6;
const MEDIA_FIXED_DISK: u8 = 0xf8;
const EXTENDED_BOOT_SIGNATURE: u8 = 0x29;
const BOOT_SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// The two widths of table entries. By the format's own rule the count of clusters alone tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fat16,
    Fat32,
}

/// A volume to be written.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    pub kind: Kind,
    /// Size of the partition.
    pub bytes: u64,
    /// A power of two; with the size it has to give a cluster count that fits the kind.
    pub sectors_per_cluster: u8,
    /// At most eleven characters, upper case.
    pub label: &'a str,
    pub serial: u32,
    /// Sectors of the disk before the partition.
    pub hidden_sectors: u32,
    /// Paths with `/`, and contents. Folders come by themselves.
    pub files: &'a [(&'a str, &'a [u8])],
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        }
    }

    /// Least and greatest count of clusters.
    fn clusters(self) -> (u64, u64) {
        match self {
            Self::Fat16 => (4085, 65_524),
            Self::Fat32 => (65_525, 0x0fff_fff5),
        }
    }

    fn table_entry_bytes(self) -> u64 {
        match self {
            Self::Fat16 => 2,
            Self::Fat32 => 4,
        }
    }

    /// Sectors before the first table.
    fn reserved_sectors(self) -> u64 {
        match self {
            Self::Fat16 => 4,
            Self::Fat32 => 32,
        }
    }

    fn root_sectors(self) -> u64 {
        match self {
            Self::Fat16 => FAT16_ROOT_ENTRIES * tree::ENTRY_BYTES as u64 / SECTOR_BYTES,
            Self::Fat32 => 0,
        }
    }
}

/// The volume's content. It ends with the last byte in use; the rest of the partition is zeros.
pub fn format(volume: &Volume<'_>) -> Result<Vec<u8>, ImageError> {
    let geometry = Geometry::of(volume)?;
    let label = name::label(volume.label)?;
    let root = Directory::collect(volume.label, volume.files)?;
    let mut clusters = Clusters::new(usize::from(volume.sectors_per_cluster) * SECTOR_BYTES as usize);
    let root_entries = match volume.kind {
        Kind::Fat16 => {
            let limit = FAT16_ROOT_ENTRIES as usize;
            root.check_root_entries(volume.label, limit)?;
            root.write_root(label, &mut clusters)
        }
        Kind::Fat32 => {
            root.write_root_as_cluster(label, &mut clusters);
            Vec::new()
        }
    };
    if clusters.count() > geometry.clusters {
        return Err(ImageError::FatFull {
            volume: volume.label.into(),
            content_bytes: volume.files.iter().map(|(_, content)| content.len() as u64).sum(),
            needed: clusters.count(),
            available: geometry.clusters,
        });
    }

    let first_cluster = geometry.first_cluster_byte();
    let mut bytes = vec![0; first_cluster];
    write_boot_sector(&mut bytes, volume, &geometry, label);
    if volume.kind == Kind::Fat32 {
        write_fsinfo(&mut bytes, geometry.clusters - clusters.count(), clusters.next());
        bytes.copy_within(..2 * SECTOR_BYTES as usize, BACKUP_SECTOR * SECTOR_BYTES as usize);
    }
    for table in 0..TABLES {
        let at = (volume.kind.reserved_sectors() + table * geometry.table_sectors) * SECTOR_BYTES;
        write_table(&mut bytes[at as usize..], volume.kind, clusters.table());
    }
    let root_at = first_cluster - (volume.kind.root_sectors() * SECTOR_BYTES) as usize;
    put(&mut bytes, root_at, &root_entries);
    bytes.extend_from_slice(clusters.data());
    Ok(bytes)
}

struct Geometry {
    kind: Kind,
    sectors: u64,
    table_sectors: u64,
    clusters: u64,
}

impl Geometry {
    fn of(volume: &Volume<'_>) -> Result<Self, ImageError> {
        let kind = volume.kind;
        let sectors = volume.bytes / SECTOR_BYTES;
        let per_cluster = u64::from(volume.sectors_per_cluster).max(1);
        // The table's size depends on the count of clusters and the other way round: take the size that would do
        // if the tables needed no room. It errs by a few sectors on the safe side.
        let most = sectors.saturating_sub(kind.reserved_sectors() + kind.root_sectors()) / per_cluster;
        let table_sectors = ((most + 2) * kind.table_entry_bytes()).div_ceil(SECTOR_BYTES);
        let overhead = kind.reserved_sectors() + kind.root_sectors() + TABLES * table_sectors;
        let clusters = sectors.saturating_sub(overhead) / per_cluster;
        let (least, most) = kind.clusters();
        let fits = (least..=most).contains(&clusters) && u32::try_from(sectors).is_ok();
        if !fits || !volume.sectors_per_cluster.is_power_of_two() {
            return Err(ImageError::FatSize {
                volume: volume.label.into(),
                bytes: volume.bytes,
                clusters,
                kind: kind.name(),
                least,
                most,
            });
        }
        Ok(Self { kind, sectors, table_sectors, clusters })
    }

    fn first_cluster_byte(&self) -> usize {
        let sectors = self.kind.reserved_sectors() + TABLES * self.table_sectors + self.kind.root_sectors();
        (sectors * SECTOR_BYTES) as usize
    }
}

fn write_boot_sector(bytes: &mut [u8], volume: &Volume<'_>, geometry: &Geometry, label: [u8; 11]) {
    let kind = volume.kind;
    put(bytes, 0, &[0xeb, 0x58, 0x90]);
    put(bytes, 3, b"MSWIN4.1");
    put_u16(bytes, 11, SECTOR_BYTES as u16);
    bytes[13] = volume.sectors_per_cluster;
    put_u16(bytes, 14, kind.reserved_sectors() as u16);
    bytes[16] = TABLES as u8;
    // A count that fits 16 bits has its own field, which FAT32 leaves empty.
    match (kind, u16::try_from(geometry.sectors)) {
        (Kind::Fat16, Ok(sectors)) => put_u16(bytes, 19, sectors),
        _ => put_u32(bytes, 32, geometry.sectors as u32),
    }
    bytes[21] = MEDIA_FIXED_DISK;
    put_u16(bytes, 24, 63);
    put_u16(bytes, 26, 255);
    put_u32(bytes, 28, volume.hidden_sectors);
    let extended = match kind {
        Kind::Fat16 => {
            put_u16(bytes, 17, FAT16_ROOT_ENTRIES as u16);
            put_u16(bytes, 22, geometry.table_sectors as u16);
            36
        }
        Kind::Fat32 => {
            put_u32(bytes, 36, geometry.table_sectors as u32);
            put_u32(bytes, 44, FAT32_ROOT_CLUSTER);
            put_u16(bytes, 48, FSINFO_SECTOR as u16);
            put_u16(bytes, 50, BACKUP_SECTOR as u16);
            64
        }
    };
    bytes[extended] = 0x80;
    bytes[extended + 2] = EXTENDED_BOOT_SIGNATURE;
    put_u32(bytes, extended + 3, volume.serial);
    put(bytes, extended + 7, &label);
    put(bytes, extended + 18, format!("{:<8}", kind.name()).as_bytes());
    put(bytes, 510, &BOOT_SIGNATURE);
}

fn write_fsinfo(bytes: &mut [u8], free: u64, next: u32) {
    let sector = &mut bytes[FSINFO_SECTOR * SECTOR_BYTES as usize..];
    put(sector, 0, b"RRaA");
    put(sector, 484, b"rrAa");
    put_u32(sector, 488, free as u32);
    put_u32(sector, 492, next);
    put(sector, 510, &BOOT_SIGNATURE);
}

fn write_table(bytes: &mut [u8], kind: Kind, table: &[u32]) {
    for (index, entry) in table.iter().enumerate() {
        match kind {
            // The low half of an end mark is the end mark of FAT16.
            Kind::Fat16 => put_u16(bytes, index * 2, *entry as u16),
            Kind::Fat32 => put_u32(bytes, index * 4, *entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(bytes: u64, files: &[(&str, &[u8])]) -> Result<Vec<u8>, ImageError> {
        let (kind, sectors_per_cluster) = (Kind::Fat16, 1);
        format(&Volume {
            kind,
            bytes,
            sectors_per_cluster,
            label: "POLICY",
            serial: 7,
            hidden_sectors: 2048,
            files,
        })
    }

    #[test]
    fn a_volume_is_as_long_as_its_content() {
        let empty = policy(16 << 20, &[]).unwrap();
        let full = policy(16 << 20, &[("policy.kdl", &[b'x'; 513])]).unwrap();
        assert_eq!(full.len(), empty.len() + 2 * 512);
        assert!(full.ends_with(&[0; 511]) && full[full.len() - 512] == b'x');
    }

    #[test]
    fn a_size_outside_the_kind_is_refused_with_its_figures() {
        let error = policy(1 << 20, &[]).unwrap_err().to_string();
        assert_eq!(error, "POLICY: 1048576 bytes give 1996 clusters; FAT16 needs 4085 to 65524");
        assert!(policy(64 << 20, &[]).is_err(), "131072 clusters are a FAT32");
    }

    #[test]
    fn content_that_does_not_fit_is_refused_at_the_first_cluster_over() {
        let available = match policy(16 << 20, &[("big", &vec![0; 17 << 20])]) {
            Err(ImageError::FatFull { available, content_bytes, .. }) => {
                assert_eq!(content_bytes, 17 << 20);
                available
            }
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        };
        let fits = vec![0; available as usize * 512];
        assert!(policy(16 << 20, &[("big", &fits)]).unwrap().len() <= 16 << 20);
        assert!(policy(16 << 20, &[("big", &[fits, vec![0]].concat())]).is_err());
    }

    #[test]
    fn a_full_root_directory_of_fat16_is_refused() {
        let names: Vec<String> = (0..512).map(|index| format!("F{index}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert!(policy(16 << 20, &files[..511]).is_ok(), "the label is the first entry");
        assert!(matches!(
            policy(16 << 20, &files),
            Err(ImageError::FatDirectory { entries: 513, limit: 512, .. })
        ));
    }
}
