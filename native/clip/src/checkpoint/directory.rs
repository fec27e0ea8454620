//! A checkpoint in a directory.

use std::fs::File;
use std::path::Path;

use super::contents::Listing;
use super::files::{self, LFS_POINTER_FOUND, is_lfs_pointer};
use super::layout::{Format, Index, MAX_INDEX};
use crate::error::{Error, ErrorKind, Result};

/// A directory in which the files of a checkpoint are looked for.
#[derive(Debug)]
pub struct Directory<'a>(pub &'a Path);

impl Listing for Directory<'_> {
    type Error = Error;

    fn has(&mut self, file: &str) -> Result<bool> {
        Ok(is_there(&self.0.join(file)))
    }

    fn index(&mut self, file: &str, format: Format) -> Result<Index> {
        let path = self.0.join(file);
        let bytes = read_file(&path, MAX_INDEX, ErrorKind::InvalidWeights)?;
        Index::parse(&bytes, format).map_err(|why| {
            let message = format!("{} cannot be used: {why}", path.display());
            Error::new(ErrorKind::InvalidWeights, message)
        })
    }
}

/// Whether a name stands in its directory. A link that leads nowhere does: what it should lead to
/// is missing, which is an error, not a reason to look for something else.
pub fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a whole file of at most `most` bytes.
///
/// # Errors
/// `NotFound` or `Io` where it cannot be read; `unusable` where it is larger, or a Git LFS pointer.
pub fn read_file(path: &Path, most: u64, unusable: ErrorKind) -> Result<Vec<u8>> {
    let bytes = files::read(path, most).map_err(|e| unreadable(path, e))?;
    let shown = path.display();
    match bytes {
        None => Err(Error::new(unusable, format!("{shown} is larger than {most} bytes"))),
        Some(bytes) if is_lfs_pointer(&bytes) => Err(pointer(path, unusable)),
        Some(bytes) => Ok(bytes),
    }
}

/// Opens a file of at most `most` bytes that is too large to be in memory as a whole.
///
/// # Errors
/// Those of [`read_file`].
pub fn open_file(path: &Path, most: u64, unusable: ErrorKind) -> Result<File> {
    let mut file = files::open(path).map_err(|e| unreadable(path, e))?;
    let length = file.metadata().map_err(|e| unreadable(path, e))?.len();
    if length > most {
        let message = format!("{} is larger than {most} bytes", path.display());
        return Err(Error::new(unusable, message));
    }
    match files::starts_as_lfs_pointer(&mut file) {
        Ok(true) => Err(pointer(path, unusable)),
        Ok(false) => Ok(file),
        Err(e) => Err(unreadable(path, e)),
    }
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot read {}: {e}", path.display())).with_source(e)
}

fn pointer(path: &Path, unusable: ErrorKind) -> Error {
    let path = path.display();
    Error::new(unusable, format!("{path} cannot be used: {LFS_POINTER_FOUND}"))
}
