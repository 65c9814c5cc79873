//! From inputs to image: every phase in order, then one rename.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use gpt::partition_types;

use crate::disk::{self, Partition};
use crate::error::ImageError;
use crate::identity::Identity;
use crate::package::{read_files, take};
use crate::partition::{
    DATA_BYTES, DATA_LABEL, DATA_NAME, ESP_BYTES, ESP_LABEL, ESP_NAME, POLICY_BYTES, POLICY_FILE,
    POLICY_LABEL, POLICY_NAME,
};
use crate::profile::Profile;
use crate::progress::{Progress, Step, timed};
use crate::{ext4, fat, initramfs, kernel, readable_by_all, uki};

/// What every image starts with. The screen and the first serial port; a panic restarts the machine after ten
/// seconds, so that a boot that fails comes to its next try; warnings and worse on the console.
const CMDLINE: &str = "console=tty0 console=ttyS0,115200 panic=10 loglevel=4 glacis.mode=appliance";
/// `COMMAND_LINE_SIZE` of x86 (kernel: `arch/x86/include/asm/setup.h`), its final zero left out.
const CMDLINE_BYTES_MAX: usize = 2047;
const VERSION_BYTES_MAX: usize = 32;

const BOOT_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
/// No menu and no editing of the command line at the console.
const LOADER_CONF: &[u8] = b"timeout 0\nconsole-mode keep\neditor no\n";
const POLICY_README: &[u8] = b"policy.kdl is everything this firewall does.\r\n\
    Edit it here and start the machine with it, or load it into the running one.\r\n\
    A policy with an error is refused: the console says where, and the last good one stays.\r\n";

/// Everything that an image depends on.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The static binary: PID 1 and all else.
    pub binary: &'a Path,
    /// Text for the POLICY partition; it is not looked into.
    pub policy: &'a str,
    /// Debian's `linux-image-*` package.
    pub kernel_package: &'a Path,
    /// Debian's `systemd-boot-efi` package.
    pub boot_package: &'a Path,
    pub profile: &'a Profile,
    /// Letters, digits, `.` and `-`; part of the boot entry's file name.
    pub version: &'a str,
    /// Words to go behind the standard command line; may be empty.
    pub cmdline_extra: &'a str,
    /// The image; kernel and initramfs go beside it, with `.vmlinuz` and `.initrd` added to the name.
    pub output: &'a Path,
    /// Where the packed kernel is kept between builds; without it everything is made anew. The image is the same.
    pub cache: Option<&'a Path>,
}

/// What a build left behind.
#[derive(Debug, Clone)]
pub struct Built {
    /// Raw disk image, sparse.
    pub image: PathBuf,
    /// For a direct boot (`-kernel`).
    pub kernel: PathBuf,
    /// For a direct boot (`-initrd`).
    pub initrd: PathBuf,
    pub cmdline: String,
    pub sizes: Sizes,
}

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub kernel: u64,
    /// The appliance in its archive, compressed.
    pub appliance: u64,
    /// The modules in theirs, compressed.
    pub modules: u64,
    /// Unified kernel image: all that a compressed disk image weighs, give or take a tenth of a MiB.
    pub uki: u64,
    /// Length of the disk image, holes counted.
    pub image: u64,
}

/// Builds the image, its kernel and its initramfs. Files appear under their names only when they are whole.
pub fn build(inputs: &Inputs<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Built, ImageError> {
    check_version(inputs.version)?;
    let cmdline = cmdline(inputs.cmdline_extra)?;
    let binary = fs::read(inputs.binary).map_err(ImageError::read(inputs.binary))?;
    let boot = BootPrograms::read(inputs.boot_package)?;
    let kernel = kernel::provide(inputs.kernel_package, inputs.profile, inputs.cache, progress)?;
    let appliance = timed(Step::PackInit, progress, || {
        initramfs::compress(&initramfs::appliance_archive(&binary)).map_err(ImageError::Compress)
    })?;
    let initrd = initramfs::join(&[&kernel.modules, &appliance]);
    let sections = [
        (".osrel", &os_release(inputs.version).into_bytes()[..]),
        (".cmdline", cmdline.as_bytes()),
        (".initrd", &initrd),
        (".linux", &kernel.vmlinuz),
    ];
    let uki = uki::assemble(&boot.stub, &sections)?;

    let image_bytes = timed(Step::WriteImage, progress, || write_image(inputs, &boot, &uki))?;
    let beside = |suffix: &str| {
        let mut path = inputs.output.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let built = Built {
        image: inputs.output.into(),
        kernel: beside(".vmlinuz"),
        initrd: beside(".initrd"),
        cmdline,
        sizes: Sizes {
            kernel: kernel.vmlinuz.len() as u64,
            appliance: appliance.len() as u64,
            modules: kernel.modules.len() as u64,
            uki: uki.len() as u64,
            image: image_bytes,
        },
    };
    for (path, content) in [(&built.kernel, &kernel.vmlinuz), (&built.initrd, &initrd)] {
        replace(path, |mut file| file.write_all(content).map_err(ImageError::write(path)))?;
    }
    Ok(built)
}

/// The two programs of systemd-boot.
struct BootPrograms {
    loader: Vec<u8>,
    stub: Vec<u8>,
}

impl BootPrograms {
    fn read(package: &Path) -> Result<Self, ImageError> {
        const FOLDER: &str = "usr/lib/systemd/boot/efi/";
        let mut files = read_files(package, |path| path.starts_with(FOLDER))?;
        let mut take = |name: &str| take(&mut files, package, FOLDER, name);
        Ok(Self { loader: take("systemd-bootx64.efi")?, stub: take("linuxx64.efi.stub")? })
    }
}

fn write_image(inputs: &Inputs<'_>, boot: &BootPrograms, uki: &[u8]) -> Result<u64, ImageError> {
    let identity = Identity::of(&[uki, &boot.loader, inputs.policy.as_bytes()]);
    let [esp_sector, policy_sector, _] = disk::first_sectors([ESP_BYTES, POLICY_BYTES, DATA_BYTES]);
    let entry = format!("EFI/Linux/glacis_{}.efi", inputs.version);
    let esp = fat::format(&fat::Volume {
        kind: fat::Kind::Fat32,
        bytes: ESP_BYTES,
        sectors_per_cluster: 2,
        label: ESP_LABEL,
        serial: identity.serial("esp serial"),
        hidden_sectors: esp_sector,
        files: &[(BOOT_LOADER, &boot.loader), ("loader/loader.conf", LOADER_CONF), (&entry, uki)],
    })?;
    let policy = fat::format(&fat::Volume {
        kind: fat::Kind::Fat16,
        bytes: POLICY_BYTES,
        sectors_per_cluster: 1,
        label: POLICY_LABEL,
        serial: identity.serial("policy serial"),
        hidden_sectors: policy_sector,
        files: &[(POLICY_FILE, inputs.policy.as_bytes()), ("README.txt", POLICY_README)],
    })?;
    let data = ext4::format(&ext4::Volume {
        bytes: DATA_BYTES,
        uuid: identity.uuid("data file system").into_bytes(),
        hash_seed: identity.uuid("data directory hash").into_bytes(),
        label: DATA_LABEL,
    })?;
    let partitions = [
        (ESP_NAME, partition_types::EFI, ESP_BYTES, esp),
        (POLICY_NAME, partition_types::BASIC, POLICY_BYTES, policy),
        (DATA_NAME, partition_types::LINUX_FS, DATA_BYTES, data),
    ]
    .map(|(name, kind, bytes, content)| Partition {
        name,
        kind,
        uuid: identity.uuid(name),
        bytes,
        content,
    });
    replace(inputs.output, |file| disk::write(file, inputs.output, identity.uuid("disk"), &partitions))
}

/// Gives `write` an empty file beside `path` and renames it to `path` when that succeeded.
fn replace<T>(path: &Path, write: impl FnOnce(File) -> Result<T, ImageError>) -> Result<T, ImageError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".glacis-image-")
        .permissions(readable_by_all())
        .tempfile_in(folder)
        .map_err(ImageError::write(path))?;
    let result = write(file.reopen().map_err(ImageError::write(path))?)?;
    file.persist(path).map_err(|error| ImageError::write(path)(error.error))?;
    Ok(result)
}

fn check_version(version: &str) -> Result<(), ImageError> {
    let valid = (1..=VERSION_BYTES_MAX).contains(&version.len())
        && version.bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c))
        && version.starts_with(|c: char| c.is_ascii_alphanumeric());
    if valid { Ok(()) } else { Err(ImageError::Version { version: version.into() }) }
}

fn cmdline(extra: &str) -> Result<String, ImageError> {
    let line = format!("{CMDLINE} {}", extra.trim()).trim_end().to_owned();
    if line.len() > CMDLINE_BYTES_MAX {
        let reason = format!("{} bytes, the kernel takes {CMDLINE_BYTES_MAX}", line.len());
        return Err(ImageError::CommandLine { reason });
    }
    match line.chars().find(|c| !matches!(c, ' '..='~')) {
        Some(odd) => Err(ImageError::CommandLine { reason: format!("{odd:?} is not printable ASCII") }),
        None => Ok(line),
    }
}

/// What systemd-boot names and sorts its entries by (os-release(5)).
fn os_release(version: &str) -> String {
    format!("ID=glacis\nNAME=Glacis\nPRETTY_NAME=\"Glacis {version}\"\nVERSION_ID={version}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modinfo::tests::packed;
    use crate::package::tests::{package_with, tar_of};
    use crate::uki::tests::stub;

    /// Packages of the least that a build takes from real ones.
    fn packages() -> [tempfile::NamedTempFile; 2] {
        let kernel = tar_of(&[
            ("./boot/vmlinuz-6", b"MZ kernel"),
            ("./lib/modules/6/modules.builtin", b"kernel/fs/fuse/fuse.ko\n"),
            ("./lib/modules/6/kernel/net/b.ko.xz", &packed(&["depends=", "alias=net-pf-1"])),
            ("./lib/modules/6/kernel/net/a.ko.xz", &packed(&["depends=b"])),
        ]);
        let boot = tar_of(&[
            ("./usr/lib/systemd/boot/efi/systemd-bootx64.efi", b"MZ loader"),
            ("./usr/lib/systemd/boot/efi/linuxx64.efi.stub", &stub()),
        ]);
        [kernel, boot].map(|tar| package_with("data.tar.zst", &zstd::encode_all(&tar[..], 1).unwrap()))
    }

    /// Image and initramfs that `policy` gives in a folder of its own.
    fn build_in(folder: &Path, policy: &str, cache: Option<&Path>) -> (Vec<u8>, Vec<u8>) {
        let [kernel_package, boot_package] = packages();
        let binary = folder.join("binary");
        fs::write(&binary, b"ELF").unwrap();
        let built = build(
            &Inputs {
                binary: &binary,
                policy,
                kernel_package: kernel_package.path(),
                boot_package: boot_package.path(),
                profile: &Profile::parse("test", "include net/a\npreload a").unwrap(),
                version: "1.0",
                cmdline_extra: "",
                output: &folder.join("disk.img"),
                cache,
            },
            &mut |_| {},
        )
        .unwrap();
        assert_eq!(fs::read(built.kernel).unwrap(), b"MZ kernel");
        (fs::read(built.image).unwrap(), fs::read(built.initrd).unwrap())
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes_from_any_path_and_from_the_cache() {
        let folders = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third, cache] = folders.each_ref().map(tempfile::TempDir::path);
        let image = build_in(first, "policy version=1", None);
        assert!(
            build_in(second, "policy version=1", Some(cache)) == image,
            "from another path, filling a cache"
        );
        assert!(build_in(third, "policy version=1", Some(cache)) == image, "out of the cache");
        assert!(
            build_in(third, "policy version=2", Some(cache)).0 != image.0,
            "another policy is another image"
        );
    }

    #[test]
    fn a_version_that_would_leave_its_file_name_is_refused() {
        for version in ["0.1.0", "1", "0.1.0-rc1", &"1".repeat(32)] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["", "../x", "1/2", "1+3", "1 2", "1\n", ".1", &"1".repeat(33)] {
            assert!(check_version(version).is_err(), "{version:?}");
        }
    }

    #[test]
    fn the_command_line_is_one_printable_line() {
        assert_eq!(cmdline("").unwrap(), CMDLINE);
        assert_eq!(cmdline(" quiet ").unwrap(), format!("{CMDLINE} quiet"));
        assert!(cmdline("a\nb").is_err());
        assert!(cmdline("ü").is_err());
        let room = CMDLINE_BYTES_MAX - CMDLINE.len() - 1;
        assert!(cmdline(&"x".repeat(room)).is_ok());
        assert!(cmdline(&"x".repeat(room + 1)).is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        replace(&path, |mut file| file.write_all(b"old").map_err(ImageError::write(&path))).unwrap();
        let failing = replace(&path, |mut file| {
            file.write_all(b"half").map_err(ImageError::write(&path))?;
            Err::<(), _>(ImageError::Version { version: String::new() })
        });
        assert!(failing.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
