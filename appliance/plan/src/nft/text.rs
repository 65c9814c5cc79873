//! A ruleset as `nft` reads it.

use super::Ruleset;

/// Writes the ruleset as text that `nft -c -f -` accepts.
pub fn render(_ruleset: &Ruleset) -> String {
    String::new()
}
