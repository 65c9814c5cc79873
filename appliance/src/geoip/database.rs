//! One GeoIP database: copied, mapped, tried, asked.
//!
//! A mapped file that someone truncates kills the process that reads it (SIGBUS), and the core must not die of a
//! download that is written in place. So a database is copied first, to a file without a name that no one else can
//! open, and the copy is mapped: memory holds only the pages that look-ups touch, and the kernel may drop them.
//!
//! `maxminddb` can verify a whole file, but its memory grows with the file. A trial of a fixed number of look-ups
//! finds files that are of no use; a record that is damaged all the same is counted when it is met.

use glacis_control::UnixMillis;
use glacis_control::scan_query::Location;
use glacis_plan::GeoipKind;
use maxminddb::{MaxMindDbError, Mmap, Reader};
use rustix::fs::{FileType, Mode, OFlags};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Largest file that is read. MaxMind's largest is about a quarter of it.
pub const FILE_BYTES_MAX: u64 = 512 << 20;
/// Left free on the disk of the state folder, for the store and applied policies.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Addresses of the trial: so many of IPv4, spread evenly, and as many below each of `2000::/4` and `3000::/4`.
const TRIAL_ADDRESSES: u32 = 4096;
/// A file that takes longer for its trial is not used: the store's thread would wait for it.
const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Longest name that is taken from a file, in bytes; longer ones are cut.
const NAME_BYTES_MAX: usize = 96;
/// Longest foreign text in a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum GeoipError {
    #[error("the file cannot be opened")]
    Open(#[source] io::Error),
    #[error("this is no regular file")]
    NotRegular,
    #[error("the file has {} MiB, more than the {} that are read", bytes >> 20, FILE_BYTES_MAX >> 20)]
    TooLarge { bytes: u64 },
    #[error("the file cannot be copied to {}", folder.display())]
    Copy { folder: PathBuf, cause: io::Error },
    #[error("{} has no room for a copy of {} MiB", folder.display(), (bytes >> 20) + 1)]
    NoRoom { folder: PathBuf, bytes: u64 },
    #[error("the file changed while it was read; it is read again")]
    Changed,
    #[error("the copy cannot be mapped")]
    Map(#[source] io::Error),
    #[error("this is no MaxMind database, or a damaged one; replace the file")]
    Malformed(#[source] MaxMindDbError),
    #[error("the file calls itself `{found}` and the policy names it as {}", kind.name())]
    WrongKind { kind: GeoipKind, found: String },
    #[error("look-ups in it are too slow")]
    Slow,
}

impl GeoipError {
    /// Whether reading the same file again would end the same.
    pub fn is_in_the_file(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Malformed(_) | Self::WrongKind { .. } | Self::Slow)
    }
}

/// Tells a version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, u64),
}

impl Identity {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// Opens a file for reading without waiting, whatever it is; only a regular one is taken.
pub fn open_regular(path: &Path) -> Result<(File, Identity), GeoipError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|cause| GeoipError::Open(cause.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|cause| GeoipError::Open(cause.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(GeoipError::NotRegular);
    }
    Ok((file.into(), Identity::of(&stat)))
}

/// A database that answered its trial.
pub struct Database {
    kind: GeoipKind,
    reader: Reader<Mmap>,
    /// Look-ups that met a damaged record.
    damaged: AtomicU64,
}

impl Database {
    /// Copies, maps and tries a file.
    pub fn load(kind: GeoipKind, file: &File, identity: Identity, copies: &Path) -> Result<Self, GeoipError> {
        let map = map_copy(file, identity, copies)?;
        let reader = Reader::from_source(map).map_err(GeoipError::Malformed)?;
        let found = &reader.metadata().database_type;
        if !serves(kind, found) {
            return Err(GeoipError::WrongKind { kind, found: plain(found) });
        }
        let database = Self { kind, reader, damaged: AtomicU64::new(0) };
        database.try_out()?;
        Ok(database)
    }

    /// What the file calls itself.
    pub fn description(&self) -> String {
        plain(&self.reader.metadata().database_type)
    }

    /// When its maker built it; `None` for a time that is none.
    pub fn built(&self) -> Option<UnixMillis> {
        self.reader.metadata().build_epoch.checked_mul(1000).map(UnixMillis)
    }

    /// What look-ups met since it is in use, if it was bad.
    pub fn damage(&self) -> Option<String> {
        match self.damaged.load(Ordering::Relaxed) {
            0 => None,
            n => Some(format!("{n} look-ups met a damaged record; replace the file")),
        }
    }

    /// Fills in what is still unknown.
    pub fn add_to(&self, location: &mut Location, address: IpAddr) {
        if self.ask(location, address).is_err() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ask(&self, location: &mut Location, address: IpAddr) -> Result<(), MaxMindDbError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(());
        }
        let found = self.reader.lookup(address)?;
        match self.kind {
            GeoipKind::City | GeoipKind::Country => {
                if let Some(place) = found.decode::<Place<'_>>()? {
                    place.add_to(location);
                }
            }
            GeoipKind::Isp | GeoipKind::Asn => {
                if let Some(network) = found.decode::<Network<'_>>()? {
                    network.add_to(location);
                }
            }
        }
        Ok(())
    }

    fn try_out(&self) -> Result<(), GeoipError> {
        let deadline = Instant::now() + TRIAL_MAX;
        let step = u32::MAX / TRIAL_ADDRESSES;
        let v4 = (0..TRIAL_ADDRESSES).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n * step)));
        // The leading 4 bits, then 12 that count.
        let v6 = [0x2000_u16, 0x3000].into_iter().flat_map(|top| {
            (0..TRIAL_ADDRESSES)
                .map(move |n| IpAddr::V6(Ipv6Addr::from_bits(u128::from(top | n as u16) << 112)))
        });
        for address in v4.chain(v6) {
            self.ask(&mut Location::default(), address).map_err(GeoipError::Malformed)?;
            if Instant::now() > deadline {
                return Err(GeoipError::Slow);
            }
        }
        Ok(())
    }
}

/// Maps a copy that this process alone can reach.
fn map_copy(file: &File, identity: Identity, copies: &Path) -> Result<Mmap, GeoipError> {
    let bytes = identity.bytes;
    if bytes > FILE_BYTES_MAX {
        return Err(GeoipError::TooLarge { bytes });
    }
    let failed = |cause| GeoipError::Copy { folder: copies.to_owned(), cause };
    let mut copy = tempfile::tempfile_in(copies).map_err(failed)?;
    let disk = rustix::fs::fstatvfs(&copy).map_err(|cause| failed(cause.into()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes + FREE_BYTES_MIN {
        return Err(GeoipError::NoRoom { folder: copies.to_owned(), bytes });
    }
    // A file that grows meanwhile is cut off and found to have changed.
    let copied = io::copy(&mut file.take(bytes), &mut copy).map_err(failed)?;
    let stat = rustix::fs::fstat(file).map_err(|cause| GeoipError::Open(cause.into()))?;
    if copied != bytes || Identity::of(&stat) != identity {
        return Err(GeoipError::Changed);
    }
    // SAFETY: nobody changes or shortens what is mapped: the copy has no name in any folder, its only descriptor is
    // not inherited and is closed when this function returns.
    unsafe { Mmap::map(&copy) }.map_err(GeoipError::Map)
}

/// Whether a file that calls itself so has what is asked of this kind. MaxMind's types are such as `GeoLite2-City`
/// or `GeoIP2-ISP`; other makers name the type that theirs are compatible with.
fn serves(kind: GeoipKind, database_type: &str) -> bool {
    let has = |word| database_type.contains(word);
    let enterprise = has("Enterprise");
    match kind {
        GeoipKind::City => has("City") || enterprise,
        GeoipKind::Country => has("Country") || has("City") || enterprise,
        // Those of an enterprise file lie elsewhere in the record.
        GeoipKind::Isp => has("ISP") && !enterprise,
        GeoipKind::Asn => has("ASN") || (has("ISP") && !enterprise),
    }
}

/// What a City or Country file says, as far as it is of use here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Place<'a> {
    #[serde(borrow)]
    country: Named<'a>,
    /// The largest first.
    subdivisions: Vec<Named<'a>>,
    city: Named<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'a> {
    iso_code: &'a str,
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Names<'a> {
    en: &'a str,
}

impl Place<'_> {
    fn add_to(&self, location: &mut Location) {
        if !location.country_code.is_empty() || !location.country.is_empty() {
            return;
        }
        let code = self.country.iso_code;
        if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            code.clone_into(&mut location.country_code);
        }
        location.country = name(self.country.names.en);
        location.region = self.subdivisions.first().map(|largest| name(largest.names.en)).unwrap_or_default();
        location.city = name(self.city.names.en);
    }
}

/// What an ISP or ASN file says.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Network<'a> {
    isp: &'a str,
    autonomous_system_number: u32,
    autonomous_system_organization: &'a str,
}

impl Network<'_> {
    fn add_to(&self, location: &mut Location) {
        for known in [self.isp, self.autonomous_system_organization] {
            if location.isp.is_empty() {
                location.isp = name(known);
            }
        }
        if location.asn == 0 {
            location.asn = self.autonomous_system_number;
        }
    }
}

fn name(foreign: &str) -> String {
    cut(foreign, NAME_BYTES_MAX)
}

/// Foreign text for a message.
pub fn plain(foreign: &str) -> String {
    cut(foreign, MESSAGE_BYTES_MAX)
}

/// At most so many bytes, without what would move a terminal's cursor or turn its text around.
fn cut(foreign: &str, bytes_max: usize) -> String {
    let whole = &foreign[..foreign.floor_char_boundary(bytes_max)];
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    whole.chars().filter(|c| !c.is_control() && !turns(*c)).collect::<String>().trim().to_owned()
}
