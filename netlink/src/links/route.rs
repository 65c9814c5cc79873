//! Routes of the main table as rtnetlink messages.

use super::RTPROT_GLACIS;
use glacis_plan::RoutePlan;
use glacis_plan::changes::ObservedRoute;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route and the interface it leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub index: u32,
    pub observed: ObservedRoute,
}

/// The message that adds or names a route of ours. For a removal the kernel compares the protocol
/// too, so that this message can never remove another's route.
pub(super) fn message(index: u32, route: &RoutePlan) -> RouteMessage {
    let mut message = match route.destination.trunc() {
        IpNet::V4(net) => {
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(net.addr(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(net.addr(), net.prefix_len()).build()
        }
    };
    message.header.protocol = RouteProtocol::Other(RTPROT_GLACIS);
    message.header.scope = match (route.destination, route.gateway) {
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Oif(index));
    match (route.destination, route.gateway) {
        (_, None) => {}
        (IpNet::V4(_), Some(IpAddr::V6(gateway))) => {
            attributes.push(RouteAttribute::Via(RouteVia::Inet6(gateway)));
        }
        (_, Some(gateway)) => attributes.push(RouteAttribute::Gateway(gateway.into())),
    }
    // Always named: a removal without a metric would match any, an IPv6 route without one gets this.
    attributes.push(RouteAttribute::Priority(route.metric.unwrap_or(default_metric(route.destination))));
    message
}

/// What the kernel gives an IPv6 route without a metric: `IP6_RT_PRIO_USER` in
/// `include/uapi/linux/ipv6_route.h`. IPv4 ones have none, which is 0.
const IPV6_METRIC_DEFAULT: u32 = 1024;

fn default_metric(destination: IpNet) -> u32 {
    match destination {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => IPV6_METRIC_DEFAULT,
    }
}

/// The one form in which equal routes are equal: no host bits, no metric that is the default.
/// An IPv6 metric of 0 means the default, too.
pub(super) fn canonical(route: &RoutePlan) -> RoutePlan {
    RoutePlan {
        destination: route.destination.trunc(),
        gateway: route.gateway,
        metric: route.metric.filter(|metric| *metric != 0 && *metric != default_metric(route.destination)),
    }
}

/// A message that asks for all routes of one family.
pub(super) fn dump(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message
}

/// Reads one message of a route dump: one route for each next hop, none for routes that are not
/// of the main table, that send nothing on, or that the kernel made.
pub(super) fn observed(message: &RouteMessage) -> Vec<Outgoing> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut destination = unspecified(header.address_family);
    let mut metric = None;
    let mut single = Hop::default();
    let mut multiple = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Priority(priority) => metric = Some(*priority),
            RouteAttribute::Oif(index) => single.index = *index,
            RouteAttribute::MultiPath(hops) => {
                multiple.extend(hops.iter().map(|hop| Hop {
                    index: hop.interface_index,
                    gateway: hop.attributes.iter().find_map(gateway),
                }));
            }
            other => single.gateway = single.gateway.or_else(|| gateway(other)),
        }
    }
    let skipped = table != u32::from(RouteHeader::RT_TABLE_MAIN)
        || header.kind != RouteType::Unicast
        || header.protocol == RouteProtocol::Kernel
        || header.flags.contains(RouteFlags::Cloned);
    let net = destination.and_then(|address| IpNet::new(address, header.destination_prefix_length).ok());
    let (false, Some(destination)) = (skipped, net) else {
        return Vec::new();
    };
    let ours = u8::from(header.protocol) == RTPROT_GLACIS;
    // We make no route of several hops: somebody added to ours, and removing it is not ours to do.
    let (hops, ours) = if multiple.is_empty() { (vec![single], ours) } else { (multiple, false) };
    hops.into_iter()
        .filter(|hop| hop.index != 0)
        .map(|hop| {
            let route = canonical(&RoutePlan { destination, gateway: hop.gateway, metric });
            Outgoing { index: hop.index, observed: ObservedRoute { route, ours } }
        })
        .collect()
}

#[derive(Debug, Clone, Copy, Default)]
struct Hop {
    index: u32,
    gateway: Option<IpAddr>,
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The default route carries no destination.
fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(Ipv4Net::default().addr().into()),
        AddressFamily::Inet6 => Some(Ipv6Net::default().addr().into()),
        _ => None,
    }
}

/// A route as people write it.
pub(super) fn text(route: &RoutePlan) -> String {
    let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
    format!("route {}{gateway}{metric}", route.destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, gateway: Option<&str>, metric: Option<u32>) -> RoutePlan {
        RoutePlan {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|g| g.parse().unwrap()),
            metric,
        }
    }

    #[test]
    fn what_we_add_is_read_back_as_ours() {
        for plan in [
            route("0.0.0.0/0", Some("192.0.2.1"), None),
            route("198.51.100.0/24", None, Some(50)),
            route("198.51.100.0/24", Some("2001:db8::1"), None),
            route("::/0", Some("fe80::1"), None),
            route("2001:db8:1::/48", Some("2001:db8::1"), Some(7)),
        ] {
            let expected = Outgoing { index: 3, observed: ObservedRoute { route: plan, ours: true } };
            assert_eq!(observed(&message(3, &plan)), [expected]);
        }
    }

    #[test]
    fn host_bits_and_default_metrics_have_one_form() {
        let plan = route("198.51.100.9/24", None, Some(0));
        assert_eq!(observed(&message(3, &plan))[0].observed.route, route("198.51.100.0/24", None, None));
        let plan = route("2001:db8::9/32", None, Some(1024));
        assert_eq!(observed(&message(3, &plan))[0].observed.route, route("2001:db8::/32", None, None));
    }

    #[test]
    fn kernel_routes_other_tables_and_other_kinds_are_left_out() {
        let plain = message(3, &route("198.51.100.0/24", None, None));
        for change in [
            |m: &mut RouteMessage| m.header.protocol = RouteProtocol::Kernel,
            |m: &mut RouteMessage| m.header.table = 255,
            |m: &mut RouteMessage| m.attributes.push(RouteAttribute::Table(1000)),
            |m: &mut RouteMessage| m.header.kind = RouteType::BlackHole,
            |m: &mut RouteMessage| m.header.flags |= RouteFlags::Cloned,
        ] {
            let mut changed = plain.clone();
            change(&mut changed);
            assert_eq!(observed(&changed), []);
        }
        assert_eq!(observed(&plain).len(), 1);
    }
}
