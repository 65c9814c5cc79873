//! What the kernel holds: structure, counters, and the elements of small sets.

use super::Connection;
use super::buffer::Attributes;
use super::connection::{DumpError, is_of};
use super::declare::{self, TCP_STATES, UDP_STATES, family as family_number, hook_number};
use super::error::NftError;
use super::types::{Order, Type, datatype};
use super::uapi::{
    FLAG_INVERT, NFPROTO_IPV4, NFPROTO_IPV6, NFT_DATA_VERDICT, NFT_FLOWTABLE_COUNTER, attr, message,
    object_type, set_flag, synproxy_option, udata,
};
use glacis_plan::nft::{
    BasePolicy, Chain, ChainType, CtTimeoutPolicy, Elements, Family, Flowtable, Hook, HookPoint, Inventory,
    L4Proto, Limit, LimitUnit, MapData, Name, NfProto, Object, ObjectKind, Per, Quota, Set, SetFlags,
    Synproxy, Table,
};
use std::time::Duration;

/// Something found that the model has no words for.
struct Foreign;

/// One rule as far as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRule {
    pub chain: Name,
    pub comment: Option<String>,
    /// The rule's first counter.
    pub counter: Option<Count>,
}

/// What a counter has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// The counters of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Every rule of the table, in order within its chain.
    pub rules: Vec<ObservedRule>,
    pub named: Vec<(Name, Count)>,
}

impl Connection {
    /// What is there of these tables, without rules and elements.
    pub fn inventory(&mut self, tables: &[(Family, Name)]) -> Result<Inventory, NftError> {
        self.steadily(|connection| {
            let mut inventory = Inventory::default();
            for (family, name) in tables {
                match connection.table(*family, name)? {
                    None => {}
                    Some(Ok(table)) => inventory.tables.push(table),
                    Some(Err(Foreign)) => inventory.foreign.push((*family, name.clone())),
                }
            }
            Ok(inventory)
        })
    }

    /// Counters of the rules of a table, with the comments that tell them apart, and its named counters.
    pub fn counters(&mut self, family: Family, table: &Name) -> Result<Counters, NftError> {
        let mut counters = self.steadily(|connection| {
            let rules = connection.rules(family, table)?;
            Ok(Counters { rules, named: vec![] })
        })?;
        counters.named = self.steadily(|connection| connection.dump_named_counters(family, table))?;
        Ok(counters)
    }

    /// The named counters of a table alone: a short reading, however many rules there are.
    pub fn named_counters(&mut self, family: Family, table: &Name) -> Result<Vec<(Name, Count)>, NftError> {
        self.steadily(|connection| connection.dump_named_counters(family, table))
    }

    fn table(&mut self, family: Family, name: &Name) -> Result<Option<Result<Table, Foreign>>, DumpError> {
        let mut table = Table::new(family, name.clone());
        let number = family_number(family);
        let mut there = false;
        self.dump(
            message::GET_TABLE,
            number,
            "tables",
            |_| (),
            |attributes| {
                there |= is_of(attributes, attr::table::NAME, &table);
                Ok(())
            },
        )?;
        if !there {
            return Ok(None);
        }
        let (mut chains, mut sets, mut objects, mut flowtables) = (vec![], vec![], vec![], vec![]);
        self.dump(
            message::GET_CHAIN,
            number,
            "chains",
            |_| (),
            |attributes| {
                if is_of(attributes, attr::chain::TABLE, &table) {
                    chains.push(chain(family, attributes).ok_or(Foreign));
                }
                Ok(())
            },
        )?;
        let ask = |b: &mut super::buffer::Buffer| b.put_text(attr::set::TABLE, name.as_str());
        self.dump(message::GET_SET, number, "sets", ask, |attributes| {
            if is_of(attributes, attr::set::TABLE, &table) && !is_anonymous(attributes) {
                sets.push(set(attributes).ok_or(Foreign));
            }
            Ok(())
        })?;
        let ask = |b: &mut super::buffer::Buffer| b.put_text(attr::object::TABLE, name.as_str());
        self.dump(message::GET_OBJECT, number, "objects", ask, |attributes| {
            if is_of(attributes, attr::object::TABLE, &table) {
                objects.push(object(attributes).ok_or(Foreign));
            }
            Ok(())
        })?;
        let ask = |b: &mut super::buffer::Buffer| b.put_text(attr::flowtable::TABLE, name.as_str());
        self.dump(message::GET_FLOWTABLE, number, "flowtables", ask, |attributes| {
            if is_of(attributes, attr::flowtable::TABLE, &table) {
                flowtables.push(flowtable(attributes).ok_or(Foreign));
            }
            Ok(())
        })?;
        let mut fill = || -> Result<(), Foreign> {
            table.chains = chains.drain(..).collect::<Result<_, _>>()?;
            table.sets = sets.drain(..).collect::<Result<_, _>>()?;
            table.objects = objects.drain(..).collect::<Result<_, _>>()?;
            table.flowtables = flowtables.drain(..).collect::<Result<_, _>>()?;
            Ok(())
        };
        let filled = fill();
        Ok(Some(filled.map(|()| table)))
    }

    pub(super) fn rules(&mut self, family: Family, table: &Name) -> Result<Vec<ObservedRule>, DumpError> {
        let table = Table::new(family, table.clone());
        let mut rules = vec![];
        let ask = |b: &mut super::buffer::Buffer| b.put_text(attr::rule::TABLE, table.name.as_str());
        self.dump(message::GET_RULE, family_number(family), "rules", ask, |attributes| {
            if is_of(attributes, attr::rule::TABLE, &table) {
                rules.push(rule(attributes).ok_or(NftError::Malformed("a rule"))?);
            }
            Ok(())
        })?;
        Ok(rules)
    }

    fn dump_named_counters(&mut self, family: Family, table: &Name) -> Result<Vec<(Name, Count)>, DumpError> {
        let table = Table::new(family, table.clone());
        let mut named = vec![];
        let ask = |b: &mut super::buffer::Buffer| {
            b.put_text(attr::object::TABLE, table.name.as_str());
            b.put_u32(attr::object::TYPE, object_type::COUNTER);
        };
        self.dump(message::GET_OBJECT, family_number(family), "counters", ask, |attributes| {
            let counts = attributes.u32(attr::object::TYPE) == Some(object_type::COUNTER);
            if counts && is_of(attributes, attr::object::TABLE, &table) {
                let name = attributes.text(attr::object::NAME).and_then(|name| Name::parse(name).ok());
                let count = attributes.nest(attr::object::DATA).and_then(count);
                named.extend(name.zip(count));
            }
            Ok(())
        })?;
        Ok(named)
    }
}

fn count(data: Attributes<'_>) -> Option<Count> {
    Some(Count { packets: data.u64(attr::counter::PACKETS)?, bytes: data.u64(attr::counter::BYTES)? })
}

fn rule(attributes: Attributes<'_>) -> Option<ObservedRule> {
    let chain = Name::parse(attributes.text(attr::rule::CHAIN)?).ok()?;
    let comment =
        attributes.find(attr::rule::USERDATA).and_then(|bytes| userdata_text(bytes, udata::COMMENT));
    let mut expressions = attributes.nest(attr::rule::EXPRESSIONS).unwrap_or(Attributes(&[]));
    let counter = expressions.find_map(|(_, expression)| {
        let expression = Attributes(expression);
        let is_counter = expression.text(attr::expr::NAME) == Some("counter");
        is_counter.then(|| expression.nest(attr::expr::DATA).and_then(count)).flatten()
    });
    Some(ObservedRule { chain, comment, counter })
}

/// The values of libnftnl's userdata: tag, length, value.
fn userdata(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [tag, length, rest @ ..] = bytes {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *tag == wanted {
            return Some(value);
        }
        bytes = rest;
    }
    None
}

pub(super) fn userdata_text(bytes: &[u8], wanted: u8) -> Option<String> {
    let value = userdata(bytes, wanted)?;
    String::from_utf8(value.strip_suffix(b"\0").unwrap_or(value).to_vec()).ok()
}

fn userdata_word(bytes: &[u8], wanted: u8) -> Option<u32> {
    Some(u32::from_ne_bytes(userdata(bytes, wanted)?.try_into().ok()?))
}

fn chain(family: Family, attributes: Attributes<'_>) -> Option<Chain> {
    let name = Name::parse(attributes.text(attr::chain::NAME)?).ok()?;
    let Some(hook) = attributes.nest(attr::chain::HOOK) else {
        return Some(Chain { name, hook: None, rules: vec![] });
    };
    let number = hook.u32(attr::hook::NUMBER)?;
    let points = [
        HookPoint::Prerouting,
        HookPoint::Input,
        HookPoint::Forward,
        HookPoint::Output,
        HookPoint::Postrouting,
        HookPoint::Ingress,
        HookPoint::Egress,
    ];
    let kinds = [ChainType::Filter, ChainType::Nat, ChainType::Route];
    let kind_name = attributes.text(attr::chain::TYPE)?;
    let first_device = || {
        let devices = hook.nest(attr::hook::DEVICES)?;
        devices.text(attr::DEVICE_NAME).map(str::to_owned)
    };
    let hook = Hook {
        kind: kinds.into_iter().find(|kind| declare::chain_type(*kind) == kind_name)?,
        point: points.into_iter().find(|point| hook_number(family, *point) == Ok(number))?,
        priority: hook.u32(attr::hook::PRIORITY)? as i32,
        device: hook.text(attr::hook::DEVICE).map(str::to_owned).or_else(first_device),
        policy: match attributes.u32(attr::chain::POLICY)? {
            number if number == declare::policy_number(BasePolicy::Drop) => BasePolicy::Drop,
            _ => BasePolicy::Accept,
        },
    };
    Some(Chain { name, hook: Some(hook), rules: vec![] })
}

fn is_anonymous(attributes: Attributes<'_>) -> bool {
    attributes.u32(attr::set::FLAGS).is_some_and(|flags| flags & set_flag::ANONYMOUS != 0)
}

fn set(attributes: Attributes<'_>) -> Option<Set> {
    // The kernel leaves the flags out when there are none.
    let flags = attributes.u32(attr::set::FLAGS).unwrap_or_default();
    let userdata = attributes.find(attr::set::USERDATA).unwrap_or_default();
    let order = |tag| match userdata_word(userdata, tag) {
        Some(udata::ORDER_HOST) => Order::Host,
        _ => Order::Network,
    };
    let key_bytes = attributes.u32(attr::set::KEY_LEN)? as usize;
    let key = datatypes(attributes.u32(attr::set::KEY_TYPE)?, key_bytes, order(udata::SET_KEY_ORDER))?;
    let data = match (flags & set_flag::MAP != 0, attributes.u32(attr::set::DATA_TYPE)) {
        (false, _) => None,
        (true, Some(NFT_DATA_VERDICT)) => Some(MapData::Verdict),
        (true, code) => {
            let bytes = attributes.u32(attr::set::DATA_LEN)? as usize;
            Some(MapData::Value(datatypes(code?, bytes, order(udata::SET_DATA_ORDER))?))
        }
    };
    Some(Set {
        name: Name::parse(attributes.text(attr::set::NAME)?).ok()?,
        key,
        data,
        flags: SetFlags {
            interval: flags & set_flag::INTERVAL != 0,
            timeout: flags & set_flag::TIMEOUT != 0,
            dynamic: flags & set_flag::EVAL != 0,
            constant: flags & set_flag::CONSTANT != 0,
            auto_merge: userdata_word(userdata, udata::SET_MERGE) == Some(1),
        },
        timeout: attributes.u64(attr::set::TIMEOUT).filter(|ms| *ms != 0).map(Duration::from_millis),
        size: attributes.nest(attr::set::DESC).and_then(|desc| desc.u32(attr::set_desc::SIZE)),
        counter: attributes.find(attr::set::EXPR).is_some(),
        comment: userdata_text(userdata, udata::SET_COMMENT),
        elements: Elements::Runtime,
    })
}

/// Takes a type code apart: six bits a field. The length of an integer that is one of several is not told.
fn datatypes(code: u32, bytes: usize, order: Order) -> Option<Vec<glacis_plan::nft::Datatype>> {
    let codes: Vec<u32> =
        (0..5).rev().map(|i| code >> (6 * i) & 0x3f).skip_while(|code| *code == 0).collect();
    if let [code] = codes[..] {
        return Some(vec![datatype(code, bytes, order)?]);
    }
    let fields =
        codes.into_iter().map(|code| datatype(code, 0, Order::Network)).collect::<Option<Vec<_>>>()?;
    (!fields.is_empty() && Type::of(&fields).bytes() == bytes).then_some(fields)
}

fn object(attributes: Attributes<'_>) -> Option<Object> {
    let data = attributes.nest(attr::object::DATA)?;
    let kind = match attributes.u32(attr::object::TYPE)? {
        object_type::COUNTER => ObjectKind::Counter,
        object_type::QUOTA => ObjectKind::Quota(Quota {
            bytes: data.u64(attr::quota::BYTES)?,
            over: data.u32(attr::quota::FLAGS)? & FLAG_INVERT != 0,
        }),
        object_type::LIMIT => ObjectKind::Limit(limit(data)?),
        object_type::CT_HELPER => ObjectKind::CtHelper {
            helper: data.text(attr::ct_helper::NAME)?.to_owned(),
            protocol: transport(data.u8(attr::ct_helper::L4PROTO)?)?,
            l3: data.u16(attr::ct_helper::L3PROTO).and_then(|number| network(u8::try_from(number).ok()?)),
        },
        object_type::CT_TIMEOUT => ObjectKind::CtTimeout(timeout_policy(data)?),
        object_type::SYNPROXY => ObjectKind::Synproxy(synproxy(data)?),
        _ => return None,
    };
    Some(Object {
        name: Name::parse(attributes.text(attr::object::NAME)?).ok()?,
        kind,
        comment: attributes
            .find(attr::object::USERDATA)
            .and_then(|bytes| userdata_text(bytes, udata::COMMENT)),
    })
}

fn transport(number: u8) -> Option<L4Proto> {
    [L4Proto::Tcp, L4Proto::Udp].into_iter().find(|protocol| declare::transport(*protocol) == number)
}

const fn network(number: u8) -> Option<NfProto> {
    match number {
        NFPROTO_IPV4 => Some(NfProto::Ipv4),
        NFPROTO_IPV6 => Some(NfProto::Ipv6),
        _ => None,
    }
}

fn limit(data: Attributes<'_>) -> Option<Limit> {
    let seconds = data.u64(attr::limit::UNIT)?;
    let units = [Per::Second, Per::Minute, Per::Hour, Per::Day, Per::Week];
    Some(Limit {
        rate: data.u64(attr::limit::RATE)?,
        unit: if data.u32(attr::limit::TYPE)? == 0 { LimitUnit::Packets } else { LimitUnit::Bytes },
        per: units.into_iter().find(|per| per.seconds() == seconds)?,
        burst: data.u32(attr::limit::BURST)?,
        over: data.u32(attr::limit::FLAGS)? & FLAG_INVERT != 0,
    })
}

fn timeout_policy(data: Attributes<'_>) -> Option<CtTimeoutPolicy> {
    let protocol = transport(data.u8(attr::ct_timeout::L4PROTO)?)?;
    let names: &[(&'static str, u16)] = match protocol {
        L4Proto::Tcp => &TCP_STATES,
        L4Proto::Udp => &UDP_STATES,
    };
    let values = data.nest(attr::ct_timeout::DATA)?;
    let states = names.iter().filter_map(|(name, number)| {
        values.u32(*number).map(|seconds| (*name, Duration::from_secs(seconds.into())))
    });
    let l3 = network(u8::try_from(data.u16(attr::ct_timeout::L3PROTO)?).ok()?)?;
    Some(CtTimeoutPolicy { protocol, l3, states: states.collect() })
}

fn synproxy(data: Attributes<'_>) -> Option<Synproxy> {
    let flags = data.u32(attr::synproxy::FLAGS)?;
    let on = |flag: u32| flags & flag != 0;
    Some(Synproxy {
        mss: data.u16(attr::synproxy::MSS).filter(|_| on(synproxy_option::MSS)),
        wscale: data.u8(attr::synproxy::WSCALE).filter(|_| on(synproxy_option::WSCALE)),
        timestamp: on(synproxy_option::TIMESTAMP),
        sack_perm: on(synproxy_option::SACK_PERM),
    })
}

fn flowtable(attributes: Attributes<'_>) -> Option<Flowtable> {
    let hook = attributes.nest(attr::flowtable::HOOK)?;
    let devices = hook.nest(attr::flowtable_hook::DEVICES).unwrap_or(Attributes(&[]));
    let name = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes));
        text.ok().map(str::to_owned)
    };
    Some(Flowtable {
        name: Name::parse(attributes.text(attr::flowtable::NAME)?).ok()?,
        priority: hook.u32(attr::flowtable_hook::PRIORITY)? as i32,
        devices: devices.map(|(_, bytes)| name(bytes)).collect::<Option<_>>()?,
        counter: attributes
            .u32(attr::flowtable::FLAGS)
            .is_some_and(|flags| flags & NFT_FLOWTABLE_COUNTER != 0),
    })
}
