//! `service game { udp "27000-27100"; tcp 27015 }`, and the services that every policy knows.

use super::decode::{Fields, Scalar};
use super::names::Names;
use super::problems::Problems;
use super::suggest::did_you_mean;
use super::values;
use crate::model::{Service, Spanned, Traffic};
use crate::report::Problem;
use kdl::KdlNode;
use miette::SourceSpan;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Stands for any traffic in a rule, and is therefore no service's name.
pub(super) const ALL: &str = "all";

/// A built-in service: its name, TCP ports and UDP ports. `ping` alone has neither.
type BuiltIn = (&'static str, &'static [u16], &'static [u16]);

/// Ports as registered with IANA. docs/policy.md shows the same table; a test compares them.
pub(super) const BUILT_IN: &[BuiltIn] = &[
    ("dhcp", &[], &[67]),
    ("dhcp6", &[], &[547]),
    ("dns", &[53], &[53]),
    ("dns-tls", &[853], &[]),
    ("ftp", &[21], &[]),
    ("http", &[80], &[]),
    ("http3", &[], &[443]),
    ("https", &[443], &[]),
    ("imap", &[143], &[]),
    ("imaps", &[993], &[]),
    ("ldap", &[389], &[]),
    ("ldaps", &[636], &[]),
    ("mdns", &[], &[5353]),
    ("mqtt", &[1883], &[]),
    ("mqtts", &[8883], &[]),
    ("ntp", &[], &[123]),
    ("openvpn", &[1194], &[1194]),
    ("ping", &[], &[]),
    ("pop3s", &[995], &[]),
    ("postgresql", &[5432], &[]),
    ("rdp", &[3389], &[3389]),
    ("sip", &[5060], &[5060]),
    ("smb", &[445], &[]),
    ("smtp", &[25], &[]),
    ("snmp", &[], &[161]),
    ("ssh", &[22], &[]),
    ("submission", &[587], &[]),
    ("submissions", &[465], &[]),
    ("syslog", &[], &[514]),
    ("telnet", &[23], &[]),
    ("tftp", &[], &[69]),
    ("wireguard", &[], &[51820]),
];

/// The services of the file, and which built-in ones it uses.
pub(super) struct Services {
    own: Vec<Service>,
    index: BTreeMap<String, usize>,
    /// Built-in names and where each was first used.
    used: RefCell<BTreeMap<&'static str, SourceSpan>>,
}

impl Services {
    pub fn declare<'a>(
        nodes: impl Iterator<Item = &'a KdlNode>,
        names: &Names,
        problems: &'a Problems,
    ) -> Self {
        let own: Vec<Service> = nodes.filter_map(|node| decode(node, names, problems)).collect();
        let index = own.iter().enumerate().map(|(at, service)| (service.name.value.clone(), at)).collect();
        Self { own, index, used: RefCell::default() }
    }

    /// The traffic of a service, built in or of the file.
    pub fn refer(&self, scalar: &Scalar<'_>, names: &Names) -> Result<Vec<Traffic>, Problem> {
        let name = scalar
            .text("the name of a service")
            .map_err(|problem| problem.hint("a port is written tcp=443 or udp=53"))?;
        if let Some(at) = self.index.get(name) {
            return Ok(self.own[*at].ports.clone());
        }
        if let Some(built_in) = built_in(name) {
            self.used.borrow_mut().entry(built_in.0).or_insert(scalar.span);
            return Ok(traffic(built_in));
        }
        let built_in: Vec<&str> = BUILT_IN.iter().map(|(name, ..)| *name).collect();
        let hint = did_you_mean(name, &built_in).unwrap_or_else(|| {
            let near = names.services.hint(name);
            if near.starts_with("did") {
                near
            } else {
                format!("{near}; docs/policy.md lists the built-in ones")
            }
        });
        Err(scalar.problem(format!("there is no service `{name}`")).hint(hint))
    }

    /// The file's own services in file order, then the built-in ones it uses by name.
    pub fn into_used(self) -> Vec<Service> {
        let used = self.used.into_inner().into_iter().filter_map(|(name, span)| {
            let ports = traffic(built_in(name)?);
            Some(Service { name: Spanned { value: name.to_owned(), span }, ports })
        });
        self.own.into_iter().chain(used).collect()
    }
}

fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|(built_in, ..)| *built_in == name)
}

fn traffic((name, tcp, udp): &BuiltIn) -> Vec<Traffic> {
    if *name == "ping" {
        return vec![Traffic::Ping];
    }
    let tcp = tcp.iter().map(|port| Traffic::Tcp(*port..=*port));
    tcp.chain(udp.iter().map(|port| Traffic::Udp(*port..=*port))).collect()
}

fn decode(node: &KdlNode, names: &Names, problems: &Problems) -> Option<Service> {
    let mut fields = Fields::new(node, problems);
    let name = fields.required_argument("a name", own_name);
    let protocols = fields.children(&["tcp", "udp"]);
    let mut ports = Vec::new();
    for (protocol, wrap) in [("tcp", Traffic::Tcp as fn(_) -> _), ("udp", Traffic::Udp as fn(_) -> _)] {
        let nodes = protocols.many(protocol);
        let ranges: Vec<_> = nodes.flat_map(|node| ranges(node, problems)).collect();
        check_overlap(&ranges, problems);
        ports.extend(ranges.into_iter().map(|range| wrap(range.value)));
    }
    if protocols.all().next().is_none() {
        let hint = "give it ports: `service game { udp \"27000-27100\"; tcp 27015 }`";
        problems.add(Problem::new(fields.span(), "a service without ports").hint(hint));
    }
    let name = name?;
    names.services.check_first(&name, problems);
    Some(Service { name, ports })
}

fn own_name(scalar: &Scalar<'_>) -> Result<String, Problem> {
    let name = values::name(scalar)?;
    if name == ALL || built_in(&name).is_some() {
        return Err(scalar.problem(format!("`{name}` is built in")).hint("give your service another name"));
    }
    Ok(name)
}

fn ranges(node: &KdlNode, problems: &Problems) -> Vec<Spanned<RangeInclusive<u16>>> {
    Fields::new(node, problems).required_arguments("ports", values::ports)
}

/// A range that lies in another one adds nothing.
fn check_overlap(ranges: &[Spanned<RangeInclusive<u16>>], problems: &Problems) {
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_by_key(|range| (*range.start(), std::cmp::Reverse(*range.end()), range.span.offset()));
    let mut widest: Option<&Spanned<RangeInclusive<u16>>> = None;
    for range in sorted {
        match widest.filter(|widest| range.end() <= widest.end()) {
            Some(widest) => problems.add(
                Problem::new(range.span, "these ports are named already")
                    .related(widest.span, "here")
                    .hint("take them out"),
            ),
            None => widest = Some(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_services_are_sorted_and_only_ping_has_no_port() {
        assert!(BUILT_IN.is_sorted_by_key(|(name, ..)| *name));
        for (name, tcp, udp) in BUILT_IN {
            assert_eq!(tcp.is_empty() && udp.is_empty(), *name == "ping", "{name}");
        }
    }

    #[test]
    fn the_documentation_lists_every_built_in_service() {
        let documentation = include_str!("../../../../docs/policy.md");
        let ports = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        for (name, tcp, udp) in BUILT_IN.iter().filter(|(name, ..)| *name != "ping") {
            let row = format!("| `{name}` | {} | {} |", ports(tcp), ports(udp));
            assert!(documentation.contains(&row), "docs/policy.md lacks the row {row}");
        }
    }
}
