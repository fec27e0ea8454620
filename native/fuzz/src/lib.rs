//! Parsers that read what strangers send, fed with damaged files.
//!
//! Whatever the input is, a parser has to return a value or an error: no panic that escapes, no
//! signal, bounded time, bounded memory, an error of a readable length. [`session::run`] makes inputs
//! out of the test data of the project and checks that; `bin/fuzz` starts it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod indexes;
pub mod memory;
#[cfg(feature = "models")]
mod models;
pub mod mutate;
mod pictures;
pub mod session;

use std::path::{Path, PathBuf};

/// What came of an input: a description of the value, or the kind of the error and its message.
pub type Outcome = Result<String, (&'static str, String)>;

/// A parser and what it is fed with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Sound inputs, small ones: mutations of large files hit little that matters.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Corrects checksums and lengths, or else nothing behind them would ever be reached.
    pub mend: fn(&mut [u8]),
    /// Parses.
    pub run: fn(&[u8]) -> Outcome,
    /// Stack of the thread that parses, in bytes.
    pub stack: usize,
    /// The most memory that Rust code may hold at once, in bytes.
    pub memory: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    pictures::PICTURE,
    pictures::JPEG,
    pictures::PNG,
    pictures::GIF,
    pictures::WEBP,
    pictures::BMP,
    pictures::TIFF,
    indexes::NEIGHBOURS,
    #[cfg(feature = "models")]
    models::PROMPT,
    #[cfg(feature = "models")]
    models::CONFIG,
    #[cfg(feature = "models")]
    models::OPEN_CLIP,
    #[cfg(feature = "models")]
    models::PROCESSOR,
    #[cfg(feature = "models")]
    models::TOKENIZER,
    #[cfg(feature = "models")]
    models::PIECES,
    #[cfg(feature = "models")]
    models::VOCABULARY,
    #[cfg(feature = "models")]
    models::SAFETENSORS,
    #[cfg(feature = "models")]
    models::PICKLE,
    #[cfg(feature = "models")]
    models::INDEX,
    #[cfg(feature = "models")]
    models::HUB_INDEX,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A folder of this process, in memory where the system has such a place. To be removed at its end.
pub fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let path = parent.join(format!("clip-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// All files below a folder of the project whose name ends like this, in order.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder), &mut paths);
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    let mut files: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    files.dedup();
    files
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}
