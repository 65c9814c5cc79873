//! Applied policies on disk: the newest is the last good one.
//!
//! `<state>/policies/<revision>.kdl`, revision in ten digits. A file is written whole under another name, synced and
//! renamed, so that a power cut leaves the old newest or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Policies kept; older ones are removed.
const KEPT: usize = 50;

#[derive(Debug, thiserror::Error)]
#[error("cannot {step} in {}: {cause}", folder.display())]
pub struct RevisionError {
    step: &'static str,
    folder: PathBuf,
    cause: io::Error,
}

pub struct Revisions {
    folder: PathBuf,
}

impl Revisions {
    pub fn open(state: &Path) -> Result<Self, RevisionError> {
        let folder = state.join("policies");
        fs::create_dir_all(&folder).map_err(|cause| RevisionError {
            step: "make the folder of applied policies",
            folder: folder.clone(),
            cause,
        })?;
        Ok(Self { folder })
    }

    /// The newest applied policy and its number.
    pub fn newest(&self) -> Result<Option<(u64, Vec<u8>)>, RevisionError> {
        let Some(revision) = self.numbers()?.pop() else { return Ok(None) };
        let text =
            fs::read(self.path(revision)).map_err(|cause| self.error("read the last good policy", cause))?;
        Ok(Some((revision, text)))
    }

    /// Keeps a policy as the newest. Returns its number; a text equal to the newest keeps that one's.
    pub fn keep(&self, text: &[u8]) -> Result<u64, RevisionError> {
        let newest = self.newest()?;
        if let Some((revision, known)) = &newest
            && known == text
        {
            return Ok(*revision);
        }
        let revision = newest.map_or(1, |(revision, _)| revision + 1);
        self.write(revision, text).map_err(|cause| self.error("keep the applied policy", cause))?;
        let numbers = self.numbers()?;
        for old in &numbers[..numbers.len().saturating_sub(KEPT)] {
            let _ = fs::remove_file(self.path(*old));
        }
        Ok(revision)
    }

    fn write(&self, revision: u64, text: &[u8]) -> io::Result<()> {
        let unfinished = self.folder.join("new.tmp");
        let mut file = File::create(&unfinished)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path(revision))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Ascending.
    fn numbers(&self) -> Result<Vec<u64>, RevisionError> {
        let entries =
            fs::read_dir(&self.folder).map_err(|cause| self.error("list the applied policies", cause))?;
        let mut numbers: Vec<u64> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".kdl")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, revision: u64) -> PathBuf {
        self.folder.join(format!("{revision:010}.kdl"))
    }

    fn error(&self, step: &'static str, cause: io::Error) -> RevisionError {
        RevisionError { step, folder: self.folder.clone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_the_last_one_kept_and_old_ones_go() {
        let state = tempfile::tempdir().unwrap();
        let revisions = Revisions::open(state.path()).unwrap();
        assert_eq!(revisions.newest().unwrap(), None);
        assert_eq!(revisions.keep(b"one").unwrap(), 1);
        assert_eq!(revisions.keep(b"one").unwrap(), 1);
        for n in 2..=60_u64 {
            assert_eq!(revisions.keep(n.to_string().as_bytes()).unwrap(), n);
        }
        let again = Revisions::open(state.path()).unwrap();
        assert_eq!(again.newest().unwrap(), Some((60, b"60".to_vec())));
        assert_eq!(again.numbers().unwrap().len(), KEPT);
    }

    #[test]
    fn an_unfinished_write_is_not_a_policy() {
        let state = tempfile::tempdir().unwrap();
        let revisions = Revisions::open(state.path()).unwrap();
        revisions.keep(b"good").unwrap();
        fs::write(state.path().join("policies/new.tmp"), b"half").unwrap();
        assert_eq!(revisions.newest().unwrap(), Some((1, b"good".to_vec())));
    }
}
