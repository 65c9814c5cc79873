//! Which country an address is of.

use maxminddb::{MaxMindDbError, Mmap, Reader};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

#[derive(Debug, thiserror::Error)]
pub enum CountriesError {
    #[error("the country database cannot be mapped: {0}")]
    Map(#[source] io::Error),
    #[error("the country database is none or damaged: {0}")]
    Malformed(#[source] MaxMindDbError),
}

/// A country database that the core passed.
pub struct Countries(Reader<Mmap>);

impl Countries {
    /// Maps the file; the descriptor is closed.
    pub fn map(file: OwnedFd) -> Result<Self, CountriesError> {
        // SAFETY: nobody changes or shortens what is mapped: the core passes its own copy, which has no name in any
        // folder and which it does not write to any more.
        let map = unsafe { Mmap::map(&File::from(file)) }.map_err(CountriesError::Map)?;
        Reader::from_source(map).map(Self).map_err(CountriesError::Malformed)
    }

    /// Whether an address is of one of these countries (ISO 3166-1, upper case). Where the database knows nothing, or
    /// has a damaged record, it is of none.
    pub fn is_of(&self, address: IpAddr, countries: &[String]) -> bool {
        if address.is_ipv6() && self.0.metadata().ip_version == 4 {
            return false;
        }
        let found = self.0.lookup(address).and_then(|found| found.decode::<Place<'_>>());
        found.is_ok_and(|place| {
            place.is_some_and(|place| countries.iter().any(|code| code == place.country.iso_code))
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Place<'a> {
    #[serde(borrow)]
    country: Country<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Country<'a> {
    iso_code: &'a str,
}
