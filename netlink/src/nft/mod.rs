//! Rulesets in the kernel: encodes a typed ruleset to nf_tables netlink, and reads back what is there.
//!
//! A [`Connection`] sends the steps that [`glacis_plan::nft::transaction`] finds, all in one batch: the kernel
//! applies all of them or none. Decides nothing: which ruleset is right, and what to do when someone else
//! changed it, is for the caller.
//!
//! | module | what it owns |
//! |---|---|
//! | `buffer`, `uapi` | messages and attributes, and their numbers |
//! | `batch`, `encode` | one transaction as bytes, step by step |
//! | `declare`, `elements` | tables, chains, sets, objects; elements in as many messages as they need |
//! | `typeof_set` | what nft needs to list sets of integers |
//! | `types`, `expression`, `statement` | values, and rules as programs of the kernel's register machine |
//! | `socket`, `connection` | the conversation |
//! | `read`, `read_elements`, `verify` | what is there, and whether it is what was asked for |

mod batch;
mod buffer;
mod connection;
mod declare;
mod elements;
mod encode;
mod error;
mod expression;
mod read;
mod read_elements;
mod socket;
mod statement;
mod typeof_set;
mod types;
mod uapi;
mod verify;

pub use connection::Connection;
pub use error::{EncodeError, NftError};
pub use read::{Count, Counters, ObservedRule};
pub use verify::{Difference, Mismatch};

use std::fmt;

/// Number of a state of all rulesets in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The one after a transaction; the kernel never uses zero.
    const fn next(self) -> Self {
        match self.0.wrapping_add(1) {
            0 => Self(1),
            next => Self(next),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A transaction that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The generation it made.
    pub generation: Generation,
    /// What was sent.
    pub bytes: usize,
}
