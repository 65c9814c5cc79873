//! Statements of a rule.

use super::buffer::Buffer;
use super::declare::{TEXT_BYTES_MAX, network};
use super::elements::put_verdict;
use super::error::EncodeError;
use super::expression::{CT_MARK, FIRST, META_MARK, RuleEncoder};
use super::types::{Order, encode, register, shape};
use super::uapi::{FLAG_INVERT, NFPROTO_INET, attr, object_type, synproxy_option};
use glacis_plan::nft::{
    Datatype, DynSetOp, Expr, Family, Limit, LimitUnit, Log, Name, NatAddress, NatFlags, NatKind, NfProto,
    Quota, Reject, Statement, Synproxy, Verdict, VerdictMap,
};
use std::time::Duration;

impl<'a> RuleEncoder<'_, 'a> {
    pub fn statement(&mut self, statement: &'a Statement) -> Result<(), EncodeError> {
        match statement {
            Statement::Match(m) => self.match_(m)?,
            Statement::Verdict(verdict) => self.verdict(verdict),
            Statement::VerdictMap { key, map } => self.verdict_map(key, map)?,
            Statement::Counter | Statement::Limit(_) | Statement::Quota(_) | Statement::ConnLimit { .. } => {
                self.body.nest(attr::LIST_ELEM, |b| put_stateful(b, statement))?;
            }
            Statement::CounterRef(name) => self.object(object_type::COUNTER, name),
            Statement::LimitRef(name) => self.object(object_type::LIMIT, name),
            Statement::QuotaRef(name) => self.object(object_type::QUOTA, name),
            Statement::SynproxyRef(name) => self.object(object_type::SYNPROXY, name),
            Statement::CtHelperRef(name) => self.object(object_type::CT_HELPER, name),
            Statement::CtTimeoutRef(name) => self.object(object_type::CT_TIMEOUT, name),
            Statement::Log(log) => self.log(log)?,
            Statement::Reject(reject) => self.reject(*reject),
            Statement::Notrack => self.emit("notrack", |_| ()),
            Statement::FlowOffload(name) => self.emit("flow_offload", |b| b.put_text(1, name.as_str())),
            Statement::Synproxy(synproxy) => self.emit("synproxy", |b| put_synproxy(b, *synproxy)),
            Statement::SetMetaMark(value) => {
                self.require(value);
                self.evaluate(value, shape(Datatype::Mark), 0)?;
                self.emit("meta", |b| {
                    b.put_u32(2, META_MARK);
                    b.put_u32(3, FIRST);
                });
            }
            Statement::SetCtMark(value) => {
                self.require(value);
                self.evaluate(value, shape(Datatype::Mark), 0)?;
                self.emit("ct", |b| {
                    b.put_u32(2, CT_MARK);
                    b.put_u32(4, FIRST);
                });
            }
            Statement::SetMaxseg(value) => self.set_maxseg(value)?,
            Statement::DynSet { op, set, key, timeout, statements } => {
                self.dynamic_set(*op, set, key, *timeout, statements)?;
            }
            Statement::Masquerade(flags) => self.emit("masq", |b| put_flags(b, 1, nat_flags(*flags))),
            Statement::Redirect { port, flags } => self.redirect(port.as_ref(), *flags)?,
            Statement::Nat { kind, family, address, port, flags } => {
                self.nat(*kind, *family, address, port.as_ref(), *flags)?;
            }
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.emit("immediate", |b| {
            // NFT_REG_VERDICT
            b.put_u32(1, 0);
            b.nest(2, |b| put_verdict(b, verdict));
        });
    }

    fn verdict_map(&mut self, key: &Expr, map: &VerdictMap) -> Result<(), EncodeError> {
        self.require(key);
        let key = self.load(key, 0)?;
        let found = match map {
            VerdictMap::Named(name) => self.encoder.find_set(self.family, self.table, name)?,
            VerdictMap::Anonymous(elements) => {
                self.encoder.anonymous_set(self.family, self.table, &key, None, true, elements)?
            }
        };
        self.order_for(&found, &key)?;
        self.emit_lookup(&found, Some(0), false);
        Ok(())
    }

    fn object(&mut self, kind: u32, name: &Name) {
        self.emit("objref", |b| {
            b.put_u32(1, kind);
            b.put_text(2, name.as_str());
        });
    }

    fn log(&mut self, log: &Log) -> Result<(), EncodeError> {
        if let Some(prefix) = log.prefix.as_ref().filter(|prefix| prefix.len() > TEXT_BYTES_MAX) {
            return Err(EncodeError::LongText(prefix.clone()));
        }
        self.emit("log", |b| {
            if let Some(group) = log.group {
                b.put_u16(1, group);
            }
            if let Some(prefix) = &log.prefix {
                b.put_text(2, prefix);
            }
            if let Some(snaplen) = log.snaplen {
                b.put_u32(3, snaplen);
            }
            if let Some(threshold) = log.queue_threshold {
                b.put_u16(4, threshold);
            }
            if let Some(level) = log.level {
                b.put_u32(5, level.into());
            }
        });
        Ok(())
    }

    /// The abstracted codes (`NFT_REJECT_ICMPX_*`) hold where both families meet; elsewhere ICMP's own.
    fn reject(&mut self, reject: Reject) {
        const ICMP_UNREACH: u32 = 0;
        const TCP_RST: u32 = 1;
        const ICMPX_UNREACH: u32 = 2;
        let (icmp, icmpv6, icmpx) = match reject {
            Reject::TcpReset | Reject::NoRoute => (0, 0, 0),
            Reject::PortUnreachable => (3, 4, 1),
            Reject::HostUnreachable => (1, 3, 2),
            Reject::AdminProhibited => (13, 1, 3),
        };
        let (kind, code) = match (reject, self.family) {
            (Reject::TcpReset, _) => {
                self.require_transport(libc::IPPROTO_TCP);
                (TCP_RST, 0)
            }
            (_, Family::Ip) => (ICMP_UNREACH, icmp),
            (_, Family::Ip6) => (ICMP_UNREACH, icmpv6),
            (_, Family::Inet | Family::Netdev) => (ICMPX_UNREACH, icmpx),
        };
        self.emit("reject", |b| {
            b.put_u32(1, kind);
            b.put_u8(2, code);
        });
    }

    fn set_maxseg(&mut self, value: &Expr) -> Result<(), EncodeError> {
        const TCPOPT_MAXSEG: u8 = 2;
        /// The value stands behind the option's kind and length.
        const VALUE_OFFSET: u32 = 2;
        self.require(value);
        let loaded = self.evaluate(value, shape(Datatype::Integer(2)), 0)?;
        if loaded.order() == Order::Host {
            self.emit_to_network(FIRST, 2);
        }
        self.emit("exthdr", |b| {
            b.put_u32(7, FIRST);
            b.put_u8(2, TCPOPT_MAXSEG);
            b.put_u32(3, VALUE_OFFSET);
            b.put_u32(4, 2);
            // NFT_EXTHDR_OP_TCPOPT
            b.put_u32(6, 1);
        });
        Ok(())
    }

    fn dynamic_set(
        &mut self,
        op: DynSetOp,
        set: &Name,
        key: &Expr,
        timeout: Option<Duration>,
        statements: &[Statement],
    ) -> Result<(), EncodeError> {
        /// Several expressions come as a list (`NFT_DYNSET_F_EXPR`).
        const LISTED: u32 = 2;
        self.require(key);
        let key = self.load(key, 0)?;
        let found = self.encoder.find_set(self.family, self.table, set)?;
        self.order_for(&found, &key)?;
        let mut stateful = Buffer::default();
        for statement in statements {
            match statements.len() {
                1 => stateful.nest(7, |b| put_stateful(b, statement))?,
                _ => stateful.nest(attr::LIST_ELEM, |b| put_stateful(b, statement))?,
            }
        }
        self.emit("dynset", |b| {
            b.put_u32(4, FIRST);
            b.put_u32(
                3,
                match op {
                    DynSetOp::Add => 0,
                    DynSetOp::Update => 1,
                    DynSetOp::Delete => 2,
                },
            );
            if let Some(timeout) = timeout {
                b.put_u64(6, timeout.as_millis() as u64);
            }
            b.put_text(1, &found.name);
            b.put_u32(2, found.id);
            match statements.len() {
                0 => {}
                1 => b.append(&stateful),
                _ => {
                    b.put_u32(9, LISTED);
                    b.nest(10, |b| b.append(&stateful));
                }
            }
        });
        Ok(())
    }

    fn redirect(&mut self, port: Option<&Expr>, flags: NatFlags) -> Result<(), EncodeError> {
        let mut bits = nat_flags(flags);
        if let Some(port) = port {
            self.require(port);
            self.evaluate(port, shape(Datatype::InetService), 0)?;
            bits |= NAT_PROTO_SPECIFIED;
        }
        self.emit("redir", |b| {
            if port.is_some() {
                b.put_u32(1, FIRST);
            }
            put_flags(b, 3, bits);
        });
        Ok(())
    }

    /// Each value starts a register of 16 bytes; a map may yield address and port in one.
    fn nat(
        &mut self,
        kind: NatKind,
        family: NfProto,
        address: &NatAddress,
        port: Option<&Expr>,
        flags: NatFlags,
    ) -> Result<(), EncodeError> {
        let target = shape(match family {
            NfProto::Ipv4 => Datatype::Ipv4Addr,
            NfProto::Ipv6 => Datatype::Ipv6Addr,
        });
        let (mut low, mut high, mut port_at) = (None, None, None);
        let mut offset = 0;
        match address {
            NatAddress::Keep => {}
            NatAddress::Expr(expr) => {
                self.require(expr);
                let value = self.evaluate(expr, target, 0)?;
                low = Some(register(0, target.bytes)?);
                if value.is_concatenation() {
                    port_at = Some(register(target.padded(), 2)?);
                }
                offset = 16;
            }
            NatAddress::Range(first, last) => {
                for (atom, at, into) in [(first, 0, &mut low), (last, 16, &mut high)] {
                    let value = encode(atom, target, Order::Network)?;
                    let at = register(at, value.len())?;
                    self.emit_immediate(at, &value);
                    *into = Some(at);
                }
                offset = 32;
            }
        }
        if let Some(port) = port {
            self.evaluate(port, shape(Datatype::InetService), offset)?;
            port_at = Some(register(offset, 2)?);
        }
        // Without an address the rule is for both families.
        let both = matches!(address, NatAddress::Keep) && self.family == Family::Inet;
        let family = if both { NFPROTO_INET } else { network(family) };
        self.emit("nat", |b| {
            b.put_u32(1, matches!(kind, NatKind::Dnat).into());
            b.put_u32(2, family.into());
            for (attribute, value) in [(3, low), (4, high), (5, port_at)] {
                if let Some(value) = value {
                    b.put_u32(attribute, value);
                }
            }
            put_flags(b, 7, nat_flags(flags));
        });
        Ok(())
    }
}

/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAT_PROTO_SPECIFIED: u32 = 2;

/// `NF_NAT_RANGE_*`; the kernel itself adds the flags for address and port.
fn nat_flags(flags: NatFlags) -> u32 {
    let bits = [(flags.random, 4), (flags.persistent, 8), (flags.fully_random, 16)];
    bits.iter().filter(|(on, _)| *on).fold(0, |sum, (_, bit)| sum | bit)
}

fn put_flags(buffer: &mut Buffer, kind: u16, flags: u32) {
    if flags != 0 {
        buffer.put_u32(kind, flags);
    }
}

/// A statement that has a state: in a rule, or in the elements of a dynamic set.
fn put_stateful(buffer: &mut Buffer, statement: &Statement) -> Result<(), EncodeError> {
    let mut put = |name: &str, data: &dyn Fn(&mut Buffer)| {
        buffer.put_text(attr::expr::NAME, name);
        buffer.nest(attr::expr::DATA, data);
    };
    match statement {
        Statement::Counter => put_counter(buffer),
        Statement::Limit(limit) => put("limit", &|b| put_limit(b, *limit)),
        Statement::Quota(quota) => put("quota", &|b| put_quota(b, *quota)),
        Statement::ConnLimit { count, over } => put("connlimit", &|b| {
            b.put_u32(1, *count);
            b.put_u32(2, if *over { FLAG_INVERT } else { 0 });
        }),
        _ => return Err(EncodeError::Unsupported("elements take limit, counter, quota and ct count only")),
    }
    Ok(())
}

/// A counter at zero, as name and data of an expression.
pub fn put_counter(buffer: &mut Buffer) {
    buffer.put_text(attr::expr::NAME, "counter");
    buffer.nest(attr::expr::DATA, |b| {
        b.put_u64(attr::counter::BYTES, 0);
        b.put_u64(attr::counter::PACKETS, 0);
    });
}

pub fn put_limit(buffer: &mut Buffer, limit: Limit) {
    buffer.put_u64(attr::limit::RATE, limit.rate);
    buffer.put_u64(attr::limit::UNIT, limit.per.seconds());
    buffer.put_u32(attr::limit::BURST, limit.burst);
    buffer.put_u32(attr::limit::TYPE, matches!(limit.unit, LimitUnit::Bytes).into());
    buffer.put_u32(attr::limit::FLAGS, if limit.over { FLAG_INVERT } else { 0 });
}

pub fn put_quota(buffer: &mut Buffer, quota: Quota) {
    buffer.put_u64(attr::quota::BYTES, quota.bytes);
    buffer.put_u32(attr::quota::FLAGS, if quota.over { FLAG_INVERT } else { 0 });
}

pub fn put_synproxy(buffer: &mut Buffer, synproxy: Synproxy) {
    let mut flags = 0;
    if let Some(mss) = synproxy.mss {
        buffer.put_u16(attr::synproxy::MSS, mss);
        flags |= synproxy_option::MSS;
    }
    if let Some(wscale) = synproxy.wscale {
        buffer.put_u8(attr::synproxy::WSCALE, wscale);
        flags |= synproxy_option::WSCALE;
    }
    if synproxy.timestamp {
        flags |= synproxy_option::TIMESTAMP;
    }
    if synproxy.sack_perm {
        flags |= synproxy_option::SACK_PERM;
    }
    buffer.put_u32(attr::synproxy::FLAGS, flags);
}
