//! The initramfs: cpio archives in the "newc" format, compressed with zstd (kernel:
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The kernel unpacks any number of archives one after another, so the modules, which change with the kernel, and
//! the appliance, which changes with every build, are compressed apart.

use std::io::{self, Write};

use crate::modules::{ALIASES_PATH, DEPS_PATH, DIRECTORY, LOAD_PATH, Selection};

/// The level at which more effort stops paying: 3 % smaller than level 15, and modules are packed once a kernel.
pub(crate) const ZSTD_LEVEL: i32 = 19;

/// Folders of the root file system. What lies below `/sys` and `/proc` appears when they are mounted.
const FOLDERS: [&str; 10] = ["data", "dev", "esp", "etc", "policy", "proc", "run", "sbin", "sys", "tmp"];

const DIRECTORY_MODE: u32 = 0o040_755;
const PROGRAM_MODE: u32 = 0o100_755;
const FILE_MODE: u32 = 0o100_644;
const SYMLINK_MODE: u32 = 0o120_777;
const CHARACTER_DEVICE_MODE: u32 = 0o020_600;
/// Major and minor number of `/dev/console`: the kernel opens it for PID 1 before PID 1 can mount anything.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);

/// Everything but modules: `/init` is the appliance, and so is the program the kernel calls for a missing module.
pub(crate) fn appliance_archive(binary: &[u8]) -> Vec<u8> {
    let mut archive = Cpio::default();
    for folder in FOLDERS {
        archive.entry(folder, DIRECTORY_MODE, &[], (0, 0));
    }
    archive.entry("dev/console", CHARACTER_DEVICE_MODE, &[], CONSOLE_DEVICE);
    archive.entry("init", PROGRAM_MODE, binary, (0, 0));
    archive.entry("sbin/modprobe", SYMLINK_MODE, b"/init", (0, 0));
    archive.finish()
}

/// Modules, decompressed, and their index. Together they pack better under one zstd than each does under its own
/// xz, and load without work.
pub(crate) fn modules_archive(selection: &Selection) -> Vec<u8> {
    let mut archive = Cpio::default();
    archive.entry("lib", DIRECTORY_MODE, &[], (0, 0));
    archive.entry(relative(DIRECTORY), DIRECTORY_MODE, &[], (0, 0));
    for module in selection.modules.values() {
        archive.entry(
            &format!("{}/{}", relative(DIRECTORY), module.file_name()),
            FILE_MODE,
            &module.elf,
            (0, 0),
        );
    }
    let index = selection.index();
    for (path, text) in [(DEPS_PATH, index.deps), (ALIASES_PATH, index.aliases), (LOAD_PATH, index.load)] {
        archive.entry(relative(path), FILE_MODE, text.as_bytes(), (0, 0));
    }
    archive.finish()
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// One zstd frame with its checksum. One thread and a fixed level: the same input gives the same bytes.
pub(crate) fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(archive.len() as u64))?;
    encoder.write_all(archive)?;
    encoder.finish()
}

/// Joins compressed archives: each has to start on a multiple of four bytes, zeros between them are skipped.
pub(crate) fn join(archives: &[&[u8]]) -> Vec<u8> {
    let mut initrd = Vec::with_capacity(archives.iter().map(|archive| archive.len() + 4).sum());
    for archive in archives {
        initrd.extend_from_slice(archive);
        initrd.resize(initrd.len().next_multiple_of(4), 0);
    }
    initrd
}

/// A newc archive: owner root, no times, inodes numbered in the order of entries.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.entries += 1;
        self.write(self.entries, 1, name, mode, content, device);
    }

    fn write(&mut self, inode: u32, links: u32, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        let size =
            u32::try_from(content.len()).expect("module and program files are below their limits of MiB");
        let (owner, group, time, disk, checksum) = (0, 0, 0, (0, 0), 0);
        let name_bytes = name.len() as u32 + 1;
        self.bytes.extend_from_slice(b"070701");
        for field in [
            inode, mode, owner, group, links, time, size, disk.0, disk.1, device.0, device.1, name_bytes,
            checksum,
        ] {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.write(0, 1, "TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::Catalogue;
    use crate::profile::Profile;

    /// Names, modes and contents by reading the format back.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701", "at {at}");
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[at + 6 + index * 8..at + 14 + index * 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(archive[at + 110..at + 109 + name_size].to_vec()).unwrap();
            let content_at = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(content_at, archive.len());
                return found;
            }
            found.push((name, mode as u32, archive[content_at..content_at + size].to_vec()));
            at = (content_at + size).next_multiple_of(4);
        }
    }

    #[test]
    fn init_and_modprobe_are_the_appliance() {
        let entries = entries(&appliance_archive(b"ELF!!"));
        assert!(entries.contains(&("init".into(), PROGRAM_MODE, b"ELF!!".to_vec())));
        assert!(entries.contains(&("sbin/modprobe".into(), SYMLINK_MODE, b"/init".to_vec())));
        assert!(entries.contains(&("dev/console".into(), CHARACTER_DEVICE_MODE, vec![])));
    }

    #[test]
    fn a_folder_comes_before_what_lies_in_it() {
        let selection =
            Selection::choose(&Catalogue::default(), &Profile::parse("none", "").unwrap()).unwrap();
        for archive in [appliance_archive(b""), modules_archive(&selection)] {
            let mut folders = vec![String::new()];
            for (name, mode, _) in entries(&archive) {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                assert!(folders.iter().any(|folder| folder == parent), "{name}");
                if mode == DIRECTORY_MODE {
                    folders.push(name);
                }
            }
        }
    }

    #[test]
    fn joined_archives_start_on_multiples_of_four() {
        let archive = compress(&appliance_archive(b"x")).unwrap();
        let joined = join(&[&archive, &archive]);
        let second = archive.len().next_multiple_of(4);
        assert_eq!(&joined[second..second + archive.len()], &archive[..]);
        assert_eq!(joined.len() % 4, 0);
    }
}
