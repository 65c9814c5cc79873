//! What user space may change while the program runs.

use crate::{Hook, LoaderError, TcProgram};
use aya::maps::{Array, MapData};
use glacis_abi::{LAYOUT, Settings as Record};
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::Path;

const MAP: &str = "SETTINGS";

/// How the program is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    pub detection: Detection,
    pub options: Options,
    /// `None`: TCX where the kernel has it, else clsact.
    pub hook: Option<Hook>,
}

/// Whether probes are counted; banned sources are dropped in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detection {
    #[default]
    Off,
    On,
}

/// What the counting of probes includes, and what happens to banned sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Look for stealth probes too: TCP that neither begins nor belongs to a connection. Costs every TCP packet to this
    /// host a socket look-up.
    pub stealth: bool,
    /// Challenge the senders of TCP probes to show that they receive what we send.
    pub challenge: bool,
    /// Leave it to nftables, which knows connections, to drop what banned sources send.
    pub keep_established: bool,
}

/// The settings map and what is in it.
pub(crate) struct SettingsMap {
    map: Array<MapData, Record>,
    record: Record,
}

impl SettingsMap {
    /// Takes the map over; what an earlier process set stays in force.
    pub(crate) fn open(map: Array<MapData, Record>, pins: &Path) -> Result<Self, LoaderError> {
        let found = map.get(&0, 0).map_err(LoaderError::map(MAP, "read"))?;
        if found.layout != 0 && found.layout != LAYOUT {
            return Err(LoaderError::ForeignLayout { path: pins.to_owned(), found: found.layout });
        }
        let secret = if found.secret == [0; 2] { draw_secret()? } else { found.secret };
        Ok(Self { map, record: Record { layout: LAYOUT, secret, ..found } })
    }

    /// The program sees it with its next packet.
    pub(crate) fn put(&mut self, flags: &[(u32, bool)]) -> Result<(), LoaderError> {
        for (flag, is_set) in flags {
            if *is_set { self.record.flags |= flag } else { self.record.flags &= !flag }
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), LoaderError> {
        self.map.set(0, self.record, 0).map_err(LoaderError::map(MAP, "write"))
    }
}

/// The key of the cookies, which nobody outside may know.
fn draw_secret() -> Result<[u64; 2], LoaderError> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|e| LoaderError::NoRandomness(e.into()))?;
    Ok([0, 8].map(|at| u64::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]))))
}

impl TcProgram {
    /// Has the program do more or less; what it counted stays.
    pub fn set_options(&mut self, options: Options) -> Result<(), LoaderError> {
        self.settings.put(&[
            (Record::STEALTH, options.stealth),
            (Record::CHALLENGE, options.challenge),
            (Record::KEEP_ESTABLISHED, options.keep_established),
        ])
    }

    /// Begins or ends the counting of probes; counts so far stay.
    pub fn set_detection(&mut self, detection: Detection) -> Result<(), LoaderError> {
        self.settings.put(&[(Record::COUNT_PROBES, detection == Detection::On)])
    }
}
