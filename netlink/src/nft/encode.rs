//! Steps of a transaction to messages.

use super::Generation;
use super::batch::Batch;
use super::declare::{self, SetDeclaration};
use super::elements::{self, Change, Layout, Target};
use super::error::{EncodeError, NftError};
use super::expression::{Found, RuleEncoder, anonymous_layout};
use super::types::Type;
use super::uapi::{NLM_F_APPEND, NLM_F_CREATE, attr, message, set_flag, udata};
use glacis_plan::nft::text::{family as family_name, render_rule};
use glacis_plan::nft::{Element, Elements, Family, Name, Op, Rule, Set};
use std::collections::HashMap;

/// Bytes that a step without elements takes, roughly: to size the batch once.
const STEP_BYTES: usize = 512;

/// Encodes the steps into one batch, ready to send.
pub fn encode(ops: &[Op], sequence: u32, based_on: Option<Generation>) -> Result<Batch, NftError> {
    let capacity = ops.iter().map(estimate).sum();
    let mut encoder =
        Encoder { batch: Batch::new(capacity, sequence, based_on), sets: HashMap::new(), set_count: 0 };
    for (index, op) in ops.iter().enumerate() {
        encoder.batch.begin_step();
        encoder.step(op).map_err(|source| NftError::Encode { op: index, step: describe(op), source })?;
    }
    encoder.batch.finish();
    Ok(encoder.batch)
}

fn estimate(op: &Op) -> usize {
    match op {
        Op::AddElements { elements, .. } | Op::DeleteElements { elements, .. } => {
            STEP_BYTES + elements::estimate(elements)
        }
        _ => STEP_BYTES,
    }
}

/// A step in one line, for errors.
pub fn describe(op: &Op) -> String {
    let path = |family: Family, table: &Name| format!("{} {table}", family_name(family));
    match op {
        Op::AddTable { family, table } => format!("add table {}", path(*family, table)),
        Op::DeleteTable { family, table } => format!("delete table {}", path(*family, table)),
        Op::DeleteRules { family, table } => format!("delete the rules of {}", path(*family, table)),
        Op::AddObject { family, table, object } => {
            format!("add object {} {}", path(*family, table), object.name)
        }
        Op::DeleteObject { family, table, object } => {
            format!("delete object {} {}", path(*family, table), object.name)
        }
        Op::AddSet { family, table, set } => format!("add set {} {}", path(*family, table), set.name),
        Op::DeleteSet { family, table, set } => format!("delete set {} {set}", path(*family, table)),
        Op::FlushSet { family, table, set } => format!("flush set {} {set}", path(*family, table)),
        Op::AddElements { family, table, set, .. } => {
            format!("add elements to set {} {}", path(*family, table), set.name)
        }
        Op::DeleteElements { family, table, set, .. } => {
            format!("delete elements of set {} {}", path(*family, table), set.name)
        }
        Op::AddFlowtable { family, table, flowtable } => {
            format!("add flowtable {} {}", path(*family, table), flowtable.name)
        }
        Op::DeleteFlowtable { family, table, flowtable } => {
            format!("delete flowtable {} {flowtable}", path(*family, table))
        }
        Op::AddChain { family, table, chain } => format!("add chain {} {}", path(*family, table), chain.name),
        Op::DeleteChain { family, table, chain } => format!("delete chain {} {chain}", path(*family, table)),
        Op::AddRule { family, table, chain, rule } => {
            format!("add rule {} {chain} {}", path(*family, table), render_rule(rule))
        }
    }
}

/// A batch in the making, and the sets that were declared in it.
pub struct Encoder<'a> {
    batch: Batch,
    sets: HashMap<(Family, &'a Name, &'a Name), (&'a Set, u32)>,
    set_count: u32,
}

impl<'a> Encoder<'a> {
    fn step(&mut self, op: &'a Op) -> Result<(), EncodeError> {
        match op {
            Op::AddTable { family, table } => declare::add_table(&mut self.batch, *family, table),
            Op::DeleteTable { family, table } => {
                declare::delete_table(&mut self.batch, *family, table);
                self.sets.retain(|(f, t, _), _| !(f == family && *t == table));
            }
            Op::DeleteRules { family, table } => {
                self.batch.message(message::DEL_RULE, 0, declare::family(*family), |b| {
                    b.put_text(attr::rule::TABLE, table.as_str());
                });
            }
            Op::AddObject { family, table, object } => {
                declare::add_object(&mut self.batch, *family, table, object)?;
            }
            Op::DeleteObject { family, table, object } => {
                declare::delete_object(&mut self.batch, *family, table, object);
            }
            Op::AddSet { family, table, set } => {
                let id = self.next_id();
                declare::add_set(&mut self.batch, *family, table, set, id)?;
                self.sets.insert((*family, table, &set.name), (set, id));
            }
            Op::DeleteSet { family, table, set } => {
                let (table, set) = ((attr::set::TABLE, table), (attr::set::NAME, set));
                declare::delete_named(&mut self.batch, message::DEL_SET, *family, table, set);
            }
            Op::FlushSet { family, table, set } => {
                // Deleting elements without naming any deletes them all.
                let (table, set) = ((attr::elements::TABLE, table), (attr::elements::SET, set));
                declare::delete_named(&mut self.batch, message::DEL_ELEMENT, *family, table, set);
            }
            Op::AddElements { family, table, set, elements } => {
                self.elements(*family, table, set, Change::Add, elements)?;
            }
            Op::DeleteElements { family, table, set, elements } => {
                self.elements(*family, table, set, Change::Delete, elements)?;
            }
            Op::AddFlowtable { family, table, flowtable } => {
                declare::add_flowtable(&mut self.batch, *family, table, flowtable);
            }
            Op::DeleteFlowtable { family, table, flowtable } => {
                let (table, name) = ((attr::flowtable::TABLE, table), (attr::flowtable::NAME, flowtable));
                declare::delete_named(&mut self.batch, message::DEL_FLOWTABLE, *family, table, name);
            }
            Op::AddChain { family, table, chain } => {
                declare::add_chain(&mut self.batch, *family, table, chain)?;
            }
            Op::DeleteChain { family, table, chain } => {
                let (table, chain) = ((attr::chain::TABLE, table), (attr::chain::NAME, chain));
                declare::delete_named(&mut self.batch, message::DEL_CHAIN, *family, table, chain);
            }
            Op::AddRule { family, table, chain, rule } => self.rule(*family, table, chain, rule)?,
        }
        if self.batch.buffer().overflowed() { Err(EncodeError::TooLong) } else { Ok(()) }
    }

    fn elements(
        &mut self,
        family: Family,
        table: &'a Name,
        set: &Set,
        change: Change,
        elements: &Elements,
    ) -> Result<(), EncodeError> {
        let id = self.sets.get(&(family, table, &set.name)).map(|(_, id)| *id);
        let target = Target { family: declare::family(family), table, set: set.name.as_str(), id };
        elements::write(&mut self.batch, target, &Layout::of(set), change, elements)
    }

    /// The sets that a rule makes for itself come before it.
    fn rule(
        &mut self,
        family: Family,
        table: &'a Name,
        chain: &Name,
        rule: &'a Rule,
    ) -> Result<(), EncodeError> {
        let mut expressions = RuleEncoder::new(self, family, table);
        for statement in &rule.statements {
            expressions.statement(statement)?;
        }
        let body = expressions.body;
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.batch.message(message::NEW_RULE, flags, declare::family(family), |b| {
            b.put_text(attr::rule::TABLE, table.as_str());
            b.put_text(attr::rule::CHAIN, chain.as_str());
            b.nest(attr::rule::EXPRESSIONS, |b| b.append(&body));
            match &rule.comment {
                Some(comment) => declare::put_comment(b, attr::rule::USERDATA, udata::COMMENT, comment),
                None => Ok(()),
            }
        })
    }

    pub fn find_set(&self, family: Family, table: &Name, name: &Name) -> Result<Found, EncodeError> {
        let (set, id) =
            self.sets.get(&(family, table, name)).ok_or_else(|| EncodeError::UndeclaredSet(name.clone()))?;
        let layout = Layout::of(set);
        Ok(Found { name: name.to_string(), id: *id, interval: layout.interval, data: layout.data })
    }

    /// Declares and fills a set of one rule's own; the kernel completes its name.
    pub fn anonymous_set(
        &mut self,
        family: Family,
        table: &Name,
        key: &Type,
        data: Option<Type>,
        verdicts: bool,
        list: &[Element],
    ) -> Result<Found, EncodeError> {
        let name = if data.is_some() || verdicts { "__map%d" } else { "__set%d" };
        let layout = anonymous_layout(key, data, list);
        let id = self.next_id();
        let declaration = SetDeclaration {
            name,
            id,
            flags: set_flag::ANONYMOUS | set_flag::CONSTANT,
            layout: &layout,
            verdicts,
            // An interval takes two elements, so only a hash is sized.
            size: (!layout.interval).then_some(list.len() as u32),
            timeout_ms: None,
            counter: false,
            comment: None,
            auto_merge: false,
        };
        declare::declare_set(&mut self.batch, family, table, &declaration)?;
        let target = Target { family: declare::family(family), table, set: name, id: Some(id) };
        // The elements of a rule are few, so a copy costs nothing that counts.
        let list = Elements::List(list.to_vec());
        elements::write(&mut self.batch, target, &layout, Change::Add, &list)?;
        Ok(Found { name: name.to_owned(), id, interval: layout.interval, data: layout.data })
    }

    const fn next_id(&mut self) -> u32 {
        self.set_count += 1;
        self.set_count
    }
}
