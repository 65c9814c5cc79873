//! Constants, types and elements.

use super::super::{Atom, Datatype, Element, ElementData, Key, KeyPart, MapData, Verdict};
use super::{joined, shown};
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// Bits of a flag word and their names, lowest first.
type BitNames = &'static [(u32, &'static str)];

const CT_STATE: BitNames =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: BitNames = &[
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
];
const TCP_FLAGS: BitNames =
    &[(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];

/// Joins the names of the bits that are set; a number when a bit has no name or none is set.
pub(super) fn bits(word: u32, names: BitNames, separator: &str) -> String {
    let known = names.iter().fold(0, |sum, (bit, _)| sum | bit);
    if word == 0 || word & !known != 0 {
        return format!("{word:#x}");
    }
    let set: Vec<&str> = names.iter().filter(|(bit, _)| word & bit != 0).map(|(_, name)| *name).collect();
    set.join(separator)
}

/// Several bits as one value, `a|b` in parentheses: what `==` compares with.
pub(super) fn exact(atom: &Atom) -> String {
    let word = |word: u32, names| {
        let text = bits(word, names, "|");
        if text.contains('|') { format!("({text})") } else { text }
    };
    match atom {
        Atom::CtState(state) => word(*state, CT_STATE),
        Atom::CtStatus(status) => word(*status, CT_STATUS),
        Atom::TcpFlags(flags) => word((*flags).into(), TCP_FLAGS),
        other => render_atom(other),
    }
}

/// Whether `nft` reads a bare value on the right as "any of these bits", so that `==` must be written out.
pub(super) const fn is_bits(atom: &Atom) -> bool {
    matches!(atom, Atom::CtState(_) | Atom::CtStatus(_) | Atom::TcpFlags(_))
}

pub(super) fn render_atom(atom: &Atom) -> String {
    match atom {
        Atom::Ipv4(address) => address.to_string(),
        Atom::Ipv6(address) => address.to_string(),
        Atom::Ether(octets) => joined(octets, ":", |f, octet| write!(f, "{octet:02x}")).to_string(),
        Atom::InetProto(number) => protocol(*number),
        Atom::InetService(port) => port.to_string(),
        Atom::Mark(mark) => format!("{mark:#010x}"),
        Atom::Ifname(name) => interface(name),
        Atom::Ifindex(name) => format!("\"{name}\""),
        Atom::CtState(state) => bits(*state, CT_STATE, ","),
        Atom::CtStatus(status) => bits(*status, CT_STATUS, ","),
        Atom::IcmpType(number) => named(*number, ICMP_TYPES),
        Atom::Icmpv6Type(number) => named(*number, ICMPV6_TYPES),
        Atom::Dscp(codepoint) => format!("{codepoint:#04x}"),
        Atom::PktType(number) => named(*number, &[(0, "host"), (1, "broadcast"), (2, "multicast")]),
        Atom::NfProto(number) => named(*number, &[(2, "ipv4"), (10, "ipv6")]),
        Atom::TcpFlags(flags) => bits((*flags).into(), TCP_FLAGS, ","),
        Atom::U8(number) => number.to_string(),
        Atom::U16(number) => number.to_string(),
        Atom::U32(number) => number.to_string(),
    }
}

const ICMP_TYPES: &[(u8, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
];

const ICMPV6_TYPES: &[(u8, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (143, "mld2-listener-report"),
];

/// Results of `fib … type`: `RTN_*` of `linux/rtnetlink.h`.
pub(super) const FIB_TYPES: &[(u8, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

pub(super) fn named(number: u8, names: &[(u8, &str)]) -> String {
    let name = names.iter().find(|(known, _)| *known == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// Only the names that are words of nft's grammar: others need `/etc/protocols`.
fn protocol(number: u8) -> String {
    let names = [(1, "icmp"), (6, "tcp"), (17, "udp"), (47, "gre"), (50, "esp"), (51, "ah"), (58, "icmpv6")];
    named(number, &names)
}

/// A final `*` would be a wildcard; ours are exact names.
fn interface(name: &str) -> String {
    name.strip_suffix('*').map_or_else(|| format!("\"{name}\""), |stem| format!("\"{stem}\\*\""))
}

pub(super) fn render_part(part: &KeyPart) -> String {
    match part {
        KeyPart::One(atom) => render_atom(atom),
        KeyPart::Range(low, high) => format!("{}-{}", render_atom(low), render_atom(high)),
        KeyPart::Prefix(atom, length) => format!("{}/{length}", render_atom(atom)),
    }
}

pub(super) fn render_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

/// One element as it stands between the braces of a set or map.
pub fn render_element(element: &Element) -> String {
    let mut text = match &element.key {
        Key::CatchAll => "*".to_owned(),
        Key::Fields(parts) => joined(parts, " . ", |f, part| f.write_str(&render_part(part))).to_string(),
    };
    if let Some(timeout) = element.timeout {
        text.extend([format!(" timeout {}", seconds(timeout))]);
    }
    if let Some(expires) = element.expires {
        text.extend([format!(" expires {}", seconds(expires))]);
    }
    if let Some(words) = &element.comment {
        text.extend([format!(" {}", comment(words))]);
    }
    match &element.data {
        None => {}
        Some(ElementData::Verdict(verdict)) => text.extend([format!(" : {}", render_verdict(verdict))]),
        Some(ElementData::Value(atoms)) => {
            text.extend([format!(" : {}", joined(atoms, " . ", |f, atom| f.write_str(&render_atom(atom))))]);
        }
    }
    text
}

/// Seconds, with milliseconds where there are any: the finest unit nft has.
pub(super) fn seconds(duration: Duration) -> impl Display {
    shown(move |f: &mut Formatter<'_>| {
        write!(f, "{}s", duration.as_secs())?;
        match duration.subsec_millis() {
            0 => Ok(()),
            millis => write!(f, "{millis}ms"),
        }
    })
}

pub(super) fn comment(text: &str) -> String {
    format!("comment {}", quoted(text))
}

/// A quoted string. nft has no escapes in one, so what would end it early is replaced.
pub(super) fn quoted(text: &str) -> String {
    let clean = text.chars().map(|c| match c {
        '"' => '\'',
        c if c.is_control() => ' ',
        c => c,
    });
    format!("\"{}\"", clean.collect::<String>())
}

/// `type …`, or `typeof …` when a part is a bare integer, which has no type name.
pub(super) fn types(key: &[Datatype], data: Option<&MapData>) -> impl Display {
    let value: &[Datatype] = match data {
        Some(MapData::Value(types)) => types,
        _ => &[],
    };
    let typeof_needed = key.iter().chain(value).any(|t| type_name(*t).is_none());
    let (key, value) = (key.to_vec(), value.to_vec());
    let verdict = matches!(data, Some(MapData::Verdict));
    shown(move |f| {
        let name = |f: &mut Formatter<'_>, t: &Datatype| match type_name(*t) {
            Some(name) if !typeof_needed => f.write_str(name),
            _ => f.write_str(type_example(*t)),
        };
        let word = if typeof_needed { "typeof" } else { "type" };
        write!(f, "{word} {}", joined(&key, " . ", name))?;
        match (verdict, value.is_empty()) {
            (true, _) => f.write_str(" : verdict"),
            (false, true) => fmt::Result::Ok(()),
            (false, false) => write!(f, " : {}", joined(&value, " . ", name)),
        }
    })
}

const fn type_name(datatype: Datatype) -> Option<&'static str> {
    Some(match datatype {
        Datatype::Ipv4Addr => "ipv4_addr",
        Datatype::Ipv6Addr => "ipv6_addr",
        Datatype::EtherAddr => "ether_addr",
        Datatype::InetProto => "inet_proto",
        Datatype::InetService => "inet_service",
        Datatype::Mark => "mark",
        Datatype::Ifname => "ifname",
        Datatype::Ifindex => "iface_index",
        Datatype::CtState => "ct_state",
        Datatype::CtStatus => "ct_status",
        Datatype::IcmpType => "icmp_type",
        Datatype::Icmpv6Type => "icmpv6_type",
        Datatype::Dscp => "dscp",
        Datatype::PktType => "pkt_type",
        Datatype::NfProto => "nf_proto",
        Datatype::TcpFlags => "tcp_flag",
        Datatype::Integer(_) | Datatype::HostInteger => return None,
    })
}

/// An expression of the type, for `typeof`.
const fn type_example(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Ipv4Addr => "ip saddr",
        Datatype::Ipv6Addr => "ip6 saddr",
        Datatype::EtherAddr => "ether saddr",
        Datatype::InetProto => "meta l4proto",
        Datatype::InetService => "th dport",
        Datatype::Mark => "meta mark",
        Datatype::Ifname => "meta iifname",
        Datatype::Ifindex => "meta iif",
        Datatype::CtState => "ct state",
        Datatype::CtStatus => "ct status",
        Datatype::IcmpType => "icmp type",
        Datatype::Icmpv6Type => "icmpv6 type",
        Datatype::Dscp => "ip dscp",
        Datatype::PktType => "meta pkttype",
        Datatype::NfProto => "meta nfproto",
        Datatype::TcpFlags => "tcp flags",
        Datatype::Integer(1) => "ip ttl",
        Datatype::Integer(2) => "ip length",
        Datatype::Integer(_) => "tcp sequence",
        Datatype::HostInteger => "meta cpu",
    }
}
