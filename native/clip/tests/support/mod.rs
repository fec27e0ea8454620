//! What several tests need.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

/// A path inside the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The shared test data beside the checkout, or a line that says what was left out.
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let path = project("../shared/data");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("not tested: {what} (needs ../shared/data)");
    None
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
