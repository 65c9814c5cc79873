//! Which packages an image is made of, and how they get here.
//!
//! `packages.lock` fixes name, version and SHA-256; apt fetches them and checks the archive's signature. A package
//! in the cache is used only when its SHA-256 is the one in the lock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::bytes::hex;
use crate::error::ImageError;
use crate::progress::{Progress, Step, timed};

/// The lock that this version of Glacis was made with.
const SHIPPED: &str = include_str!("../packages.lock");

/// Overrides where packages and packed modules are kept.
const CACHE_VARIABLE: &str = "GLACIS_CACHE";
const CACHE_DEFAULT: &str = "/var/cache/glacis";

/// The pinned packages, one for each part they play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    kernel: Pin,
    boot: Pin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pin {
    name: String,
    version: String,
    sha256: String,
}

/// Verified package files in the cache.
#[derive(Debug, Clone)]
pub struct Packages {
    /// The signed kernel image with its modules.
    pub kernel: PathBuf,
    /// systemd-boot and its EFI stub.
    pub boot: PathBuf,
}

impl Lock {
    /// The lock that this version of Glacis was made with.
    pub fn shipped() -> Result<Self, ImageError> {
        Self::parse(SHIPPED)
    }

    /// Reads lines of `role name version sha256`; empty lines and lines that start with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let (mut kernel, mut boot) = (None, None);
        let mut last_line = 0;
        for (index, line) in text.lines().enumerate() {
            last_line = index + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |reason: String| ImageError::Lock { line: last_line, reason };
            let (role, pin) = Pin::parse(line).map_err(fail)?;
            let place = match role {
                "kernel" => &mut kernel,
                "boot" => &mut boot,
                _ => return Err(fail(format!("`{role}` is no role; the roles are kernel and boot"))),
            };
            if place.replace(pin).is_some() {
                return Err(fail(format!("a second package for the role {role}")));
            }
        }
        let missing = |role: &str| ImageError::Lock { line: last_line, reason: format!("no {role} package") };
        Ok(Self {
            kernel: kernel.ok_or_else(|| missing("kernel"))?,
            boot: boot.ok_or_else(|| missing("boot"))?,
        })
    }
}

impl Pin {
    /// The words go to apt-get as arguments and into file names, so only what Debian allows passes.
    fn parse(line: &str) -> Result<(&str, Self), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [role, name, version, sha256] = words[..] else {
            return Err(format!("{} words instead of `role name version sha256`", words.len()));
        };
        let allowed = |text: &str, also: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        if !allowed(name, "+-.") {
            return Err(format!("`{name}` is not a Debian package name"));
        }
        if !allowed(version, "+-.~:") {
            return Err(format!("`{version}` is not a Debian version"));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("`{sha256}` is not a SHA-256 of 64 lower-case hexadecimal digits"));
        }
        Ok((role, Self { name: name.into(), version: version.into(), sha256: sha256.into() }))
    }

    fn file_name(&self) -> String {
        format!("{}_{}.deb", self.name, self.version)
    }
}

/// `$GLACIS_CACHE`, else `/var/cache/glacis`.
pub fn cache_dir() -> PathBuf {
    std::env::var_os(CACHE_VARIABLE)
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from(CACHE_DEFAULT), PathBuf::from)
}

/// Makes the locked packages available in `cache/packages/`, asking apt only for those that are not there.
pub fn fetch(lock: &Lock, cache: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Packages, ImageError> {
    let store = cache.join("packages");
    fs::create_dir_all(&store).map_err(ImageError::cache(&store))?;
    Ok(Packages {
        kernel: provide(&lock.kernel, &store, progress)?,
        boot: provide(&lock.boot, &store, progress)?,
    })
}

fn provide(pin: &Pin, store: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, ImageError> {
    let cached = store.join(pin.file_name());
    if cached.exists() && sha256_of(&cached)? == pin.sha256 {
        return Ok(cached);
    }
    let step = Step::FetchPackage { name: pin.name.clone(), version: pin.version.clone() };
    timed(step, progress, || download(pin, store, &cached))?;
    Ok(cached)
}

/// Fetches into a folder beside the target and renames, so that the cache never holds half a package.
fn download(pin: &Pin, store: &Path, cached: &Path) -> Result<(), ImageError> {
    let folder = tempfile::tempdir_in(store).map_err(ImageError::cache(store))?;
    let output = Command::new("apt-get")
        .args(["download", "--quiet", "--", &format!("{}={}", pin.name, pin.version)])
        .current_dir(folder.path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .map_err(|source| ImageError::AptMissing { source })?;
    let failed =
        |said: String| ImageError::Apt { name: pin.name.clone(), version: pin.version.clone(), said };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let fetched =
        only_package(folder.path())?.ok_or_else(|| failed("it reported success without a file".into()))?;
    let found = sha256_of(&fetched)?;
    if found != pin.sha256 {
        return Err(ImageError::Checksum {
            name: pin.name.clone(),
            version: pin.version.clone(),
            wanted: pin.sha256.clone(),
            found,
        });
    }
    fs::rename(&fetched, cached).map_err(ImageError::cache(cached))
}

/// apt names the file itself and escapes the version, so the folder is asked.
fn only_package(folder: &Path) -> Result<Option<PathBuf>, ImageError> {
    for entry in fs::read_dir(folder).map_err(ImageError::read(folder))? {
        let path = entry.map_err(ImageError::read(folder))?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

pub(crate) fn sha256_of(path: &Path) -> Result<String, ImageError> {
    let mut file = File::open(path).map_err(ImageError::read(path))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(ImageError::read(path))?;
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "kernel linux-image-6.12 6.12-1~deb12u1";
    const BOOT: &str = "boot systemd-boot-efi 1:252-1";

    fn lock_of(lines: &[&str]) -> Result<Lock, ImageError> {
        let digest = "ab".repeat(32);
        Lock::parse(&lines.iter().map(|line| format!("{line} {digest}")).collect::<Vec<_>>().join("\n"))
    }

    fn reason(result: Result<Lock, ImageError>) -> (usize, String) {
        match result {
            Err(ImageError::Lock { line, reason }) => (line, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_shipped_lock_names_a_kernel_and_a_boot_loader() {
        let lock = Lock::shipped().unwrap();
        assert!(lock.kernel.name.starts_with("linux-image-6.12."));
        assert_eq!(lock.boot.name, "systemd-boot-efi");
    }

    #[test]
    fn every_defect_of_a_lock_is_named_with_its_line() {
        assert!(lock_of(&[KERNEL, BOOT]).is_ok());
        assert_eq!(reason(lock_of(&[KERNEL])), (1, "no boot package".into()));
        assert_eq!(reason(lock_of(&[KERNEL, KERNEL])), (2, "a second package for the role kernel".into()));
        assert_eq!(reason(lock_of(&[KERNEL, "initrd x 1"])).0, 2);
        assert_eq!(reason(lock_of(&["kernel --option 1"])).1, "`--option` is not a Debian package name");
        assert_eq!(reason(lock_of(&["kernel name ../1"])).1, "`../1` is not a Debian version");
        assert_eq!(reason(Lock::parse("kernel name 1 abc")).0, 1);
        assert_eq!(reason(Lock::parse("kernel name 1")).1, "3 words instead of `role name version sha256`");
    }

    #[test]
    fn a_cached_package_with_another_checksum_is_not_used() {
        let cache = tempfile::tempdir().unwrap();
        let store = cache.path().join("packages");
        fs::create_dir(&store).unwrap();
        let content = b"a package";
        let digest = hex(&Sha256::digest(content));
        let pin = Pin { name: "glacis-no-such-package".into(), version: "1".into(), sha256: digest };
        let cached = store.join(pin.file_name());

        fs::write(&cached, content).unwrap();
        let mut reports = 0;
        assert_eq!(provide(&pin, &store, &mut |_| reports += 1).unwrap(), cached);
        assert_eq!(reports, 0, "nothing is fetched");

        fs::write(&cached, b"half a pack").unwrap();
        let error = provide(&pin, &store, &mut |_| reports += 1).unwrap_err();
        assert!(matches!(error, ImageError::Apt { .. } | ImageError::AptMissing { .. }), "{error}");
        assert_eq!(reports, 1, "the fetch is announced and does not finish");
    }
}
