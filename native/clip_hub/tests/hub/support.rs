//! What the tests share.

use std::fs;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clip_hub::{Error, HubOptions, Repo, Result, Snapshot};

use crate::site::{NAME, Site};

/// A directory that is gone when the test is over.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("clip-hub-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
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

/// All paths below a directory, links with where they lead to.
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

/// Files that nobody needs: parts of downloads.
pub(crate) fn leftovers(root: &Path) -> Vec<String> {
    let mut tree = tree(root);
    tree.retain(|path| path.contains(".incomplete") || path.contains(".tmp"));
    tree
}
