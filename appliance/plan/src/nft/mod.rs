//! A typed nf_tables ruleset: what it may say, and nothing of how it reaches the kernel.
//!
//! `netlink::nft` encodes it, [`text`] writes it as `nft` reads it, [`transaction`] finds the way
//! from one ruleset to the next, and the policy's simulator walks it. Names and meanings follow
//! nft(8) and `linux/netfilter/nf_tables.h`.

mod expr;
mod inventory;
mod name;
mod set;
mod statement;
mod table;
pub mod text;
pub mod transaction;

pub use expr::{
    CtKey, Direction, Expr, FibFlags, FibResult, Field, MapSource, Match, MatchOp, MetaKey, Operand,
};
pub use inventory::Inventory;
pub use name::{Name, NameError};
pub use set::{Atom, Datatype, Element, ElementData, Elements, Key, KeyPart, MapData, Set, SetFlags, SetRef};
pub use statement::{
    DynSetOp, Limit, LimitUnit, Log, NatAddress, NatFlags, NatKind, Per, Quota, Reject, Statement, Synproxy,
    Verdict, VerdictMap,
};
pub use table::{
    BasePolicy, Chain, ChainType, CtTimeoutPolicy, Family, Flowtable, Hook, HookPoint, L4Proto, NfProto,
    Object, ObjectKind, Rule, Ruleset, Table,
};
pub use transaction::{Op, between, emptied, onto};
