//! Reading everything back.

use super::error::LinksError;
use super::route::{self, Outgoing};
use super::{address, device};
use futures_util::TryStreamExt;
use glacis_plan::ObservedLink;
use glacis_plan::changes::ObservedAddress;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use std::collections::BTreeMap;

pub(super) async fn links(handle: &Handle) -> Result<Vec<ObservedLink>, LinksError> {
    let mut links = BTreeMap::new();
    let mut dump = handle.link().get().execute();
    while let Some(message) = dump.try_next().await.map_err(|e| LinksError::list("interfaces", e))? {
        let link = device::observed(&message);
        links.insert(link.index, link);
    }
    // An interface that appeared after the first dump is seen at the next observation, which its
    // own event brings about.
    for (index, address) in addresses(handle).await? {
        if let Some(link) = links.get_mut(&index) {
            link.addresses.push(address);
        }
    }
    for outgoing in routes(handle).await? {
        if let Some(link) = links.get_mut(&outgoing.index) {
            link.routes.push(outgoing.observed);
        }
    }
    Ok(links.into_values().collect())
}

/// Addresses of all interfaces, with the index of each.
pub(super) async fn addresses(handle: &Handle) -> Result<Vec<(u32, ObservedAddress)>, LinksError> {
    let mut found = Vec::new();
    let mut dump = handle.address().get().execute();
    while let Some(message) = dump.try_next().await.map_err(|e| LinksError::list("addresses", e))? {
        found.extend(address::observed(&message));
    }
    Ok(found)
}

/// Routes of the main table, IPv4 first.
pub(super) async fn routes(handle: &Handle) -> Result<Vec<Outgoing>, LinksError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut dump = handle.route().get(route::dump(family)).execute();
        while let Some(message) = dump.try_next().await.map_err(|e| LinksError::list("routes", e))? {
            found.extend(route::observed(&message));
        }
    }
    Ok(found)
}
