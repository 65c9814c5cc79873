//! What user space may change while the program runs.

use crate::{Hook, LoaderError, TcProgram};
use aya::maps::{Array, MapData};
use glacis_abi::{LAYOUT, Settings as Record};
use std::path::Path;

const MAP: &str = "SETTINGS";

/// How the program is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    pub detection: Detection,
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
        Ok(Self { map, record: Record { layout: LAYOUT, ..found } })
    }

    /// The program sees it with its next packet.
    pub(crate) fn raise(&mut self, flag: u32) -> Result<(), LoaderError> {
        self.record.flags |= flag;
        self.write()
    }

    /// The program sees it with its next packet.
    pub(crate) fn clear(&mut self, flag: u32) -> Result<(), LoaderError> {
        self.record.flags &= !flag;
        self.write()
    }

    fn write(&mut self) -> Result<(), LoaderError> {
        self.map.set(0, self.record, 0).map_err(LoaderError::map(MAP, "write"))
    }
}

impl TcProgram {
    /// Begins or ends the counting of probes; counts so far stay.
    pub fn set_detection(&mut self, detection: Detection) -> Result<(), LoaderError> {
        match detection {
            Detection::On => self.settings.raise(Record::COUNT_PROBES),
            Detection::Off => self.settings.clear(Record::COUNT_PROBES),
        }
    }
}
