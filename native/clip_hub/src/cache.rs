//! The cache directory, laid out as `huggingface_hub` does it.
//!
//! ```text
//! models--org--name/
//!   blobs/<hash>                        content, named by its hash; whole or absent
//!   blobs/<hash>.<random>.incomplete    content that is being written
//!   refs/<revision>                     the commit a branch or tag was at
//!   snapshots/<commit>/<file>           link to ../../blobs/<hash>; the file itself where there
//!                                       are no links, and then no blob
//! .locks/models--org--name/<hash>.lock  held while a blob is written
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clip::checkpoint::files;

use crate::error::{Error, ErrorKind, Result};
use crate::hash::{self, ContentHash};
use crate::names::{Commit, Repo};

/// Longest reference that is read: a commit and some white space.
const MAX_REFERENCE: u64 = 64;

/// The place of one repository in the cache.
#[derive(Debug)]
pub(crate) struct RepoCache {
    cache: hf_hub::Cache,
    repo: hf_hub::CacheRepo,
    folder: String,
}

impl RepoCache {
    pub(crate) fn new(root: &Path, repo: &Repo) -> Self {
        // The current directory may change while a model is fetched.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let cache = hf_hub::Cache::new(root);
        Self { repo: cache.repo(repo.hub().clone()), folder: repo.hub().folder_name(), cache }
    }

    pub(crate) fn root(&self) -> &Path {
        self.cache.path()
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root().join(&self.folder).join("blobs")
    }

    pub(crate) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(hash.as_str())
    }

    pub(crate) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.repo.pointer_path(commit.as_str())
    }

    pub(crate) fn reference(&self, revision: &str) -> PathBuf {
        self.root().join(&self.folder).join("refs").join(revision)
    }

    /// The directory of locks. Nobody scans it, so it also holds what is about to be renamed.
    pub(crate) fn locks(&self) -> PathBuf {
        self.root().join(".locks").join(&self.folder)
    }

    pub(crate) fn lock(&self, hash: &ContentHash) -> PathBuf {
        self.locks().join(format!("{}.lock", hash.as_str()))
    }

    /// Returns the commit a revision is at, if the cache knows it.
    pub(crate) fn commit(&self, repo: &Repo) -> Option<Commit> {
        if let Some(commit) = repo.commit() {
            return Some(commit);
        }
        let text = files::read(&self.reference(repo.revision()), MAX_REFERENCE).ok()??;
        Commit::parse(std::str::from_utf8(&text).ok()?.trim())
    }

    /// Returns the size of a file of a snapshot, if it is there. Pipes and devices are not files.
    pub(crate) fn size(&self, commit: &Commit, file: &str) -> Option<u64> {
        let metadata = fs::metadata(self.snapshot(commit).join(file)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Opens a blob, if there is one of this size.
    pub(crate) fn open_blob(&self, hash: &ContentHash, size: Option<u64>) -> Option<File> {
        let file = files::open(&self.blob(hash)).ok()?;
        let length = file.metadata().ok()?.len();
        size.is_none_or(|size| size == length).then_some(file)
    }

    /// Makes the directories that a snapshot is written to.
    pub(crate) fn prepare(&self, commit: &Commit) -> Result<()> {
        self.make(&[".locks", &self.folder])?;
        self.make(&[&self.folder, "blobs"])?;
        self.make(&[&self.folder, "snapshots", commit.as_str()])
    }

    /// Makes the directory of a file of a snapshot, which may have a folder in its name.
    pub(crate) fn prepare_file(&self, commit: &Commit, file: &str) -> Result<()> {
        let mut parts = vec![self.folder.as_str(), "snapshots", commit.as_str()];
        parts.extend(file.split('/'));
        parts.pop();
        self.make(&parts)
    }

    /// Makes the directory of a reference, which may be `refs/refs/pr`.
    pub(crate) fn prepare_reference(&self, revision: &str) -> Result<()> {
        let mut parts = vec![self.folder.as_str(), "refs"];
        parts.extend(revision.split('/'));
        parts.pop();
        self.make(&parts)
    }

    /// Below the root, nothing is written through links: whoever planted one would choose which
    /// of the user's files it replaces.
    fn make(&self, parts: &[&str]) -> Result<()> {
        let mut path = self.root().to_owned();
        fs::create_dir_all(&path).map_err(|error| Error::cache(&path, error))?;
        for part in parts {
            path.push(part);
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::cache(&path, error));
                }
                _ => {}
            }
            let metadata = fs::symlink_metadata(&path);
            if !metadata.map_err(|error| Error::cache(&path, error))?.is_dir() {
                return Err(in_the_way(&path));
            }
        }
        Ok(())
    }
}

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let content = files::read(path, most).and_then(|content| {
        content.ok_or_else(|| io::Error::other(format!("it is larger than {most} bytes")))
    });
    content.map_err(|error| Error::unreadable(path, error))
}

/// The error for a link, or for anything but a directory, where the cache has to be written.
pub(crate) fn in_the_way(path: &Path) -> Error {
    let message = format!(
        "cannot write to the cache: {} is a link or a file where a directory or a lock has to be; \
         move it away, or set HF_HUB_CACHE to another directory",
        path.display()
    );
    Error::new(ErrorKind::CacheNotWritable, message)
}

/// A whole checkpoint on this machine.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The directory with the files.
    pub directory: PathBuf,
    /// The commit of the files.
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
    /// Whether it was in the cache before.
    pub cached: bool,
}

impl Snapshot {
    pub(crate) fn new(cache: &RepoCache, commit: &Commit, files: Vec<SnapshotFile>) -> Self {
        Self {
            directory: cache.snapshot(commit),
            commit: commit.as_str().to_owned(),
            bytes: files.iter().map(|file| file.size).sum(),
            files,
        }
    }

    /// Reads every file and compares it with the hash its blob is named by.
    ///
    /// Files that are not links into the blobs have no hash to compare with and are skipped.
    pub fn verify(&self) -> Result<()> {
        for file in &self.files {
            let path = self.directory.join(&file.name);
            let target = fs::read_link(&path).unwrap_or_default();
            let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(hash) = ContentHash::from_etag(name) else { continue };
            let sound = files::open(&path).and_then(|mut file| hash::matches(&mut file, &hash));
            if !sound.map_err(|error| Error::unreadable(&path, error))? {
                let message = format!(
                    "{} is damaged: its content does not match its hash; delete {} and download \
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
