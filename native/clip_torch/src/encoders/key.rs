//! Under which name exported encoders are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};

/// Raise it whenever the towers' code changes what is exported, or in which order it keeps tensors: they are
/// arguments by their place.
pub(super) const FORMAT: u32 = 6;

/// Release of libtorch whose files these are.
const LIBTORCH: &str = "2.11.0";

/// Name of a checkpoint's folder in the cache: other files or another exporter, another name.
///
/// A commit of a repository says what its files are. Of other files it is their path, length and
/// time: to read 600 MB of them would take as long as the start itself.
pub(super) fn key(checkpoint: &Checkpoint) -> Result<String> {
    let weights = checkpoint.weights()?;
    let (config, preprocessing) = (&checkpoint.config, &checkpoint.preprocessing);
    let mut facts = format!("{FORMAT} {config:?} {preprocessing:?}");
    for path in &weights.files {
        let (real, length, nanoseconds) = facts_of(path)?;
        facts += &match checkpoint.commit() {
            Some(_) => format!("\n{:?} {length}", path.file_name()),
            None => format!("\n{real:?} {length} {nanoseconds}"),
        };
    }
    let source = checkpoint.commit().unwrap_or("local");
    let hash = fnv1a(facts.as_bytes());
    Ok(format!("{source}-{hash:016x}-libtorch-{LIBTORCH}"))
}

/// Where a file really is, its length, and when it was written.
fn facts_of(path: &Path) -> Result<(PathBuf, u64, u128)> {
    let real = fs::canonicalize(path).map_err(|e| unreadable(path, e))?;
    let metadata = fs::metadata(&real).map_err(|e| unreadable(path, e))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((real, metadata.len(), modified.unwrap_or_default().as_nanos()))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot read {}: {error}", path.display())).with_source(error)
}

/// A hash that is the same in every build, unlike the standard library's: a cache outlives them.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
