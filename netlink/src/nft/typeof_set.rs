//! `typeof` of a set, for what `nft` has no type name: an expression of that type, as nft writes it into the userdata.
//!
//! The kernel keeps it and does not read it; without it a listing shows `type 0`, which `nft` does not read back.
//! Tags and numbers follow `libnftnl/udata.h` and nft's `enum expr_types`, `enum proto_desc_id` and header templates,
//! which nft keeps stable because kernels remember them. The expressions are those of `glacis_plan::nft::text`.

use super::types::Type;
use glacis_plan::nft::Datatype;

const EXPRESSION: u8 = 0;
const DETAILS: u8 = 1;

/// `EXPR_PAYLOAD`, `EXPR_META`, `EXPR_CONCAT`.
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCATENATION: u32 = 13;

/// An expression that has a type.
enum Example {
    /// `enum nft_meta_keys`.
    Meta(u32),
    Payload {
        protocol: u32,
        field: u32,
    },
}

/// Whether nft has no name for a field's type.
pub fn is_needed(type_: &Type) -> bool {
    type_.0.iter().any(|field| matches!(field.datatype, Datatype::Integer(_) | Datatype::HostInteger))
}

/// A tag that tells a type; `None` for a type that no set of ours has beside an integer.
pub fn tagged(tag: u8, type_: &Type) -> Option<Vec<u8>> {
    let fields = type_.0.iter().map(|field| example(field.datatype)?.userdata());
    let fields: Vec<Vec<u8>> = fields.collect::<Option<_>>()?;
    if let [only] = fields.as_slice() {
        return value(tag, only);
    }
    let nested: Vec<Vec<u8>> =
        fields.iter().zip(0..).map(|(field, place)| value(place, field)).collect::<Option<_>>()?;
    value(tag, &[word(EXPRESSION, CONCATENATION), value(DETAILS, &nested.concat())?].concat())
}

const fn example(datatype: Datatype) -> Option<Example> {
    Some(match datatype {
        // meta cpu
        Datatype::HostInteger => Example::Meta(20),
        // ip saddr
        Datatype::Ipv4Addr => Example::Payload { protocol: 12, field: 11 },
        // ip6 saddr
        Datatype::Ipv6Addr => Example::Payload { protocol: 13, field: 8 },
        // th dport
        Datatype::InetService => Example::Payload { protocol: 11, field: 2 },
        _ => return None,
    })
}

impl Example {
    fn userdata(&self) -> Option<Vec<u8>> {
        let (kind, details) = match self {
            Self::Meta(key) => (META, word(0, *key)),
            Self::Payload { protocol, field } => (PAYLOAD, [word(0, *protocol), word(1, *field)].concat()),
        };
        Some([word(EXPRESSION, kind), value(DETAILS, &details)?].concat())
    }
}

fn word(tag: u8, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_ne_bytes();
    vec![tag, 4, a, b, c, d]
}

/// `None` for more than a byte can tell the length of.
fn value(tag: u8, value: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(value.len()).ok()?;
    Some([&[tag, length], value].concat())
}
