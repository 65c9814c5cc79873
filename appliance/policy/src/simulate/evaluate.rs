//! What single statements and expressions say of a packet.

use super::Network;
use super::walk::{Packet, Transport, WalkError};
use glacis_plan::nft::{
    Atom, CtKey, Element, ElementData, Elements, Expr, FibFlags, FibResult, Field, Key, KeyPart, MapSource,
    Match, MatchOp, MetaKey, Name, NatAddress, NatKind, NfProto, Operand, Reject, SetRef, Statement, Table,
    Verdict, VerdictMap,
};
use std::net::IpAddr;

const CT_NEW: u32 = 8;
/// Who sends the host's own packets: any user that the ruleset does not know.
const OWN_UID: u32 = 0;
/// `IPS_SRC_NAT` and `IPS_DST_NAT`.
const STATUS_SRC_NAT: u32 = 1 << 4;
const STATUS_DST_NAT: u32 = 1 << 5;

/// A packet where it stands now.
pub(super) struct Context<'a> {
    pub(super) network: &'a Network,
    pub(super) packet: Packet,
    pub(super) output: Option<String>,
    /// `IPS_*` bits of its connection.
    pub(super) status: u32,
    /// Mark of its connection.
    pub(super) mark: u32,
}

/// What a statement that matched does.
pub(super) enum Effect {
    /// On to the next statement.
    None,
    Verdict(Verdict),
    Refused(Reject),
    /// An address or port was rewritten, which also ends the chain.
    Translated,
}

/// A word that is not known here, or a name that leads nowhere.
pub(super) enum Fault {
    Unsupported(String),
    Missing(Name),
}

impl Fault {
    pub(super) fn at(self, chain: &Name, index: usize) -> WalkError {
        match self {
            Self::Unsupported(what) => WalkError::Unsupported { chain: chain.clone(), index, what },
            Self::Missing(name) => WalkError::Missing(name),
        }
    }
}

fn unsupported<T>(what: &impl std::fmt::Debug) -> Result<T, Fault> {
    Err(Fault::Unsupported(format!("{what:?}")))
}

impl Context<'_> {
    /// `None` when the statement does not match, which ends its rule.
    pub(super) fn statement(
        &mut self,
        table: &Table,
        statement: &Statement,
    ) -> Result<Option<Effect>, Fault> {
        let effect = match statement {
            Statement::Match(m) => return Ok(self.matches(table, m)?.then_some(Effect::None)),
            Statement::Verdict(verdict) => Effect::Verdict(verdict.clone()),
            Statement::VerdictMap { key, map } => {
                let VerdictMap::Anonymous(elements) = map else { return unsupported(map) };
                let Some(key) = self.value(key)? else { return Ok(None) };
                match elements.iter().find(|element| element_has(element, &key)) {
                    Some(Element { data: Some(ElementData::Verdict(verdict)), .. }) => {
                        Effect::Verdict(verdict.clone())
                    }
                    Some(other) => return unsupported(other),
                    None => return Ok(None),
                }
            }
            Statement::Counter | Statement::CounterRef(_) | Statement::Log(_) => Effect::None,
            Statement::Limit(limit) => return Ok((!limit.over).then_some(Effect::None)),
            Statement::Reject(reject) => Effect::Refused(*reject),
            Statement::Masquerade(_) => {
                let device = self.output.clone().unwrap_or_default();
                self.packet.source = self.network.own_address(&device, self.packet.source);
                self.status |= STATUS_SRC_NAT;
                Effect::Translated
            }
            Statement::Nat { kind: NatKind::Dnat, family, address, port, .. } => {
                if (*family == NfProto::Ipv4) != self.packet.destination.is_ipv4() {
                    return Ok(None);
                }
                if !self.translate_destination(table, address, port.as_ref())? {
                    return Ok(None);
                }
                Effect::Translated
            }
            Statement::SetCtMark(Expr::Atom(Atom::Mark(mark))) => {
                self.mark = *mark;
                Effect::None
            }
            other => return unsupported(other),
        };
        Ok(Some(effect))
    }

    /// Whether there was an address to translate to.
    fn translate_destination(
        &mut self,
        table: &Table,
        address: &NatAddress,
        port: Option<&Expr>,
    ) -> Result<bool, Fault> {
        match address {
            NatAddress::Expr(Expr::Map { map: MapSource::Named(name), .. }) => {
                let map = table.set(name).ok_or_else(|| Fault::Missing(name.clone()))?;
                return if map.elements == Elements::Runtime { Ok(false) } else { unsupported(address) };
            }
            NatAddress::Expr(Expr::Atom(Atom::Ipv4(to))) => self.packet.destination = IpAddr::V4(*to),
            NatAddress::Expr(Expr::Atom(Atom::Ipv6(to))) => self.packet.destination = IpAddr::V6(*to),
            other => return unsupported(other),
        }
        match port {
            None => {}
            Some(Expr::Atom(Atom::InetService(to))) => match &mut self.packet.transport {
                Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => *destination = *to,
                Transport::Echo => {}
            },
            Some(other) => return unsupported(other),
        }
        self.status |= STATUS_DST_NAT;
        Ok(true)
    }

    fn matches(&self, table: &Table, m: &Match) -> Result<bool, Fault> {
        if let Operand::Exists(wanted) = m.right {
            return Ok((self.route_exists(&m.left)? == wanted) == (m.op == MatchOp::Eq));
        }
        let Some(value) = self.value(&m.left)? else { return Ok(false) };
        match (m.op, &m.right) {
            (MatchOp::Eq, right) => self.equals(table, &value, right),
            (MatchOp::Ne, right) => Ok(!self.equals(table, &value, right)?),
            (MatchOp::AnyBit | MatchOp::NoBit, Operand::Part(KeyPart::One(mask))) => {
                let any = match (value.as_slice(), mask) {
                    ([Atom::CtState(bits)], Atom::CtState(mask))
                    | ([Atom::CtStatus(bits)], Atom::CtStatus(mask)) => bits & mask != 0,
                    _ => return unsupported(m),
                };
                Ok(any == (m.op == MatchOp::AnyBit))
            }
            _ => unsupported(m),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as one of the packet's questions")]
    fn equals(&self, table: &Table, value: &[Atom], right: &Operand) -> Result<bool, Fault> {
        match right {
            Operand::Part(part) => Ok(matches!(value, [only] if part_has(part, only))),
            Operand::Set(SetRef::Anonymous(elements)) => Ok(elements.iter().any(|e| element_has(e, value))),
            Operand::Set(SetRef::Named(name)) => {
                let set = table.set(name).ok_or_else(|| Fault::Missing(name.clone()))?;
                Ok(set_has(&set.elements, value))
            }
            Operand::Exists(_) => unsupported(right),
        }
    }

    fn route_exists(&self, left: &Expr) -> Result<bool, Fault> {
        const REVERSE: FibFlags = FibFlags { saddr: true, daddr: false, mark: false, iif: true, oif: false };
        match (left, &self.packet.input) {
            (Expr::Fib { flags, result: FibResult::Oif }, Some(input)) if *flags == REVERSE => {
                Ok(self.network.leads_back(self.packet.source, input))
            }
            _ => unsupported(left),
        }
    }

    /// The fields of an expression; `None` when the packet has no such header.
    fn value(&self, expr: &Expr) -> Result<Option<Vec<Atom>>, Fault> {
        let atom = match expr {
            Expr::Payload(field) => self.field(*field)?,
            Expr::Meta(key) => Some(self.meta(*key)?),
            Expr::Ct { key: CtKey::State, direction: None } => Some(Atom::CtState(CT_NEW)),
            Expr::Ct { key: CtKey::Status, direction: None } => Some(Atom::CtStatus(self.status)),
            Expr::Ct { key: CtKey::Mark, direction: None } => Some(Atom::Mark(self.mark)),
            Expr::Masked { of, mask } => match self.value(of)?.as_deref() {
                Some([Atom::Mark(bits)]) => Some(Atom::Mark(bits & mask)),
                _ => return unsupported(expr),
            },
            Expr::Fib { flags, result: FibResult::AddrType } => Some(self.destination_type(*flags)?),
            Expr::Concat(parts) => {
                let mut fields = Vec::with_capacity(parts.len());
                for part in parts {
                    let Some(mut value) = self.value(part)? else { return Ok(None) };
                    fields.append(&mut value);
                }
                return Ok(Some(fields));
            }
            Expr::Atom(atom) => Some(atom.clone()),
            other => return unsupported(other),
        };
        Ok(atom.map(|atom| vec![atom]))
    }

    fn destination_type(&self, flags: FibFlags) -> Result<Atom, Fault> {
        let FibFlags { saddr: false, daddr: true, mark: false, iif, oif: false } = flags else {
            return unsupported(&flags);
        };
        let device = self.packet.input.as_deref().filter(|_| iif);
        Ok(Atom::U32(self.network.address_type(self.packet.destination, device) as u32))
    }

    fn field(&self, field: Field) -> Result<Option<Atom>, Fault> {
        let Packet { source, destination, transport, .. } = &self.packet;
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(Atom::Ipv4(*address)),
            IpAddr::V6(_) => None,
        };
        let v6 = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Atom::Ipv6(*address)),
        };
        let port = Atom::InetService;
        Ok(match (field, transport) {
            (Field::IpSaddr, _) => v4(source),
            (Field::IpDaddr, _) => v4(destination),
            (Field::Ip6Saddr, _) => v6(source),
            (Field::Ip6Daddr, _) => v6(destination),
            (Field::TcpSport | Field::ThSport, Transport::Tcp { source, .. })
            | (Field::UdpSport | Field::ThSport, Transport::Udp { source, .. }) => Some(port(*source)),
            (Field::TcpDport | Field::ThDport, Transport::Tcp { destination, .. })
            | (Field::UdpDport | Field::ThDport, Transport::Udp { destination, .. }) => {
                Some(port(*destination))
            }
            (Field::IcmpType, Transport::Echo) if source.is_ipv4() => Some(Atom::IcmpType(8)),
            (Field::Icmpv6Type, Transport::Echo) if source.is_ipv6() => Some(Atom::Icmpv6Type(128)),
            (
                Field::TcpSport
                | Field::TcpDport
                | Field::UdpSport
                | Field::UdpDport
                | Field::IcmpType
                | Field::Icmpv6Type,
                _,
            ) => None,
            (other, _) => return unsupported(&other),
        })
    }

    fn meta(&self, key: MetaKey) -> Result<Atom, Fault> {
        let v4 = self.packet.source.is_ipv4();
        let device = |name: &Option<String>| Atom::Ifname(name.clone().unwrap_or_default());
        Ok(match key {
            MetaKey::Iifname => device(&self.packet.input),
            MetaKey::Oifname => device(&self.output),
            MetaKey::SkUid if self.packet.input.is_none() => Atom::U32(OWN_UID),
            MetaKey::NfProto => Atom::NfProto(if v4 { 2 } else { 10 }),
            MetaKey::L4Proto => Atom::InetProto(match self.packet.transport {
                Transport::Tcp { .. } => 6,
                Transport::Udp { .. } => 17,
                Transport::Echo if v4 => 1,
                Transport::Echo => 58,
            }),
            other => return unsupported(&other),
        })
    }
}

fn set_has(elements: &Elements, value: &[Atom]) -> bool {
    match (elements, value) {
        (Elements::List(elements), value) => elements.iter().any(|element| element_has(element, value)),
        (Elements::Ipv4Ranges(ranges), [Atom::Ipv4(address)]) => {
            let after = ranges.partition_point(|(first, _)| first <= address);
            after > 0 && ranges[after - 1].1 >= *address
        }
        (Elements::Ipv6Ranges(ranges), [Atom::Ipv6(address)]) => {
            let after = ranges.partition_point(|(first, _)| first <= address);
            after > 0 && ranges[after - 1].1 >= *address
        }
        // What a set or map holds at run time is not part of a ruleset: it counts as empty.
        _ => false,
    }
}

fn element_has(element: &Element, value: &[Atom]) -> bool {
    match &element.key {
        Key::CatchAll => true,
        Key::Fields(parts) => {
            parts.len() == value.len() && parts.iter().zip(value).all(|(part, atom)| part_has(part, atom))
        }
    }
}

fn part_has(part: &KeyPart, atom: &Atom) -> bool {
    match part {
        KeyPart::One(one) => one == atom,
        // The order of atoms is the order of the wire only within one type.
        KeyPart::Range(first, last) => {
            std::mem::discriminant(first) == std::mem::discriminant(atom) && (first..=last).contains(&atom)
        }
        KeyPart::Prefix(Atom::Ipv4(net), length) => {
            matches!(atom, Atom::Ipv4(a) if ipnet::Ipv4Net::new_assert(*net, *length).contains(a))
        }
        KeyPart::Prefix(Atom::Ipv6(net), length) => {
            matches!(atom, Atom::Ipv6(a) if ipnet::Ipv6Net::new_assert(*net, *length).contains(a))
        }
        KeyPart::Prefix(..) => false,
    }
}
