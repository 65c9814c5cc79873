//! Which device each interface of the policy is on this host.

use super::{CompileError, Warning};
use crate::{Facts, Interface, InterfaceFact, InterfaceMatcher, Policy, Zone};
use std::collections::BTreeMap;

/// `IFNAMSIZ` less its NUL.
const DEVICE_BYTES_MAX: usize = 15;

/// The devices that interfaces and zones have here.
pub(super) struct Bindings<'a> {
    policy: &'a Policy,
    /// By interface name; interfaces that are not present are not here.
    devices: BTreeMap<&'a str, String>,
}

impl<'a> Bindings<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        facts: &Facts,
        errors: &mut Vec<CompileError>,
        warnings: &mut Vec<Warning>,
    ) -> Self {
        let mut devices = BTreeMap::new();
        let mut owners: BTreeMap<String, &Interface> = BTreeMap::new();
        for (index, interface) in policy.interfaces.iter().enumerate() {
            let device = match bind(interface, index, facts) {
                Ok(Some(device)) => device,
                Ok(None) => {
                    let (interface, span) = (interface.name.value.clone(), interface.name.span);
                    warnings.push(Warning::InterfaceAbsent { interface, span });
                    continue;
                }
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            if let Some(first) = owners.get(&device) {
                errors.push(CompileError::SameDevice {
                    first: first.name.value.clone(),
                    second: interface.name.value.clone(),
                    device,
                    first_span: first.name.span,
                    span: interface.name.span,
                });
                continue;
            }
            owners.insert(device.clone(), interface);
            devices.insert(interface.name.as_str(), device);
        }
        Self { policy, devices }
    }

    /// The device of an interface, if it is present.
    pub(super) fn device(&self, interface: &str) -> Option<&str> {
        self.devices.get(interface).map(String::as_str)
    }

    /// Present devices of a zone, in the zone's order.
    pub(super) fn of_zone(&self, zone: &Zone) -> Vec<&str> {
        zone.interfaces.iter().filter_map(|name| self.device(name)).collect()
    }

    /// Present devices of zones by name, in the order given; no duplicates.
    pub(super) fn of_zones<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<&str> {
        let mut devices = Vec::new();
        for name in names {
            let zone = self.policy.zones.iter().find(|zone| *zone.name == name);
            for device in zone.map(|zone| self.of_zone(zone)).unwrap_or_default() {
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
        }
        devices
    }
}

/// Off the host, an interface keeps its policy name, or the kernel's when it is matched by that;
/// a name that no device could have gives way to a number.
fn bind(interface: &Interface, index: usize, facts: &Facts) -> Result<Option<String>, CompileError> {
    let device = match (&facts.interfaces, &interface.matcher) {
        (None, InterfaceMatcher::Name(device)) => Some(device.clone()),
        (None, _) if interface.name.len() > DEVICE_BYTES_MAX => Some(format!("interface{index}")),
        (None, _) => Some(interface.name.value.clone()),
        (Some(present), matcher) => one_of(interface, &fitting(present, matcher))?,
    };
    match device {
        Some(device) if device.len() > DEVICE_BYTES_MAX => {
            Err(CompileError::DeviceName { device, max: DEVICE_BYTES_MAX, span: interface.name.span })
        }
        device => Ok(device),
    }
}

fn fitting<'f>(present: &'f [InterfaceFact], matcher: &InterfaceMatcher) -> Vec<&'f InterfaceFact> {
    let fits = |fact: &&InterfaceFact| match matcher {
        InterfaceMatcher::Name(device) => fact.device == *device,
        InterfaceMatcher::Mac(mac) => fact.mac == Some(*mac),
        InterfaceMatcher::Pci(pci) => fact.pci.as_ref() == Some(pci),
    };
    present.iter().filter(fits).collect()
}

/// VLANs and bridges share the address of the card below them, so among several the only card wins.
fn one_of(interface: &Interface, fitting: &[&InterfaceFact]) -> Result<Option<String>, CompileError> {
    let cards: Vec<_> = fitting.iter().filter(|fact| fact.pci.is_some()).collect();
    match (fitting, cards.as_slice()) {
        ([], _) => Ok(None),
        ([only], _) => Ok(Some(only.device.clone())),
        (_, [card]) => Ok(Some(card.device.clone())),
        (several, _) => Err(CompileError::Ambiguous {
            interface: interface.name.value.clone(),
            devices: several.iter().map(|fact| fact.device.clone()).collect(),
            span: interface.name.span,
        }),
    }
}
