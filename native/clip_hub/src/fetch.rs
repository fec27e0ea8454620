//! Finds a model in the cache or fetches it.

use std::ops::ControlFlow;

use clip::checkpoint::contents::{self, Listing};
use clip::checkpoint::layout::{Format, Index, MAX_INDEX};
use clip::error::Remedy;

use crate::cache::{RepoCache, Snapshot, SnapshotFile, read};
use crate::download::{Downloader, limit};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Http;
use crate::names::{Commit, Repo};
use crate::options::HubOptions;
use crate::plan::{self, Planner, Wanted, check_room, known_bytes};
use crate::progress::{Progress, Reporter};
use crate::refusal::Subject;
use crate::write;

/// Returns the checkpoint of a repository, from the cache or from the hub.
///
/// Sends no request if the cache has all of it, unless [`HubOptions::refresh`] is set: a commit never
/// changes, and a branch stays where it was when it was first fetched. `progress` hears of every
/// step and ends the download with [`ControlFlow::Break`].
pub fn fetch(
    repo: &Repo,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Snapshot> {
    let cache = RepoCache::new(&options.cache_dir, repo);
    // A refresh asks where a branch is; offline there is nobody to ask.
    if !options.refresh || options.offline {
        match look_up(&cache, repo) {
            Ok(snapshot) => return Ok(snapshot),
            Err(missing) if options.offline => return Err(offline(repo, &cache, &missing)),
            Err(_) => {}
        }
    }
    let http = Http::new(options)?;
    let downloader = Downloader { http: &http, cache: &cache, options };
    let mut reporter = Reporter::new(progress);
    let (commit, wanted) = Planner::new(repo, &downloader, &mut reporter).plan()?;
    download(repo, &downloader, &commit, &wanted, &mut reporter)
}

/// Returns the checkpoint if the cache has all of it. Sends no request.
pub fn cached(repo: &Repo, options: &HubOptions) -> Option<Snapshot> {
    look_up(&RepoCache::new(&options.cache_dir, repo), repo).ok()
}

fn download(
    repo: &Repo,
    downloader: &Downloader<'_>,
    commit: &Commit,
    wanted: &[Wanted],
    reporter: &mut Reporter<'_>,
) -> Result<Snapshot> {
    let cache = downloader.cache;
    let known = cache.commit(repo).is_some_and(|known| known == *commit);
    let mut files = Vec::with_capacity(wanted.len());
    // If there is nothing to write, write nothing: the cache may be read-only.
    let whole = known && wanted.iter().all(|wanted| wanted.cached.is_some() && wanted.linked);
    if !whole {
        cache.prepare(commit)?;
        announce(repo, downloader, commit, wanted, reporter)?;
    }
    // What is left for the files of unknown size together.
    let mut rest = downloader.options.max_bytes.saturating_sub(known_bytes(wanted));
    for wanted in wanted {
        let file = obtain(repo, downloader, commit, wanted, rest, reporter)?;
        if wanted.cached.or(wanted.remote.size).is_none() {
            rest = rest.saturating_sub(file.size);
        }
        files.push(file);
    }
    if !known {
        // Last, so that a reference leads to a whole snapshot.
        write::reference(cache, repo.revision(), commit)?;
    }
    Ok(Snapshot::new(cache, commit, files))
}

fn announce(
    repo: &Repo,
    downloader: &Downloader<'_>,
    commit: &Commit,
    wanted: &[Wanted],
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    let bytes = check_room(repo, downloader, wanted)?;
    let cached = wanted.iter().filter_map(|wanted| wanted.cached).sum();
    let files = wanted.len();
    reporter.tell(Progress::Planned { commit: commit.as_str(), files, bytes, cached })
}

/// Makes sure that the snapshot has a file, of at most `rest` bytes if its size is unknown.
fn obtain(
    repo: &Repo,
    downloader: &Downloader<'_>,
    commit: &Commit,
    wanted: &Wanted,
    rest: u64,
    reporter: &mut Reporter<'_>,
) -> Result<SnapshotFile> {
    let endpoint = &downloader.http.endpoint.to_string();
    let Wanted { name, remote, cached, linked } = wanted;
    let size = match cached {
        Some(size) => *size,
        None => {
            let most = limit(name, downloader.options);
            let most = if remote.size.is_none() { most.min(rest) } else { most };
            downloader.blob(&Subject { repo, file: name, endpoint }, remote, most, reporter)?
        }
    };
    if !linked {
        let Downloader { cache, options, .. } = downloader;
        let way = if options.symlinks { write::link } else { write::place };
        way(cache, commit, name, &remote.hash, cached.is_none())?;
    }
    Ok(SnapshotFile { name: name.clone(), size, cached: cached.is_some() })
}

fn offline(repo: &Repo, cache: &RepoCache, missing: &[String]) -> Error {
    let message = format!(
        "{repo} is not in the cache {} (missing: {}) and offline mode is on; switch it off \
         (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE or the option offline), or",
        cache.root().display(),
        missing.join(", "),
    );
    let remedy = Remedy::FetchElsewhere(repo.name().to_owned());
    Error::new(ErrorKind::Offline, message).with_remedy(remedy)
}

/// Finds a revision in the cache: a whole snapshot, or a list of what is missing.
fn look_up(cache: &RepoCache, repo: &Repo) -> Result<Snapshot, Vec<String>> {
    let Some(commit) = cache.commit(repo) else {
        return Err(vec![format!("revision {}", repo.revision())]);
    };
    let mut cached = Cached { cache, commit, files: Vec::new() };
    match contents::missing(&mut cached) {
        Ok(missing) if missing.is_empty() => Ok(Snapshot::new(cache, &cached.commit, cached.files)),
        Ok(missing) => Err(missing),
        Err(error) => Err(vec![error.to_string()]),
    }
}

struct Cached<'a> {
    cache: &'a RepoCache,
    commit: Commit,
    files: Vec<SnapshotFile>,
}

impl Listing for Cached<'_> {
    type Error = Error;

    fn has(&mut self, file: &str) -> Result<bool> {
        let Some(size) = self.cache.size(&self.commit, file) else { return Ok(false) };
        self.files.push(SnapshotFile { name: file.to_owned(), size, cached: true });
        Ok(true)
    }

    fn index(&mut self, file: &str, format: Format) -> Result<Index> {
        let bytes = read(&self.cache.snapshot(&self.commit).join(file), MAX_INDEX)?;
        plan::index(file, &bytes, format)
    }
}
