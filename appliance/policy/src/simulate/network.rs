//! The addresses and routes of a host, as far as its plan tells: what a simulated routing decision needs.

use glacis_plan::{Addressing, InterfacePlan};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Stands for an address that only DHCP will tell: the IPv4 dummy address of RFC 7600.
const SELF_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
/// Its IPv6 sibling, of the discard prefix of RFC 6666.
const SELF_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1));

/// What an address is to the host, as `fib … type` tells it (`RTN_*` of `linux/rtnetlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressType {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
}

/// A host's devices with their addresses and routes.
#[derive(Debug, Clone, Default)]
pub struct Network {
    devices: Vec<Device>,
    unknown: Option<String>,
}

#[derive(Debug, Clone)]
struct Device {
    name: String,
    addresses: Vec<IpNet>,
    routes: Vec<IpNet>,
    dhcp: bool,
}

impl Network {
    pub fn new(interfaces: &[InterfacePlan]) -> Self {
        let devices = interfaces.iter().map(|interface| Device {
            name: interface.device.clone(),
            addresses: interface
                .addressing
                .iter()
                .filter_map(|a| if let Addressing::Static(net) = a { Some(*net) } else { None })
                .collect(),
            routes: interface.routes.iter().map(|route| route.destination).collect(),
            dhcp: interface.addressing.contains(&Addressing::Dhcp4),
        });
        Self { devices: devices.collect(), unknown: None }
    }

    /// Sends what no static route decides out of this device.
    #[must_use]
    pub fn with_unknown_to(mut self, device: &str) -> Self {
        self.unknown = Some(device.to_owned());
        self
    }

    /// Devices by which a packet for `destination` may leave: the one that the longest static route names,
    /// else those that lease their addresses, else all; never back to `input` on mere suspicion.
    pub fn egress_candidates(&self, destination: IpAddr, input: Option<&str>) -> Vec<&str> {
        if let Some((device, _)) = self.route(destination) {
            return vec![device.name.as_str()];
        }
        let others = || self.devices.iter().filter(|device| Some(device.name.as_str()) != input);
        let leased: Vec<&str> =
            others().filter(|device| device.dhcp).map(|device| device.name.as_str()).collect();
        if leased.is_empty() { others().map(|device| device.name.as_str()).collect() } else { leased }
    }

    /// The device a packet leaves by; the candidates when several may be meant.
    pub(super) fn egress(&self, destination: IpAddr, input: Option<&str>) -> Result<&str, Vec<&str>> {
        let candidates = self.egress_candidates(destination, input);
        match (candidates.as_slice(), &self.unknown) {
            ([only], _) => Ok(only),
            (several, Some(unknown)) if several.contains(&unknown.as_str()) => Ok(unknown),
            _ => Err(candidates),
        }
    }

    /// Whether the way back to `source` is the device it came from, as strict reverse path checks ask.
    /// Where static routes do not tell, the packet is believed.
    pub(super) fn leads_back(&self, source: IpAddr, device: &str) -> bool {
        let link_local = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if source.is_unspecified() || link_local {
            return true;
        }
        if source.is_loopback() || self.owns(source) {
            return false;
        }
        match self.route(source) {
            Some((found, _)) if found.name == device => true,
            // A leased network may be more specific than the default route of another device.
            Some((_, 0)) => self.devices.iter().any(|own| own.name == device && own.dhcp),
            Some(_) => false,
            None => true,
        }
    }

    /// With a device, an address is local only if that device has it.
    pub(super) fn address_type(&self, address: IpAddr, device: Option<&str>) -> AddressType {
        let broadcast = |device: &Device| {
            device.addresses.iter().any(|net| net.addr().is_ipv4() && net.broadcast() == address)
        };
        if address.is_multicast() {
            AddressType::Multicast
        } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) || self.devices.iter().any(broadcast) {
            AddressType::Broadcast
        } else if address.is_loopback() || self.owns_on(address, device) {
            AddressType::Local
        } else {
            AddressType::Unicast
        }
    }

    /// An address of ours that a packet which comes or leaves by `device` would carry.
    pub fn own_address(&self, device: &str, like: IpAddr) -> IpAddr {
        let fitting = |device: &Device| {
            device.addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == like.is_ipv4())
        };
        let on_device = self.devices.iter().find(|own| own.name == device);
        on_device.and_then(fitting).unwrap_or(if like.is_ipv4() { SELF_V4 } else { SELF_V6 })
    }

    fn owns(&self, address: IpAddr) -> bool {
        self.owns_on(address, None)
    }

    fn owns_on(&self, address: IpAddr, device: Option<&str>) -> bool {
        let mut devices = self.devices.iter().filter(|own| device.is_none_or(|device| own.name == device));
        address == SELF_V4
            || address == SELF_V6
            || devices.any(|own| own.addresses.iter().any(|net| net.addr() == address))
    }

    /// The longest route and its prefix length; the first of equals.
    fn route(&self, destination: IpAddr) -> Option<(&Device, u8)> {
        let mut best: Option<(&Device, u8)> = None;
        for device in &self.devices {
            for net in device.addresses.iter().chain(&device.routes) {
                if net.contains(&destination) && best.is_none_or(|(_, length)| net.prefix_len() > length) {
                    best = Some((device, net.prefix_len()));
                }
            }
        }
        best
    }
}
