//! Messages that declare and delete tables, chains, sets, objects and flowtables.

use super::batch::Batch;
use super::buffer::Buffer;
use super::elements::Layout;
use super::error::EncodeError;
use super::statement::{put_counter, put_limit, put_quota, put_synproxy};
use super::typeof_set;
use super::types::Order;
use super::uapi::{
    NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_NETDEV, NFT_DATA_VERDICT, NFT_FLOWTABLE_COUNTER,
    NLM_F_CREATE, attr, message, object_type, set_flag, udata,
};
use glacis_plan::nft::{
    BasePolicy, Chain, ChainType, CtTimeoutPolicy, Family, Flowtable, Hook, HookPoint, L4Proto, MapData,
    Name, NfProto, Object, ObjectKind, Set,
};

/// Longest comment or log prefix in bytes, without a final NUL.
pub const TEXT_BYTES_MAX: usize = 127;

pub const fn family(family: Family) -> u8 {
    match family {
        Family::Inet => NFPROTO_INET,
        Family::Ip => NFPROTO_IPV4,
        Family::Ip6 => NFPROTO_IPV6,
        Family::Netdev => NFPROTO_NETDEV,
    }
}

pub const fn network(protocol: NfProto) -> u8 {
    match protocol {
        NfProto::Ipv4 => NFPROTO_IPV4,
        NfProto::Ipv6 => NFPROTO_IPV6,
    }
}

pub const fn transport(protocol: L4Proto) -> u8 {
    match protocol {
        L4Proto::Tcp => libc::IPPROTO_TCP as u8,
        L4Proto::Udp => libc::IPPROTO_UDP as u8,
    }
}

/// A comment the way libnftnl stores it: tag, length, text with its NUL.
pub fn put_comment(buffer: &mut Buffer, kind: u16, tag: u8, text: &str) -> Result<(), EncodeError> {
    buffer.put(kind, &comment_bytes(tag, text)?);
    Ok(())
}

fn comment_bytes(tag: u8, text: &str) -> Result<Vec<u8>, EncodeError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(EncodeError::LongText(text.to_owned()));
    }
    let mut bytes = vec![tag, text.len() as u8 + 1];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    Ok(bytes)
}

pub fn add_table(batch: &mut Batch, family_: Family, table: &Name) {
    batch.message(message::NEW_TABLE, NLM_F_CREATE, family(family_), |b| {
        b.put_text(attr::table::NAME, table.as_str());
        b.put_u32(attr::table::FLAGS, 0);
    });
}

pub fn delete_table(batch: &mut Batch, family_: Family, table: &Name) {
    batch.message(message::DEL_TABLE, 0, family(family_), |b| b.put_text(attr::table::NAME, table.as_str()));
}

/// Deletes what a table and a name tell: set, chain or flowtable.
pub fn delete_named(batch: &mut Batch, kind: u16, family_: Family, table: (u16, &Name), name: (u16, &Name)) {
    batch.message(kind, 0, family(family_), |b| {
        b.put_text(table.0, table.1.as_str());
        b.put_text(name.0, name.1.as_str());
    });
}

pub fn add_chain(batch: &mut Batch, family_: Family, table: &Name, chain: &Chain) -> Result<(), EncodeError> {
    let number = chain.hook.as_ref().map(|hook| hook_number(family_, hook.point)).transpose()?;
    batch.message(message::NEW_CHAIN, NLM_F_CREATE, family(family_), |b| {
        b.put_text(attr::chain::TABLE, table.as_str());
        b.put_text(attr::chain::NAME, chain.name.as_str());
        if let (Some(hook), Some(number)) = (&chain.hook, number) {
            put_hook(b, hook, number);
        }
    });
    Ok(())
}

fn put_hook(buffer: &mut Buffer, hook: &Hook, number: u32) {
    buffer.nest(attr::chain::HOOK, |b| {
        b.put_u32(attr::hook::NUMBER, number);
        b.put_u32(attr::hook::PRIORITY, hook.priority as u32);
        if let Some(device) = &hook.device {
            b.put_text(attr::hook::DEVICE, device);
        }
    });
    buffer.put_u32(attr::chain::POLICY, policy_number(hook.policy));
    buffer.put_text(attr::chain::TYPE, chain_type(hook.kind));
}

pub const fn policy_number(policy: BasePolicy) -> u32 {
    match policy {
        BasePolicy::Drop => libc::NF_DROP as u32,
        BasePolicy::Accept => libc::NF_ACCEPT as u32,
    }
}

pub const fn chain_type(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
        ChainType::Route => "route",
    }
}

/// `enum nf_inet_hooks`; `enum nf_dev_hooks` for the netdev family.
pub const fn hook_number(family: Family, point: HookPoint) -> Result<u32, EncodeError> {
    Ok(match (family, point) {
        (Family::Netdev, HookPoint::Ingress) => 0,
        (Family::Netdev, HookPoint::Egress) => 1,
        (Family::Netdev, _) => return Err(EncodeError::Unsupported("netdev chains hook ingress or egress")),
        (_, HookPoint::Prerouting) => 0,
        (_, HookPoint::Input) => 1,
        (_, HookPoint::Forward) => 2,
        (_, HookPoint::Output) => 3,
        (_, HookPoint::Postrouting) => 4,
        (Family::Inet, HookPoint::Ingress) => 5,
        (_, HookPoint::Ingress | HookPoint::Egress) => {
            return Err(EncodeError::Unsupported("this family has no such hook"));
        }
    })
}

/// What a set is to the kernel, named or anonymous.
#[derive(Debug)]
pub struct SetDeclaration<'a> {
    pub name: &'a str,
    pub id: u32,
    /// Flags besides those that follow from the layout.
    pub flags: u32,
    pub layout: &'a Layout,
    pub verdicts: bool,
    pub size: Option<u32>,
    pub timeout_ms: Option<u64>,
    pub counter: bool,
    pub comment: Option<&'a str>,
    pub auto_merge: bool,
}

pub fn add_set(
    batch: &mut Batch,
    family_: Family,
    table: &Name,
    set: &Set,
    id: u32,
) -> Result<(), EncodeError> {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let declaration = SetDeclaration {
        name: set.name.as_str(),
        id,
        flags: flag(set.flags.constant, set_flag::CONSTANT)
            | flag(set.flags.timeout, set_flag::TIMEOUT)
            | flag(set.flags.dynamic, set_flag::EVAL),
        layout: &Layout::of(set),
        verdicts: matches!(set.data, Some(MapData::Verdict)),
        size: set.size,
        timeout_ms: set.timeout.map(|timeout| timeout.as_millis() as u64),
        counter: set.counter,
        comment: set.comment.as_deref(),
        auto_merge: set.flags.auto_merge,
    };
    declare_set(batch, family_, table, &declaration)
}

/// Flags that the kernel compares when a set is declared again.
pub fn layout_flags(layout: &Layout, verdicts: bool) -> u32 {
    let mut flags = 0;
    if layout.interval {
        flags |= set_flag::INTERVAL;
        // Only with this flag may the field lengths be told; without it the set is a hash.
        if layout.key.is_concatenation() {
            flags |= set_flag::CONCAT;
        }
    }
    if layout.data.is_some() || verdicts {
        flags |= set_flag::MAP;
    }
    flags
}

pub fn declare_set(
    batch: &mut Batch,
    family_: Family,
    table: &Name,
    set: &SetDeclaration<'_>,
) -> Result<(), EncodeError> {
    let userdata = set_userdata(set)?;
    let layout = set.layout;
    let flags = set.flags | layout_flags(layout, set.verdicts);
    batch.message(message::NEW_SET, NLM_F_CREATE, family(family_), |b| {
        b.put_text(attr::set::TABLE, table.as_str());
        b.put_text(attr::set::NAME, set.name);
        b.put_u32(attr::set::FLAGS, flags);
        b.put_u32(attr::set::KEY_TYPE, layout.key.code());
        b.put_u32(attr::set::KEY_LEN, layout.key.bytes() as u32);
        if set.verdicts {
            b.put_u32(attr::set::DATA_TYPE, NFT_DATA_VERDICT);
            b.put_u32(attr::set::DATA_LEN, 0);
        } else if let Some(data) = &layout.data {
            b.put_u32(attr::set::DATA_TYPE, data.code());
            b.put_u32(attr::set::DATA_LEN, data.bytes() as u32);
        }
        b.put_u32(attr::set::ID, set.id);
        put_description(b, set.size, (flags & set_flag::CONCAT != 0).then_some(layout));
        if let Some(timeout) = set.timeout_ms {
            b.put_u64(attr::set::TIMEOUT, timeout);
        }
        b.put(attr::set::USERDATA, &userdata);
        if set.counter {
            b.nest(attr::set::EXPR, put_counter);
        }
    });
    Ok(())
}

fn put_description(buffer: &mut Buffer, size: Option<u32>, fields: Option<&Layout>) {
    if size.is_none() && fields.is_none() {
        return;
    }
    buffer.nest(attr::set::DESC, |b| {
        if let Some(size) = size {
            b.put_u32(attr::set_desc::SIZE, size);
        }
        if let Some(layout) = fields {
            b.nest(attr::set_desc::CONCAT, |b| {
                for field in &layout.key.0 {
                    b.nest(attr::LIST_ELEM, |b| b.put_u32(attr::set_desc::FIELD_LEN, field.bytes as u32));
                }
            });
        }
    });
}

/// What `nft` needs to print keys, values, `auto-merge` and the comment.
fn set_userdata(set: &SetDeclaration<'_>) -> Result<Vec<u8>, EncodeError> {
    let order = |order| match order {
        Order::Host => udata::ORDER_HOST,
        Order::Network => udata::ORDER_NETWORK,
    };
    let mut bytes = vec![];
    let mut word = |tag: u8, value: u32| {
        bytes.extend_from_slice(&[tag, 4]);
        bytes.extend_from_slice(&value.to_ne_bytes());
    };
    word(udata::SET_KEY_ORDER, order(set.layout.key.order()));
    if set.verdicts {
        word(udata::SET_DATA_ORDER, udata::ORDER_NONE);
    } else if let Some(data) = &set.layout.data {
        word(udata::SET_DATA_ORDER, order(data.order()));
    }
    if set.auto_merge {
        word(udata::SET_MERGE, 1);
    }
    put_typeof(&mut bytes, set.layout);
    if let Some(comment) = set.comment {
        bytes.extend(comment_bytes(udata::SET_COMMENT, comment)?);
    }
    Ok(bytes)
}

fn put_typeof(bytes: &mut Vec<u8>, layout: &Layout) {
    let types = [(udata::SET_KEY_TYPEOF, Some(&layout.key)), (udata::SET_DATA_TYPEOF, layout.data.as_ref())];
    let types = types.map(|(tag, type_)| Some((tag, type_?)));
    if types.iter().flatten().any(|(_, type_)| typeof_set::is_needed(type_)) {
        bytes.extend(
            types.iter().flatten().filter_map(|(tag, type_)| typeof_set::tagged(*tag, type_)).flatten(),
        );
    }
}

pub const fn object_number(kind: &ObjectKind) -> u32 {
    match kind {
        ObjectKind::Counter => object_type::COUNTER,
        ObjectKind::Quota(_) => object_type::QUOTA,
        ObjectKind::Limit(_) => object_type::LIMIT,
        ObjectKind::CtHelper { .. } => object_type::CT_HELPER,
        ObjectKind::CtTimeout(_) => object_type::CT_TIMEOUT,
        ObjectKind::Synproxy(_) => object_type::SYNPROXY,
    }
}

pub fn add_object(
    batch: &mut Batch,
    family_: Family,
    table: &Name,
    object: &Object,
) -> Result<(), EncodeError> {
    batch.message(message::NEW_OBJECT, NLM_F_CREATE, family(family_), |b| {
        b.put_text(attr::object::TABLE, table.as_str());
        b.put_text(attr::object::NAME, object.name.as_str());
        b.put_u32(attr::object::TYPE, object_number(&object.kind));
        b.nest(attr::object::DATA, |b| put_object(b, &object.kind))?;
        match &object.comment {
            Some(comment) => put_comment(b, attr::object::USERDATA, udata::COMMENT, comment),
            None => Ok(()),
        }
    })
}

pub fn delete_object(batch: &mut Batch, family_: Family, table: &Name, object: &Object) {
    batch.message(message::DEL_OBJECT, 0, family(family_), |b| {
        b.put_text(attr::object::TABLE, table.as_str());
        b.put_text(attr::object::NAME, object.name.as_str());
        b.put_u32(attr::object::TYPE, object_number(&object.kind));
    });
}

fn put_object(buffer: &mut Buffer, kind: &ObjectKind) -> Result<(), EncodeError> {
    match kind {
        ObjectKind::Counter => {
            buffer.put_u64(attr::counter::BYTES, 0);
            buffer.put_u64(attr::counter::PACKETS, 0);
        }
        ObjectKind::Quota(quota) => put_quota(buffer, *quota),
        ObjectKind::Limit(limit) => put_limit(buffer, *limit),
        ObjectKind::CtHelper { helper, protocol, l3 } => {
            buffer.put_text(attr::ct_helper::NAME, helper);
            if let Some(l3) = l3 {
                buffer.put_u16(attr::ct_helper::L3PROTO, network(*l3).into());
            }
            buffer.put_u8(attr::ct_helper::L4PROTO, transport(*protocol));
        }
        ObjectKind::CtTimeout(policy) => return put_timeout_policy(buffer, policy),
        ObjectKind::Synproxy(synproxy) => put_synproxy(buffer, *synproxy),
    }
    Ok(())
}

/// `CTA_TIMEOUT_TCP_*` and `CTA_TIMEOUT_UDP_*` of `linux/netfilter/nfnetlink_cttimeout.h`.
pub const TCP_STATES: [(&str, u16); 11] = [
    ("syn_sent", 1),
    ("syn_recv", 2),
    ("established", 3),
    ("fin_wait", 4),
    ("close_wait", 5),
    ("last_ack", 6),
    ("time_wait", 7),
    ("close", 8),
    ("syn_sent2", 9),
    ("retrans", 10),
    ("unack", 11),
];
pub const UDP_STATES: [(&str, u16); 2] = [("unreplied", 1), ("replied", 2)];

fn put_timeout_policy(buffer: &mut Buffer, policy: &CtTimeoutPolicy) -> Result<(), EncodeError> {
    let states: &[(&str, u16)] = match policy.protocol {
        L4Proto::Tcp => &TCP_STATES,
        L4Proto::Udp => &UDP_STATES,
    };
    buffer.put_u16(attr::ct_timeout::L3PROTO, network(policy.l3).into());
    buffer.put_u8(attr::ct_timeout::L4PROTO, transport(policy.protocol));
    buffer.nest(attr::ct_timeout::DATA, |b| {
        for (state, after) in &policy.states {
            let (_, number) = states
                .iter()
                .find(|(name, _)| name == state)
                .ok_or(EncodeError::Unsupported("this protocol has no such conntrack state"))?;
            b.put_u32(*number, u32::try_from(after.as_secs()).unwrap_or(u32::MAX));
        }
        Ok(())
    })
}

pub fn add_flowtable(batch: &mut Batch, family_: Family, table: &Name, flowtable: &Flowtable) {
    batch.message(message::NEW_FLOWTABLE, NLM_F_CREATE, family(family_), |b| {
        b.put_text(attr::flowtable::TABLE, table.as_str());
        b.put_text(attr::flowtable::NAME, flowtable.name.as_str());
        b.nest(attr::flowtable::HOOK, |b| {
            // NF_NETDEV_INGRESS, the only hook a flowtable has.
            b.put_u32(attr::flowtable_hook::NUMBER, 0);
            b.put_u32(attr::flowtable_hook::PRIORITY, flowtable.priority as u32);
            b.nest(attr::flowtable_hook::DEVICES, |b| {
                for device in &flowtable.devices {
                    b.put_text(attr::DEVICE_NAME, device);
                }
            });
        });
        if flowtable.counter {
            b.put_u32(attr::flowtable::FLAGS, NFT_FLOWTABLE_COUNTER);
        }
    });
}
