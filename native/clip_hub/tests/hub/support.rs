//! Helpers of the tests.

use std::fs;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clip_hub::{Error, HubOptions, Repo, Result, Snapshot};
use tempfile::TempDir;

use crate::site::{NAME, Site};

/// A directory that is removed when the test is over.
pub(crate) struct Directory {
    path: PathBuf,
    _guard: TempDir,
}

impl Directory {
    pub(crate) fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        Self { path: guard.path().canonicalize().unwrap(), _guard: guard }
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn repo() -> Repo {
    Repo::new(NAME, "main").unwrap()
}

/// Options with short pauses. The timeouts are the usual ones: the machine may be busy.
pub(crate) fn options(site: &Site, cache: &Path) -> HubOptions {
    let mut options = HubOptions::new(cache);
    options.endpoint = site.hub.url();
    options.retries.attempts = 3;
    options.retries.pause = Duration::from_millis(5);
    options
}

/// Options under which no request can succeed.
pub(crate) fn disconnected(cache: &Path) -> HubOptions {
    let mut options = HubOptions::new(cache);
    options.endpoint = "http://127.0.0.1:9".to_owned();
    options.retries.attempts = 1;
    options
}

pub(crate) fn fetch(repo: &Repo, options: &HubOptions) -> Result<Snapshot> {
    clip_hub::fetch(repo, options, &mut |_| ControlFlow::Continue(()))
}

pub(crate) fn failure(options: &HubOptions) -> Error {
    fetch(&repo(), options).unwrap_err()
}

/// Returns all paths below a directory, links with their targets.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

/// Returns the files that should not be left: parts of downloads.
pub(crate) fn leftovers(root: &Path) -> Vec<String> {
    let mut tree = tree(root);
    tree.retain(|path| path.contains(".incomplete") || path.contains(".tmp"));
    tree
}
