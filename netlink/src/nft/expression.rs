//! Expressions of a rule, as the loads and comparisons of the kernel's register machine.
//!
//! What a header field depends on (its family, its protocol) is compared first, in a register of its own time:
//! a comparison between two loads of one concatenation would overwrite the first.

use super::buffer::Buffer;
use super::elements::Layout;
use super::encode::Encoder;
use super::error::EncodeError;
use super::types::{
    Order, Shape, Type, bounds, datatype_of, encode, prefix_mask, put_number, register, shape,
};
use super::uapi::{NFPROTO_IPV4, NFPROTO_IPV6, attr};
use glacis_plan::nft::{
    Atom, CtKey, Datatype, Direction, Element, ElementData, Expr, Family, FibFlags, FibResult, Field,
    KeyPart, MapSource, Match, MatchOp, MetaKey, Name, Operand, SetRef,
};

/// `enum nft_cmp_ops`.
mod cmp {
    pub const EQ: u32 = 0;
    pub const NEQ: u32 = 1;
    pub const LT: u32 = 2;
    pub const LTE: u32 = 3;
    pub const GT: u32 = 4;
    pub const GTE: u32 = 5;
}

/// `enum nft_meta_keys`.
mod meta {
    pub const PROTOCOL: u32 = 1;
    pub const MARK: u32 = 3;
    pub const IIF: u32 = 4;
    pub const OIF: u32 = 5;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const IIFTYPE: u32 = 8;
    pub const SKUID: u32 = 10;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
    pub const PKTTYPE: u32 = 19;
    pub const CPU: u32 = 20;
}

/// Headers that the rule has established so far.
#[derive(Debug, Default)]
struct Established {
    ethernet: bool,
    /// `NFPROTO_*`.
    network: Option<u8>,
    /// IANA protocol number.
    transport: Option<u8>,
}

/// The expressions of one rule.
pub struct RuleEncoder<'e, 'a> {
    pub encoder: &'e mut Encoder<'a>,
    pub family: Family,
    pub table: &'a Name,
    pub body: Buffer,
    established: Established,
}

/// A set that a lookup speaks of.
pub struct Found {
    pub name: String,
    pub id: u32,
    pub interval: bool,
    pub data: Option<Type>,
}

impl<'e, 'a> RuleEncoder<'e, 'a> {
    pub fn new(encoder: &'e mut Encoder<'a>, family: Family, table: &'a Name) -> Self {
        Self { encoder, family, table, body: Buffer::default(), established: Established::default() }
    }

    /// One expression of the kernel's machine.
    pub fn emit(&mut self, name: &str, data: impl FnOnce(&mut Buffer)) {
        self.body.nest(attr::LIST_ELEM, |b| {
            b.put_text(attr::expr::NAME, name);
            b.nest(attr::expr::DATA, data);
        });
    }

    fn emit_cmp(&mut self, op: u32, value: &[u8]) {
        self.emit("cmp", |b| {
            b.put_u32(1, FIRST);
            b.put_u32(2, op);
            b.nest(3, |b| b.put(attr::data::VALUE, value));
        });
    }

    fn emit_and(&mut self, at: u32, mask: &[u8]) {
        self.emit("bitwise", |b| {
            b.put_u32(1, at);
            b.put_u32(2, at);
            b.put_u32(3, mask.len() as u32);
            b.nest(4, |b| b.put(attr::data::VALUE, mask));
            b.nest(5, |b| b.put(attr::data::VALUE, &vec![0; mask.len()]));
        });
    }

    fn emit_meta(&mut self, key: u32, at: u32) {
        self.emit("meta", |b| {
            b.put_u32(2, key);
            b.put_u32(1, at);
        });
    }

    /// Host order to network order, in place.
    pub fn emit_to_network(&mut self, at: u32, bytes: usize) {
        self.emit("byteorder", |b| {
            b.put_u32(1, at);
            b.put_u32(2, at);
            // NFT_BYTEORDER_HTON
            b.put_u32(3, 1);
            b.put_u32(4, bytes as u32);
            b.put_u32(5, bytes as u32);
        });
    }

    pub fn emit_immediate(&mut self, at: u32, value: &[u8]) {
        self.emit("immediate", |b| {
            b.put_u32(1, at);
            b.nest(2, |b| b.put(attr::data::VALUE, value));
        });
    }

    pub fn emit_lookup(&mut self, set: &Found, into: Option<u32>, inverted: bool) {
        self.emit("lookup", |b| {
            b.put_text(1, &set.name);
            b.put_u32(2, FIRST);
            if let Some(into) = into {
                b.put_u32(3, into);
            }
            b.put_u32(4, set.id);
            if inverted {
                b.put_u32(5, 1);
            }
        });
    }

    fn require_network(&mut self, protocol: u8) {
        if self.established.network.replace(protocol) == Some(protocol) {
            return;
        }
        match self.family {
            Family::Ip | Family::Ip6 => {}
            Family::Inet => {
                self.emit_meta(meta::NFPROTO, FIRST);
                self.emit_cmp(cmp::EQ, &[protocol]);
            }
            Family::Netdev => {
                let ethertype = if protocol == NFPROTO_IPV4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
                self.emit_meta(meta::PROTOCOL, FIRST);
                self.emit_cmp(cmp::EQ, &(ethertype as u16).to_be_bytes());
            }
        }
    }

    pub fn require_transport(&mut self, protocol: i32) {
        let protocol = protocol as u8;
        if self.established.transport.replace(protocol) != Some(protocol) {
            self.emit_meta(meta::L4PROTO, FIRST);
            self.emit_cmp(cmp::EQ, &[protocol]);
        }
    }

    fn require_ethernet(&mut self) {
        if !std::mem::replace(&mut self.established.ethernet, true) && self.family != Family::Netdev {
            self.emit_meta(meta::IIFTYPE, FIRST);
            self.emit_cmp(cmp::EQ, &libc::ARPHRD_ETHER.to_ne_bytes());
        }
    }

    /// Compares what the expression's fields depend on; before the expression is loaded.
    pub fn require(&mut self, expr: &Expr) {
        match expr {
            Expr::Payload(field) => self.require_header(*field),
            Expr::Jhash { of, .. } | Expr::Masked { of, .. } => self.require(of),
            Expr::Map { key, .. } => self.require(key),
            Expr::Concat(parts) => parts.iter().for_each(|part| self.require(part)),
            Expr::Meta(_) | Expr::Ct { .. } | Expr::Fib { .. } | Expr::RouteMss | Expr::Atom(_) => {}
        }
    }

    fn require_header(&mut self, field: Field) {
        match field {
            Field::EtherSaddr | Field::EtherDaddr => self.require_ethernet(),
            Field::IpSaddr
            | Field::IpDaddr
            | Field::IpProtocol
            | Field::IpDscp
            | Field::IpFragOff
            | Field::IpTtl
            | Field::IpLength => self.require_network(NFPROTO_IPV4),
            Field::Ip6Saddr | Field::Ip6Daddr | Field::Ip6Nexthdr => self.require_network(NFPROTO_IPV6),
            Field::TcpSport | Field::TcpDport | Field::TcpFlags => self.require_transport(libc::IPPROTO_TCP),
            Field::UdpSport | Field::UdpDport => self.require_transport(libc::IPPROTO_UDP),
            Field::ThSport | Field::ThDport => {}
            Field::IcmpType => {
                self.require_network(NFPROTO_IPV4);
                self.require_transport(libc::IPPROTO_ICMP);
            }
            Field::Icmpv6Type => {
                self.require_network(NFPROTO_IPV6);
                self.require_transport(libc::IPPROTO_ICMPV6);
            }
        }
    }

    /// Loads an expression into the register that starts `offset` bytes in; its requirements are met.
    pub fn load(&mut self, expr: &Expr, offset: usize) -> Result<Type, EncodeError> {
        let one = |shape| Ok(Type(vec![shape]));
        match expr {
            Expr::Payload(field) => {
                let shape = self.load_field(*field, offset, None)?;
                if *field == Field::IpDscp {
                    self.shift_right(register(offset, shape.bytes)?, DSCP_SHIFT);
                }
                one(shape)
            }
            Expr::Meta(key) => {
                let (number, shape) = meta_key(*key);
                self.emit_meta(number, register(offset, shape.bytes)?);
                one(shape)
            }
            Expr::Ct { key, direction } => one(self.load_ct(*key, *direction, offset)?),
            Expr::Fib { flags, result } => one(self.load_fib(*flags, *result, offset, 0)?),
            Expr::RouteMss => {
                let shape = Shape { order: Order::Host, ..shape(Datatype::Integer(2)) };
                let at = register(offset, shape.bytes)?;
                self.emit("rt", |b| {
                    b.put_u32(1, at);
                    // NFT_RT_TCPMSS
                    b.put_u32(2, 3);
                });
                one(shape)
            }
            Expr::Jhash { of, modulus, seed, offset: first } => {
                let source_offset = offset + 16;
                let source = self.load(of, source_offset)?;
                let (from, into) = (register(source_offset, 4)?, register(offset, 4)?);
                self.emit("hash", |b| {
                    b.put_u32(1, from);
                    b.put_u32(2, into);
                    b.put_u32(3, source.bytes() as u32);
                    b.put_u32(4, *modulus);
                    if let Some(seed) = seed {
                        b.put_u32(5, *seed);
                    }
                    if *first != 0 {
                        b.put_u32(6, *first);
                    }
                    // NFT_HASH_JENKINS
                    b.put_u32(7, 0);
                });
                one(shape(Datatype::HostInteger))
            }
            Expr::Concat(parts) => self.load_all(parts, offset),
            Expr::Masked { of, mask } => {
                let type_ = self.load(of, offset)?;
                let [field] = type_.0[..] else {
                    return Err(EncodeError::Unsupported("a concatenation cannot be masked"));
                };
                let mask = number(*mask, field, field.order)?;
                self.emit_and(register(offset, field.bytes)?, &mask);
                Ok(type_)
            }
            Expr::Map { key, map } => self.load_mapped(key, map, offset),
            Expr::Atom(atom) => {
                let shape = shape(datatype_of(atom));
                let value = encode(atom, shape, shape.order)?;
                self.emit_immediate(register(offset, value.len())?, &value);
                one(shape)
            }
        }
    }

    fn load_all(&mut self, parts: &[Expr], offset: usize) -> Result<Type, EncodeError> {
        let mut fields = vec![];
        let mut at = offset;
        for part in parts {
            let part = self.load(part, at)?;
            at += part.0.iter().map(|field| field.padded()).sum::<usize>();
            fields.extend(part.0);
        }
        Ok(Type(fields))
    }

    fn load_mapped(&mut self, key: &Expr, map: &MapSource, offset: usize) -> Result<Type, EncodeError> {
        if offset != 0 {
            return Err(EncodeError::Unsupported("a map is looked up inside a concatenation"));
        }
        let key = self.load(key, 0)?;
        let found = match map {
            MapSource::Named(name) => self.encoder.find_set(self.family, self.table, name)?,
            MapSource::Anonymous(elements) => {
                let data = value_type(elements)?;
                self.encoder.anonymous_set(self.family, self.table, &key, Some(data), false, elements)?
            }
        };
        let Some(data) = found.data.clone() else {
            return Err(EncodeError::NoValueMap(
                Name::parse(&found.name).unwrap_or(Name::literal("anonymous")),
            ));
        };
        self.order_for(&found, &key)?;
        self.emit_lookup(&found, Some(FIRST), false);
        Ok(data)
    }

    /// Interval sets hold keys in network order.
    pub fn order_for(&mut self, set: &Found, key: &Type) -> Result<(), EncodeError> {
        if !set.interval {
            return Ok(());
        }
        let mut offset = 0;
        for field in &key.0 {
            if field.order == Order::Host && field.bytes <= 4 {
                self.emit_to_network(register(offset, field.bytes)?, field.bytes);
            }
            offset += field.padded();
        }
        Ok(())
    }

    /// Loads a header field, or its first bytes only; what does not belong to it is masked out.
    fn load_field(
        &mut self,
        field: Field,
        offset: usize,
        bytes: Option<usize>,
    ) -> Result<Shape, EncodeError> {
        let (base, at, shape) = place(field);
        let bytes = bytes.unwrap_or(shape.bytes);
        let into = register(offset, bytes)?;
        self.emit("payload", |b| {
            b.put_u32(1, into);
            b.put_u32(2, base);
            b.put_u32(3, at);
            b.put_u32(4, bytes as u32);
        });
        if field == Field::IpDscp {
            self.emit_and(into, &[DSCP_MASK]);
        }
        Ok(shape)
    }

    fn shift_right(&mut self, at: u32, bits: u32) {
        self.emit("bitwise", |b| {
            b.put_u32(1, at);
            b.put_u32(2, at);
            b.put_u32(3, 1);
            // NFT_BITWISE_RSHIFT
            b.put_u32(6, 2);
            b.nest(7, |b| b.put(attr::data::VALUE, &bits.to_ne_bytes()));
        });
    }

    fn load_ct(
        &mut self,
        key: CtKey,
        direction: Option<Direction>,
        offset: usize,
    ) -> Result<Shape, EncodeError> {
        // enum nft_ct_keys
        let (number, shape) = match key {
            CtKey::State => (0, shape(Datatype::CtState)),
            CtKey::Status => (2, shape(Datatype::CtStatus)),
            CtKey::Mark => (CT_MARK, shape(Datatype::Mark)),
            CtKey::ProtoSrc => (11, shape(Datatype::InetService)),
            CtKey::ProtoDst => (12, shape(Datatype::InetService)),
            CtKey::IpSaddr => (19, shape(Datatype::Ipv4Addr)),
            CtKey::Ip6Saddr => (21, shape(Datatype::Ipv6Addr)),
            CtKey::Zone => (17, Shape { order: Order::Host, ..shape(Datatype::Integer(2)) }),
        };
        let at = register(offset, shape.bytes)?;
        self.emit("ct", |b| {
            b.put_u32(2, number);
            b.put_u32(1, at);
            if let Some(direction) = direction {
                b.put_u8(3, matches!(direction, Direction::Reply).into());
            }
        });
        Ok(shape)
    }

    /// `extra`: flags of the expression besides those of the tuple.
    fn load_fib(
        &mut self,
        flags: FibFlags,
        result: FibResult,
        offset: usize,
        extra: u32,
    ) -> Result<Shape, EncodeError> {
        let (number, shape) = match result {
            FibResult::Oif => (1, shape(Datatype::Ifindex)),
            FibResult::OifName => (2, shape(Datatype::Ifname)),
            FibResult::AddrType => (3, Shape { code: 38, ..shape(Datatype::HostInteger) }),
        };
        let bits = [(flags.saddr, 1), (flags.daddr, 2), (flags.mark, 4), (flags.iif, 8), (flags.oif, 16)];
        let bits = bits.iter().filter(|(on, _)| *on).fold(extra, |sum, (_, bit)| sum | bit);
        let at = register(offset, shape.bytes)?;
        self.emit("fib", |b| {
            b.put_u32(1, at);
            b.put_u32(2, number);
            b.put_u32(3, bits);
        });
        Ok(shape)
    }

    /// Evaluates an expression into a register, a constant in the form that the target wants.
    pub fn evaluate(&mut self, expr: &Expr, target: Shape, offset: usize) -> Result<Type, EncodeError> {
        if let Expr::Atom(atom) = expr {
            let value = encode(atom, target, target.order)?;
            self.emit_immediate(register(offset, value.len())?, &value);
            return Ok(Type(vec![target]));
        }
        self.load(expr, offset)
    }

    pub fn match_(&mut self, m: &'a Match) -> Result<(), EncodeError> {
        self.require(&m.left);
        match &m.right {
            Operand::Exists(exists) => self.match_exists(&m.left, *exists),
            Operand::Set(set) => {
                let inverted = match m.op {
                    MatchOp::Eq | MatchOp::AnyBit => false,
                    MatchOp::Ne => true,
                    _ => return Err(EncodeError::Unsupported("sets are matched by = and != only")),
                };
                let key = self.load(&m.left, 0)?;
                let found = match set {
                    SetRef::Named(name) => self.encoder.find_set(self.family, self.table, name)?,
                    SetRef::Anonymous(elements) => {
                        self.encoder.anonymous_set(self.family, self.table, &key, None, false, elements)?
                    }
                };
                self.order_for(&found, &key)?;
                self.emit_lookup(&found, None, inverted);
                Ok(())
            }
            Operand::Part(KeyPart::One(atom)) => self.match_one(&m.left, m.op, atom),
            Operand::Part(KeyPart::Prefix(atom, length)) => self.match_prefix(&m.left, m.op, atom, *length),
            Operand::Part(range @ KeyPart::Range(..)) => self.match_range(&m.left, m.op, range),
        }
    }

    /// The result is one byte, but the kernel fills four and nft compares four.
    fn match_exists(&mut self, left: &Expr, exists: bool) -> Result<(), EncodeError> {
        const PRESENT: u32 = 32;
        let Expr::Fib { flags, result: FibResult::Oif } = left else {
            return Err(EncodeError::Unsupported("only a fib lookup of an interface exists or is missing"));
        };
        self.load_fib(*flags, FibResult::Oif, 0, PRESENT)?;
        self.emit_cmp(cmp::EQ, &u32::from(exists).to_ne_bytes());
        Ok(())
    }

    /// Loads the left side of a comparison with a constant, which is shifted instead of the field.
    fn load_left(&mut self, left: &Expr) -> Result<(Shape, u32), EncodeError> {
        if *left == Expr::Payload(Field::IpDscp) {
            return Ok((self.load_field(Field::IpDscp, 0, None)?, DSCP_SHIFT));
        }
        match self.load(left, 0)?.0[..] {
            [field] => Ok((field, 0)),
            _ => Err(EncodeError::Unsupported("a concatenation is matched by sets only")),
        }
    }

    fn match_one(&mut self, left: &Expr, op: MatchOp, atom: &Atom) -> Result<(), EncodeError> {
        let (field, shift) = self.load_left(left)?;
        let ordered = match op {
            MatchOp::Eq => {
                self.establish(left, atom);
                self.emit_cmp(cmp::EQ, &shifted(encode(atom, field, field.order)?, shift));
                return Ok(());
            }
            MatchOp::Ne => {
                self.emit_cmp(cmp::NEQ, &shifted(encode(atom, field, field.order)?, shift));
                return Ok(());
            }
            MatchOp::AnyBit | MatchOp::NoBit => {
                let bits = shifted(encode(atom, field, field.order)?, shift);
                self.emit_and(FIRST, &bits);
                let op = if op == MatchOp::AnyBit { cmp::NEQ } else { cmp::EQ };
                self.emit_cmp(op, &vec![0; bits.len()]);
                return Ok(());
            }
            MatchOp::Lt => cmp::LT,
            MatchOp::Le => cmp::LTE,
            MatchOp::Gt => cmp::GT,
            MatchOp::Ge => cmp::GTE,
        };
        self.comparable(field)?;
        let value = shifted(encode(atom, field, Order::Network)?, shift);
        self.emit_cmp(ordered, &value);
        Ok(())
    }

    /// The kernel compares byte by byte, so a number in host order is turned first.
    fn comparable(&mut self, field: Shape) -> Result<(), EncodeError> {
        match field.order {
            Order::Network => {}
            Order::Host if field.bytes <= 4 => self.emit_to_network(FIRST, field.bytes),
            Order::Host => return Err(EncodeError::Unsupported("names have no order")),
        }
        Ok(())
    }

    fn match_range(&mut self, left: &Expr, op: MatchOp, range: &KeyPart) -> Result<(), EncodeError> {
        let (field, shift) = self.load_left(left)?;
        self.comparable(field)?;
        let (low, high) = bounds(range, field, Order::Network)?;
        let (low, high) = (shifted(low, shift), shifted(high, shift));
        match op {
            MatchOp::Eq => {
                self.emit_cmp(cmp::GTE, &low);
                self.emit_cmp(cmp::LTE, &high);
            }
            MatchOp::Ne => self.emit("range", |b| {
                b.put_u32(1, FIRST);
                // NFT_RANGE_NEQ
                b.put_u32(2, 1);
                b.nest(3, |b| b.put(attr::data::VALUE, &low));
                b.nest(4, |b| b.put(attr::data::VALUE, &high));
            }),
            _ => return Err(EncodeError::Unsupported("ranges are matched by = and != only")),
        }
        Ok(())
    }

    /// A prefix of whole bytes of a header field is a shorter load.
    fn match_prefix(&mut self, left: &Expr, op: MatchOp, atom: &Atom, length: u8) -> Result<(), EncodeError> {
        let op = match op {
            MatchOp::Eq => cmp::EQ,
            MatchOp::Ne => cmp::NEQ,
            _ => return Err(EncodeError::Unsupported("prefixes are matched by = and != only")),
        };
        let length = usize::from(length);
        if let Expr::Payload(field) = left
            && *field != Field::IpDscp
            && length > 0
            && length.is_multiple_of(8)
        {
            let (_, _, shape) = place(*field);
            let bytes = shape.bytes.min(length / 8);
            let value = encode(atom, shape, Order::Network)?;
            self.load_field(*field, 0, Some(bytes))?;
            self.emit_cmp(op, &value[..bytes]);
            return Ok(());
        }
        let (field, _) = self.load_left(left)?;
        if field.order == Order::Host {
            return Err(EncodeError::Unsupported("only values in network order have prefixes"));
        }
        let mask = prefix_mask(length, field.bytes);
        let value: Vec<u8> = encode(atom, field, Order::Network)?
            .iter()
            .zip(&mask)
            .map(|(value, mask)| value & mask)
            .collect();
        self.emit_and(FIRST, &mask);
        self.emit_cmp(op, &value);
        Ok(())
    }

    /// A rule that compares a protocol itself needs no further requirement of it.
    fn establish(&mut self, left: &Expr, atom: &Atom) {
        match (left, atom) {
            (Expr::Meta(MetaKey::NfProto), Atom::NfProto(protocol)) => {
                self.established.network = Some(*protocol);
            }
            (
                Expr::Meta(MetaKey::L4Proto) | Expr::Payload(Field::IpProtocol | Field::Ip6Nexthdr),
                Atom::InetProto(protocol),
            ) => self.established.transport = Some(*protocol),
            _ => {}
        }
    }
}

/// `NFT_REG_1`: where everything is computed that needs one register only.
pub const FIRST: u32 = 1;
/// `NFT_META_MARK`, also for setting.
pub const META_MARK: u32 = meta::MARK;
/// `NFT_CT_MARK`, also for setting.
pub const CT_MARK: u32 = 3;
/// The codepoint is the upper six bits of its byte.
const DSCP_MASK: u8 = 0xfc;
const DSCP_SHIFT: u32 = 2;

fn shifted(mut value: Vec<u8>, bits: u32) -> Vec<u8> {
    for byte in &mut value {
        *byte <<= bits;
    }
    value
}

fn number(value: u32, field: Shape, order: Order) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![];
    put_number(&mut out, value, field, order).ok_or_else(|| EncodeError::WrongType {
        found: format!("mask {value:#x}"),
        wanted: field.datatype,
    })?;
    Ok(out)
}

/// The type of the values of an anonymous map.
fn value_type(elements: &[Element]) -> Result<Type, EncodeError> {
    match elements.first().and_then(|element| element.data.as_ref()) {
        Some(ElementData::Value(atoms)) if !atoms.is_empty() => {
            Ok(Type(atoms.iter().map(|atom| shape(datatype_of(atom))).collect()))
        }
        _ => Err(EncodeError::UntypedMap),
    }
}

fn meta_key(key: MetaKey) -> (u32, Shape) {
    match key {
        MetaKey::Mark => (meta::MARK, shape(Datatype::Mark)),
        MetaKey::Iif => (meta::IIF, shape(Datatype::Ifindex)),
        MetaKey::Oif => (meta::OIF, shape(Datatype::Ifindex)),
        MetaKey::Iifname => (meta::IIFNAME, shape(Datatype::Ifname)),
        MetaKey::Oifname => (meta::OIFNAME, shape(Datatype::Ifname)),
        MetaKey::NfProto => (meta::NFPROTO, shape(Datatype::NfProto)),
        MetaKey::L4Proto => (meta::L4PROTO, shape(Datatype::InetProto)),
        MetaKey::PktType => (meta::PKTTYPE, shape(Datatype::PktType)),
        MetaKey::Cpu => (meta::CPU, shape(Datatype::HostInteger)),
        MetaKey::SkUid => (meta::SKUID, Shape { code: 24, ..shape(Datatype::HostInteger) }),
    }
}

/// Base (`enum nft_payload_bases`), offset in bytes and type of a header field.
fn place(field: Field) -> (u32, u32, Shape) {
    const LINK: u32 = 0;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let (base, offset, datatype) = match field {
        Field::EtherDaddr => (LINK, 0, Datatype::EtherAddr),
        Field::EtherSaddr => (LINK, 6, Datatype::EtherAddr),
        Field::IpDscp => (NETWORK, 1, Datatype::Dscp),
        Field::IpLength => (NETWORK, 2, Datatype::Integer(2)),
        Field::IpFragOff => (NETWORK, 6, Datatype::Integer(2)),
        Field::IpTtl => (NETWORK, 8, Datatype::Integer(1)),
        Field::IpProtocol => (NETWORK, 9, Datatype::InetProto),
        Field::IpSaddr => (NETWORK, 12, Datatype::Ipv4Addr),
        Field::IpDaddr => (NETWORK, 16, Datatype::Ipv4Addr),
        Field::Ip6Nexthdr => (NETWORK, 6, Datatype::InetProto),
        Field::Ip6Saddr => (NETWORK, 8, Datatype::Ipv6Addr),
        Field::Ip6Daddr => (NETWORK, 24, Datatype::Ipv6Addr),
        Field::TcpSport | Field::UdpSport | Field::ThSport => (TRANSPORT, 0, Datatype::InetService),
        Field::TcpDport | Field::UdpDport | Field::ThDport => (TRANSPORT, 2, Datatype::InetService),
        Field::TcpFlags => (TRANSPORT, 13, Datatype::TcpFlags),
        Field::IcmpType => (TRANSPORT, 0, Datatype::IcmpType),
        Field::Icmpv6Type => (TRANSPORT, 0, Datatype::Icmpv6Type),
    };
    (base, offset, shape(datatype))
}

/// What the kernel needs to know of an anonymous set.
pub fn anonymous_layout(key: &Type, data: Option<Type>, elements: &[Element]) -> Layout {
    let interval = elements.iter().any(|element| match &element.key {
        glacis_plan::nft::Key::Fields(parts) => parts.iter().any(|part| !matches!(part, KeyPart::One(_))),
        glacis_plan::nft::Key::CatchAll => false,
    });
    Layout { key: key.clone(), data, interval, merge: false }
}
