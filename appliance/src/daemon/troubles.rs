//! What is not as it should be and is tried again: one line for each concern, gone when that concern is mended.

use std::collections::BTreeMap;

/// What can be in trouble while a policy is in force. Worst first: the status lists them in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The ruleset cannot be read, closed or loaded.
    Ruleset,
    /// The state on disk is not used.
    State,
    /// The running policy no longer fits the host.
    Binding,
    /// The applied policy could not be kept for the next start.
    Revision,
    /// The store does not hold all blocks that are in force.
    Unkept,
    /// The TC program could not be loaded.
    Program,
    /// The TC program is not on a device, or not with all its settings.
    Attachment,
    /// A step on an interface failed.
    Links,
    /// Changes of interfaces are not followed.
    LinkWatch,
    Sysctls,
    StatusWorker,
    /// A gate is not served as the policy asks.
    Gates,
}

#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Trouble, Vec<String>>);

/// Lines kept for one concern.
const LINES_MAX: usize = 16;

impl Troubles {
    /// Takes the concern as mended, until something adds to it again.
    pub(super) fn clear(&mut self, concern: &Trouble) {
        self.0.remove(concern);
    }

    pub(super) fn add(&mut self, concern: Trouble, line: String) {
        let lines = self.0.entry(concern).or_default();
        if lines.len() < LINES_MAX && !lines.contains(&line) {
            lines.push(line);
        }
    }

    pub(super) fn has(&self, concern: &Trouble) -> bool {
        self.0.contains_key(concern)
    }

    /// Whether there is anything that another try may mend.
    pub(super) fn want_another_try(&self) -> bool {
        self.0.keys().any(|concern| !matches!(concern, Trouble::State | Trouble::Revision | Trouble::Unkept))
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &String> {
        self.0.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concern_is_told_once_and_goes_when_it_is_mended() {
        let mut troubles = Troubles::default();
        for _ in 0..3 {
            troubles.add(Trouble::Links, "eth0: no".into());
            troubles.add(Trouble::Ruleset, "no".into());
        }
        assert_eq!(troubles.lines().collect::<Vec<_>>(), ["no", "eth0: no"]);
        troubles.clear(&Trouble::Ruleset);
        assert_eq!(troubles.lines().collect::<Vec<_>>(), ["eth0: no"]);
        for n in 0..100 {
            troubles.add(Trouble::Links, n.to_string());
        }
        assert_eq!(troubles.lines().count(), LINES_MAX);
    }
}
