//! The way from one ruleset to the next, as the steps of one nf_tables transaction.

use super::{
    Chain, Elements, Family, Flowtable, Inventory, MapData, Name, Object, ObjectKind, Rule, Ruleset, Set,
    Table,
};

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

/// The steps from what is loaded to what is asked; none when they are equal.
///
/// `None`: nothing of ours is loaded, or only what an equal ruleset left there. When tables may be there whose
/// structure is not known, [`onto`] finds the way.
pub fn between(loaded: Option<&Ruleset>, wanted: &Ruleset) -> Vec<Op> {
    let Some(loaded) = loaded else {
        return onto(&Inventory::default(), wanted);
    };
    let mut ops = vec![];
    for table in &loaded.tables {
        if !wanted.tables.iter().any(|w| same_table(w, table)) {
            delete_table(&mut ops, table.family, &table.name);
        }
    }
    for table in &wanted.tables {
        match loaded.tables.iter().find(|l| same_table(l, table)) {
            Some(old) if old == table => {}
            Some(old) => Step { table, found: Found::Loaded(old) }.write(&mut ops),
            None => Step { table, found: Found::Nothing }.write(&mut ops),
        }
    }
    ops
}

/// The steps from what was found in the kernel to what is asked, when rules and elements are not known:
/// rules are written anew, static sets flushed and refilled, sets with a state of their own kept.
pub fn onto(found: &Inventory, wanted: &Ruleset) -> Vec<Op> {
    let mut ops = vec![];
    let gone =
        found.tables.iter().map(|t| (t.family, &t.name)).chain(found.foreign.iter().map(|(f, n)| (*f, n)));
    for (family, name) in gone {
        if !wanted.tables.iter().any(|w| w.family == family && w.name == *name) {
            delete_table(&mut ops, family, name);
        }
    }
    for table in &wanted.tables {
        if found.is_foreign(table.family, &table.name) {
            delete_table(&mut ops, table.family, &table.name);
        }
        let found = found.table(table.family, &table.name).map_or(Found::Nothing, Found::Structure);
        Step { table, found }.write(&mut ops);
    }
    ops
}

/// Sets with a state of their own that `ops` make empty, as family, table and set: whoever owns that state
/// adds the elements to the same transaction.
///
/// A set that is declared by `ops` counts unless `kept` holds it: the ruleset that was loaded, or the
/// tables of an [`Inventory`].
pub fn emptied<'a>(ops: &'a [Op], kept: &[Table]) -> Vec<(Family, &'a Name, &'a Set)> {
    let remade = |family, table: &Name, set: &Name| {
        ops.iter().any(|op| match op {
            Op::DeleteTable { family: f, table: t } => *f == family && t == table,
            Op::DeleteSet { family: f, table: t, set: s } => *f == family && t == table && s == set,
            _ => false,
        })
    };
    let held = |family, table: &Name, set: &Name| {
        kept.iter().any(|t| t.family == family && t.name == *table && t.set(set).is_some())
    };
    ops.iter()
        .filter_map(|op| match op {
            Op::AddSet { family, table, set } if set.elements == Elements::Runtime => {
                Some((*family, table, set))
            }
            _ => None,
        })
        .filter(|(family, table, set)| remade(*family, table, &set.name) || !held(*family, table, &set.name))
        .collect()
}

fn same_table(a: &Table, b: &Table) -> bool {
    a.family == b.family && a.name == b.name
}

/// Also works when the table is not there.
fn delete_table(ops: &mut Vec<Op>, family: Family, table: &Name) {
    ops.push(Op::AddTable { family, table: table.clone() });
    ops.push(Op::DeleteTable { family, table: table.clone() });
}

/// What is known of the table that is to change.
#[derive(Clone, Copy)]
enum Found<'a> {
    /// It is absent, or equal in structure.
    Nothing,
    /// Everything.
    Loaded(&'a Table),
    /// All but rules and elements.
    Structure(&'a Table),
}

/// The change of one table.
struct Step<'a> {
    table: &'a Table,
    found: Found<'a>,
}

impl Step<'_> {
    /// Rules go first, since they hold everything else; then verdict maps, which hold chains. What comes new
    /// is written in the opposite order.
    fn write(&self, ops: &mut Vec<Op>) {
        let (family, table) = (self.table.family, self.table.name.clone());
        ops.push(Op::AddTable { family, table: table.clone() });
        ops.push(Op::DeleteRules { family, table });
        if let Found::Loaded(old) | Found::Structure(old) = self.found {
            self.remove(old, ops);
        }
        self.declare(ops);
        self.fill(ops);
    }

    fn remove(&self, old: &Table, ops: &mut Vec<Op>) {
        let (family, table) = (self.table.family, self.table.name.clone());
        let gone_chains: Vec<&Chain> = old.chains.iter().filter(|chain| !self.keeps_chain(chain)).collect();
        for set in &old.sets {
            let holds_chains = matches!(set.data, Some(MapData::Verdict)) && !gone_chains.is_empty();
            if holds_chains || (self.keeps_set(set) && self.refills(set)) {
                ops.push(Op::FlushSet { family, table: table.clone(), set: set.name.clone() });
            }
        }
        for set in old.sets.iter().filter(|set| !self.keeps_set(set)) {
            ops.push(Op::DeleteSet { family, table: table.clone(), set: set.name.clone() });
        }
        for flowtable in old.flowtables.iter().filter(|f| !self.table.flowtables.contains(f)) {
            ops.push(Op::DeleteFlowtable { family, table: table.clone(), flowtable: flowtable.name.clone() });
        }
        for chain in gone_chains {
            ops.push(Op::DeleteChain { family, table: table.clone(), chain: chain.name.clone() });
        }
        for object in old.objects.iter().filter(|object| !self.keeps_object(object)) {
            ops.push(Op::DeleteObject { family, table: table.clone(), object: (*object).clone() });
        }
    }

    /// Declares everything, also what is there: declaring again is a no-op, and the encoder learns the types
    /// that rules speak of.
    fn declare(&self, ops: &mut Vec<Op>) {
        let (family, table) = (self.table.family, &self.table.name);
        for object in &self.table.objects {
            ops.push(Op::AddObject { family, table: table.clone(), object: object.clone() });
        }
        for flowtable in &self.table.flowtables {
            ops.push(Op::AddFlowtable { family, table: table.clone(), flowtable: flowtable.clone() });
        }
        for chain in &self.table.chains {
            let chain = Chain { name: chain.name.clone(), hook: chain.hook.clone(), rules: vec![] };
            ops.push(Op::AddChain { family, table: table.clone(), chain });
        }
        for set in &self.table.sets {
            ops.push(Op::AddSet { family, table: table.clone(), set: declaration(set) });
        }
    }

    /// Elements before rules: a rule never stands without the list it speaks of.
    fn fill(&self, ops: &mut Vec<Op>) {
        let (family, table) = (self.table.family, &self.table.name);
        for set in self.table.sets.iter().filter(|set| self.fills(set)) {
            if matches!(self.found, Found::Nothing) && !set.flags.constant {
                ops.push(Op::FlushSet { family, table: table.clone(), set: set.name.clone() });
            }
            let elements = set.elements.clone();
            ops.push(Op::AddElements { family, table: table.clone(), set: declaration(set), elements });
        }
        for chain in &self.table.chains {
            for rule in &chain.rules {
                let (chain, rule) = (chain.name.clone(), rule.clone());
                ops.push(Op::AddRule { family, table: table.clone(), chain, rule });
            }
        }
    }

    /// The kernel changes a base chain's policy in place, nothing else of it.
    fn keeps_chain(&self, old: &Chain) -> bool {
        self.table.chain(&old.name).is_some_and(|new| match (&old.hook, &new.hook) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                (old.kind, old.point, old.priority, &old.device)
                    == (new.kind, new.point, new.priority, &new.device)
            }
            _ => false,
        })
    }

    /// The kernel changes timeout and size of a set in place; a comment is not worth a set's own state.
    fn keeps_set(&self, old: &Set) -> bool {
        self.table.set(&old.name).is_some_and(|new| {
            let same_type = (&old.key, &old.data, old.flags, old.counter)
                == (&new.key, &new.data, new.flags, new.counter);
            let same_rest = old.comment == new.comment && (new.size.is_some() || old.size.is_none());
            let same_elements = matches!(self.found, Found::Loaded(_)) && old.elements == new.elements;
            let runtime = new.elements == Elements::Runtime;
            same_type && (same_rest || runtime) && (same_elements || runtime || !new.flags.constant)
        })
    }

    /// An object whose parameters changed is made anew: the kernel would silently keep the old ones.
    fn keeps_object(&self, old: &Object) -> bool {
        self.table.objects.iter().any(|new| {
            let same_comment = old.comment == new.comment || matches!(new.kind, ObjectKind::Counter);
            new.name == old.name && new.kind == old.kind && same_comment
        })
    }

    /// Whether a set that is kept gets its elements anew.
    fn refills(&self, old: &Set) -> bool {
        self.table.set(&old.name).is_some_and(|new| match (self.found, &new.elements) {
            (_, Elements::Runtime) => false,
            (Found::Loaded(_), elements) => old.elements != *elements,
            (Found::Structure(_) | Found::Nothing, _) => true,
        })
    }

    /// Whether the elements of a wanted set are to be written.
    fn fills(&self, new: &Set) -> bool {
        if new.elements == Elements::Runtime {
            return false;
        }
        let Found::Loaded(old) = self.found else {
            return true;
        };
        let flushed_for_chains = matches!(new.data, Some(MapData::Verdict))
            && old.chains.iter().any(|chain| !self.keeps_chain(chain));
        old.set(&new.name).is_none_or(|old| !self.keeps_set(old) || self.refills(old) || flushed_for_chains)
    }
}

/// The set without its elements; a set with a state of its own is still told from a list.
fn declaration(set: &Set) -> Set {
    let elements = match set.elements {
        Elements::Runtime => Elements::Runtime,
        _ => Elements::List(vec![]),
    };
    Set {
        elements,
        name: set.name.clone(),
        key: set.key.clone(),
        data: set.data.clone(),
        flags: set.flags,
        timeout: set.timeout,
        size: set.size,
        counter: set.counter,
        comment: set.comment.clone(),
    }
}

#[cfg(test)]
mod tests;
