//! The policy language: KDL text to a typed [`Policy`], to a [`glacis_plan::Plan`].
//!
//! Owns the grammar, every check that needs no host, the compiler and the packet simulator behind `expect`.
//! It reads no file, opens no socket and knows no clock: what it must know of the host arrives as [`Facts`].
//! Every error of a file is reported in one go, each with its place and a hint.

pub mod compile;
mod facts;
mod model;
mod parse;
mod report;
pub mod simulate;

pub use compile::{Compiled, compile};
pub use facts::{Facts, InterfaceFact};
pub use model::*;
pub use parse::{POLICY_BYTES_MAX, parse};
pub use report::{Place, Problem, Report, Source, Theme};
