//! Where things are pinned.
//!
//! ```text
//! <pin dir>/v<LAYOUT>/<MAP>                      the maps, by their names in the object
//! <pin dir>/v<LAYOUT>/<direction>_link_<n>       the TCX link of device n; removing it detaches the program
//! <pin dir>/v<LAYOUT>/<direction>_filter_<n>     the program that a clsact filter of device n runs: says that there
//!                                                is one
//! ```
//! A direction is `ingress` or `egress`.
//! Devices go by index, because BPF file systems refuse the dots that device names may have.

use crate::attach::Direction;
use crate::{Hook, LoaderError};
use glacis_abi::LAYOUT;
use rustix::fs::statfs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC`, linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

#[derive(Debug)]
pub(crate) struct Pins {
    /// Holds one directory per layout.
    root: PathBuf,
    /// The one of this layout.
    current: PathBuf,
}

impl Pins {
    /// Makes the directory of this layout.
    pub(crate) fn prepare(root: &Path) -> Result<Self, LoaderError> {
        let not_bpffs = || LoaderError::NotBpffs { path: root.to_owned() };
        let existing = root.ancestors().find(|path| path.exists()).ok_or_else(not_bpffs)?;
        let kind = statfs(existing).map_err(|e| failed("examine", existing)(e.into()))?;
        if kind.f_type as u64 != BPF_FS_MAGIC {
            return Err(not_bpffs());
        }
        let current = root.join(format!("v{LAYOUT}"));
        fs::create_dir_all(&current).map_err(failed("make", &current))?;
        Ok(Self { root: root.to_owned(), current })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.current
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.current.join(name)
    }

    pub(crate) fn hook(&self, direction: Direction, hook: Hook, ifindex: u32) -> PathBuf {
        self.current.join(format!("{}{ifindex}", prefix(direction, hook)))
    }

    /// Every hook of this layout by its device's index, in that order.
    pub(crate) fn hooks(&self) -> Result<Vec<(u32, Hook, Direction)>, LoaderError> {
        let mut found = Vec::new();
        for name in names(&self.current)? {
            for direction in Direction::ALL {
                for hook in [Hook::Tcx, Hook::Clsact] {
                    let index = name.strip_prefix(prefix(direction, hook));
                    if let Some(ifindex) = index.and_then(|rest| rest.parse().ok()) {
                        found.push((ifindex, hook, direction));
                    }
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes what programs of other layouts pinned: their links go, and with them the programs. Returns the
    /// directories removed.
    pub(crate) fn remove_other_layouts(&self) -> Result<Vec<PathBuf>, LoaderError> {
        let mut removed = Vec::new();
        for name in names(&self.root)? {
            let directory = self.root.join(&name);
            let is_layout = name.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
            if is_layout && directory != self.current {
                for pin in names(&directory)? {
                    remove(&directory.join(pin))?;
                }
                fs::remove_dir(&directory).map_err(failed("remove", &directory))?;
                removed.push(directory);
            }
        }
        Ok(removed)
    }
}

/// Removes a pin, if it is there: true when it was.
pub(crate) fn remove(path: &Path) -> Result<bool, LoaderError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LoaderError {
    move |source| LoaderError::Pin { action, path: path.to_owned(), source }
}

const fn prefix(direction: Direction, hook: Hook) -> &'static str {
    match (direction, hook) {
        (Direction::Ingress, Hook::Tcx) => "ingress_link_",
        (Direction::Ingress, Hook::Clsact) => "ingress_filter_",
        (Direction::Egress, Hook::Tcx) => "egress_link_",
        (Direction::Egress, Hook::Clsact) => "egress_filter_",
    }
}

fn names(directory: &Path) -> Result<Vec<String>, LoaderError> {
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    entries
        .map(|entry| Ok(entry.map_err(failed("list", directory))?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_is_refused_untouched() {
        let root = Path::new("/proc/self/nowhere/pins");
        assert!(matches!(Pins::prepare(root), Err(LoaderError::NotBpffs { path }) if path == root));
        let beside_sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("pins-must-not-appear");
        assert!(matches!(Pins::prepare(&beside_sources), Err(LoaderError::NotBpffs { .. })));
        assert!(!beside_sources.exists());
    }
}
