//! Names of tables, chains, sets and objects.

use std::borrow::Cow;
use std::fmt;

/// An nf_tables identifier: a letter or `_`, then letters, digits, `_`, `-`, `.`; at most 127 bytes.
///
/// The kernel takes almost anything up to 255 bytes; this is what `nft` reads back without quoting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Cow<'static, str>);

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no nf_tables name: it takes a letter or `_` first, then letters, digits, `_`, `-` or `.`, 127 at most"
)]
pub struct NameError(pub String);

impl Name {
    const LENGTH_MAX: usize = 127;

    /// A name known at compile time.
    ///
    /// # Panics
    /// When the text is no identifier; in a `const`, that is a compile error.
    pub const fn literal(text: &'static str) -> Self {
        assert!(Self::is_valid(text.as_bytes()), "not an nf_tables name");
        Self(Cow::Borrowed(text))
    }

    pub fn parse(text: &str) -> Result<Self, NameError> {
        if Self::is_valid(text.as_bytes()) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(NameError(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    const fn is_valid(bytes: &[u8]) -> bool {
        if bytes.is_empty() || bytes.len() > Self::LENGTH_MAX {
            return false;
        }
        if !(bytes[0].is_ascii_alphabetic() || bytes[0] == b'_') {
            return false;
        }
        let mut i = 1;
        while i < bytes.len() {
            if !(bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'-' | b'.')) {
                return false;
            }
            i += 1;
        }
        true
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_nft_reads_back_unquoted() {
        for good in ["a", "_x", "ban-v4", "zone.lan_2"] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "-a", "a b", "a/b", "ä", &"x".repeat(128)] {
            assert!(Name::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
