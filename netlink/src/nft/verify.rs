//! Whether the kernel holds what was asked for, as far as that can be told without reading large sets.

use super::Connection;
use super::error::NftError;
use super::read::ObservedRule;
use glacis_plan::nft::text::family as family_name;
use glacis_plan::nft::{Chain, Family, Name, ObjectKind, Rule, Ruleset, Set, Table};
use std::fmt::{self, Debug, Display, Formatter};

/// One difference between what was asked for and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub family: Family,
    pub table: Name,
    /// `chain input`, `set bans4`, or `table` for the whole of it.
    pub item: String,
    pub difference: Difference,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing,
    /// It is there and was not asked for.
    Unwanted,
    /// Someone else wrote what this model cannot say.
    Foreign,
    Differs {
        wanted: String,
        found: String,
    },
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: ", family_name(self.family), self.table, self.item)?;
        match &self.difference {
            Difference::Missing => f.write_str("missing"),
            Difference::Unwanted => f.write_str("there without being asked for"),
            Difference::Foreign => f.write_str("written by someone else"),
            Difference::Differs { wanted, found } => write!(f, "{found} where {wanted} was asked for"),
        }
    }
}

impl Connection {
    /// Reads tables, chains, rules and set declarations back and tells every difference; none means that the
    /// kernel holds what was asked for. Elements are not read; rules are told by number and comment.
    pub fn verify(&mut self, wanted: &Ruleset) -> Result<Vec<Mismatch>, NftError> {
        let names: Vec<_> = wanted.tables.iter().map(|table| (table.family, table.name.clone())).collect();
        let found = self.inventory(&names)?;
        let mut mismatches = vec![];
        for table in &wanted.tables {
            let mut report = Report { table, mismatches: &mut mismatches };
            if found.is_foreign(table.family, &table.name) {
                report.add("table".to_owned(), Difference::Foreign);
                continue;
            }
            let Some(found) = found.table(table.family, &table.name) else {
                report.add("table".to_owned(), Difference::Missing);
                continue;
            };
            let rules = self.steadily(|connection| connection.rules(table.family, &table.name))?;
            report.compare(found, &rules);
        }
        Ok(mismatches)
    }
}

struct Report<'a> {
    table: &'a Table,
    mismatches: &'a mut Vec<Mismatch>,
}

impl Report<'_> {
    fn add(&mut self, item: String, difference: Difference) {
        let (family, table) = (self.table.family, self.table.name.clone());
        self.mismatches.push(Mismatch { family, table, item, difference });
    }

    fn differ<T: PartialEq + Debug>(&mut self, item: impl FnOnce() -> String, wanted: &T, found: &T) {
        if wanted != found {
            let difference =
                Difference::Differs { wanted: format!("{wanted:?}"), found: format!("{found:?}") };
            self.add(item(), difference);
        }
    }

    fn compare(&mut self, found: &Table, rules: &[ObservedRule]) {
        let table = self.table;
        self.presence("chain", &table.chains, &found.chains, |chain: &Chain| &chain.name);
        self.presence("set", &table.sets, &found.sets, |set: &Set| &set.name);
        self.presence("object", &table.objects, &found.objects, |object| &object.name);
        self.presence("flowtable", &table.flowtables, &found.flowtables, |flowtable| &flowtable.name);
        for chain in &table.chains {
            if let Some(found) = found.chain(&chain.name) {
                self.differ(|| format!("chain {}", chain.name), &chain.hook, &found.hook);
                let rules: Vec<_> = rules.iter().filter(|rule| rule.chain == chain.name).collect();
                self.compare_rules(chain, &rules);
            }
        }
        for set in &table.sets {
            if let Some(found) = found.set(&set.name) {
                let shape =
                    |set: &Set| (set.key.clone(), set.data.clone(), set.flags, set.timeout, set.counter);
                self.differ(|| format!("set {}", set.name), &shape(set), &shape(found));
            }
        }
        for object in &table.objects {
            let found = found.objects.iter().find(|found| found.name == object.name);
            // The kernel tells every state of a timeout policy, also those that were not asked for.
            if let Some(found) = found.filter(|_| !matches!(object.kind, ObjectKind::CtTimeout(_))) {
                self.differ(|| format!("object {}", object.name), &object.kind, &found.kind);
            }
        }
    }

    fn compare_rules(&mut self, chain: &Chain, found: &[&ObservedRule]) {
        self.differ(|| format!("number of rules in chain {}", chain.name), &chain.rules.len(), &found.len());
        for (index, (wanted, found)) in chain.rules.iter().zip(found).enumerate() {
            let Rule { comment, .. } = wanted;
            let item = || format!("comment of rule {index} in chain {}", chain.name);
            self.differ(item, comment, &found.comment);
        }
    }

    fn presence<T>(&mut self, word: &str, wanted: &[T], found: &[T], name: impl Fn(&T) -> &Name) {
        for (left, right, difference) in
            [(wanted, found, Difference::Missing), (found, wanted, Difference::Unwanted)]
        {
            for item in left.iter().filter(|item| !right.iter().any(|other| name(other) == name(item))) {
                self.add(format!("{word} {}", name(item)), difference.clone());
            }
        }
    }
}
