//! A folder in the cache: whole or absent, undamaged, and made by one process alone.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clip::checkpoint::directory::read_file;
use clip::checkpoint::files;
use tempfile::{Builder, TempDir};

use crate::error::{Error, ErrorKind, Result};

/// Name of the list of checksums in a folder.
const CHECKSUMS: &str = "checksums.txt";
/// Largest list that is read.
const MAX_CHECKSUMS: u64 = 4096;
/// Bytes that are read at a time: they stay in the processor's cache between reading and hashing.
const PIECE: usize = 256 * 1024;
/// What the name of an unfinished folder has behind its key.
const PART: &str = ".part-";
/// From this age on an unfinished folder is a leftover, of any model. An export takes seconds.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a folder is kept.
#[derive(Debug)]
pub(crate) struct Slot {
    folder: PathBuf,
    /// What the names of its lock and its unfinished siblings begin with.
    key: String,
}

/// Held while a folder is made. The system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// The file system knows no locks; then two processes may do the same work.
    is_alone: bool,
}

impl Slot {
    pub(crate) fn new(parent: &Path, key: String) -> Self {
        Self { folder: parent.join(&key), key }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until no other process makes this folder.
    pub(crate) fn lock(&self) -> Result<Lock> {
        // The file stays: a lock on a file that is removed keeps out nobody.
        let path = lock_of(self.folder.parent().unwrap_or(&self.folder), &self.key);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
        let file = open_lock(&path, true).map_err(|e| unwritable(&path, e))?;
        let is_alone = match file.lock() {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => false,
            Err(e) => return Err(unwritable(&path, e)),
        };
        Ok(Lock { _file: file, is_alone })
    }

    /// Lets `make` write files, and puts them in the folder's place with their checksums.
    ///
    /// They are not flushed to the disk first: what a power cut leaves of them does not match the
    /// checksums.
    pub(crate) fn fill(&self, lock: &Lock, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let parent = self.folder.parent().unwrap_or(&self.folder);
        remove_leftovers(parent, |folder, key| {
            (key == self.key && lock.is_alone) || (is_old(folder) && is_unlocked(parent, key))
        });
        let part = unfinished(parent, &format!("{}.part", self.key))?;
        make(part.path())?;
        write_checksums(part.path())?;
        // What stands there did not load: it is damaged.
        let _ = fs::remove_dir_all(&self.folder).or_else(|_| fs::remove_file(&self.folder));
        fs::rename(part.path(), &self.folder).map_err(|e| unwritable(&self.folder, e))?;
        let _ = part.keep();
        Ok(())
    }
}

/// Creates a folder that is removed again unless it is renamed and kept.
pub(crate) fn unfinished(parent: &Path, prefix: &str) -> Result<TempDir> {
    let made = Builder::new().prefix(&format!("{prefix}-")).rand_bytes(8).tempdir_in(parent);
    made.map_err(|e| unwritable(parent, e))
}

/// Removes the unfinished folders that processes left when they were killed: those of which
/// `is_leftover` says so, given each with its key.
fn remove_leftovers(parent: &Path, is_leftover: impl Fn(&Path, &str) -> bool) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let key = name.to_str().and_then(|name| name.rsplit_once(PART)).map(|(key, _)| key);
        if key.is_some_and(|key| is_leftover(&entry.path(), key)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether nothing was put into a folder for long. A link counts by its own time.
fn is_old(folder: &Path) -> bool {
    let written = fs::symlink_metadata(folder).and_then(|metadata| metadata.modified());
    written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD))
}

/// Whether a key has a lock that no process holds. Without one its folder was not made here.
fn is_unlocked(parent: &Path, key: &str) -> bool {
    open_lock(&lock_of(parent, key), false)
        .is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn lock_of(parent: &Path, key: &str) -> PathBuf {
    parent.join(format!("{key}.lock"))
}

/// Opens nothing but a file: opening a pipe waits until somebody reads from it.
fn open_lock(path: &Path, create: bool) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create(create).truncate(false).custom_flags(libc::O_NONBLOCK);
    options.open(path)
}

/// What the files of a folder must be: a line each, `NAME LENGTH CRC32`.
#[derive(Debug)]
pub(crate) struct Checksums(String);

impl Checksums {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CHECKSUMS);
        let bytes = read_file(&path, MAX_CHECKSUMS, ErrorKind::Io)?;
        Ok(Self(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Whether a file is the one that was written.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let line = checksum(path)?;
        if self.0.lines().any(|known| known == line) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, format!("{} is damaged", path.display())))
    }
}

fn write_checksums(folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| unwritable(folder, e))?;
    let lines = entries
        .map(|entry| checksum(&entry.map_err(|e| unwritable(folder, e))?.path()))
        .collect::<Result<Vec<_>>>()?;
    let path = folder.join(CHECKSUMS);
    fs::write(&path, lines.join("\n") + "\n").map_err(|e| unwritable(&path, e))
}

/// A file's line. CRC-32 finds every damage of up to 32 bits in a row, and takes a tenth of a
/// second for 600 MB.
fn checksum(path: &Path) -> Result<String> {
    let unreadable = |e| {
        let message = format!("cannot read {}: {e}", path.display());
        Error::new(ErrorKind::Io, message).with_source(e)
    };
    let mut file = files::open(path).map_err(unreadable)?;
    let (mut hasher, mut length, mut piece) = (crc32fast::Hasher::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(unreadable)? {
            0 => break,
            count => {
                hasher.update(&piece[..count]);
                length += count;
            }
        }
    }
    let name = path.file_name().unwrap_or_default().display();
    Ok(format!("{name} {length} {:08x}", hasher.finalize()))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write {}: {error}", path.display()))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn scratch(name: &str) -> TempDir {
        unfinished(&std::env::temp_dir(), &format!("clip-cache-{name}")).unwrap()
    }

    fn fill(slot: &Slot, lock: &Lock, content: &[u8]) {
        let make = |folder: &Path| {
            fs::write(folder.join("a"), content).unwrap();
            Ok(())
        };
        slot.fill(lock, make).unwrap();
    }

    #[test]
    fn one_of_many_makes_the_folder() {
        let (scratch, made) = (scratch("many"), AtomicUsize::new(0));
        let work = || {
            let slot = Slot::new(scratch.path(), "key".to_owned());
            let lock = slot.lock().unwrap();
            if !slot.folder().exists() {
                made.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
                fill(&slot, &lock, b"1");
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn failure_leaves_nothing_and_leftovers_go() {
        let scratch = scratch("failure");
        let slot = Slot::new(scratch.path(), "key".to_owned());
        let lock = slot.lock().unwrap();
        fs::create_dir(scratch.path().join("key.part-1-1")).unwrap();
        let failed = slot.fill(&lock, |_| Err(Error::new(ErrorKind::Torch, "drill")));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Torch);
        let left: Vec<_> =
            fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, [scratch.path().join("key.lock")]);
    }

    /// A folder of a key, last written some hours ago.
    fn part(scratch: &TempDir, name: &str, hours: u64) -> PathBuf {
        let path = scratch.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("image.pt"), b"half of it").unwrap();
        let written = SystemTime::now() - Duration::from_secs(hours * 60 * 60);
        File::open(&path).unwrap().set_modified(written).unwrap();
        path
    }

    #[test]
    fn old_leftovers_of_other_keys_go_unless_they_are_being_made() {
        let scratch = scratch("others");
        let slot = |key: &str| Slot::new(scratch.path(), key.to_owned());
        let old = part(&scratch, "gone.part-1", 25);
        let kept = [
            // Nothing of ours.
            part(&scratch, "holiday.part-1", 25),
            part(&scratch, "gone.part-2", 23),
            part(&scratch, "made.part-1", 25),
            part(&scratch, "whole", 25),
        ];
        drop(slot("gone").lock().unwrap());
        let _made = slot("made").lock().unwrap();
        let own = slot("key");
        fill(&own, &own.lock().unwrap(), b"1");
        assert!(!old.exists());
        assert_eq!(kept.map(|folder| folder.join("image.pt").exists()), [true; 4]);
        assert!(own.folder().join("a").exists());
        assert!(!scratch.path().join("holiday.lock").exists());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let scratch = scratch("bits");
        let slot = Slot::new(scratch.path(), "key".to_owned());
        let lock = slot.lock().unwrap();
        let content: Vec<u8> = (0..24u8).collect();
        fill(&slot, &lock, &content);
        let (file, sums) = (slot.folder().join("a"), Checksums::read(slot.folder()).unwrap());
        sums.check(&file).unwrap();
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, damaged).unwrap();
            assert!(sums.check(&file).is_err());
        }
        fs::write(&file, &content[..23]).unwrap();
        assert!(sums.check(&file).is_err());
    }
}
