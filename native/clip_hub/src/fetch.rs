//! From the name of a model to a directory.

use std::ops::ControlFlow;

use crate::download::{Downloader, limit};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Http;
use crate::layout::Layout;
use crate::names::{Commit, Repo};
use crate::options::HubOptions;
use crate::plan::{Planner, Wanted, check_room, known_bytes};
use crate::progress::{Progress, Reporter};
use crate::snapshot::{Snapshot, SnapshotFile, look_up};
use crate::subject::Subject;
use crate::write;

/// The checkpoint of a repository, from the cache or from the hub.
///
/// What the cache has is used without a request, unless [`HubOptions::refresh`] is set: a commit
/// never changes, and a branch stays where it was when it was first fetched. `progress` hears of
/// every step and ends the download with [`ControlFlow::Break`].
pub fn fetch(
    repo: &Repo,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Snapshot> {
    let layout = Layout::new(&options.cache_dir, repo);
    // A refresh finds out where a branch is; offline there is nobody to ask.
    if !options.refresh || options.offline {
        match look_up(&layout, repo) {
            Ok(snapshot) => return Ok(snapshot),
            Err(missing) if options.offline => return Err(offline(repo, &layout, &missing)),
            Err(_) => {}
        }
    }
    let http = Http::new(options)?;
    let downloader = Downloader { http: &http, layout: &layout, options };
    let mut reporter = Reporter::new(progress);
    let (commit, wanted) = Planner::new(repo, &downloader, &mut reporter).plan()?;
    download(repo, &downloader, &commit, &wanted, &mut reporter)
}

/// The checkpoint as far as it is in the cache, whole. Sends no request.
pub fn cached(repo: &Repo, options: &HubOptions) -> Option<Snapshot> {
    look_up(&Layout::new(&options.cache_dir, repo), repo).ok()
}

fn download(
    repo: &Repo,
    downloader: &Downloader<'_>,
    commit: &Commit,
    wanted: &[Wanted],
    reporter: &mut Reporter<'_>,
) -> Result<Snapshot> {
    let layout = downloader.layout;
    let known = layout.commit(repo).is_some_and(|known| known == *commit);
    let mut files = Vec::with_capacity(wanted.len());
    // Where there is nothing to write, there may be nowhere to: the cache may be read-only.
    let whole = known && wanted.iter().all(|wanted| wanted.cached.is_some() && wanted.linked);
    if !whole {
        layout.prepare(commit)?;
        announce(repo, downloader, commit, wanted, reporter)?;
    }
    // What files of unknown size may have, all of them together.
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
        write::reference(layout, repo.revision(), commit)?;
    }
    Ok(Snapshot::new(layout, commit, files))
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
        let Downloader { layout, options, .. } = downloader;
        let way = if options.symlinks { write::link } else { write::place };
        way(layout, commit, name, &remote.hash, cached.is_none())?;
    }
    Ok(SnapshotFile { name: name.clone(), size, cached: cached.is_some() })
}

fn offline(repo: &Repo, layout: &Layout, missing: &[String]) -> Error {
    let message = format!(
        "{repo} is not in the cache {} (missing: {}) and offline mode is on; unset HF_HUB_OFFLINE, \
         or run `mix image_vision.download_models --zero-shot --repo {}` where there is a network",
        layout.root().display(),
        missing.join(", "),
        repo.name()
    );
    Error::new(ErrorKind::Offline, message)
}
