//! What the image builder writes, as the tools of other people read it: mtools, fsck.fat, e2fsck.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use glacis_image::{ext4, fat};
use tempfile::NamedTempFile;

/// Standard output of a tool that must succeed.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; the tests need dosfstools, mtools and e2fsprogs")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{stdout}{stderr}", output.status);
    output.stdout
}

/// A file of the partition's size that starts with the formatted content.
fn volume(content: &[u8], bytes: u64) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("the temporary folder is writable");
    file.write_all(content).expect("the temporary folder has room");
    file.as_file().set_len(bytes).expect("a file may have holes");
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("temporary names are ASCII")
}

/// Formats, checks, and reads every file back.
fn check_fat(kind: fat::Kind, bytes: u64, sectors_per_cluster: u8, files: &[(String, Vec<u8>)]) {
    let borrowed: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let content = fat::format(&fat::Volume {
        kind,
        bytes,
        sectors_per_cluster,
        label: "TEST",
        serial: 0x1234_5678,
        hidden_sectors: 2048,
        files: &borrowed,
    })
    .expect("the files fit");
    let volume = volume(&content, bytes);
    run("fsck.fat", &["-n", path(&volume)]);
    for (name, content) in files {
        let read = run("mtype", &["-i", path(&volume), &format!("::{name}")]);
        assert!(
            read == *content,
            "{kind:?}: {name} of {} bytes reads back as {} bytes",
            content.len(),
            read.len()
        );
    }
}

/// Content that shows a swapped or repeated cluster.
fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
    (0..bytes as u32).map(|index| (index / 512).wrapping_mul(31).wrapping_add(index ^ seed) as u8).collect()
}

#[test]
fn files_of_every_size_around_a_cluster_read_back() {
    for (kind, bytes, per_cluster) in [(fat::Kind::Fat16, 16 << 20, 1_u8), (fat::Kind::Fat32, 128 << 20, 2)] {
        let cluster = usize::from(per_cluster) * 512;
        let sizes = [0, 1, cluster - 1, cluster, cluster + 1, 2 * cluster, 65_536, 65_537, (1 << 20) + 1];
        let files: Vec<_> =
            sizes.iter().map(|size| (format!("of {size} bytes.bin"), pattern(*size, *size as u32))).collect();
        check_fat(kind, bytes, per_cluster, &files);
    }
}

#[test]
fn names_of_every_length_and_many_alike_read_back() {
    let mut names: Vec<String> = (1..=255).step_by(12).map(|length| "n".repeat(length)).collect();
    names.extend((0..40).map(|number| format!("a folder with a long name/glacis_0.1.{number}+3.efi")));
    names.extend(
        ["README.TXT", "readme.text", "EFI/BOOT/BOOTX64.EFI", "EFI/Linux/x.efi", "ÄÖ ü.kdl"]
            .map(String::from),
    );
    names.push(format!("{}/deep.txt", vec!["sub"; 20].join("/")));
    let files: Vec<_> = names.into_iter().map(|name| (name.clone(), name.into_bytes())).collect();
    check_fat(fat::Kind::Fat16, 16 << 20, 1, &files);
    check_fat(fat::Kind::Fat32, 128 << 20, 2, &files);
}

/// Trees drawn from a fixed seed.
#[test]
fn drawn_trees_read_back() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..6 {
        let mut taken = BTreeSet::new();
        let mut files = Vec::new();
        for _ in 0..24 {
            let mut name = String::new();
            for _ in 0..draw(3) {
                name.push_str(["Folder", "EFI", "some other folder"][draw(3) as usize]);
                name.push('/');
            }
            for _ in 0..=draw(40) {
                name.push(char::from(b"abcXYZ019_-+ ~."[draw(15) as usize]));
            }
            name.push('x');
            let dots_only_inside =
                !name.contains("/.") && !name.contains("/ ") && !name.starts_with(['.', ' ']);
            if dots_only_inside && taken.insert(name.to_uppercase()) {
                files.push((name, pattern(draw(9000) as usize, draw(256) as u32)));
            }
        }
        assert!(files.len() > 8, "the draw leaves something to test");
        check_fat(fat::Kind::Fat16, 16 << 20, 1, &files);
    }
}

#[test]
fn ext4_volumes_of_every_size_are_clean() {
    for bytes in [16 << 20, (16 << 20) + 4096, 64 << 20, (128 << 20) - 4096, 128 << 20] {
        let content =
            ext4::format(&ext4::Volume { bytes, uuid: [7; 16], hash_seed: [9; 16], label: "glacis-data" })
                .unwrap();
        let volume = volume(&content, bytes);
        run("e2fsck", &["-f", "-n", path(&volume)]);
        let features = String::from_utf8(run("dumpe2fs", &["-h", path(&volume)])).unwrap();
        assert!(features.contains("has_journal") && features.contains("metadata_csum"), "{features}");
    }
}

/// A file written by somebody else's ext4 must fit into the bitmaps and the tree that ours left.
#[test]
fn an_ext4_volume_takes_files() {
    let bytes = 64 << 20;
    let content =
        ext4::format(&ext4::Volume { bytes, uuid: [7; 16], hash_seed: [9; 16], label: "glacis-data" })
            .unwrap();
    let volume = volume(&content, bytes);
    let source = NamedTempFile::new().unwrap();
    let written = pattern(3 << 20, 5);
    std::fs::write(source.path(), &written).unwrap();
    let back = NamedTempFile::new().unwrap();
    for request in [
        "mkdir state".to_owned(),
        format!("write {} state/file", path(&source)),
        format!("dump state/file {}", path(&back)),
    ] {
        run("debugfs", &["-w", "-R", &request, path(&volume)]);
    }
    run("e2fsck", &["-f", "-n", path(&volume)]);
    assert!(std::fs::read(back.path()).unwrap() == written, "the file reads back");
}
