//! Blocklists: files of addresses that are dropped before anything else looks at a packet.
//!
//! A file has one address, CIDR or `first-last` a line. `#` and `;` start a comment, lines end in LF or CRLF.

use super::bind::Bindings;
use super::matches::{daddr, devices, in_set, saddr};
use super::ranges::Ranges;
use super::{CompileError, ListError, Warning};
use crate::{Address, AddressRange, Blocklist, Facts, Policy};
use glacis_plan::nft::{Field, MetaKey, Name, NfProto, Object, ObjectKind, Reject, Rule, Set, Statement};
use ipnet::IpNet;
use std::net::IpAddr;

/// Entries of one list, before neighbours are joined.
pub const LIST_ENTRIES_MAX: usize = 1_000_000;
/// Wrong lines of one list that are shown; the rest are counted.
const LINES_SHOWN_MAX: usize = 8;
/// Characters of a wrong line that are shown.
const TEXT_SHOWN_MAX: usize = 40;

/// One list as the table has it.
pub(super) struct List<'a> {
    policy: &'a Blocklist,
    ranges: Ranges,
    v4: Name,
    v6: Name,
    counter: Name,
}

/// Reads the lists of a policy; what is wrong with one does not hide what is wrong with the next.
pub(super) fn read<'a>(
    policy: &'a Policy,
    facts: &Facts,
    errors: &mut Vec<CompileError>,
    warnings: &mut Vec<Warning>,
) -> Vec<List<'a>> {
    let mut lists = Vec::with_capacity(policy.blocklists.len());
    for blocklist in &policy.blocklists {
        let (list, span) = (blocklist.name.value.clone(), blocklist.name.span);
        let name = |part| Name::parse(&format!("list.{list}.{part}"));
        let (v4, v6, counter) = match (name("v4"), name("v6"), name("dropped")) {
            (Ok(v4), Ok(v6), Ok(counter)) => (v4, v6, counter),
            (Err(cause), ..) | (_, Err(cause), _) | (.., Err(cause)) => {
                errors.push(CompileError::Name { cause, span });
                continue;
            }
        };
        let span = blocklist.file.span;
        match contents(blocklist, facts) {
            Ok(entries) => {
                let ranges = Ranges::merged(entries);
                if ranges.is_empty() {
                    warnings.push(Warning::ListEmpty { list: list.clone(), span });
                }
                warnings.extend(own_networks_covered(policy, blocklist, &ranges));
                lists.push(List { policy: blocklist, ranges, v4, v6, counter });
            }
            Err(causes) => errors.extend(causes.into_iter().map(|cause| CompileError::List {
                list: list.clone(),
                cause,
                span,
            })),
        }
    }
    lists
}

impl List<'_> {
    pub(super) fn sets(&self) -> impl Iterator<Item = Set> + '_ {
        self.families().filter_map(|(family, name)| self.ranges.set(name.clone(), family))
    }

    pub(super) fn counter(&self) -> Object {
        Object { name: self.counter.clone(), kind: ObjectKind::Counter, comment: None }
    }

    /// Drops by source, for the hook that sees every packet that arrives.
    pub(super) fn drops_in(&self, bindings: &Bindings<'_>) -> Vec<Rule> {
        let zones = bindings.of_zones(self.policy.drop_in.iter().map(|zone| zone.as_str()));
        let Some(from) = devices(MetaKey::Iifname, &zones) else { return vec![] };
        self.drops(&from, saddr)
    }

    /// Drops by destination, for the hooks that know where a packet leaves.
    pub(super) fn drops_out(&self, bindings: &Bindings<'_>) -> Vec<Rule> {
        let zones = bindings.of_zones(self.policy.drop_out.iter().map(|zone| zone.as_str()));
        let Some(to) = devices(MetaKey::Oifname, &zones) else { return vec![] };
        self.drops(&to, daddr)
    }

    /// Refuses what the gate worker would send to a listed destination: a drop of ours would look to it like a client's
    /// silence.
    pub(super) fn refusals_out(&self, bindings: &Bindings<'_>, of_worker: &Statement) -> Vec<Rule> {
        let zones = bindings.of_zones(self.policy.drop_out.iter().map(|zone| zone.as_str()));
        let Some(to) = devices(MetaKey::Oifname, &zones) else { return vec![] };
        let refuse = Statement::Reject(Reject::AdminProhibited);
        self.rules(&[of_worker.clone(), to], daddr, &refuse)
    }

    fn drops(&self, on: &Statement, field: fn(NfProto) -> Field) -> Vec<Rule> {
        self.rules(std::slice::from_ref(on), field, &Statement::DROP)
    }

    fn rules(&self, on: &[Statement], field: fn(NfProto) -> Field, then: &Statement) -> Vec<Rule> {
        let rule = |(family, set): (NfProto, &Name)| {
            let mut statements = on.to_vec();
            let count = Statement::CounterRef(self.counter.clone());
            statements.extend([in_set(field(family), set.clone()), count, then.clone()]);
            Rule::new(statements).comment(format!("blocklist {}", self.policy.name.value))
        };
        self.families().filter(|(family, _)| self.ranges.has(*family)).map(rule).collect()
    }

    fn families(&self) -> impl Iterator<Item = (NfProto, &Name)> {
        [(NfProto::Ipv4, &self.v4), (NfProto::Ipv6, &self.v6)].into_iter()
    }
}

fn contents(list: &Blocklist, facts: &Facts) -> Result<Vec<AddressRange>, Vec<ListError>> {
    let file = list.file.value.as_str();
    let absent = |reason: &str| vec![ListError::Absent { file: file.to_owned(), reason: reason.to_owned() }];
    match facts.lists.get(file) {
        Some(Ok(bytes)) => parse(file, bytes),
        Some(Err(reason)) => Err(absent(reason)),
        None => Err(absent("the file was not read")),
    }
}

/// Reads a whole list, or tells what is wrong with its first lines.
fn parse(file: &str, bytes: &[u8]) -> Result<Vec<AddressRange>, Vec<ListError>> {
    let mut entries = Vec::new();
    let mut wrong = Vec::new();
    let mut more = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line);
        let entry = text.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match range(entry) {
            Ok(range) => entries.push(range),
            Err(reason) if wrong.len() < LINES_SHOWN_MAX => wrong.push(ListError::Line {
                file: file.to_owned(),
                line: index + 1,
                text: entry.chars().take(TEXT_SHOWN_MAX).collect(),
                reason,
            }),
            Err(_) => more += 1,
        }
        if entries.len() > LIST_ENTRIES_MAX {
            wrong.push(ListError::TooLong { file: file.to_owned(), max: LIST_ENTRIES_MAX });
            break;
        }
    }
    if more > 0 {
        wrong.push(ListError::MoreLines { file: file.to_owned(), more });
    }
    if wrong.is_empty() { Ok(entries) } else { Err(wrong) }
}

/// Host bits below a prefix are ignored, as every publisher of lists ignores them.
fn range(entry: &str) -> Result<AddressRange, &'static str> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(AddressRange { first: address, last: address });
    }
    if let Ok(net) = entry.parse::<IpNet>() {
        return Ok(AddressRange { first: net.network(), last: net.broadcast() });
    }
    let Some((first, last)) = entry.split_once('-') else {
        return Err("is no address, CIDR or range");
    };
    match (first.trim().parse::<IpAddr>(), last.trim().parse::<IpAddr>()) {
        (Ok(first), Ok(last)) if first.is_ipv4() != last.is_ipv4() => Err("is a range of two families"),
        (Ok(first), Ok(last)) if first > last => Err("is a range that ends before it begins"),
        (Ok(first), Ok(last)) => Ok(AddressRange { first, last }),
        _ => Err("is no address, CIDR or range"),
    }
}

/// Public lists carry private networks; on an inside zone they would cut off our own hosts.
fn own_networks_covered(policy: &Policy, list: &Blocklist, ranges: &Ranges) -> Vec<Warning> {
    let zones = list.drop_in.iter().chain(&list.drop_out).map(|zone| zone.as_str());
    let named: Vec<&str> = zones.collect();
    let interfaces = policy.interfaces.iter().filter(|interface| {
        policy.zones.iter().any(|zone| {
            named.contains(&zone.name.as_str())
                && zone.interfaces.iter().any(|name| name.value == interface.name.value)
        })
    });
    let mut warnings = Vec::new();
    for interface in interfaces {
        for address in &interface.addresses {
            let Address::Static(net) = address.value else { continue };
            if ranges.touches(net.network(), net.broadcast()) {
                warnings.push(Warning::ListCoversOwn {
                    list: list.name.value.clone(),
                    network: net.trunc().to_string(),
                    interface: interface.name.value.clone(),
                    span: list.name.span,
                });
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_entry_is_read_and_comments_are_not() {
        let text =
            b"# head\r\n192.0.2.1\r\n\r\n198.51.100.9/24 ; host bits\n2001:db8::/32#x\n10.0.0.1 - 10.0.0.9";
        let entries = parse("f", text).unwrap();
        let shown: Vec<_> = entries.iter().map(|r| format!("{}-{}", r.first, r.last)).collect();
        assert_eq!(
            shown,
            [
                "192.0.2.1-192.0.2.1",
                "198.51.100.0-198.51.100.255",
                "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                "10.0.0.1-10.0.0.9"
            ]
        );
    }

    #[test]
    fn wrong_lines_are_named_by_number_and_bounded() {
        let errors =
            parse("f.txt", b"10.0.0.1\n10.0.0.9-10.0.0.1\n10.0.0.1-::1\n10.0.0.0/33\n\xff\xfe").unwrap_err();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], "f.txt line 2: `10.0.0.9-10.0.0.1` is a range that ends before it begins");
        assert_eq!(shown[1], "f.txt line 3: `10.0.0.1-::1` is a range of two families");
        assert_eq!(shown[2], "f.txt line 4: `10.0.0.0/33` is no address, CIDR or range");
        assert!(shown[3].starts_with("f.txt line 5"));

        let errors = parse("f", "bad\n".repeat(LINES_SHOWN_MAX + 3).as_bytes()).unwrap_err();
        assert_eq!(errors.len(), LINES_SHOWN_MAX + 1);
        assert_eq!(errors.last().unwrap().to_string(), "f: 3 more lines are wrong");
    }

    #[test]
    fn a_list_takes_a_million_entries_and_not_one_more() {
        let mut text = "192.0.2.1\n".repeat(LIST_ENTRIES_MAX);
        assert_eq!(parse("f", text.as_bytes()).unwrap().len(), LIST_ENTRIES_MAX);
        text.push_str("192.0.2.1\n");
        let errors = parse("f", text.as_bytes()).unwrap_err();
        assert_eq!(errors, [ListError::TooLong { file: "f".to_owned(), max: LIST_ENTRIES_MAX }]);
    }
}
