//! Directories, and the clusters that they and their files take.

use std::collections::{BTreeMap, BTreeSet};

use super::name::{self, DIRECTORY_ENTRIES_MAX, LONG_UNITS_PER_ENTRY, ShortName};
use crate::bytes::{put, put_u16, put_u32};
use crate::error::ImageError;

pub(super) const ENTRY_BYTES: usize = 32;
/// 1 January 2024: the fixed date of every entry.
const DATE: u16 = (2024 - 1980) << 9 | 1 << 5 | 1;

const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const LAST_LONG_ENTRY: u8 = 0x40;

const END_OF_CHAIN: u32 = 0x0fff_ffff;
const MEDIA_ENTRY: u32 = 0x0fff_fff8;
/// Numbers 0 and 1 are not clusters: their table entries hold the media byte and the state of the volume.
const FIRST_CLUSTER: usize = 2;

/// The clusters in use and their table, filled from the front: every chain is one run.
pub(super) struct Clusters {
    cluster_bytes: usize,
    table: Vec<u32>,
    data: Vec<u8>,
}

impl Clusters {
    pub(super) fn new(cluster_bytes: usize) -> Self {
        Self { cluster_bytes, table: vec![MEDIA_ENTRY, END_OF_CHAIN], data: Vec::new() }
    }

    pub(super) fn count(&self) -> u64 {
        (self.table.len() - FIRST_CLUSTER) as u64
    }

    /// The first cluster that is free.
    pub(super) fn next(&self) -> u32 {
        self.table.len() as u32
    }

    pub(super) fn table(&self) -> &[u32] {
        &self.table
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Takes a run for so many bytes; its first cluster, or 0 for none, as an empty file has it.
    fn allocate(&mut self, bytes: usize) -> u32 {
        let count = bytes.div_ceil(self.cluster_bytes);
        if count == 0 {
            return 0;
        }
        let first = self.next();
        self.table.extend((1..count as u32).map(|index| first + index));
        self.table.push(END_OF_CHAIN);
        self.data.resize(self.data.len() + count * self.cluster_bytes, 0);
        first
    }

    fn fill(&mut self, first: u32, content: &[u8]) {
        let at = (first as usize).saturating_sub(FIRST_CLUSTER) * self.cluster_bytes;
        put(&mut self.data, at, content);
    }
}

enum Node<'a> {
    File(&'a [u8]),
    Directory(Directory<'a>),
}

/// A directory by the names in it; the order of entries on the volume is that of the names.
#[derive(Default)]
pub(super) struct Directory<'a> {
    nodes: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Directory<'a> {
    /// Builds the tree of the given paths and refuses what FAT cannot hold.
    pub(super) fn collect(volume: &str, files: &'a [(&'a str, &'a [u8])]) -> Result<Self, ImageError> {
        let mut root = Self::default();
        for (path, content) in files {
            let bad = |reason| ImageError::FatName { volume: volume.into(), name: (*path).into(), reason };
            if let Some(reason) = path.split('/').find_map(name::defect) {
                return Err(bad(reason));
            }
            if u32::try_from(content.len()).is_err() {
                return Err(bad("a file ends below 4 GiB"));
            }
            let (folders, file) = path.rsplit_once('/').map_or((None, *path), |(f, name)| (Some(f), name));
            let mut directory = &mut root;
            for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
                let node = directory.nodes.entry(folder).or_insert_with(|| Node::Directory(Self::default()));
                let Node::Directory(inner) = node else { return Err(bad("a folder on the way is a file")) };
                directory = inner;
            }
            if directory.nodes.insert(file, Node::File(content)).is_some() {
                return Err(bad("it is given twice"));
            }
        }
        root.check(volume)?;
        Ok(root)
    }

    /// Depth is bounded by the paths' own depth.
    fn check(&self, volume: &str) -> Result<(), ImageError> {
        let mut seen = BTreeMap::new();
        for (name, node) in &self.nodes {
            if let Some(first) = seen.insert(name.to_uppercase(), *name) {
                let (first, second) = (first.into(), (*name).into());
                return Err(ImageError::FatClash { volume: volume.into(), first, second });
            }
            if let Node::Directory(directory) = node {
                directory.check(volume)?;
            }
        }
        self.check_entries(volume, 2, DIRECTORY_ENTRIES_MAX)
    }

    /// For a root directory whose size is fixed.
    pub(super) fn check_root_entries(&self, volume: &str, limit: usize) -> Result<(), ImageError> {
        self.check_entries(volume, 1, limit)
    }

    fn check_entries(&self, volume: &str, own: usize, limit: usize) -> Result<(), ImageError> {
        let entries = own + self.entries();
        if entries > limit {
            return Err(ImageError::FatDirectory { volume: volume.into(), entries, limit });
        }
        Ok(())
    }

    /// Entries without the directory's own (`.` and `..`, or the label).
    fn entries(&self) -> usize {
        self.nodes.keys().map(|name| name::entries(name)).sum()
    }

    /// The entries of a root directory, led by the label.
    pub(super) fn write_root(&self, label: ShortName, clusters: &mut Clusters) -> Vec<u8> {
        let mut entries = entry(&label, ATTRIBUTE_VOLUME, 0, 0).to_vec();
        self.write_nodes(&mut entries, 0, clusters);
        entries
    }

    /// The root directory as the first chain of clusters.
    pub(super) fn write_root_as_cluster(&self, label: ShortName, clusters: &mut Clusters) {
        let first = clusters.allocate((1 + self.entries()) * ENTRY_BYTES);
        let entries = self.write_root(label, clusters);
        clusters.fill(first, &entries);
    }

    /// Writes a directory below another; `parent` is 0 when that is the root, whatever cluster the root has.
    fn write(&self, parent: u32, clusters: &mut Clusters) -> u32 {
        let first = clusters.allocate((2 + self.entries()) * ENTRY_BYTES);
        let mut entries = entry(b".          ", ATTRIBUTE_DIRECTORY, first, 0).to_vec();
        entries.extend_from_slice(&entry(b"..         ", ATTRIBUTE_DIRECTORY, parent, 0));
        self.write_nodes(&mut entries, first, clusters);
        clusters.fill(first, &entries);
        first
    }

    fn write_nodes(&self, entries: &mut Vec<u8>, own: u32, clusters: &mut Clusters) {
        let mut taken = BTreeSet::new();
        let (short, long): (Vec<&str>, Vec<&str>) = self.nodes.keys().partition(|name| name::is_short(name));
        let shorts: BTreeMap<&str, ShortName> =
            short.into_iter().chain(long).map(|name| (name, name::short(name, &mut taken))).collect();
        for (name, node) in &self.nodes {
            let short = &shorts[name];
            if !name::is_short(name) {
                write_long_name(entries, name, short);
            }
            let (attribute, first, bytes) = match node {
                Node::Directory(directory) => (ATTRIBUTE_DIRECTORY, directory.write(own, clusters), 0),
                Node::File(content) => {
                    let first = clusters.allocate(content.len());
                    clusters.fill(first, content);
                    (ATTRIBUTE_ARCHIVE, first, content.len() as u32)
                }
            };
            entries.extend_from_slice(&entry(short, attribute, first, bytes));
        }
    }
}

fn entry(short: &ShortName, attribute: u8, first: u32, bytes: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    put(&mut entry, 0, short);
    entry[11] = attribute;
    for date in [16, 18, 24] {
        put_u16(&mut entry, date, DATE);
    }
    put_u16(&mut entry, 20, (first >> 16) as u16);
    put_u16(&mut entry, 26, first as u16);
    put_u32(&mut entry, 28, bytes);
    entry
}

/// The parts of a long name stand before its short entry, last part first.
fn write_long_name(entries: &mut Vec<u8>, name: &str, short: &ShortName) {
    let units = name::long_units(name);
    let parts = units.len() / LONG_UNITS_PER_ENTRY;
    for (index, part) in units.chunks(LONG_UNITS_PER_ENTRY).enumerate().rev() {
        let mut entry = [0; ENTRY_BYTES];
        let last = if index + 1 == parts { LAST_LONG_ENTRY } else { 0 };
        // At most 20 parts: a name has at most 255 units.
        entry[0] = (index + 1) as u8 | last;
        entry[11] = ATTRIBUTE_LONG_NAME;
        entry[13] = name::checksum(short);
        let places = (1..11).chain(14..26).chain(28..32).step_by(2);
        for (at, unit) in places.zip(part) {
            put_u16(&mut entry, at, *unit);
        }
        entries.extend_from_slice(&entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_contradict_each_other_are_refused() {
        let collect =
            |files: &[(&str, &[u8])]| Directory::collect("ESP", files).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(collect(&[("a/b", b""), ("a/c", b"")]), Ok(()));
        assert_eq!(
            collect(&[("EFI/x", b""), ("EFI/X", b"")]).unwrap_err(),
            "ESP: `X` and `x` are the same name to FAT, which ignores case"
        );
        assert!(collect(&[("a", b""), ("a", b"")]).unwrap_err().ends_with("it is given twice"));
        assert!(collect(&[("a", b""), ("a/b", b"")]).unwrap_err().ends_with("a folder on the way is a file"));
        assert!(collect(&[("a/b", b""), ("a", b"")]).unwrap_err().ends_with("it is given twice"));
        assert!(collect(&[("/a", b"")]).is_err());
    }

    #[test]
    fn a_long_name_is_tied_to_its_short_one() {
        let mut entries = Vec::new();
        write_long_name(&mut entries, "glacis_0.1.0.efi", b"GLACIS~1EFI");
        assert_eq!(entries.len(), 2 * ENTRY_BYTES);
        assert_eq!((entries[0], entries[32]), (0x42, 1), "last part first");
        assert_eq!(entries[13], name::checksum(b"GLACIS~1EFI"));
        assert_eq!(&entries[33..43], b"g\0l\0a\0c\0i\0");
        assert_eq!(&entries[46..58], b"s\0_\x000\0.\x001\0.\0");
        assert_eq!(&entries[60..64], b"0\0.\0");
        assert_eq!(&entries[1..11], b"e\0f\0i\0\0\0\xff\xff");
    }
}
