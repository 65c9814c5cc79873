//! What the kernel has, and what must change for it to have what the plan asks.

use crate::nft::{Op, Ruleset};
use crate::{Mac, PciAddress, RoutePlan, Sysctl};
use ipnet::IpNet;

/// What was read back from the kernel, together with what the applier knows that it loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub links: Vec<ObservedLink>,
    /// The ruleset this process loaded and found unchanged since (by structure and generation);
    /// `None` when nothing is loaded or when its contents are not known, as after a restart.
    pub ruleset: Option<Ruleset>,
    /// Current values of the parameters the plan speaks of.
    pub sysctls: Vec<Sysctl>,
}

/// One network interface as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedLink {
    pub index: u32,
    pub device: String,
    pub mac: Option<Mac>,
    pub pci: Option<PciAddress>,
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The lower layer works (`IFF_LOWER_UP`).
    pub carrier: bool,
    pub loopback: bool,
    /// Global and host scope only; link-local addresses are the kernel's own.
    pub addresses: Vec<ObservedAddress>,
    /// Routes of the main table that leave by this interface, kernel-made ones left out.
    pub routes: Vec<ObservedRoute>,
}

/// An address and who put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedAddress {
    pub net: IpNet,
    /// The address carries our protocol number, so it is ours to remove.
    pub ours: bool,
}

/// A route and who put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObservedRoute {
    pub route: RoutePlan,
    /// The route carries our protocol number, so it is ours to remove.
    pub ours: bool,
}

/// The way from an [`Observed`] to a [`crate::Plan`], in the order in which it must be walked:
/// ruleset, sysctls, links. Empty when the host already is as the plan asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub sysctls: Vec<Sysctl>,
    /// One transaction; empty when the ruleset is as asked.
    pub ruleset: Vec<Op>,
    pub links: Vec<LinkChange>,
}

/// One step on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    SetMtu {
        device: String,
        mtu: u32,
    },
    SetUp {
        device: String,
    },
    AddAddress {
        device: String,
        address: IpNet,
    },
    /// Only ever for an address that carries our protocol number.
    RemoveAddress {
        device: String,
        address: IpNet,
    },
    AddRoute {
        device: String,
        route: RoutePlan,
    },
    /// Only ever for a route that carries our protocol number.
    RemoveRoute {
        device: String,
        route: RoutePlan,
    },
}
