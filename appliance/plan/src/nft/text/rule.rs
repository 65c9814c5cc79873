//! Rules: statements and the expressions in them.

use super::super::{
    Atom, CtKey, Direction, DynSetOp, Element, Expr, FibFlags, FibResult, Field, KeyPart, Limit, LimitUnit,
    Log, MapSource, Match, MatchOp, MetaKey, NatAddress, NatFlags, NatKind, Operand, Per, Quota, Reject,
    Rule, SetRef, Statement, Synproxy, VerdictMap,
};
use super::value::{
    FIB_TYPES, comment, exact, is_bits, named, quoted, render_atom, render_element, render_part,
    render_verdict, seconds,
};
use super::{joined, l3};

/// One rule on one line, its comment last.
pub fn render_rule(rule: &Rule) -> String {
    let mut words: Vec<String> = rule.statements.iter().map(render_statement).collect();
    words.extend(rule.comment.as_deref().map(comment));
    words.join(" ")
}

/// One statement.
pub fn render_statement(statement: &Statement) -> String {
    match statement {
        Statement::Match(m) => render_match(m),
        Statement::Verdict(verdict) => render_verdict(verdict),
        Statement::VerdictMap { key, map } => {
            let map = match map {
                VerdictMap::Named(name) => format!("@{name}"),
                VerdictMap::Anonymous(elements) => braced(elements),
            };
            format!("{} vmap {map}", render_expr(key))
        }
        Statement::Counter => "counter".to_owned(),
        Statement::CounterRef(name) => format!("counter name \"{name}\""),
        Statement::Limit(l) => format!("limit {}", limit(*l)),
        Statement::LimitRef(name) => format!("limit name \"{name}\""),
        Statement::Quota(q) => format!("quota {}", quota(*q)),
        Statement::QuotaRef(name) => format!("quota name \"{name}\""),
        Statement::ConnLimit { count, over } => {
            format!("ct count {}{count}", if *over { "over " } else { "" })
        }
        Statement::Log(log) => render_log(log),
        Statement::Reject(reject) => render_reject(*reject).to_owned(),
        Statement::Notrack => "notrack".to_owned(),
        Statement::FlowOffload(name) => format!("flow add @{name}"),
        Statement::Synproxy(s) => format!("synproxy {}", synproxy(*s, " ")),
        Statement::SynproxyRef(name) => format!("synproxy name \"{name}\""),
        Statement::CtHelperRef(name) => format!("ct helper set \"{name}\""),
        Statement::CtTimeoutRef(name) => format!("ct timeout set \"{name}\""),
        Statement::SetMetaMark(value) => format!("meta mark set {}", render_expr(value)),
        Statement::SetCtMark(value) => format!("ct mark set {}", render_expr(value)),
        Statement::SetMaxseg(value) => format!("tcp option maxseg size set {}", render_expr(value)),
        Statement::DynSet { op, set, key, timeout, statements } => {
            let op = match op {
                DynSetOp::Add => "add",
                DynSetOp::Update => "update",
                DynSetOp::Delete => "delete",
            };
            let mut words = vec![render_expr(key)];
            words.extend(timeout.map(|timeout| format!("timeout {}", seconds(timeout))));
            words.extend(statements.iter().map(render_statement));
            format!("{op} @{set} {{ {} }}", words.join(" "))
        }
        Statement::Masquerade(flags) => format!("masquerade{}", nat_flags(*flags)),
        Statement::Redirect { port, flags } => {
            let port = port.as_ref().map_or_else(String::new, |port| format!(" to :{}", render_expr(port)));
            format!("redirect{port}{}", nat_flags(*flags))
        }
        Statement::Nat { kind, family, address, port, flags } => {
            let kind = match kind {
                NatKind::Snat => "snat",
                NatKind::Dnat => "dnat",
            };
            let to = match address {
                NatAddress::Keep => " to ".to_owned(),
                NatAddress::Expr(expr) => {
                    format!(" {} to {}", l3(*family), address_expr(expr, port.is_some()))
                }
                NatAddress::Range(low, high) => format!(
                    " {} to {}-{}",
                    l3(*family),
                    address_atom(low, port.is_some()),
                    address_atom(high, port.is_some())
                ),
            };
            let port = port.as_ref().map_or_else(String::new, |port| format!(":{}", render_expr(port)));
            format!("{kind}{to}{port}{}", nat_flags(*flags))
        }
    }
}

fn address_expr(expr: &Expr, port_follows: bool) -> String {
    match expr {
        Expr::Atom(atom) => address_atom(atom, port_follows),
        other => render_expr(other),
    }
}

/// An IPv6 address before a port stands in brackets.
fn address_atom(atom: &Atom, port_follows: bool) -> String {
    match atom {
        Atom::Ipv6(address) if port_follows => format!("[{address}]"),
        other => render_atom(other),
    }
}

fn render_match(m: &Match) -> String {
    let left = render_expr(&m.left);
    if matches!(m.left, Expr::Fib { result: FibResult::AddrType, .. }) {
        return format!("{left} {}", fib_operand(m.op, &m.right));
    }
    match &m.right {
        Operand::Exists(true) => format!("{left} exists"),
        Operand::Exists(false) => format!("{left} missing"),
        Operand::Set(set) => {
            let not = if m.op == MatchOp::Ne { "!= " } else { "" };
            let set = match set {
                SetRef::Named(name) => format!("@{name}"),
                SetRef::Anonymous(elements) => braced(elements),
            };
            format!("{left} {not}{set}")
        }
        Operand::Part(part) => format!("{left} {}", compared(&m.left, m.op, part)),
    }
}

/// The operator and what stands right of it.
fn compared(left: &Expr, op: MatchOp, part: &KeyPart) -> String {
    let masked = matches!(left, Expr::Masked { .. });
    let value = match part {
        KeyPart::One(atom) if masked || !matches!(op, MatchOp::AnyBit | MatchOp::NoBit) => exact(atom),
        other => render_part(other),
    };
    let written_out = masked || matches!(part, KeyPart::One(atom) if is_bits(atom));
    match op {
        MatchOp::Eq if written_out => format!("== {value}"),
        MatchOp::Eq | MatchOp::AnyBit => value,
        MatchOp::Ne => format!("!= {value}"),
        MatchOp::Lt => format!("< {value}"),
        MatchOp::Le => format!("<= {value}"),
        MatchOp::Gt => format!("> {value}"),
        MatchOp::Ge => format!(">= {value}"),
        MatchOp::NoBit => format!("! {value}"),
    }
}

fn fib_operand(op: MatchOp, right: &Operand) -> String {
    let name = |atom: &Atom| match atom {
        Atom::U32(number) => {
            u8::try_from(*number).map_or_else(|_| number.to_string(), |n| named(n, FIB_TYPES))
        }
        other => render_atom(other),
    };
    let not = if op == MatchOp::Ne { "!= " } else { "" };
    match right {
        Operand::Part(KeyPart::One(atom)) => format!("{not}{}", name(atom)),
        Operand::Part(other) => format!("{not}{}", render_part(other)),
        Operand::Set(SetRef::Named(set)) => format!("{not}@{set}"),
        Operand::Set(SetRef::Anonymous(elements)) => format!("{not}{}", braced(elements)),
        Operand::Exists(_) => "exists".to_owned(),
    }
}

fn braced(elements: &[Element]) -> String {
    format!("{{ {} }}", joined(elements, ", ", |f, element| f.write_str(&render_element(element))))
}

fn render_expr(expr: &Expr) -> String {
    match expr {
        Expr::Payload(field) => render_field(*field).to_owned(),
        Expr::Meta(key) => render_meta(*key).to_owned(),
        Expr::Ct { key, direction } => {
            let direction = match direction {
                None => "",
                Some(Direction::Original) => "original ",
                Some(Direction::Reply) => "reply ",
            };
            let key = match key {
                CtKey::State => "state",
                CtKey::Status => "status",
                CtKey::Mark => "mark",
                CtKey::IpSaddr => "ip saddr",
                CtKey::Ip6Saddr => "ip6 saddr",
                CtKey::ProtoSrc => "proto-src",
                CtKey::ProtoDst => "proto-dst",
                CtKey::Zone => "zone",
            };
            format!("ct {direction}{key}")
        }
        Expr::Fib { flags, result } => {
            let result = match result {
                FibResult::Oif => "oif",
                FibResult::OifName => "oifname",
                FibResult::AddrType => "type",
            };
            format!("fib {} {result}", fib_flags(*flags))
        }
        Expr::RouteMss => "rt mtu".to_owned(),
        Expr::Jhash { of, modulus, seed, offset } => {
            let mut text = format!("jhash {} mod {modulus}", render_expr(of));
            if let Some(seed) = seed {
                text.extend([format!(" seed {seed:#x}")]);
            }
            if *offset != 0 {
                text.extend([format!(" offset {offset}")]);
            }
            text
        }
        Expr::Concat(parts) => joined(parts, " . ", |f, part| f.write_str(&render_expr(part))).to_string(),
        Expr::Masked { of, mask } => match **of {
            Expr::Payload(Field::TcpFlags) if u8::try_from(*mask).is_ok() => {
                format!("tcp flags & {}", exact(&Atom::TcpFlags(*mask as u8)))
            }
            _ => format!("{} & {mask:#x}", render_expr(of)),
        },
        Expr::Map { key, map } => {
            let map = match map {
                MapSource::Named(name) => format!("@{name}"),
                MapSource::Anonymous(elements) => braced(elements),
            };
            format!("{} map {map}", render_expr(key))
        }
        Expr::Atom(atom) => exact(atom),
    }
}

const fn render_field(field: Field) -> &'static str {
    match field {
        Field::EtherSaddr => "ether saddr",
        Field::EtherDaddr => "ether daddr",
        Field::IpSaddr => "ip saddr",
        Field::IpDaddr => "ip daddr",
        Field::IpProtocol => "ip protocol",
        Field::IpDscp => "ip dscp",
        Field::IpFragOff => "ip frag-off",
        Field::IpTtl => "ip ttl",
        Field::IpLength => "ip length",
        Field::Ip6Saddr => "ip6 saddr",
        Field::Ip6Daddr => "ip6 daddr",
        Field::Ip6Nexthdr => "ip6 nexthdr",
        Field::TcpSport => "tcp sport",
        Field::TcpDport => "tcp dport",
        Field::TcpFlags => "tcp flags",
        Field::UdpSport => "udp sport",
        Field::UdpDport => "udp dport",
        Field::ThSport => "th sport",
        Field::ThDport => "th dport",
        Field::IcmpType => "icmp type",
        Field::Icmpv6Type => "icmpv6 type",
    }
}

const fn render_meta(key: MetaKey) -> &'static str {
    match key {
        MetaKey::Mark => "meta mark",
        MetaKey::Iif => "meta iif",
        MetaKey::Oif => "meta oif",
        MetaKey::Iifname => "meta iifname",
        MetaKey::Oifname => "meta oifname",
        MetaKey::NfProto => "meta nfproto",
        MetaKey::L4Proto => "meta l4proto",
        MetaKey::PktType => "meta pkttype",
        MetaKey::Cpu => "meta cpu",
        MetaKey::SkUid => "meta skuid",
    }
}

fn fib_flags(flags: FibFlags) -> String {
    let words = [
        (flags.saddr, "saddr"),
        (flags.daddr, "daddr"),
        (flags.mark, "mark"),
        (flags.iif, "iif"),
        (flags.oif, "oif"),
    ];
    words.into_iter().filter_map(|(on, word)| on.then_some(word)).collect::<Vec<_>>().join(" . ")
}

const fn over(is_over: bool) -> &'static str {
    if is_over { "over " } else { "" }
}

/// `rate over 10/minute burst 5 packets`.
pub(super) fn limit(limit: Limit) -> String {
    let per = match limit.per {
        Per::Second => "second",
        Per::Minute => "minute",
        Per::Hour => "hour",
        Per::Day => "day",
        Per::Week => "week",
    };
    let (over, rate, burst) = (over(limit.over), limit.rate, limit.burst);
    match (limit.unit, burst) {
        (LimitUnit::Packets, _) => format!("rate {over}{rate}/{per} burst {burst} packets"),
        (LimitUnit::Bytes, 0) => format!("rate {over}{rate} bytes/{per}"),
        (LimitUnit::Bytes, _) => format!("rate {over}{rate} bytes/{per} burst {burst} bytes"),
    }
}

/// `over 100 bytes`.
pub(super) fn quota(quota: Quota) -> String {
    format!("{}{} bytes", over(quota.over), quota.bytes)
}

/// The options that are set; objects part them by `;`, statements by a space.
pub(super) fn synproxy(s: Synproxy, separator: &str) -> String {
    let mut words = vec![];
    words.extend(s.mss.map(|mss| format!("mss {mss}")));
    words.extend(s.wscale.map(|wscale| format!("wscale {wscale}")));
    let flags = [(s.timestamp, "timestamp"), (s.sack_perm, "sack-perm")];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
    if !flags.is_empty() {
        words.push(flags.join(" "));
    }
    words.join(separator)
}

fn render_log(log: &Log) -> String {
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    let mut words = vec!["log".to_owned()];
    words.extend(log.prefix.as_deref().map(|prefix| format!("prefix {}", quoted(prefix))));
    words.extend(log.group.map(|group| format!("group {group}")));
    words.extend(log.snaplen.map(|snaplen| format!("snaplen {snaplen}")));
    words.extend(log.queue_threshold.map(|threshold| format!("queue-threshold {threshold}")));
    words.extend(
        log.level.and_then(|level| LEVELS.get(usize::from(level))).map(|word| format!("level {word}")),
    );
    words.join(" ")
}

const fn render_reject(reject: Reject) -> &'static str {
    match reject {
        Reject::TcpReset => "reject with tcp reset",
        Reject::PortUnreachable => "reject with icmpx port-unreachable",
        Reject::HostUnreachable => "reject with icmpx host-unreachable",
        Reject::NoRoute => "reject with icmpx no-route",
        Reject::AdminProhibited => "reject with icmpx admin-prohibited",
    }
}

fn nat_flags(flags: NatFlags) -> String {
    let words =
        [(flags.random, "random"), (flags.fully_random, "fully-random"), (flags.persistent, "persistent")];
    let words: Vec<&str> = words.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
    if words.is_empty() { String::new() } else { format!(" {}", words.join(",")) }
}
