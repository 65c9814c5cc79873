//! The way from one ruleset to the next, as the steps of one nf_tables transaction.

use super::{Chain, Elements, Family, Flowtable, Name, Object, Rule, Ruleset, Set};

/// One step of a transaction. Sets and chains travel without their elements and rules, which have steps of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A no-op when the table is there.
    AddTable {
        family: Family,
        table: Name,
    },
    /// With everything in it.
    DeleteTable {
        family: Family,
        table: Name,
    },
    /// Every rule of every chain of the table.
    DeleteRules {
        family: Family,
        table: Name,
    },
    /// A no-op when an equal object is there; its state is kept.
    AddObject {
        family: Family,
        table: Name,
        object: Object,
    },
    DeleteObject {
        family: Family,
        table: Name,
        object: Object,
    },
    /// A no-op when an equal set is there; its elements are kept. `EEXIST` when type or flags differ.
    AddSet {
        family: Family,
        table: Name,
        set: Set,
    },
    DeleteSet {
        family: Family,
        table: Name,
        set: Name,
    },
    FlushSet {
        family: Family,
        table: Name,
        set: Name,
    },
    /// `set` tells key and data types; its own elements are ignored.
    AddElements {
        family: Family,
        table: Name,
        set: Set,
        elements: Elements,
    },
    /// Deleting an element that is not there fails the transaction with `ENOENT`.
    DeleteElements {
        family: Family,
        table: Name,
        set: Set,
        elements: Elements,
    },
    AddFlowtable {
        family: Family,
        table: Name,
        flowtable: Flowtable,
    },
    DeleteFlowtable {
        family: Family,
        table: Name,
        flowtable: Name,
    },
    /// The chain without its rules.
    AddChain {
        family: Family,
        table: Name,
        chain: Chain,
    },
    DeleteChain {
        family: Family,
        table: Name,
        chain: Name,
    },
    AddRule {
        family: Family,
        table: Name,
        chain: Name,
        rule: Rule,
    },
}

/// The steps from what is loaded to what is asked. `None` means that the kernel's contents are not known:
/// tables of ours may be there, with sets whose runtime elements must be kept.
pub fn between(_loaded: Option<&Ruleset>, _wanted: &Ruleset) -> Vec<Op> {
    vec![]
}
