//! `interface wan { match mac="…"; address "192.0.2.1/24"; mtu 1500; route "default" via="192.0.2.254" }`.

use super::Context;
use super::decode::{Fields, Scalar};
use super::problems::Problems;
use super::values;
use crate::model::{Address, Interface, InterfaceMatcher, Route, Spanned};
use crate::report::Problem;
use glacis_plan::{Mac, PciAddress};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kdl::KdlNode;
use miette::SourceSpan;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `IFNAMSIZ` less its NUL.
const DEVICE_BYTES_MAX: usize = 15;
/// The least that RFC 791 asks of a link, and the most that the kernel takes.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65_535;
/// RFC 8200, section 5.
const MTU_MIN_V6: u32 = 1_280;

pub(super) fn decode(node: &KdlNode, cx: &Context<'_>) -> Option<Interface> {
    let mut fields = Fields::new(node, cx.problems);
    let name = fields.required_argument("a name", values::name);
    let children = fields.children(&["match", "address", "mtu", "route"]);
    let matcher = children.one("match").map(|node| matcher(node, cx.problems));
    let addresses: Vec<_> = children.many("address").filter_map(|node| address(node, cx.problems)).collect();
    let mtu = children.one("mtu").and_then(|node| {
        Fields::new(node, cx.problems)
            .required_argument("a number of bytes", values::integer(MTU_MIN..=MTU_MAX))
    });
    let routes = children.many("route").filter_map(|node| route(node, &addresses, cx.problems)).collect();
    check_mtu(mtu.as_ref(), &addresses, cx.problems);
    check_dhcp(&addresses, cx.problems);

    let name = name?;
    cx.names.interfaces.check_first(&name, cx.problems);
    let matcher = match matcher {
        Some(matcher) => matcher.unwrap_or_else(|| InterfaceMatcher::Name(name.value.clone())),
        None => InterfaceMatcher::Name(own_device(&name, cx.problems)),
    };
    Some(Interface { name, matcher, addresses, mtu: mtu.map(|mtu| mtu.value), routes })
}

/// Without a `match`, the policy's name is the kernel's.
fn own_device(name: &Spanned<String>, problems: &Problems) -> String {
    if name.len() > DEVICE_BYTES_MAX {
        let message =
            format!("`{}` is longer than the {DEVICE_BYTES_MAX} bytes of a kernel name", name.value);
        problems.add(
            Problem::new(name.span, message).hint("say which card it is: `match mac=\"52:54:00:aa:00:01\"`"),
        );
    }
    name.value.clone()
}

fn matcher(node: &KdlNode, problems: &Problems) -> Option<InterfaceMatcher> {
    let mut fields = Fields::new(node, problems);
    let given = ["name", "mac", "pci"].into_iter().filter(|key| fields.has(key)).count();
    let found = [
        fields.property("name", device).map(|name| InterfaceMatcher::Name(name.value)),
        fields.property("mac", mac).map(|mac| InterfaceMatcher::Mac(mac.value)),
        fields.property("pci", pci).map(|pci| InterfaceMatcher::Pci(pci.value)),
    ];
    if given != 1 {
        let message = "`match` takes one of `name=`, `mac=` and `pci=`";
        problems.add(
            Problem::new(fields.span(), message)
                .hint("a card has one MAC and one PCI address: either will do"),
        );
    }
    found.into_iter().flatten().next()
}

fn device(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let wanted = "the kernel's name of an interface, 15 bytes at most";
    let text = scalar.text(wanted)?;
    let fits = text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if fits && !matches!(text, "" | "." | "..") && text.len() <= DEVICE_BYTES_MAX {
        Ok(text.to_owned())
    } else {
        Err(scalar.wrong(wanted))
    }
}

fn mac(scalar: &Scalar<'_>) -> Result<Mac, Problem> {
    let wanted = "an Ethernet address such as \"52:54:00:aa:00:01\"";
    Mac::parse(scalar.text(wanted)?).ok_or_else(|| scalar.wrong(wanted))
}

fn pci(scalar: &Scalar<'_>) -> Result<PciAddress, Problem> {
    let wanted = "a PCI address such as \"0000:02:00.0\"";
    PciAddress::parse(scalar.text(wanted)?).ok_or_else(|| scalar.wrong(wanted))
}

fn address(node: &KdlNode, problems: &Problems) -> Option<Spanned<Address>> {
    Fields::new(node, problems).required_argument("`dhcp` or an address with its prefix", |scalar| {
        if scalar.value.as_string() == Some("dhcp") {
            return Ok(Address::Dhcp4);
        }
        values::interface_address(scalar).map(Address::Static)
    })
}

fn route(node: &KdlNode, addresses: &[Spanned<Address>], problems: &Problems) -> Option<Spanned<Route>> {
    enum Destination {
        Default,
        Network(IpNet),
    }
    let mut fields = Fields::new(node, problems);
    let destination = fields.required_argument("`default` or a network", |scalar| {
        if scalar.value.as_string() == Some("default") {
            return Ok(Destination::Default);
        }
        values::network(scalar).map(Destination::Network)
    });
    let via = fields.property("via", values::address);
    let metric = fields.property("metric", values::integer(0..=u32::MAX));
    let span = fields.span();
    let destination = destination?;
    let destination = match (destination.value, &via) {
        (Destination::Network(net), _) => net,
        (Destination::Default, Some(via)) if via.is_ipv4() => {
            Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into()
        }
        (Destination::Default, Some(_)) => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
        (Destination::Default, None) if fields.has("via") => return None,
        (Destination::Default, None) => {
            problems
                .add(Problem::new(span, "a default route needs a gateway").hint("add via=\"192.0.2.254\""));
            return None;
        }
    };
    if let Some(via) = &via {
        check_gateway(via, destination, addresses, problems);
    }
    let route =
        Route { destination, gateway: via.map(|via| via.value), metric: metric.map(|metric| metric.value) };
    Some(Spanned { value: route, span })
}

/// The kernel refuses a gateway that no address of the interface can reach.
fn check_gateway(
    via: &Spanned<IpAddr>,
    destination: IpNet,
    addresses: &[Spanned<Address>],
    problems: &Problems,
) {
    if via.is_ipv4() != matches!(destination, IpNet::V4(_)) {
        problems.add(Problem::new(via.span, format!("the gateway of {destination} is of the other family")));
        return;
    }
    let link_local = matches!(via.value, IpAddr::V6(via) if via.is_unicast_link_local());
    let reachable = addresses.iter().any(|address| match address.value {
        Address::Dhcp4 => via.is_ipv4(),
        Address::Static(net) => net.contains(&via.value) && net.addr() != via.value,
    });
    if !reachable && !link_local {
        let hint = "a gateway is another host in the network of one of the interface's addresses";
        problems.add(Problem::new(via.span, format!("{} cannot be reached from here", via.value)).hint(hint));
    }
}

fn check_mtu(mtu: Option<&Spanned<u32>>, addresses: &[Spanned<Address>], problems: &Problems) {
    let v6 = addresses.iter().find(|address| matches!(address.value, Address::Static(IpNet::V6(_))));
    if let (Some(mtu), Some(v6)) = (mtu.filter(|mtu| mtu.value < MTU_MIN_V6), v6) {
        let message = format!("IPv6 needs an MTU of {MTU_MIN_V6} at least");
        problems.add(Problem::new(mtu.span, message).related(v6.span, "the IPv6 address"));
    }
}

fn check_dhcp(addresses: &[Spanned<Address>], problems: &Problems) {
    let mut dhcp = addresses.iter().filter(|address| address.value == Address::Dhcp4);
    if let (Some(first), Some(second)) = (dhcp.next(), dhcp.next()) {
        problems.add(Problem::new(second.span, "`address dhcp` is given twice").related(first.span, "first"));
    }
}

/// What no interface can tell alone: two of them for one card, one address or one network.
pub(super) fn check(interfaces: &[Interface], problems: &Problems) {
    check_matchers(interfaces, problems);
    check_addresses(interfaces, problems);
    check_networks(interfaces, problems);
    check_routes(interfaces, problems);
}

fn check_matchers(interfaces: &[Interface], problems: &Problems) {
    let mut seen: BTreeMap<String, SourceSpan> = BTreeMap::new();
    for interface in interfaces {
        let key = format!("{:?}", interface.matcher);
        match seen.get(&key) {
            Some(first) => problems.add(
                Problem::new(
                    interface.name.span,
                    format!("`{}` is a card that is taken", interface.name.value),
                )
                .label("second")
                .related(*first, "first")
                .hint("two interfaces cannot match the same name, MAC or PCI address"),
            ),
            None => _ = seen.insert(key, interface.name.span),
        }
    }
}

/// Static addresses with the index of their interface.
fn statics(interfaces: &[Interface]) -> impl Iterator<Item = (usize, IpNet, SourceSpan)> + '_ {
    interfaces.iter().enumerate().flat_map(|(index, interface)| {
        interface.addresses.iter().filter_map(move |address| match address.value {
            Address::Static(net) => Some((index, net, address.span)),
            Address::Dhcp4 => None,
        })
    })
}

fn check_addresses(interfaces: &[Interface], problems: &Problems) {
    let mut seen: BTreeMap<IpAddr, SourceSpan> = BTreeMap::new();
    for (_, net, span) in statics(interfaces) {
        match seen.get(&net.addr()) {
            Some(first) => problems.add(
                Problem::new(span, format!("the address {} is given twice", net.addr()))
                    .label("second")
                    .related(*first, "first")
                    .hint("an address belongs to one interface"),
            ),
            None => _ = seen.insert(net.addr(), span),
        }
    }
}

/// Networks nest or are apart, so each is compared with the nearest one around it.
fn check_networks(interfaces: &[Interface], problems: &Problems) {
    let mut sorted: Vec<_> = statics(interfaces).collect();
    sorted.sort_by_key(|(_, net, span)| (net.network(), net.prefix_len(), span.offset()));
    let mut around: Vec<(usize, IpNet, SourceSpan)> = Vec::new();
    for (index, net, span) in sorted {
        while around.last().is_some_and(|(_, outer, _)| !outer.contains(&net)) {
            around.pop();
        }
        // The same address twice was reported as such.
        let other =
            |(other, outer, _): &&(usize, IpNet, SourceSpan)| *other != index && outer.addr() != net.addr();
        if let Some((_, outer, first)) = around.last().filter(other) {
            let message =
                format!("the network {} overlaps {} of another interface", net.trunc(), outer.trunc());
            problems.add(
                Problem::new(span, message)
                    .label("this network")
                    .related(*first, "overlaps this one")
                    .hint("give each interface a network of its own"),
            );
        }
        around.push((index, net, span));
    }
}

fn check_routes(interfaces: &[Interface], problems: &Problems) {
    let mut seen: BTreeMap<(IpNet, Option<u32>), SourceSpan> = BTreeMap::new();
    for route in interfaces.iter().flat_map(|interface| &interface.routes) {
        let key = (route.destination, route.metric);
        match seen.get(&key) {
            Some(first) => problems.add(
                Problem::new(route.span, format!("there are two routes to {}", route.destination))
                    .label("second")
                    .related(*first, "first")
                    .hint("give them different metrics; the lower one is used"),
            ),
            None => _ = seen.insert(key, route.span),
        }
    }
}
