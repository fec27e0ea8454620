//! Files from strangers: regular ones only, and no longer than they may be.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// What stands at the start of every Git LFS pointer.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Opens a regular file for reading, and nothing else: a pipe keeps its reader waiting forever.
///
/// # Errors
/// Those of the system, and one that says that it is not a file.
pub fn open(path: &Path) -> io::Result<File> {
    // Asked before, because opening a device can set it in motion; and after, because another
    // process may have put a pipe there in between.
    check(&std::fs::metadata(path)?)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a file")) }
}

/// Reads a whole regular file; `None` if it is longer than `most` bytes.
///
/// # Errors
/// Those of [`open`].
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// Whether these are the first bytes of what `git clone` leaves instead of a large file when Git
/// LFS is not installed.
pub fn is_lfs_pointer(head: &[u8]) -> bool {
    head.starts_with(LFS_POINTER)
}

/// Whether a file that was just opened is such a pointer; it is read from its start afterwards.
///
/// # Errors
/// Those of reading it.
pub fn starts_as_lfs_pointer(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(LFS_POINTER.len() as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(is_lfs_pointer(&head))
}

/// What to say of a Git LFS pointer.
pub const LFS_POINTER_FOUND: &str = "it is a Git LFS pointer, not the file itself; run \
                                     `git lfs pull` in the repository it was cloned to";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = std::env::temp_dir().join(format!("clip-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, pipe) = (folder.join("file"), folder.join("pipe"));
        fs::write(&file, "abc").unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&pipe, folder.join("link")).unwrap();
        assert_eq!(read(&file, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read(&file, 2).unwrap(), None);
        for other in [&pipe, &folder.join("link"), &folder, Path::new("/dev/null")] {
            assert_eq!(open(other).unwrap_err().to_string(), "it is not a file");
        }
        assert_eq!(open(&folder.join("gone")).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn git_lfs_pointers() {
        assert!(is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"));
        assert!(!is_lfs_pointer(b"version") && !is_lfs_pointer(b""));
    }
}
