//! The table that is ours, and what it holds before any policy does.

use crate::nft::{
    Atom, BasePolicy, Chain, ChainType, Datatype, Elements, Expr, Family, Hook, HookPoint, Match, MatchOp,
    MetaKey, Name, Operand, Rule, Ruleset, Set, SetFlags, Statement, Table,
};
use ipnet::IpNet;

/// The one table of ours.
pub const TABLE: Name = Name::literal("glacis");
pub const TABLE_FAMILY: Family = Family::Inet;

/// Banned single IPv4 addresses: a hash with timeouts.
pub const BANS4: Name = Name::literal("bans4");
/// Banned single IPv6 addresses.
pub const BANS6: Name = Name::literal("bans6");
/// Banned IPv4 prefixes: a small interval set with timeouts, since an add there costs O(n).
pub const BANS4_NETS: Name = Name::literal("bans4_nets");
/// Banned IPv6 prefixes.
pub const BANS6_NETS: Name = Name::literal("bans6_nets");

/// The four ban sets, without elements: state of their own, owned by the ban keeper.
pub fn ban_sets() -> Vec<Set> {
    let set = |name, datatype, interval| Set {
        flags: SetFlags { interval, timeout: true, ..SetFlags::default() },
        elements: Elements::Runtime,
        ..Set::new(name, [datatype])
    };
    vec![
        set(BANS4, Datatype::Ipv4Addr, false),
        set(BANS6, Datatype::Ipv6Addr, false),
        set(BANS4_NETS, Datatype::Ipv4Addr, true),
        set(BANS6_NETS, Datatype::Ipv6Addr, true),
    ]
}

/// The ban set that a source belongs in.
pub const fn ban_set_of(source: &IpNet) -> Name {
    match source {
        IpNet::V4(net) if net.prefix_len() == 32 => BANS4,
        IpNet::V4(_) => BANS4_NETS,
        IpNet::V6(net) if net.prefix_len() == 128 => BANS6,
        IpNet::V6(_) => BANS6_NETS,
    }
}

/// Nothing enters, nothing leaves, nothing is forwarded; loopback works. What stands before a policy and after its failure.
pub fn drop_all() -> Ruleset {
    let loopback = |key| {
        Rule::new([
            Match {
                left: Expr::Meta(key),
                op: MatchOp::Eq,
                right: Operand::atom(Atom::Ifname("lo".to_owned())),
            }
            .into(),
            Statement::ACCEPT,
        ])
    };
    let chain = |name, point, rules| Chain {
        name,
        hook: Some(Hook {
            kind: ChainType::Filter,
            point,
            priority: 0,
            device: None,
            policy: BasePolicy::Drop,
        }),
        rules,
    };
    let mut table = Table::new(TABLE_FAMILY, TABLE);
    table.sets = ban_sets();
    table.chains = vec![
        chain(Name::literal("input"), HookPoint::Input, vec![loopback(MetaKey::Iifname)]),
        chain(Name::literal("forward"), HookPoint::Forward, vec![]),
        chain(Name::literal("output"), HookPoint::Output, vec![loopback(MetaKey::Oifname)]),
    ];
    Ruleset { tables: vec![table] }
}
