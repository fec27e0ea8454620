//! One download of a file at a time, whoever else uses the cache: other processes of ours and
//! Python's `huggingface_hub`, which locks the same files in the same way.
//!
//! The lock saves bandwidth and nothing depends on it: everybody writes to a file of their own and
//! renames it. Some network file systems have no locks, or locks that hold nobody.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layout::in_the_way;

const TICK: Duration = Duration::from_millis(100);

/// A lock that is held until it is dropped; or none, where there is none to be had.
#[derive(Debug)]
pub(crate) struct Lock(Option<File>);

impl Lock {
    /// Takes the lock, waiting as long as its holder makes progress.
    ///
    /// `written` tells how much the holder has; it is called ten times a second and can end the
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

/// The progress of who holds a lock.
struct Watch {
    written: u64,
    since: Instant,
}

impl Watch {
    /// For how long there has been none.
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

/// Whether the file that is locked is still the one others will find.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
        _ => false,
    }
}
