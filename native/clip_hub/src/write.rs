//! Writing to the cache: whole or not at all, and never through a link.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clip::checkpoint::files;

use crate::error::{Error, Result};
use crate::hash::matches;
use crate::layout::Layout;
use crate::names::{Commit, ContentHash};

/// What a file is called while it is written.
const SUFFIX: &str = ".incomplete";

/// A file that is renamed when it is whole, and removed when it is not.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) file: File,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    /// A new file beside the blob it will be, with a name of its own.
    pub(crate) fn create(blob: &Path) -> Result<Self> {
        loop {
            let path = sibling(blob, SUFFIX);
            let mut options = File::options();
            // `create_new` follows no link and opens nothing that is there.
            match options.read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path, kept: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::cache(&path, error)),
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::cache(&self.path, error))
    }

    /// Begins the file anew.
    pub(crate) fn empty(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| Error::cache(&self.path, error))
    }

    /// Puts the file where it belongs, when it is safely on the disk.
    pub(crate) fn persist(mut self, blob: &Path) -> Result<()> {
        let renamed = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
        renamed.map_err(|error| Error::cache(blob, error))?;
        self.kept = true;
        sync_directory(blob);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // The error that brought us here says more than one about the rest would.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `path` with a random ending.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let random = RandomState::new().hash_one(0) as u32;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{random:08x}{suffix}"))
}

/// Makes a rename survive a power cut. Not every file system can.
fn sync_directory(path: &Path) {
    if let Some(parent) = path.parent() {
        let _ = File::open(parent).and_then(|directory| directory.sync_all());
    }
}

/// The unfinished downloads of a blob, ours and Python's.
fn unfinished(blob: &Path) -> impl Iterator<Item = fs::DirEntry> {
    let start = format!("{}.", blob.file_name().unwrap_or_default().to_string_lossy());
    let entries = blob.parent().and_then(|parent| fs::read_dir(parent).ok());
    entries.into_iter().flatten().flatten().filter(move |entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(&start) && name.ends_with(SUFFIX)
    })
}

/// How much others have of a blob.
pub(crate) fn written(blob: &Path) -> u64 {
    unfinished(blob).filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Removes what killed processes left of a blob. Only for who holds its lock.
pub(crate) fn sweep(blob: &Path) {
    for entry in unfinished(blob) {
        log::debug!("removing {}", entry.path().display());
        let _ = fs::remove_file(entry.path());
    }
}

/// Where a file of a snapshot leads to. Relative, so that the cache can be moved.
fn target(file: &str, hash: &ContentHash) -> PathBuf {
    let folders = file.matches('/').count();
    Path::new(&"../".repeat(2 + folders)).join("blobs").join(hash.as_str())
}

/// Whether a file of a snapshot leads to its blob.
pub(crate) fn is_link(path: &Path, file: &str, hash: &ContentHash) -> bool {
    fs::read_link(path).is_ok_and(|found| found == target(file, hash))
}

/// Whether a file of a snapshot is the content itself, as it is where there are no links.
pub(crate) fn is_copy(path: &Path, hash: &ContentHash) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        && files::open(path).and_then(|mut copy| matches(&mut copy, hash)).unwrap_or(false)
}

/// Makes a file of a snapshot a link to its blob; or the content itself, where the file system has
/// no links. `is_new` says that the blob was not there before, so that no other link leads to it.
pub(crate) fn link(
    layout: &Layout,
    commit: &Commit,
    file: &str,
    hash: &ContentHash,
    is_new: bool,
) -> Result<()> {
    layout.prepare_file(commit, file)?;
    let path = layout.snapshot(commit).join(file);
    let made = sibling(&layout.locks().join(path.file_name().unwrap_or_default()), ".tmp");
    if let Err(error) = symlink(target(file, hash), &made) {
        log::debug!("no link at {} ({error}): placing the file itself", path.display());
        return place(layout, commit, file, hash, is_new);
    }
    // Renaming replaces whatever is there, a link by itself and not what it leads to.
    fs::rename(&made, &path).map_err(|error| {
        let _ = fs::remove_file(&made);
        Error::cache(&path, error)
    })?;
    sync_directory(&path);
    Ok(())
}

/// Makes a file of a snapshot the content itself, as `huggingface_hub` does: a new blob is moved
/// there, and another one is copied, because snapshots may have links to it.
pub(crate) fn place(
    layout: &Layout,
    commit: &Commit,
    file: &str,
    hash: &ContentHash,
    is_new: bool,
) -> Result<()> {
    layout.prepare_file(commit, file)?;
    let (blob, path) = (layout.blob(hash), layout.snapshot(commit).join(file));
    let placed = if is_new {
        fs::rename(&blob, &path).map_err(|error| Error::cache(&path, error))
    } else {
        copy(&blob, &layout.locks().join(hash.as_str()), &path)
    };
    match placed {
        // Another process may have moved the blob there.
        Err(_) if is_copy(&path, hash) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            sync_directory(&path);
            Ok(())
        }
    }
}

/// Copies a blob by way of a file beside `beside`: what stands at `path` is whole at any time.
fn copy(blob: &Path, beside: &Path, path: &Path) -> Result<()> {
    let mut content = files::open(blob).map_err(|error| Error::unreadable(blob, error))?;
    let mut made = Temporary::create(beside)?;
    io::copy(&mut content, &mut made.file).map_err(|error| Error::cache(path, error))?;
    made.persist(path)
}

/// Notes which commit a branch or tag is at.
pub(crate) fn reference(layout: &Layout, revision: &str, commit: &Commit) -> Result<()> {
    let path = layout.reference(revision);
    layout.prepare_reference(revision)?;
    let mut made = Temporary::create(&layout.locks().join("ref"))?;
    made.write(commit.as_str().as_bytes())?;
    made.persist(&path)
}
