//! Small words of the ruleset: matches and verdicts that several chains use.

use crate::AddressRange;
use glacis_plan::nft::{
    Atom, CtKey, Element, Expr, FibFlags, FibResult, Field, Key, KeyPart, Limit, LimitUnit, Log, Match,
    MatchOp, MetaKey, Name, NfProto, Operand, Per, SetRef, Statement, Verdict,
};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

pub(super) const TCP: u8 = 6;
/// `RTN_LOCAL`: the address is one of the host's.
const ROUTE_LOCAL: u32 = 2;

/// `NF_CT_STATE` bits as nft(8) counts them.
pub(super) const CT_INVALID: u32 = 1;
pub(super) const CT_ESTABLISHED: u32 = 2;
pub(super) const CT_RELATED: u32 = 4;
/// `IPS_DST_NAT`.
pub(super) const CT_DST_NAT: u32 = 1 << 5;

/// Packets a second that a sampled log takes, and at once after a silence.
const SAMPLE_RATE_PER_SECOND: u64 = 5;
const SAMPLE_BURST: u32 = 10;
/// `NF_LOG_PREFIXLEN` less its NUL.
const LOG_PREFIX_BYTES_MAX: usize = 127;
/// `info`: the kernel's log keeps it, its console does not show it.
const LOG_LEVEL: u8 = 6;

pub(super) fn equal(left: Expr, right: Operand) -> Statement {
    Match { left, op: MatchOp::Eq, right }.into()
}

pub(super) fn differs(left: Expr, right: Operand) -> Statement {
    Match { left, op: MatchOp::Ne, right }.into()
}

/// `iifname "lo"` or `iifname { "a", "b" }`; `None` without devices, when nothing can match.
pub(super) fn devices(key: MetaKey, devices: &[&str]) -> Option<Statement> {
    let atom = |device: &&str| Atom::Ifname((*device).to_owned());
    let right = match devices {
        [] => return None,
        [only] => Operand::atom(atom(only)),
        several => Operand::Set(SetRef::Anonymous(several.iter().map(|d| Element::atom(atom(d))).collect())),
    };
    Some(equal(Expr::Meta(key), right))
}

/// An address field against a named set.
pub(super) fn in_set(field: Field, set: Name) -> Statement {
    equal(Expr::Payload(field), Operand::Set(SetRef::Named(set)))
}

pub(super) fn saddr(family: NfProto) -> Field {
    match family {
        NfProto::Ipv4 => Field::IpSaddr,
        NfProto::Ipv6 => Field::Ip6Saddr,
    }
}

pub(super) fn daddr(family: NfProto) -> Field {
    match family {
        NfProto::Ipv4 => Field::IpDaddr,
        NfProto::Ipv6 => Field::Ip6Daddr,
    }
}

pub(super) const fn family_of(address: IpAddr) -> NfProto {
    match address {
        IpAddr::V4(_) => NfProto::Ipv4,
        IpAddr::V6(_) => NfProto::Ipv6,
    }
}

pub(super) const fn address(address: IpAddr) -> Atom {
    match address {
        IpAddr::V4(address) => Atom::Ipv4(address),
        IpAddr::V6(address) => Atom::Ipv6(address),
    }
}

/// An address field against prefixes of one family that do not overlap; `None` without any of it.
pub(super) fn in_prefixes(field: Field, prefixes: &[IpNet], family: NfProto) -> Option<Statement> {
    let part = |net: &IpNet| match net.prefix_len() {
        length if length == net.max_prefix_len() => KeyPart::One(address(net.addr())),
        length => KeyPart::Prefix(address(net.network()), length),
    };
    let of_family = prefixes.iter().filter(|net| family_of(net.addr()) == family);
    among(Expr::Payload(field), of_family.map(part).collect())
}

/// An expression against one part, or a set of them; `None` without any.
fn among(left: Expr, parts: Vec<KeyPart>) -> Option<Statement> {
    let right = match <[KeyPart; 1]>::try_from(parts) {
        Ok([only]) => Operand::Part(only),
        Err(parts) if parts.is_empty() => return None,
        Err(several) => Operand::Set(SetRef::Anonymous(
            several.into_iter().map(|part| Element::new(Key::Fields(vec![part]))).collect(),
        )),
    };
    Some(equal(left, right))
}

/// `ip daddr . tcp dport { … }` for those of the field's family; `None` without any.
pub(super) fn addresses_and_ports(field: Field, sockets: &[SocketAddr]) -> Option<Statement> {
    let fits = |socket: &&SocketAddr| daddr(family_of(socket.ip())) == field;
    let element = |socket: &SocketAddr| {
        let parts = [address(socket.ip()), Atom::InetService(socket.port())];
        Element::new(Key::Fields(parts.map(KeyPart::One).into()))
    };
    let elements: Vec<_> = sockets.iter().filter(fits).map(element).collect();
    let key = Expr::Concat(vec![Expr::Payload(field), Expr::Payload(Field::TcpDport)]);
    (!elements.is_empty()).then(|| equal(key, Operand::Set(SetRef::Anonymous(elements))))
}

/// The shortest way to say a range: one address, a prefix, or both ends.
pub(super) fn address_part(range: AddressRange) -> KeyPart {
    let prefix = match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0)
            .next()
            .filter(|net| net.broadcast() == last)
            .map(|n| n.prefix_len()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0)
            .next()
            .filter(|net| net.broadcast() == last)
            .map(|n| n.prefix_len()),
        _ => None,
    };
    match prefix {
        _ if range.first == range.last => KeyPart::One(address(range.first)),
        Some(length) => KeyPart::Prefix(address(range.first), length),
        None => KeyPart::Range(address(range.first), address(range.last)),
    }
}

/// A port field against one port, one range, or a set of them; sorted and joined.
pub(super) fn ports(field: Field, ports: &[RangeInclusive<u16>]) -> Statement {
    let parts: Vec<KeyPart> = merge_ports(ports).into_iter().map(port_part).collect();
    let right = match <[KeyPart; 1]>::try_from(parts) {
        Ok([only]) => Operand::Part(only),
        Err(several) => Operand::Set(SetRef::Anonymous(
            several.into_iter().map(|part| Element::new(Key::Fields(vec![part]))).collect(),
        )),
    };
    equal(Expr::Payload(field), right)
}

fn port_part(range: RangeInclusive<u16>) -> KeyPart {
    let (first, last) = range.into_inner();
    if first == last {
        KeyPart::One(Atom::InetService(first))
    } else {
        KeyPart::Range(Atom::InetService(first), Atom::InetService(last))
    }
}

/// nft refuses overlapping intervals in one set.
fn merge_ports(ports: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut sorted: Vec<_> = ports.iter().map(|range| (*range.start(), *range.end())).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter().map(|(first, last)| first..=last).collect()
}

/// `ct state vmap { established : accept, related : accept, invalid : … }`.
pub(super) fn known_flows(invalid: Verdict) -> Statement {
    let element = |bits, verdict| Element::atom(Atom::CtState(bits)).verdict(verdict);
    Statement::VerdictMap {
        key: Expr::Ct { key: CtKey::State, direction: None },
        map: glacis_plan::nft::VerdictMap::Anonymous(vec![
            element(CT_ESTABLISHED, Verdict::Accept),
            element(CT_RELATED, Verdict::Accept),
            element(CT_INVALID, invalid),
        ]),
    }
}

/// `ct state established,related`.
pub(super) fn of_known_flow() -> Statement {
    Match {
        left: Expr::Ct { key: CtKey::State, direction: None },
        op: MatchOp::AnyBit,
        right: Operand::atom(Atom::CtState(CT_ESTABLISHED | CT_RELATED)),
    }
    .into()
}

/// `ct status dnat`.
pub(super) fn destination_translated() -> Statement {
    Match {
        left: Expr::Ct { key: CtKey::Status, direction: None },
        op: MatchOp::AnyBit,
        right: Operand::atom(Atom::CtStatus(CT_DST_NAT)),
    }
    .into()
}

/// `ct mark …`.
pub(super) fn marked(mark: u32) -> Statement {
    equal(Expr::Ct { key: CtKey::Mark, direction: None }, Operand::atom(Atom::Mark(mark)))
}

/// `fib daddr type local`.
pub(super) fn to_ourselves() -> Statement {
    address_type(FibFlags { daddr: true, ..FibFlags::default() }, equal)
}

/// `fib … type local`, or not.
pub(super) fn address_type(flags: FibFlags, compare: fn(Expr, Operand) -> Statement) -> Statement {
    compare(Expr::Fib { flags, result: FibResult::AddrType }, Operand::atom(Atom::U32(ROUTE_LOCAL)))
}

/// `udp sport … udp dport …`, both single ports.
pub(super) fn udp_between(source: u16, destination: u16) -> [Statement; 2] {
    let port = |field, port| equal(Expr::Payload(field), Operand::atom(Atom::InetService(port)));
    [port(Field::UdpSport, source), port(Field::UdpDport, destination)]
}

pub(super) fn l4proto(protocol: u8) -> Statement {
    equal(Expr::Meta(MetaKey::L4Proto), Operand::atom(Atom::InetProto(protocol)))
}

pub(super) fn packet_limit(packets: u64, per: Per, burst: u32) -> Statement {
    Statement::Limit(Limit { rate: packets, unit: LimitUnit::Packets, per, burst, over: false })
}

pub(super) fn sample_limit() -> Statement {
    packet_limit(SAMPLE_RATE_PER_SECOND, Per::Second, SAMPLE_BURST)
}

/// A line in the kernel's log, where every host already looks.
pub(super) fn log(pair: &str, label: &str) -> Statement {
    let mut prefix = format!("{pair} {label}: ");
    prefix.truncate(prefix.floor_char_boundary(LOG_PREFIX_BYTES_MAX));
    Statement::Log(Log { prefix: Some(prefix), level: Some(LOG_LEVEL), ..Log::default() })
}
