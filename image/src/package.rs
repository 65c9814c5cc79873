//! Files out of a Debian package: an `ar` archive whose member `data.tar.*` is a compressed tar (deb(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use lzma_rust2::XzReader;

use crate::error::ImageError;

/// No file of the packages used here comes near it; a larger one is a damaged header.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// Reads the regular files that `wanted` picks by their path, which has no leading `./`.
pub(crate) fn read_files(
    package: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, ImageError> {
    let broken = |reason: String| ImageError::Package { package: package.into(), reason };
    let mut archive = ar::Archive::new(File::open(package).map_err(ImageError::read(package))?);
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(|e| broken(e.to_string()))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some(compression) = name.strip_prefix("data.tar") else { continue };
        let data: Box<dyn Read + '_> = match compression {
            ".xz" => Box::new(XzReader::new(member, true)),
            ".zst" => Box::new(zstd::Decoder::new(member).map_err(|e| broken(e.to_string()))?),
            _ => return Err(broken(format!("{name} has a compression that is not known here"))),
        };
        return read_tar(data, wanted).map_err(broken);
    }
    Err(broken("it has no member data.tar".into()))
}

fn read_tar(data: impl Read, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(data).entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let path = entry.path().map_err(|e| e.to_string())?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./");
        if !entry.header().entry_type().is_file() || !wanted(path) {
            continue;
        }
        if entry.size() > FILE_BYTES_MAX {
            return Err(format!("{path} has {} bytes, the limit is {FILE_BYTES_MAX}", entry.size()));
        }
        let mut content = Vec::with_capacity(entry.size() as usize);
        entry.read_to_end(&mut content).map_err(|e| format!("{path}: {e}"))?;
        files.insert(path.to_owned(), content);
    }
    Ok(files)
}

/// Takes the one file whose path starts and ends as given.
pub(crate) fn take(
    files: &mut BTreeMap<String, Vec<u8>>,
    package: &Path,
    start: &str,
    end: &str,
) -> Result<Vec<u8>, ImageError> {
    let path = files.keys().find(|path| path.starts_with(start) && path.ends_with(end)).cloned();
    path.and_then(|path| files.remove(&path))
        .ok_or_else(|| ImageError::PackageFile { package: package.into(), file: format!("{start}*{end}") })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn package_with(member: &str, content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = ar::Builder::new(file.reopen().unwrap());
        for (name, data) in [("debian-binary", b"2.0\n".as_slice()), (member, content)] {
            archive.append(&ar::Header::new(name.into(), data.len() as u64), data).unwrap();
        }
        file
    }

    pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            archive.append_data(&mut header, path, *data).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn only_wanted_files_are_read() {
        let tar = tar_of(&[("./boot/vmlinuz-6", b"kernel"), ("./usr/share/doc/copyright", b"long")]);
        let package = package_with("data.tar.zst", &zstd::encode_all(&tar[..], 1).unwrap());
        let mut files = read_files(package.path(), |path| path.starts_with("boot/")).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(take(&mut files, package.path(), "boot/vmlinuz", "").unwrap(), b"kernel");
        let missing = take(&mut files, package.path(), "boot/vmlinuz", "").unwrap_err();
        assert!(missing.to_string().ends_with("holds no boot/vmlinuz*"), "{missing}");
    }

    #[test]
    fn a_damaged_package_is_an_error_that_names_it() {
        for (member, content) in [
            ("data.tar.xz", &b"not xz"[..]),
            ("data.tar.zst", b"not zstd"),
            ("data.tar.bz2", b""),
            ("control.tar.xz", b""),
        ] {
            let package = package_with(member, content);
            let error = read_files(package.path(), |_| true).unwrap_err();
            assert!(matches!(error, ImageError::Package { .. }), "{member}: {error}");
        }
    }
}
