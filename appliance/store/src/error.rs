//! What can go wrong with the store.

use crate::layout::{LAYOUT_VERSION, RecordError};
use crate::{Bounds, RESERVE_BYTES};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{0:?} are no usable bounds: bytes_max must be at least {min}, and bytes_initial at most \
         bytes_max less {RESERVE_BYTES}",
        min = 2 * RESERVE_BYTES
    )]
    Bounds(Bounds),
    #[error("the store's directory {} cannot be used: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("there is no store in {} yet; the running core creates it", path.display())]
    Missing { path: PathBuf },
    #[error("the store in {} is being written by another process; stop it first", path.display())]
    AlreadyOpen { path: PathBuf },
    #[error(
        "{} is damaged ({detail}); nothing was changed. Move the file away to start with an empty store, \
         or restore a copy",
        path.display()
    )]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "the store in {} has layout {found}, this version reads layout {LAYOUT_VERSION}; nothing was changed. \
         Run the version that wrote it, or move the directory away to start with an empty store",
        path.display()
    )]
    Layout { path: PathBuf, found: u32 },
    #[error("the store in {} cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: heed::Error },
    #[error("store: {step} failed: {source}")]
    Lmdb { step: &'static str, source: heed::Error },
    #[error("store: {step} met a record it cannot read: {source}")]
    Record { step: &'static str, source: RecordError },
    #[error("this is no place in a listing; begin again without it")]
    Cursor,
    #[error("the store is full at {bytes_max} bytes; shorten the retention or raise the bound")]
    Full { bytes_max: usize },
    #[error("the store's memory map is lost; restart the process. Committed data is safe on disk")]
    MapLost,
    #[error("the writer's thread cannot start: {0}")]
    Thread(io::Error),
}

/// A failure inside a transaction, before the step it belongs to is known.
#[derive(Debug)]
pub(crate) enum Fault {
    Lmdb(heed::Error),
    Record(RecordError),
}

impl From<heed::Error> for Fault {
    fn from(error: heed::Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<RecordError> for Fault {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl Fault {
    pub(crate) fn at(self, step: &'static str) -> StoreError {
        match self {
            Self::Lmdb(source) => StoreError::Lmdb { step, source },
            Self::Record(source) => StoreError::Record { step, source },
        }
    }

    pub(crate) fn is(&self, kind: heed::MdbError) -> bool {
        matches!(self, Self::Lmdb(heed::Error::Mdb(found)) if *found == kind)
    }
}
