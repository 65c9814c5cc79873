//! The LMDB environment: opening, transactions, and the growth of its map.

use crate::error::{Fault, StoreError};
use crate::layout::{self, LAYOUT_BEFORE, LAYOUT_VERSION, META_LAYOUT};
use crate::tables::{META, OLD_SCANS, TABLE_COUNT, TABLE_NAMES, Table, Tables};
use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvFlags, EnvInfo, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// LMDB's page on every machine that we build for.
pub(crate) const PAGE_BYTES: usize = 4096;
const DATA_FILE: &str = "data.mdb";
/// Threads, over all processes, that may read at the same time.
const READERS_MAX: u32 = 126;
/// Room for new databases in a file that is as large as its map was; they take some pages.
const OPENING_BYTES: usize = 1 << 20;
/// The file may be larger than memory, and neighbours in a tree lie far apart in it: what the kernel would read ahead of a
/// page is of no use, and takes the place of what is.
const PAGING: EnvFlags = EnvFlags::NO_READ_AHEAD;
/// How often a reader follows a map that grows under it before it gives up.
const REMAP_TRIES: usize = 8;

/// Whether the map is there. A failed remapping leaves none, and LMDB would follow a null pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    Mapped,
    Lost,
}

/// An open environment with its databases.
///
/// Every transaction holds `map` shared, every remapping holds it exclusively: LMDB demands that no transaction
/// of this process is open while the map moves.
#[derive(Debug)]
pub(crate) struct Environment {
    env: Env<WithoutTls>,
    map: RwLock<Map>,
    tables: Tables,
    dir: PathBuf,
}

impl Environment {
    /// For the one process that writes.
    pub fn create(dir: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        refuse_truncated(dir)?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(map_bytes.max(file_bytes(dir) + OPENING_BYTES))
            .max_readers(READERS_MAX)
            .max_dbs(TABLE_COUNT);
        // SAFETY: the file is ours alone (directory of mode 0700, writer lock held) and is changed through LMDB
        // only, with its own locks on. PAGING takes no safety away.
        let env = unsafe { options.flags(PAGING).open(dir) }.map_err(|source| open_error(dir, source))?;
        refuse_short(&env, dir)?;
        refuse_layout(&env, dir)?;
        let tables = create_tables(&env, dir)?;
        Ok(Self { env, map: RwLock::new(Map::Mapped), tables, dir: dir.to_owned() })
    }

    /// For a process that only reads. The data file is opened `O_RDONLY`.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        if !dir.join(DATA_FILE).exists() {
            return Err(StoreError::Missing { path: dir.to_owned() });
        }
        refuse_truncated(dir)?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.max_readers(READERS_MAX).max_dbs(TABLE_COUNT);
        // SAFETY: neither flag takes safety away, unlike the flags that turn syncing or locking off; the file is
        // changed by the one writer through LMDB only.
        let env = unsafe { options.flags(PAGING | EnvFlags::READ_ONLY).open(dir) }
            .map_err(|source| open_error(dir, source))?;
        refuse_short(&env, dir)?;
        let tables = open_tables(&env, dir)?;
        Ok(Self { env, map: RwLock::new(Map::Mapped), tables, dir: dir.to_owned() })
    }

    /// Runs `read` on a consistent snapshot.
    pub fn read<T>(
        &self,
        step: &'static str,
        read: impl FnOnce(&Tables, &RoTxn<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        for _ in 0..REMAP_TRIES {
            let shared = self.shared()?;
            match self.env.read_txn() {
                Ok(txn) => return read(&self.tables, &txn).map_err(|fault| fault.at(step)),
                Err(heed::Error::Mdb(MdbError::MapResized)) => {}
                Err(source) => return Err(StoreError::Lmdb { step, source }),
            }
            drop(shared);
            // Zero adopts the size that the writer committed.
            self.remap(0)?;
        }
        Err(StoreError::Lmdb { step, source: heed::Error::Mdb(MdbError::MapResized) })
    }

    /// Runs `write` and commits what it did; again from the start in a larger map when it did not fit.
    /// The map grows up to `bytes_max`; what does not fit then is [`StoreError::Full`] and changes nothing.
    pub fn write<T>(
        &self,
        step: &'static str,
        bytes_max: usize,
        mut write: impl FnMut(&Tables, &mut RwTxn<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.shrink_to(bytes_max)?;
        loop {
            let outcome = {
                let _shared = self.shared()?;
                let mut txn = self.env.write_txn().map_err(|source| StoreError::Lmdb { step, source })?;
                match write(&self.tables, &mut txn) {
                    Ok(value) => txn.commit().map(|()| value).map_err(Fault::from),
                    Err(fault) => Err(fault),
                }
            };
            match outcome {
                Ok(value) => return Ok(value),
                Err(fault) if !fault.is(MdbError::MapFull) => return Err(fault.at(step)),
                Err(_) => {}
            }
            let bytes = self.info()?.map_size;
            if bytes >= bytes_max {
                return Err(StoreError::Full { bytes_max });
            }
            let grown = bytes.saturating_mul(2).min(bytes_max);
            self.remap(grown)?;
            tracing::info!(step, from = bytes, to = grown, "store grown");
        }
    }

    /// Takes back the room that a transaction with a higher bound was given, as far as no data lies there.
    fn shrink_to(&self, bytes_max: usize) -> Result<(), StoreError> {
        let info = self.info()?;
        let occupied = (info.last_page_number + 1) * PAGE_BYTES;
        if info.map_size <= bytes_max.max(occupied) {
            return Ok(());
        }
        self.remap(bytes_max.max(occupied))
    }

    /// Reads the header through the map.
    fn info(&self) -> Result<EnvInfo, StoreError> {
        let _shared = self.shared()?;
        Ok(self.env.info())
    }

    fn remap(&self, bytes: usize) -> Result<(), StoreError> {
        let mut map = self.exclusive()?;
        // SAFETY: every transaction of this process holds `map` shared, so none is open now.
        let outcome = unsafe { self.env.resize(bytes) };
        outcome.map_err(|source| {
            *map = Map::Lost;
            StoreError::Lmdb { step: "remapping the file", source }
        })
    }

    fn shared(&self) -> Result<RwLockReadGuard<'_, Map>, StoreError> {
        // The guarded word is valid whatever its last holder did.
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if *map == Map::Lost { Err(StoreError::MapLost) } else { Ok(map) }
    }

    fn exclusive(&self) -> Result<RwLockWriteGuard<'_, Map>, StoreError> {
        let map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if *map == Map::Lost { Err(StoreError::MapLost) } else { Ok(map) }
    }

    /// Frees the slots of readers that died, whose snapshots would keep pages from being reused.
    pub fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        let step = "clearing stale readers";
        self.env.clear_stale_readers().map_err(|source| StoreError::Lmdb { step, source })
    }

    /// Refuses the environment unless it has the layout of this version; an empty one, and one of the version before,
    /// gets it.
    pub fn establish_layout(&self, bytes_max: usize) -> Result<(), StoreError> {
        match self.read("reading the layout", Tables::layout)? {
            None | Some(LAYOUT_BEFORE) => self
                .write("marking the layout", bytes_max, |tables, txn| tables.set_layout(txn, LAYOUT_VERSION)),
            Some(_) => self.require_layout(),
        }
    }

    pub fn require_layout(&self) -> Result<(), StoreError> {
        match self.read("reading the layout", Tables::layout)? {
            Some(LAYOUT_VERSION) => Ok(()),
            Some(found) => Err(StoreError::Layout { path: self.dir.clone(), found }),
            None => Err(StoreError::Missing { path: self.dir.clone() }),
        }
    }
}

fn open_error(dir: &Path, source: heed::Error) -> StoreError {
    match source {
        heed::Error::Mdb(
            kind @ (MdbError::Invalid
            | MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::VersionMismatch
            | MdbError::Panic),
        ) => StoreError::Corrupt { path: dir.join(DATA_FILE), detail: kind.to_string() },
        source => StoreError::Open { path: dir.to_owned(), source },
    }
}

/// Zero when there is none.
fn file_bytes(dir: &Path) -> usize {
    fs::metadata(dir.join(DATA_FILE)).map_or(0, |file| file.len() as usize).next_multiple_of(PAGE_BYTES)
}

/// Refuses a file that ends inside the two meta pages, which LMDB takes for a new one or reads beyond.
fn refuse_truncated(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(DATA_FILE);
    match fs::metadata(&path) {
        Ok(file) if file.len() > 0 && file.len() < 2 * PAGE_BYTES as u64 => {
            Err(StoreError::Corrupt { path, detail: format!("only {} bytes long", file.len()) })
        }
        _ => Ok(()),
    }
}

/// Refuses a file that ends before its last page: touching the map behind its end raises SIGBUS.
fn refuse_short(env: &Env<WithoutTls>, dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(DATA_FILE);
    let open_error = |source| StoreError::Open { path: path.clone(), source };
    let file_bytes = env.real_disk_size().map_err(open_error)?;
    let needed = (env.info().last_page_number as u64 + 1) * PAGE_BYTES as u64;
    if file_bytes < needed {
        let detail = format!("{file_bytes} bytes long where its own header counts {needed}");
        return Err(StoreError::Corrupt { path, detail });
    }
    Ok(())
}

/// Refuses a store of a layout that is neither this one nor the one before, before anything is written to it.
fn refuse_layout(env: &Env<WithoutTls>, dir: &Path) -> Result<(), StoreError> {
    let read = || -> Result<Option<u32>, Fault> {
        let txn = env.read_txn().map_err(Fault::from)?;
        let found = env.open_databases_and_commit(txn, |opener, txn| {
            let meta = opener.database_options().types::<Bytes, Bytes>().name(META).open(txn)?;
            let stored = meta.map(|meta| meta.get(txn, META_LAYOUT)).transpose()?.flatten();
            let parse = |bytes| layout::parse_u32("the layout's version", bytes);
            let version = stored.map(parse).transpose()?;
            Ok::<_, Fault>(CommitOrAbort::<(), _>::Abort(version))
        })?;
        Ok(found.abort().flatten())
    };
    match read() {
        Ok(None | Some(LAYOUT_VERSION | LAYOUT_BEFORE)) => Ok(()),
        Ok(Some(found)) => Err(StoreError::Layout { path: dir.to_owned(), found }),
        Err(Fault::Lmdb(source)) => Err(open_error(dir, source)),
        Err(fault) => Err(fault.at("reading the layout")),
    }
}

fn create_tables(env: &Env<WithoutTls>, dir: &Path) -> Result<Tables, StoreError> {
    let create = || -> Result<_, heed::Error> {
        let txn = env.write_txn()?;
        let created = env.create_databases_and_commit(txn, |opener, txn| {
            // The options of a database that may be missing; creating never gives none.
            let old_scans = opener.database_options().types::<Bytes, Bytes>().name(OLD_SCANS).open(txn)?;
            let mut create = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
            let meta = create(META)?;
            let mut named = [meta; TABLE_NAMES.len()];
            for (table, name) in named.iter_mut().zip(TABLE_NAMES) {
                *table = create(name)?;
            }
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((named, meta, old_scans)))
        })?;
        Ok(created.unwrap_commit())
    };
    let (named, meta, old_scans) = create().map_err(|source| open_error(dir, source))?;
    Ok(Tables::new(&named, meta, old_scans))
}

fn open_tables(env: &Env<WithoutTls>, dir: &Path) -> Result<Tables, StoreError> {
    let open = || -> Result<_, heed::Error> {
        let txn = env.read_txn()?;
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            let open = |name| opener.database_options().types::<Bytes, Bytes>().name(name).open(txn);
            let mut named = [None; TABLE_NAMES.len()];
            for (table, name) in named.iter_mut().zip(TABLE_NAMES) {
                *table = open(name)?;
            }
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((named, open(META)?)))
        })?;
        Ok(opened.unwrap_commit())
    };
    let (named, meta) = open().map_err(|source| open_error(dir, source))?;
    let named: Option<Vec<Table>> = named.into_iter().collect();
    let named = named.and_then(|named| <[Table; TABLE_NAMES.len()]>::try_from(named).ok());
    let (named, meta) = named.zip(meta).ok_or_else(|| StoreError::Missing { path: dir.to_owned() })?;
    Ok(Tables::new(&named, meta, None))
}
