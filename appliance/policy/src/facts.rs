//! What compiling a policy must know of the host; gathered first, so that compiling is pure.

use glacis_plan::{Mac, PciAddress};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Facts about one host at one moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `None`: not on the host, as `check` on a laptop. Interfaces then keep their policy names.
    pub interfaces: Option<Vec<InterfaceFact>>,
    /// Contents of the files that blocklists name, by the name as written; an error says why there is none.
    pub lists: BTreeMap<String, Result<Vec<u8>, String>>,
    /// Addresses that must never be auto-blocked: gateways, resolvers.
    pub never_block: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFact {
    pub device: String,
    pub mac: Option<Mac>,
    pub pci: Option<PciAddress>,
}
