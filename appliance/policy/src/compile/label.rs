//! The comment that ties a rule of the kernel to a line of the policy.

use std::fmt;

/// What [`Label`] calls a policy rule that has no id.
const NO_ID: &str = "rule";
/// Leaves room for ` line 4294967295` in nf_tables' 127 bytes.
pub(super) const ID_BYTES_MAX: usize = 96;

/// `ssh-office line 48`, `rule line 50`: the id, or what kind of node it is, and its line in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub name: String,
    /// Counted from 1.
    pub line: u32,
}

impl Label {
    pub(super) fn rule(id: Option<&str>, line: u32) -> Self {
        Self { name: id.unwrap_or(NO_ID).to_owned(), line }
    }

    pub(super) fn node(kind: &str, line: u32) -> Self {
        Self { name: kind.to_owned(), line }
    }

    /// Reads a rule's comment; `None` for rules that no single line asked for.
    pub fn parse(comment: &str) -> Option<Self> {
        let (name, line) = comment.rsplit_once(" line ")?;
        Some(Self { name: name.to_owned(), line: line.parse().ok()? })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.name, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_reads_back_what_it_wrote() {
        for label in [Label::rule(Some("ssh-office"), 48), Label::rule(None, 7), Label::node("forward", 1)] {
            assert_eq!(Label::parse(&label.to_string()), Some(label));
        }
        assert_eq!(Label::parse("no rule for this zone"), None);
    }
}
