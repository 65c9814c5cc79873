//! What must change on a host, and how a person reads it.

use crate::changes::{Changes, LinkChange, Observed, ObservedLink};
use crate::nft::text::{render_hook, render_rule};
use crate::nft::transaction;
use crate::nft::{Chain, Elements, Inventory, Ruleset, Set, Table};
use crate::{Addressing, InterfacePlan, Plan, RoutePlan};
use ipnet::IpNet;
use std::fmt;

/// `IP6_RT_PRIO_USER`: the metric of an IPv6 route that was given none.
const IPV6_METRIC: u32 = 1024;

impl Changes {
    /// What must change for a host to be as the plan asks; nothing when it is.
    ///
    /// `inventory` tells what our tables hold when [`Observed::ruleset`] cannot.
    pub fn between(plan: &Plan, observed: &Observed, inventory: &Inventory) -> Self {
        Self {
            sysctls: plan
                .sysctls
                .iter()
                .filter(|sysctl| !observed.sysctls.contains(sysctl))
                .cloned()
                .collect(),
            ruleset: match &observed.ruleset {
                Some(loaded) => transaction::between(Some(loaded), &plan.ruleset),
                None => transaction::onto(inventory, &plan.ruleset),
            },
            links: links(plan, &observed.links),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.ruleset.is_empty() && self.links.is_empty()
    }
}

/// A link that the plan does not name keeps all that is not ours, and loses what was.
fn links(plan: &Plan, observed: &[ObservedLink]) -> Vec<LinkChange> {
    let mut changes = Vec::new();
    for link in observed.iter().filter(|link| !link.loopback) {
        match plan.interfaces.iter().find(|interface| interface.device == link.device) {
            Some(interface) => link_changes(interface, link, &mut changes),
            None => removals(None, link, &mut changes),
        }
    }
    changes
}

/// What goes, goes first: an address that stays the first of its network would make its successor a
/// secondary, and an IPv6 address cannot be there twice with two prefix lengths.
fn link_changes(interface: &InterfacePlan, link: &ObservedLink, changes: &mut Vec<LinkChange>) {
    let device = || link.device.clone();
    removals(Some(interface), link, changes);
    if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != link.mtu) {
        changes.push(LinkChange::SetMtu { device: device(), mtu });
    }
    if !link.up {
        changes.push(LinkChange::SetUp { device: device() });
    }
    for address in statics(interface) {
        if !link.addresses.iter().any(|present| present.net == address) {
            changes.push(LinkChange::AddAddress { device: device(), address });
        }
    }
    for route in &interface.routes {
        if !link.routes.iter().any(|present| same_route(&present.route, route)) {
            changes.push(LinkChange::AddRoute { device: device(), route: *route });
        }
    }
}

/// Removes what is ours and not asked for. While a device waits for its lease, the one that it had stays.
fn removals(interface: Option<&InterfacePlan>, link: &ObservedLink, changes: &mut Vec<LinkChange>) {
    let leased = interface.is_some_and(|interface| {
        let waits = !statics(interface).any(|net| matches!(net, IpNet::V4(_)));
        interface.addressing.contains(&Addressing::Dhcp4) && waits
    });
    let leases = |net: &IpNet| leased && matches!(net, IpNet::V4(_));
    let routes = interface.map_or(&[][..], |interface| &interface.routes);
    for present in link.routes.iter().filter(|present| present.ours) {
        let route = present.route;
        if !leases(&route.destination) && !routes.iter().any(|wanted| same_route(wanted, &route)) {
            changes.push(LinkChange::RemoveRoute { device: link.device.clone(), route });
        }
    }
    for present in link.addresses.iter().filter(|present| present.ours) {
        let address = present.net;
        let wanted = interface.is_some_and(|interface| statics(interface).any(|net| net == address));
        if !leases(&address) && !wanted {
            changes.push(LinkChange::RemoveAddress { device: link.device.clone(), address });
        }
    }
}

fn statics(interface: &InterfacePlan) -> impl Iterator<Item = IpNet> + '_ {
    interface.addressing.iter().filter_map(|addressing| match addressing {
        Addressing::Static(net) => Some(*net),
        Addressing::Dhcp4 => None,
    })
}

/// Equal to the kernel, which fills in a metric that was not given.
fn same_route(a: &RoutePlan, b: &RoutePlan) -> bool {
    let metric = |route: &RoutePlan| match route.destination {
        IpNet::V4(_) => route.metric.unwrap_or(0),
        IpNet::V6(_) => route.metric.filter(|metric| *metric != 0).unwrap_or(IPV6_METRIC),
    };
    a.destination.trunc() == b.destination.trunc() && a.gateway == b.gateway && metric(a) == metric(b)
}

/// One line for each change: `+` comes, `-` goes, `=` is set. `loaded` is the ruleset in force, if it is known.
pub fn describe(changes: &Changes, loaded: Option<&Ruleset>, plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> =
        changes.sysctls.iter().map(|sysctl| format!("= sysctl {} {}", sysctl.path, sysctl.value)).collect();
    if !changes.ruleset.is_empty() {
        let before = lines.len();
        describe_tables(loaded.map_or(&[][..], |ruleset| &ruleset.tables), &plan.ruleset.tables, &mut lines);
        if lines.len() == before {
            lines.push("= ruleset written anew, the same as before".to_owned());
        }
    }
    lines.extend(changes.links.iter().map(ToString::to_string));
    lines
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetMtu { device, mtu } => write!(f, "= link {device} mtu {mtu}"),
            Self::SetUp { device } => write!(f, "= link {device} up"),
            Self::AddAddress { device, address } => write!(f, "+ address {address} dev {device}"),
            Self::RemoveAddress { device, address } => write!(f, "- address {address} dev {device}"),
            Self::AddRoute { device, route } => write!(f, "+ route {} dev {device}", Shown(route)),
            Self::RemoveRoute { device, route } => write!(f, "- route {} dev {device}", Shown(route)),
        }
    }
}

/// A route as `ip route` writes it.
struct Shown<'a>(&'a RoutePlan);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoutePlan { destination, gateway, metric } = self.0;
        write!(f, "{destination}")?;
        if let Some(gateway) = gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(metric) = metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

fn describe_tables(old: &[Table], new: &[Table], lines: &mut Vec<String>) {
    let same = |a: &Table, b: &Table| a.family == b.family && a.name == b.name;
    for gone in old.iter().filter(|table| !new.iter().any(|other| same(table, other))) {
        lines.push(format!("- table {}", gone.name));
    }
    for table in new {
        let before = old.iter().find(|other| same(table, other));
        if before.is_none() {
            lines.push(format!("+ table {}", table.name));
        }
        describe_sets(before.map_or(&[][..], |table| &table.sets), &table.sets, lines);
        describe_chains(before.map_or(&[][..], |table| &table.chains), &table.chains, lines);
    }
}

fn describe_sets(old: &[Set], new: &[Set], lines: &mut Vec<String>) {
    for gone in old.iter().filter(|set| !new.iter().any(|other| other.name == set.name)) {
        lines.push(format!("- set {} ({})", gone.name, size(&gone.elements)));
    }
    for set in new {
        match old.iter().find(|other| other.name == set.name) {
            None => lines.push(format!("+ set {} ({})", set.name, size(&set.elements))),
            Some(before) if before != set => {
                lines.push(format!(
                    "= set {} ({} → {})",
                    set.name,
                    size(&before.elements),
                    size(&set.elements)
                ));
            }
            Some(_) => {}
        }
    }
}

fn size(elements: &Elements) -> String {
    let count = match elements {
        Elements::List(list) => list.len(),
        Elements::Ipv4Ranges(ranges) => ranges.len(),
        Elements::Ipv6Ranges(ranges) => ranges.len(),
        Elements::Runtime => return "filled at run time".to_owned(),
    };
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn describe_chains(old: &[Chain], new: &[Chain], lines: &mut Vec<String>) {
    for gone in old.iter().filter(|chain| !new.iter().any(|other| other.name == chain.name)) {
        lines.push(format!("- chain {} ({} rules)", gone.name, gone.rules.len()));
    }
    for chain in new {
        let before = old.iter().find(|other| other.name == chain.name);
        let hook = |chain: &Chain| chain.hook.as_ref().map(|hook| format!(": {}", render_hook(hook)));
        if before.is_none_or(|before| before.hook != chain.hook) {
            lines.push(format!("+ chain {}{}", chain.name, hook(chain).unwrap_or_default()));
        }
        let texts = |chain: &Chain| chain.rules.iter().map(render_rule).collect();
        let (before, after): (Vec<_>, Vec<_>) = (before.map(texts).unwrap_or_default(), texts(chain));
        describe_rules(&chain.name.to_string(), &before, &after, lines);
    }
}

/// The lines of a longest common subsequence stay; the rest goes or comes, in order.
fn describe_rules(chain: &str, before: &[String], after: &[String], lines: &mut Vec<String>) {
    let head = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
    let kept = common(before, after);
    let (mut gone, mut come) = (0, 0);
    let ends = std::iter::once((before.len(), after.len()));
    for (old, new) in kept.into_iter().chain(ends) {
        lines.extend(before[gone..old].iter().map(|rule| format!("- chain {chain} rule {rule}")));
        lines.extend(after[come..new].iter().map(|rule| format!("+ chain {chain} rule {rule}")));
        (gone, come) = (old + 1, new + 1);
    }
}

/// Cells of the comparison table; past it, everything between the equal ends is shown as replaced.
const COMPARED_CELLS_MAX: usize = 4_000_000;

/// Pairs of positions that are equal in both, ascending, as many as there can be.
fn common(before: &[String], after: &[String]) -> Vec<(usize, usize)> {
    if before.is_empty() || after.is_empty() || before.len().saturating_mul(after.len()) > COMPARED_CELLS_MAX
    {
        return vec![];
    }
    let width = after.len() + 1;
    let mut longest = vec![0_u32; (before.len() + 1) * width];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            longest[i * width + j] = if old == new {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < before.len() && j < after.len() {
        if before[i] == after[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{ObservedAddress, ObservedRoute};
    use crate::nft::{Family, Name, Rule, Statement};
    use crate::{Sysctl, closed};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn route(to: &str, via: &str, metric: Option<u32>) -> RoutePlan {
        RoutePlan { destination: net(to), gateway: Some(via.parse().unwrap()), metric }
    }

    fn interface(addressing: Vec<Addressing>, routes: Vec<RoutePlan>) -> InterfacePlan {
        InterfacePlan {
            name: "wan".to_owned(),
            device: "eth0".to_owned(),
            addressing,
            mtu: Some(1400),
            routes,
        }
    }

    fn plan(interface: InterfacePlan) -> Plan {
        Plan {
            interfaces: vec![interface],
            sysctls: vec![Sysctl { path: "net/ipv4/ip_forward".to_owned(), value: "1".to_owned() }],
            ruleset: closed::drop_all(),
            ..Plan::default()
        }
    }

    fn link(addresses: &[(&str, bool)], routes: &[(RoutePlan, bool)]) -> ObservedLink {
        ObservedLink {
            device: "eth0".to_owned(),
            mtu: 1400,
            up: true,
            addresses: addresses
                .iter()
                .map(|(n, ours)| ObservedAddress { net: net(n), ours: *ours })
                .collect(),
            routes: routes.iter().map(|(route, ours)| ObservedRoute { route: *route, ours: *ours }).collect(),
            ..ObservedLink::default()
        }
    }

    fn shown(plan: &Plan, link: ObservedLink) -> Vec<String> {
        links(plan, &[link]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_host_that_is_as_asked_needs_no_change() {
        let wanted = route("::/0", "fe80::1", None);
        let plan = plan(interface(vec![Addressing::Static(net("10.0.0.1/24"))], vec![wanted]));
        let observed = Observed {
            links: vec![link(&[("10.0.0.1/24", true)], &[(route("::/0", "fe80::1", Some(1024)), true)])],
            ruleset: Some(plan.ruleset.clone()),
            sysctls: plan.sysctls.clone(),
        };
        let changes = Changes::between(&plan, &observed, &Inventory::default());
        assert!(changes.is_empty(), "{changes:?}");
        assert!(describe(&changes, observed.ruleset.as_ref(), &plan).is_empty());
    }

    #[test]
    fn only_what_is_ours_is_removed_and_before_anything_is_added() {
        let plan = plan(interface(
            vec![Addressing::Static(net("10.0.0.2/24"))],
            vec![route("0.0.0.0/0", "10.0.0.254", None)],
        ));
        let old = route("0.0.0.0/0", "10.0.0.253", None);
        let foreign = route("172.16.0.0/12", "10.0.0.9", None);
        let mut link =
            link(&[("10.0.0.1/24", true), ("10.9.9.9/32", false)], &[(old, true), (foreign, false)]);
        (link.mtu, link.up) = (1500, false);
        assert_eq!(
            shown(&plan, link),
            [
                "- route 0.0.0.0/0 via 10.0.0.253 dev eth0",
                "- address 10.0.0.1/24 dev eth0",
                "= link eth0 mtu 1400",
                "= link eth0 up",
                "+ address 10.0.0.2/24 dev eth0",
                "+ route 0.0.0.0/0 via 10.0.0.254 dev eth0",
            ]
        );
    }

    #[test]
    fn leases_stay_and_stale_ipv6_goes() {
        let plan = plan(interface(vec![Addressing::Dhcp4], vec![]));
        let lease = route("0.0.0.0/0", "10.0.2.2", None);
        let link = link(&[("10.0.2.15/24", true), ("fd00::1/64", true)], &[(lease, true)]);
        assert_eq!(shown(&plan, link), ["- address fd00::1/64 dev eth0"]);
    }

    #[test]
    fn a_link_the_plan_does_not_name_loses_only_what_was_ours() {
        let plan = plan(interface(vec![], vec![]));
        let mut link = link(&[("10.0.0.1/24", true), ("10.0.1.1/24", false)], &[]);
        (link.device, link.up) = ("eth7".to_owned(), false);
        assert_eq!(shown(&plan, link), ["- address 10.0.0.1/24 dev eth7"]);
    }

    #[test]
    fn rules_are_compared_by_what_they_say() {
        let table = |comments: &[&str]| {
            let rule = |comment: &&str| Rule::new([Statement::Counter]).comment(*comment);
            let mut table = Table::new(Family::Inet, closed::TABLE);
            let rules = comments.iter().map(rule).collect();
            table.chains = vec![Chain { name: Name::literal("home.self"), hook: None, rules }];
            Ruleset { tables: vec![table] }
        };
        let (old, new) = (table(&["a", "b", "c", "d"]), table(&["a", "c", "x", "d"]));
        let plan = Plan { ruleset: new, ..Plan::default() };
        let observed = Observed { ruleset: Some(old.clone()), ..Observed::default() };
        let changes = Changes::between(&plan, &observed, &Inventory::default());
        assert_eq!(
            describe(&changes, Some(&old), &plan),
            ["- chain home.self rule counter comment \"b\"", "+ chain home.self rule counter comment \"x\"",]
        );
    }
}
