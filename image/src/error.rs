use std::io;
use std::path::PathBuf;

/// Why an image could not be built: what failed, on what, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the package cache {path}; set GLACIS_CACHE to a folder you may write to")]
    Cache { path: PathBuf, source: io::Error },

    #[error("packages.lock line {line}: {reason}")]
    Lock { line: usize, reason: String },
    #[error("apt-get could not be started; the packages come from a Debian archive through apt")]
    AptMissing { source: io::Error },
    #[error(
        "apt could not download {name} {version}: {said}\n\
         run `apt-get update`; when the archive no longer has this version, pin the one it has with `image/pin`"
    )]
    Apt { name: String, version: String, said: String },
    #[error(
        "{name} {version} from apt has SHA-256 {found}, packages.lock wants {wanted}; \
         if the archive rebuilt it, look at the change and pin it with `image/pin`"
    )]
    Checksum { name: String, version: String, wanted: String, found: String },

    #[error("{package} is not a Debian package that can be read: {reason}")]
    Package { package: PathBuf, reason: String },
    #[error("{package} holds no {file}")]
    PackageFile { package: PathBuf, file: String },

    #[error("profile {profile} line {line}: {reason}")]
    Profile { profile: String, line: usize, reason: String },
    #[error("profile {profile}: nothing in the kernel package matches `{pattern}`")]
    ProfileUnmatched { profile: String, pattern: String },
    #[error("profile {profile}: `{name}` is to be preloaded but is not included")]
    ProfilePreload { profile: String, name: String },
    #[error("kernel module {module}: {reason}")]
    Module { module: String, reason: String },

    #[error("the initramfs cannot be compressed")]
    Compress(#[source] io::Error),
    #[error("the EFI stub cannot carry the image: {reason}")]
    Stub { reason: String },
    #[error("version `{version}`: use 1 to 32 letters, digits, `.` and `-`")]
    Version { version: String },
    #[error("kernel command line: {reason}")]
    CommandLine { reason: String },

    #[error("{volume}: `{name}` cannot be a FAT file name: {reason}")]
    FatName { volume: String, name: String, reason: &'static str },
    #[error("{volume}: `{first}` and `{second}` are the same name to FAT, which ignores case")]
    FatClash { volume: String, first: String, second: String },
    #[error("{volume}: {content_bytes} bytes of files need {needed} clusters, the volume has {available}")]
    FatFull { volume: String, content_bytes: u64, needed: u64, available: u64 },
    #[error("{volume}: a directory of {entries} entries, the limit is {limit}")]
    FatDirectory { volume: String, entries: usize, limit: usize },
    #[error("{volume}: {bytes} bytes give {clusters} clusters; {kind} needs {least} to {most}")]
    FatSize { volume: String, bytes: u64, clusters: u64, kind: &'static str, least: u64, most: u64 },
    #[error("ext4: {bytes} bytes; sizes are multiples of 4 KiB from {least} to {most}")]
    Ext4Size { bytes: u64, least: u64, most: u64 },
    #[error("ext4: the label `{label}` is longer than 16 bytes")]
    Ext4Label { label: String },
    #[error("cannot write the partition table of {path}")]
    PartitionTable { path: PathBuf, source: gpt::GptError },
}

impl ImageError {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Write { path, source }
    }

    pub(crate) fn cache(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Cache { path, source }
    }
}
