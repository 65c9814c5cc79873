//! Taking one step, once or twice with the same end.

use super::error::{LinksError, errno};
use super::{address, device, observe, route, sysctl};
use glacis_plan::changes::ObservedAddress;
use glacis_plan::{LinkChange, RoutePlan, Sysctl};
use ipnet::IpNet;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

pub(super) async fn apply(handle: &Handle, change: &LinkChange) -> Result<(), LinksError> {
    let link = device::find(handle, device_of(change)).await?;
    let target = Target { handle, device: device_of(change), link: &link };
    match change {
        LinkChange::SetMtu { mtu, .. } => target.set_mtu(*mtu).await,
        LinkChange::SetUp { .. } => target.set_up().await,
        LinkChange::AddAddress { address, .. } => target.add_address(*address).await,
        LinkChange::RemoveAddress { address, .. } => target.remove_address(*address).await,
        LinkChange::AddRoute { route, .. } => target.add_route(&route::canonical(route)).await,
        LinkChange::RemoveRoute { route, .. } => target.remove_route(&route::canonical(route)).await,
    }
}

fn device_of(change: &LinkChange) -> &str {
    match change {
        LinkChange::SetMtu { device, .. }
        | LinkChange::SetUp { device }
        | LinkChange::AddAddress { device, .. }
        | LinkChange::RemoveAddress { device, .. }
        | LinkChange::AddRoute { device, .. }
        | LinkChange::RemoveRoute { device, .. } => device,
    }
}

/// The interface that a step changes.
struct Target<'a> {
    handle: &'a Handle,
    device: &'a str,
    link: &'a LinkMessage,
}

impl Target<'_> {
    fn index(&self) -> u32 {
        self.link.header.index
    }

    async fn set_mtu(&self, mtu: u32) -> Result<(), LinksError> {
        let step = format!("set the MTU to {mtu}");
        let (mut current, mut min, mut max) = (0, 0, 0);
        for attribute in &self.link.attributes {
            match attribute {
                LinkAttribute::Mtu(value) => current = *value,
                LinkAttribute::MinMtu(value) => min = *value,
                LinkAttribute::MaxMtu(value) => max = *value,
                _ => {}
            }
        }
        if current == mtu {
            return Ok(());
        }
        // A maximum of 0 is none (`dev_validate_mtu` in net/core/dev.c).
        let max = if max == 0 { u32::MAX } else { max };
        if !(min..=max).contains(&mtu) {
            return Err(LinksError::Mtu { device: self.device.to_owned(), step, min, max });
        }
        self.set(LinkUnspec::new_with_index(self.index()).mtu(mtu), &step).await
    }

    async fn set_up(&self) -> Result<(), LinksError> {
        if self.link.header.flags.contains(LinkFlags::Up) {
            return Ok(());
        }
        self.set(LinkUnspec::new_with_index(self.index()).up(), "bring it up").await
    }

    async fn set(&self, message: LinkMessageBuilder<LinkUnspec>, step: &str) -> Result<(), LinksError> {
        let result = self.handle.link().set(message.build()).execute().await;
        result.map_err(|error| LinksError::step(self.device, step, error))
    }

    async fn add_address(&self, wanted: IpNet) -> Result<(), LinksError> {
        let Err(error) = self.send_address(wanted).await else {
            return Ok(());
        };
        let step = format!("add {wanted}");
        if errno(&error) != Some(libc::EEXIST) {
            return Err(LinksError::step(self.device, &step, error));
        }
        // IPv4 says so for the same address and prefix length, IPv6 for the same address.
        match self.address_at(|net| net.addr() == wanted.addr()).await? {
            Some(standing) if standing.net == wanted => Ok(()),
            Some(standing) if standing.ours => {
                self.drop_address(standing.net).await?;
                let added = self.send_address(wanted).await;
                added.map_err(|error| LinksError::step(self.device, &step, error))
            }
            Some(standing) => Err(self.foreign(step, &standing.net)),
            None => Err(LinksError::step(self.device, &step, error)),
        }
    }

    async fn send_address(&self, wanted: IpNet) -> Result<(), rtnetlink::Error> {
        let mut request = self.handle.address().add(self.index(), wanted.addr(), wanted.prefix_len());
        *request.message_mut() = address::message(self.link, wanted);
        request.execute().await
    }

    async fn remove_address(&self, unwanted: IpNet) -> Result<(), LinksError> {
        match self.address_at(|net| *net == unwanted).await? {
            None => Ok(()),
            Some(standing) if standing.ours => self.drop_address(unwanted).await,
            Some(standing) => Err(self.foreign(format!("remove {unwanted}"), &standing.net)),
        }
    }

    /// Removes an address that was seen to be ours.
    async fn drop_address(&self, unwanted: IpNet) -> Result<(), LinksError> {
        self.keep_neighbouring_addresses(unwanted)?;
        let message = address::identity(self.index(), unwanted);
        match self.handle.address().del(message).execute().await {
            // It went away by itself meanwhile.
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
            result => result.map_err(|e| LinksError::step(self.device, &format!("remove {unwanted}"), e)),
        }
    }

    /// The kernel removes with the first IPv4 address of a subnet all others in it, whoever's they
    /// are, unless told to promote one of them (ip-sysctl, `promote_secondaries`).
    fn keep_neighbouring_addresses(&self, unwanted: IpNet) -> Result<(), LinksError> {
        if matches!(unwanted, IpNet::V6(_)) {
            return Ok(());
        }
        sysctl::write_sysctl(&Sysctl {
            path: format!("net/ipv4/conf/{}/promote_secondaries", self.device),
            value: "1".to_owned(),
        })
    }

    async fn address_at(
        &self,
        is_it: impl Fn(&IpNet) -> bool,
    ) -> Result<Option<ObservedAddress>, LinksError> {
        let all = observe::addresses(self.handle).await?;
        Ok(all
            .into_iter()
            .find(|(index, found)| *index == self.index() && is_it(&found.net))
            .map(|(_, found)| found))
    }

    async fn add_route(&self, wanted: &RoutePlan) -> Result<(), LinksError> {
        let step = format!("add {}", route::text(wanted));
        let message = route::message(self.index(), wanted);
        let error = match self.handle.route().add(message.clone()).execute().await {
            Ok(()) => return Ok(()),
            Err(error) if errno(&error) == Some(libc::EEXIST) => error,
            Err(error) => return Err(LinksError::step(self.device, &step, error)),
        };
        // The kernel has one route for a destination and metric, over all interfaces.
        let all = observe::routes(self.handle).await?;
        let same_place = all.iter().find(|found| {
            let standing = found.observed.route;
            (standing.destination, standing.metric) == (wanted.destination, wanted.metric)
        });
        match same_place {
            Some(found) if found.index == self.index() && found.observed.route == *wanted => Ok(()),
            // Never one that serves another interface: the two would take it from each other for ever.
            Some(found) if found.observed.ours && found.index == self.index() => {
                let replaced = self.handle.route().add(message).replace().execute().await;
                replaced.map_err(|error| LinksError::step(self.device, &step, error))
            }
            Some(found) => Err(self.foreign(step, &route::text(&found.observed.route))),
            None => Err(LinksError::step(self.device, &step, error)),
        }
    }

    async fn remove_route(&self, unwanted: &RoutePlan) -> Result<(), LinksError> {
        // Looked up first: the kernel takes an absent metric or gateway for any.
        let all = observe::routes(self.handle).await?;
        let found = all.iter().find(|f| f.index == self.index() && f.observed.route == *unwanted);
        let step = format!("remove {}", route::text(unwanted));
        match found {
            None => Ok(()),
            Some(found) if !found.observed.ours => Err(self.foreign(step, &"a route like it")),
            Some(_) => {
                match self.handle.route().del(route::message(self.index(), unwanted)).execute().await {
                    // It went away by itself meanwhile.
                    Err(error) if errno(&error) == Some(libc::ESRCH) => Ok(()),
                    result => result.map_err(|error| LinksError::step(self.device, &step, error)),
                }
            }
        }
    }

    fn foreign(&self, step: String, standing: &impl ToString) -> LinksError {
        LinksError::Foreign { device: self.device.to_owned(), step, standing: standing.to_string() }
    }
}
