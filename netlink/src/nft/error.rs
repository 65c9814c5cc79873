//! What can go wrong between a ruleset and the kernel.

use super::Generation;
use glacis_plan::nft::{Datatype, Name};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("cannot open a netlink socket to nf_tables; is the nf_tables module loaded?")]
    Open(#[source] io::Error),
    #[error("cannot send {bytes} bytes to nf_tables")]
    Send { bytes: usize, source: io::Error },
    #[error("cannot receive from nf_tables")]
    Receive(#[source] io::Error),
    #[error("step {op} of the transaction, `{step}`, cannot be encoded")]
    Encode { op: usize, step: String, source: EncodeError },
    /// Nothing of the transaction was applied.
    #[error("the kernel refused step {op} of the transaction, `{step}`{}", detail_text(detail.as_ref()))]
    Refused { op: usize, step: String, detail: Option<String>, source: io::Error },
    /// Nothing of the transaction was applied; whoever asked reads the kernel again and decides anew.
    #[error("the ruleset is no longer at generation {0}: someone else changed it")]
    Stale(Generation),
    /// The kernel refused the transaction as a whole.
    #[error("the kernel refused the transaction{}", detail_text(detail.as_ref()))]
    Aborted { detail: Option<String>, source: io::Error },
    /// Whether the transaction was applied is not known; the generation tells.
    #[error("the kernel neither acknowledged nor refused the transaction")]
    Unacknowledged,
    #[error("the kernel refused to list {what}")]
    Query { what: &'static str, source: io::Error },
    #[error("the ruleset changed during each of {tries} tries to read it")]
    Unsteady { tries: u32 },
    #[error("set `{set}` has more than {max} elements, too many to read back")]
    TooManyElements { set: Name, max: usize },
    #[error("the kernel's answer about {0} cannot be read")]
    Malformed(&'static str),
}

fn detail_text(detail: Option<&String>) -> String {
    detail.map_or_else(String::new, |text| format!(" ({text})"))
}

/// Why a step has no encoding.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncodeError {
    #[error("set `{0}` is not declared in the same transaction before its use")]
    UndeclaredSet(Name),
    #[error("`{0}` is no map of values")]
    NoValueMap(Name),
    #[error("a value of {found} does not fit where {wanted:?} is wanted")]
    WrongType { found: String, wanted: Datatype },
    #[error("an element has {found} fields and its set has {wanted}")]
    WrongFieldCount { found: usize, wanted: usize },
    #[error("interface name `{0}` is longer than 15 bytes")]
    LongInterface(String),
    #[error("there is no interface `{0}`")]
    NoInterface(String),
    #[error("comment or log prefix `{0}` is longer than 127 bytes")]
    LongText(String),
    #[error("a range runs from high to low")]
    BackwardRange,
    #[error("an anonymous map has no element to tell its type, or one without data")]
    UntypedMap,
    #[error("the expression takes more than the kernel's 64 bytes of registers")]
    OutOfRegisters,
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("a message part is longer than 64 KiB")]
    TooLong,
}
