//! Atomic writes to the cache.
//!
//! A file is there whole or not at all. Nothing is written through a link.
//!
//! A lock lets one process at a time download a file. It also keeps out Python's `huggingface_hub`,
//! which locks the same files in the same way. It saves bandwidth, and nothing depends on it:
//! everybody writes to a file of their own and renames it. Some network file systems have no locks,
//! or locks that hold nobody.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clip::checkpoint::files;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::{Builder, NamedTempFile};

use crate::cache::{RepoCache, in_the_way};
use crate::error::{Error, Result};
use crate::hash::{ContentHash, matches};
use crate::names::Commit;

/// Ending of a file's name while it is written.
const SUFFIX: &str = ".incomplete";
/// How often a lock is tried.
const TICK: Duration = Duration::from_millis(100);

/// A file that is renamed when it is whole, and removed when it is not.
#[derive(Debug)]
pub(crate) struct Temporary(NamedTempFile);

impl Temporary {
    /// Creates a file beside `blob`, with a name of its own.
    pub(crate) fn create(blob: &Path) -> Result<Self> {
        let made = Builder::new()
            .prefix(&start(blob))
            .suffix(SUFFIX)
            .rand_bytes(8)
            // Subject to the umask, as for any new file: several users may share a cache.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(blob.parent().unwrap_or(blob));
        made.map(Self).map_err(|error| Error::cache(blob, error))
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file().write_all(bytes).map_err(|error| Error::cache(self.0.path(), error))
    }

    /// Throws away what was written.
    pub(crate) fn empty(&mut self) -> Result<()> {
        let file = self.file();
        let emptied = file.set_len(0).and_then(|()| file.rewind());
        emptied.map_err(|error| Error::cache(self.0.path(), error))
    }

    /// Renames the file once it is safely on the disk.
    pub(crate) fn persist(self, path: &Path) -> Result<()> {
        self.0.as_file().sync_all().map_err(|error| Error::cache(path, error))?;
        self.0.persist(path).map_err(|error| Error::cache(path, error.error))?;
        sync_directory(path);
        Ok(())
    }
}

/// Start of the names of all unfinished downloads of a blob.
fn start(blob: &Path) -> String {
    format!("{}.", blob.file_name().unwrap_or_default().to_string_lossy())
}

/// Makes a rename survive a power cut. Not every file system can.
fn sync_directory(path: &Path) {
    if let Some(parent) = path.parent() {
        let _ = File::open(parent).and_then(|directory| directory.sync_all());
    }
}

/// The unfinished downloads of a blob, ours and Python's.
fn unfinished(blob: &Path) -> impl Iterator<Item = fs::DirEntry> {
    let start = start(blob);
    let entries = blob.parent().and_then(|parent| fs::read_dir(parent).ok());
    entries.into_iter().flatten().flatten().filter(move |entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(&start) && name.ends_with(SUFFIX)
    })
}

/// Returns how many bytes of a blob others have.
pub(crate) fn written(blob: &Path) -> u64 {
    unfinished(blob).filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Removes what killed processes left of a blob. Only for the holder of its lock.
pub(crate) fn sweep(blob: &Path) {
    for entry in unfinished(blob) {
        log::debug!("removing {}", entry.path().display());
        let _ = fs::remove_file(entry.path());
    }
}

/// Target of a link in a snapshot. Relative, so that the cache can be moved.
fn target(file: &str, hash: &ContentHash) -> PathBuf {
    let folders = file.matches('/').count();
    Path::new(&"../".repeat(2 + folders)).join("blobs").join(hash.as_str())
}

/// Whether a file of a snapshot is a link to its blob.
pub(crate) fn is_link(path: &Path, file: &str, hash: &ContentHash) -> bool {
    fs::read_link(path).is_ok_and(|found| found == target(file, hash))
}

/// Whether a file of a snapshot is the content itself, as it is where there are no links.
pub(crate) fn is_copy(path: &Path, hash: &ContentHash) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        && files::open(path).and_then(|mut copy| matches(&mut copy, hash)).unwrap_or(false)
}

/// Makes a file of a snapshot a link to its blob, or the content itself where the file system has
/// no links. `is_new` says that the blob was not there before, so that no other link leads to it.
pub(crate) fn link(
    cache: &RepoCache,
    commit: &Commit,
    file: &str,
    hash: &ContentHash,
    is_new: bool,
) -> Result<()> {
    cache.prepare_file(commit, file)?;
    let path = cache.snapshot(commit).join(file);
    let target = target(file, hash);
    let made = Builder::new()
        .prefix(hash.as_str())
        .suffix(".tmp")
        .make_in(cache.locks(), |link| symlink(&target, link));
    match made {
        // Renaming replaces whatever is there, a link itself instead of its target.
        Ok(link) => link.persist(&path).map_err(|error| Error::cache(&path, error.error))?,
        Err(error) => {
            log::debug!("no link at {} ({error}): placing the file itself", path.display());
            return place(cache, commit, file, hash, is_new);
        }
    }
    sync_directory(&path);
    Ok(())
}

/// Makes a file of a snapshot the content itself, as `huggingface_hub` does. A new blob is moved
/// there. Any other blob is copied, because snapshots may have links to it.
pub(crate) fn place(
    cache: &RepoCache,
    commit: &Commit,
    file: &str,
    hash: &ContentHash,
    is_new: bool,
) -> Result<()> {
    cache.prepare_file(commit, file)?;
    let (blob, path) = (cache.blob(hash), cache.snapshot(commit).join(file));
    let placed = if is_new {
        fs::rename(&blob, &path).map_err(|error| Error::cache(&path, error))
    } else {
        copy(&blob, &cache.locks().join(hash.as_str()), &path)
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

/// Copies a blob through a file beside `beside`, so that `path` is whole at any time.
fn copy(blob: &Path, beside: &Path, path: &Path) -> Result<()> {
    let mut content = files::open(blob).map_err(|error| Error::unreadable(blob, error))?;
    let mut made = Temporary::create(beside)?;
    io::copy(&mut content, made.file()).map_err(|error| Error::cache(path, error))?;
    made.persist(path)
}

/// Records the commit of a branch or tag.
pub(crate) fn reference(cache: &RepoCache, revision: &str, commit: &Commit) -> Result<()> {
    let path = cache.reference(revision);
    cache.prepare_reference(revision)?;
    let mut made = Temporary::create(&cache.locks().join("ref"))?;
    made.write(commit.as_str().as_bytes())?;
    made.persist(&path)
}

/// A lock that is held until it is dropped, or no lock where the file system has none.
#[derive(Debug)]
pub(crate) struct Lock(Option<File>);

impl Lock {
    /// Takes the lock, waiting as long as its holder makes progress.
    ///
    /// `written` tells how much the holder has. It is called ten times a second and can end the
    /// wait with an error. After `patience` without a change we go on without the lock.
    pub(crate) fn acquire(
        path: &Path,
        patience: Duration,
        mut written: impl FnMut() -> Result<u64>,
    ) -> Result<Self> {
        let mut watch = Watch { written: 0, since: Instant::now() };
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => return Ok(Self(Some(file))),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    log::warn!("{} cannot be locked ({error}): going on", path.display());
                    return Ok(Self(None));
                }
            }
            if watch.idle(written()?) > patience {
                log::warn!("the holder of {} makes no progress: going on", path.display());
                return Ok(Self(None));
            }
            thread::sleep(TICK);
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// The progress of the process that holds a lock.
struct Watch {
    written: u64,
    since: Instant,
}

impl Watch {
    /// Returns how long there has been no progress.
    fn idle(&mut self, written: u64) -> Duration {
        if written != self.written {
            *self = Self { written, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

/// Opens the lock file without writing to it: a link in its place could lead anywhere.
fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = options.custom_flags(flags.bits() as i32).open(path);
    opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::ISDIR) => in_the_way(path),
        _ => Error::cache(path, error),
    })
}

/// Whether the file we locked is still the one others will find.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
        _ => false,
    }
}
