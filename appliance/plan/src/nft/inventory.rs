//! What the kernel holds in our tables, as far as it is worth reading back.

use super::{Family, Name, Table};

/// Tables of ours as they were found, without rules and without elements: reading a large set back takes
/// the kernel quadratic time.
///
/// The chains have no rules, and the elements of every set read [`super::Elements::Runtime`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub tables: Vec<Table>,
    /// Tables holding what this model cannot say: someone else wrote into them. They are made anew.
    pub foreign: Vec<(Family, Name)>,
}

impl Inventory {
    pub fn table(&self, family: Family, name: &Name) -> Option<&Table> {
        self.tables.iter().find(|t| t.family == family && t.name == *name)
    }

    pub fn is_foreign(&self, family: Family, name: &Name) -> bool {
        self.foreign.iter().any(|(f, n)| *f == family && n == name)
    }
}
