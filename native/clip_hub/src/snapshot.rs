//! A checkpoint in the cache.

use std::path::PathBuf;

use clip::checkpoint::files;
use clip::checkpoint::layout::MAX_INDEX;

use crate::error::{Error, ErrorKind, Result};
use crate::hash;
use crate::layout::{Layout, read};
use crate::names::{Commit, ContentHash, Repo};
use crate::needed::{self, Source};

/// A whole checkpoint on this machine.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The directory with the files.
    pub directory: PathBuf,
    /// The commit they are of.
    pub commit: String,
    /// The files a model is loaded from. The directory may hold more.
    pub files: Vec<SnapshotFile>,
    /// Size of all `files` together.
    pub bytes: u64,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it was in the cache already.
    pub cached: bool,
}

impl Snapshot {
    pub(crate) fn new(layout: &Layout, commit: &Commit, files: Vec<SnapshotFile>) -> Self {
        Self {
            directory: layout.snapshot(commit),
            commit: commit.as_str().to_owned(),
            bytes: files.iter().map(|file| file.size).sum(),
            files,
        }
    }

    /// Reads every file and compares it with the hash its blob is named by.
    ///
    /// Files that are no links into the blobs have no hash to compare with and are passed over.
    pub fn verify(&self) -> Result<()> {
        for file in &self.files {
            let path = self.directory.join(&file.name);
            let target = std::fs::read_link(&path).unwrap_or_default();
            let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(hash) = ContentHash::from_etag(name) else { continue };
            let mut content =
                files::open(&path).map_err(|error| Error::unreadable(&path, error))?;
            if !hash::matches(&mut content, &hash)
                .map_err(|error| Error::unreadable(&path, error))?
            {
                let message = format!(
                    "{} is damaged: its content is not what its hash says; delete {} and download \
                     the model again",
                    path.display(),
                    self.directory.display()
                );
                return Err(Error::new(ErrorKind::HashMismatch, message));
            }
        }
        Ok(())
    }
}

/// What the cache has of a revision: a whole snapshot, or a list of what is missing.
pub(crate) fn look_up(layout: &Layout, repo: &Repo) -> Result<Snapshot, Vec<String>> {
    let Some(commit) = layout.commit(repo) else {
        return Err(vec![format!("revision {}", repo.revision())]);
    };
    let mut cached = Cached { layout, commit, files: Vec::new() };
    match needed::missing(&mut cached) {
        Ok(missing) if missing.is_empty() => {
            Ok(Snapshot::new(layout, &cached.commit, cached.files))
        }
        Ok(missing) => Err(missing),
        Err(error) => Err(vec![error.to_string()]),
    }
}

struct Cached<'a> {
    layout: &'a Layout,
    commit: Commit,
    files: Vec<SnapshotFile>,
}

impl Source for Cached<'_> {
    fn has(&mut self, file: &str) -> Result<bool> {
        let Some(size) = self.layout.size(&self.commit, file) else { return Ok(false) };
        self.files.push(SnapshotFile { name: file.to_owned(), size, cached: true });
        Ok(true)
    }

    fn index(&mut self, file: &str) -> Result<Vec<u8>> {
        read(&self.layout.snapshot(&self.commit).join(file), MAX_INDEX)
    }
}
