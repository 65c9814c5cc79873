//! DHCP leases: which interfaces ask for one, what they hold, and how a plan looks with them in it.

use crate::dhcp::{self, DhcpEvent};
use glacis_plan::{Addressing, InterfacePlan, LinkChange, ObservedLink, Plan, RoutePlan};
use glacis_wire::dhcp4::Lease;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Lease events that may wait for the daemon's loop.
const EVENTS_QUEUE: usize = 16;

/// Routes of a lease come after those of the policy, and those of two leases do not take each other's place: the
/// interface's index is added.
const METRIC_FIRST: u32 = 1_000;

pub(super) struct Leases {
    events: mpsc::Sender<DhcpEvent>,
    clients: BTreeMap<String, Client>,
}

struct Client {
    index: u32,
    task: JoinHandle<()>,
    lease: Option<Lease>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Leases {
    pub(super) fn new() -> (Self, mpsc::Receiver<DhcpEvent>) {
        let (events, received) = mpsc::channel(EVENTS_QUEUE);
        (Self { events, clients: BTreeMap::new() }, received)
    }

    /// A client for every interface that asks by DHCP and is there; none for any other.
    pub(super) fn converge(&mut self, interfaces: &[InterfacePlan], links: &[ObservedLink]) {
        let asking: BTreeMap<&str, &ObservedLink> = interfaces
            .iter()
            .filter(|plan| plan.addressing.contains(&Addressing::Dhcp4))
            .filter_map(|plan| {
                Some((plan.device.as_str(), links.iter().find(|link| link.device == plan.device)?))
            })
            .collect();
        self.clients.retain(|device, client| {
            asking
                .get(device.as_str())
                .is_some_and(|link| link.index == client.index && !client.task.is_finished())
        });
        for (device, link) in asking {
            let Some(mac) = link.mac.filter(|_| !self.clients.contains_key(device)) else { continue };
            match dhcp::spawn(device, link.index, mac, self.events.clone()) {
                Ok(task) => {
                    let client = Client { index: link.index, task, lease: None };
                    self.clients.insert(device.to_owned(), client);
                }
                Err(error) => tracing::error!(device, %error, "cannot ask for a lease"),
            }
        }
    }

    /// Takes what a client learnt. Returns what must go before the plan is converged: an address that was given back.
    pub(super) fn take(&mut self, event: DhcpEvent) -> Vec<LinkChange> {
        let (device, lease) = match event {
            DhcpEvent::Bound { device, lease } => (device, Some(lease)),
            DhcpEvent::Lost { device } => (device, None),
        };
        let Some(client) = self.clients.get_mut(&device) else { return vec![] };
        let address = |lease: &Lease| IpNet::V4(lease.address);
        let before = client.lease.as_ref().map(address);
        if let Some(lease) = &lease {
            tracing::info!(device, address = %lease.address, server = %lease.server, "leased");
        } else {
            tracing::warn!(device, "the lease is lost");
        }
        client.lease = lease;
        let after = client.lease.as_ref().map(address);
        before
            .filter(|before| Some(*before) != after)
            .map(|address| LinkChange::RemoveAddress { device, address })
            .into_iter()
            .collect()
    }

    /// Servers and resolvers that leases name: banning one would cut ourselves off.
    pub(super) fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let leases = self.clients.values().filter_map(|client| client.lease.as_ref());
        leases.flat_map(|lease| lease.dns.iter().copied().chain([lease.server])).map(IpAddr::V4)
    }

    /// The plan with every lease as if it were static.
    pub(super) fn with_leases(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for interface in &mut plan.interfaces {
            let Some(client) = self.clients.get(&interface.device) else { continue };
            let Some(lease) = &client.lease else { continue };
            interface.addressing.push(Addressing::Static(IpNet::V4(lease.address)));
            interface.mtu = interface.mtu.or(lease.mtu.map(u32::from));
            let known: Vec<IpNet> = interface.routes.iter().map(|route| route.destination).collect();
            let leased = lease.routes.iter().map(|route| RoutePlan {
                destination: IpNet::V4(route.destination),
                gateway: route.gateway.map(IpAddr::V4),
                metric: Some(METRIC_FIRST + client.index),
            });
            interface.routes.extend(leased.filter(|route| !known.contains(&route.destination)));
        }
        plan
    }
}
