//! From a policy file on disk to a compiled plan: the I/O around the pure crate.

use glacis_plan::Plan;
use glacis_policy::{Facts, Policy};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest policy file that is read at all; the parser's own bound is lower and gives the better message.
const POLICY_BYTES_MAX: u64 = 12 << 20;
/// Largest blocklist file. A million IPv6 ranges take about 80 MB.
const LIST_BYTES_MAX: u64 = 128 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    #[error("cannot read the policy {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("the policy {} is over {} MiB", path.display(), POLICY_BYTES_MAX >> 20)]
    TooLarge { path: PathBuf },
    #[error("the policy {} is not UTF-8", path.display())]
    NotText { path: PathBuf },
    /// Diagnostics ready to print, several lines.
    #[error("{summary}\n{detail}")]
    Wrong { summary: String, detail: String },
}

impl PolicyFileError {
    /// What went wrong, in one line.
    pub fn summary(&self) -> String {
        match self {
            Self::Wrong { summary, .. } => summary.clone(),
            other => other.to_string(),
        }
    }

    /// The diagnostics, if it is the policy's text that is wrong.
    pub fn detail(&self) -> &str {
        match self {
            Self::Wrong { detail, .. } => detail,
            _ => "",
        }
    }
}
