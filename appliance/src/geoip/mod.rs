//! Where an address is said to be: GeoIP databases in the MaxMind format, named by the policy.
//!
//! Owns the databases in use and what is wrong with the others. Look-ups come from the store's thread, refreshes run
//! on a thread of their own, the status is read by the daemon's loop: none of them waits for another. Whatever a file
//! holds, it costs nothing but its own answers.

mod database;
#[cfg(test)]
mod tests;

use database::{Database, GeoipError, Identity};
use glacis_control::report::GeoipStatus;
use glacis_control::scan_query::Location;
use glacis_plan::GeoipFile;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The databases in use; cheap to clone, and all clones are the same.
#[derive(Clone)]
pub struct GeoDatabases {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where the private copies lie, without names.
    copies: PathBuf,
    /// In the order of the policy, which is that of the kinds. Replaced as a whole.
    current: RwLock<Arc<[Slot]>>,
    refreshing: AtomicBool,
}

/// One file that the policy names.
#[derive(Clone)]
struct Slot {
    file: GeoipFile,
    path: PathBuf,
    /// Of the version that was read last, whether it is in use or not; `None`: to be read again.
    seen: Option<Identity>,
    database: Option<Arc<Database>>,
    error: Option<String>,
}

impl GeoDatabases {
    /// None yet. Databases are copied to the folder, which nobody else may write to, and mapped from there.
    pub fn new(copies: &Path) -> Self {
        let shared = Shared {
            copies: copies.to_owned(),
            current: RwLock::new(Arc::new([])),
            refreshing: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What the databases say; what none of them knows stays empty. City goes before Country, the provider before the
    /// autonomous system. Takes some microseconds, more when a page comes from disk.
    pub fn locate(&self, address: IpAddr) -> Location {
        let mut location = Location::default();
        for database in self.shared.current().iter().filter_map(|slot| slot.database.as_ref()) {
            database.add_to(&mut location, address);
        }
        location
    }

    /// As of the last refresh, in the order of the policy.
    pub fn status(&self) -> Vec<GeoipStatus> {
        self.shared.current().iter().map(Slot::status).collect()
    }

    /// Opens files that are new and reads those again that were replaced; relative paths begin at `folder`. A file
    /// that cannot be used leaves its predecessor in use and says so in its status. Returns at once: a large file takes
    /// a second, on a thread of its own. Does nothing while that runs; the next call finds what changed meanwhile.
    pub fn begin_refresh(&self, files: &[GeoipFile], folder: &Path) {
        let nothing_to_do = files.is_empty() && self.shared.current().is_empty();
        if nothing_to_do || self.shared.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, files, folder) = (Arc::clone(&self.shared), files.to_owned(), folder.to_owned());
        let started = std::thread::Builder::new().name("geoip".to_owned()).spawn(move || {
            shared.refresh(&files, &folder);
            shared.refreshing.store(false, Ordering::Release);
        });
        if let Err(error) = started {
            self.shared.refreshing.store(false, Ordering::Release);
            tracing::warn!(%error, "GeoIP databases are not looked at for now");
        }
    }
}

impl Shared {
    fn current(&self) -> Arc<[Slot]> {
        // Replacing a pointer cannot panic half-way.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn refresh(&self, files: &[GeoipFile], folder: &Path) {
        let before = self.current();
        let slots = files.iter().map(|file| {
            let path = folder.join(&file.path);
            let known = before.iter().find(|slot| slot.file.kind == file.kind && slot.path == path);
            let slot = known.cloned().unwrap_or_else(|| Slot::new(file, path));
            Slot { file: file.clone(), ..slot.refreshed(&self.copies) }
        });
        let slots: Arc<[Slot]> = slots.collect();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = slots;
    }
}

impl Slot {
    fn new(file: &GeoipFile, path: PathBuf) -> Self {
        Self { file: file.clone(), path, seen: None, database: None, error: None }
    }

    /// Looks at the file, and reads it when it is another than the one that was read last.
    fn refreshed(self, copies: &Path) -> Self {
        let (file, identity) = match database::open_regular(&self.path) {
            Ok((_, identity)) if self.seen == Some(identity) => return self,
            Ok(opened) => opened,
            Err(error) => return self.kept_despite(&error, None),
        };
        match Database::load(self.file.kind, &file, identity, copies) {
            Ok(database) => {
                tracing::info!(
                    file = %self.path.display(),
                    kind = self.file.kind.name(),
                    described_as = database.description(),
                    "GeoIP database in use"
                );
                Self { seen: Some(identity), database: Some(Arc::new(database)), error: None, ..self }
            }
            Err(error) => {
                // The same bytes would be refused again; a full disk may have room the next time.
                let seen = error.is_in_the_file().then_some(identity);
                self.kept_despite(&error, seen)
            }
        }
    }

    fn kept_despite(self, error: &GeoipError, seen: Option<Identity>) -> Self {
        let stays = if self.database.is_some() { "; the former version stays in use" } else { "" };
        let error = format!("{}{stays}", database::plain(&crate::log::whole(error)));
        if self.error.as_ref() != Some(&error) {
            tracing::warn!(file = %self.path.display(), error, "GeoIP database not used");
        }
        Self { seen, error: Some(error), ..self }
    }

    fn status(&self) -> GeoipStatus {
        let database = self.database.as_deref();
        GeoipStatus {
            file: self.file.path.display().to_string(),
            kind: self.file.kind.name().to_owned(),
            built: database.and_then(Database::built),
            error: self.error.clone().or_else(|| database?.damage()),
        }
    }
}
