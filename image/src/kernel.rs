//! The kernel and its packed modules, and their cache: unpacking the package and compressing the modules takes many
//! seconds and depends on nothing but package and profile.
//!
//! A cache file is `kernels/<key>`, where the key hashes all that its content depends on:
//!
//! ```text
//!  0  SHA-256 of everything behind it
//! 32  u64, little endian: bytes of the kernel image
//! 40  kernel image
//!  …  compressed archive of the modules
//! ```

use std::fs;
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::bytes::hex;
use crate::error::ImageError;
use crate::initramfs::{ZSTD_LEVEL, compress, modules_archive};
use crate::lock::sha256_of;
use crate::modules::{Catalogue, PackedModule, Selection, name_of};
use crate::package::{read_files, take};
use crate::profile::Profile;
use crate::progress::{Progress, Step, timed};
use crate::readable_by_all;

/// Part of the key: raise it whenever the same package and profile are to give another archive.
const LAYOUT: &str = "1";
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = DIGEST_BYTES + size_of::<u64>();

/// What an image takes from the kernel package.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) vmlinuz: Vec<u8>,
    /// Compressed archive of the profile's modules.
    pub(crate) modules: Vec<u8>,
}

/// Takes the kernel from the cache, when there is one that holds it, else from the package.
pub(crate) fn provide(
    package: &Path,
    profile: &Profile,
    cache: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Kernel, ImageError> {
    let Some(cache) = cache else { return read(package, profile, progress) };
    let store = cache.join("kernels");
    let digest = timed(Step::CheckPackages, progress, || sha256_of(package))?;
    let entry = store.join(key(&digest, profile));
    if let Some(kernel) = fs::read(&entry).ok().and_then(|bytes| Kernel::decode(&bytes)) {
        return Ok(kernel);
    }
    let kernel = read(package, profile, progress)?;
    fs::create_dir_all(&store).map_err(ImageError::cache(&store))?;
    write(&store, &entry, &kernel.encode()).map_err(ImageError::cache(&entry))?;
    Ok(kernel)
}

fn key(package_digest: &str, profile: &Profile) -> String {
    let level = ZSTD_LEVEL.to_string();
    let mut hash = Sha256::new();
    for part in [LAYOUT, package_digest, &level, &profile.text] {
        hash.update(part);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

fn write(store: &Path, entry: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(readable_by_all()).tempfile_in(store)?;
    file.write_all(bytes)?;
    file.persist(entry)?;
    Ok(())
}

fn read(package: &Path, profile: &Profile, progress: &mut dyn FnMut(Progress)) -> Result<Kernel, ImageError> {
    let (vmlinuz, catalogue) = timed(Step::ReadKernelPackage, progress, || read_package(package))?;
    let selection = Selection::choose(&catalogue, profile)?;
    drop(catalogue);
    let step = Step::PackModules { count: selection.modules.len() };
    let modules =
        timed(step, progress, || compress(&modules_archive(&selection)).map_err(ImageError::Compress))?;
    Ok(Kernel { vmlinuz, modules })
}

fn read_package(package: &Path) -> Result<(Vec<u8>, Catalogue), ImageError> {
    let wanted = |path: &str| {
        path.starts_with("boot/vmlinuz-") || path.ends_with(".ko.xz") || path.ends_with("/modules.builtin")
    };
    let mut files = read_files(package, wanted)?;
    let vmlinuz = take(&mut files, package, "boot/vmlinuz-", "")?;
    let builtin = take(&mut files, package, "", "/modules.builtin")?;
    let mut catalogue = Catalogue::default();
    for line in String::from_utf8_lossy(&builtin).lines() {
        catalogue.builtin.extend(module_path(&format!("/{line}"), ".ko"));
    }
    for (path, xz) in files {
        if let Some(path) = module_path(&path, ".ko.xz") {
            catalogue.modules.insert(name_of(&path), PackedModule { path, xz });
        }
    }
    Ok((vmlinuz, catalogue))
}

/// What follows `/kernel/`, without the file's extension.
fn module_path(path: &str, extension: &str) -> Option<String> {
    let (_, below) = path.split_once("/kernel/")?;
    below.strip_suffix(extension).map(str::to_owned)
}

impl Kernel {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; DIGEST_BYTES];
        bytes.extend_from_slice(&(self.vmlinuz.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.vmlinuz);
        bytes.extend_from_slice(&self.modules);
        let digest = Sha256::digest(&bytes[DIGEST_BYTES..]);
        bytes[..DIGEST_BYTES].copy_from_slice(&digest);
        bytes
    }

    /// Nothing when the file is not what was written: a damaged cache is a cache that holds nothing.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (digest, content) = bytes.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(content)[..] != *digest {
            return None;
        }
        let vmlinuz_bytes: [u8; 8] = bytes.get(DIGEST_BYTES..HEADER_BYTES)?.try_into().ok()?;
        let (vmlinuz, modules) = bytes[HEADER_BYTES..]
            .split_at_checked(usize::try_from(u64::from_le_bytes(vmlinuz_bytes)).ok()?)?;
        Some(Self { vmlinuz: vmlinuz.to_vec(), modules: modules.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_file_is_used_whole_or_not_at_all() {
        let kernel = Kernel { vmlinuz: b"MZ kernel".to_vec(), modules: b"zstd".to_vec() };
        let bytes = kernel.encode();
        assert_eq!(Kernel::decode(&bytes), Some(kernel));
        for cut in 0..bytes.len() {
            assert_eq!(Kernel::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        let mut flipped = bytes;
        flipped[50] ^= 1;
        assert_eq!(Kernel::decode(&flipped), None);
    }

    #[test]
    fn the_key_follows_package_and_profile() {
        let profile = |text| Profile::parse("p", text).unwrap();
        let one = key("aa", &profile("include a"));
        assert_eq!(one, key("aa", &profile("include a")));
        assert_ne!(one, key("ab", &profile("include a")));
        assert_ne!(one, key("aa", &profile("include b")));
    }

    #[test]
    fn a_module_is_known_by_its_path_below_kernel() {
        assert_eq!(
            module_path("lib/modules/6/kernel/fs/fat/vfat.ko.xz", ".ko.xz").as_deref(),
            Some("fs/fat/vfat")
        );
        assert_eq!(module_path("/kernel/fs/nls/nls_base.ko", ".ko").as_deref(), Some("fs/nls/nls_base"));
        assert_eq!(module_path("boot/vmlinuz", ".ko.xz"), None);
    }
}
