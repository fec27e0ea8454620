//! Plans which files to fetch.
//!
//! Before anything large is fetched, we know the commit, all files and their sizes.
//!
//! Which files those are says [`contents`], for the loader too.

use clip::checkpoint::contents::{self, Listing};
use clip::checkpoint::layout::{CONFIG, Format, Index, MAX_INDEX};

use crate::cache::{RepoCache, read};
use crate::download::{Downloader, limit, retrying};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Metadata;
use crate::names::{Commit, Repo};
use crate::progress::{Progress, Reporter};
use crate::refusal::{Subject, not_a_hub, too_large};
use crate::write;

/// Kept free on the disk beside what is downloaded.
const RESERVE: u64 = 16 << 20;

/// A file of the checkpoint, compared with the cache.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) remote: Metadata,
    /// Its size, if the cache has it and its hash matches.
    pub(crate) cached: Option<u64>,
    /// Whether the snapshot has it too.
    pub(crate) linked: bool,
}

/// Asks the hub for the files of a repository, one by one.
pub(crate) struct Planner<'a, 'r> {
    repo: &'a Repo,
    downloader: &'a Downloader<'a>,
    reporter: &'a mut Reporter<'r>,
    endpoint: String,
    commit: Option<Commit>,
    wanted: Vec<Wanted>,
    /// The hub's answer when it lacked the first file.
    refusal: Option<Error>,
}

impl<'a, 'r> Planner<'a, 'r> {
    pub(crate) fn new(
        repo: &'a Repo,
        downloader: &'a Downloader<'a>,
        reporter: &'a mut Reporter<'r>,
    ) -> Self {
        let endpoint = downloader.http.endpoint.to_string();
        let commit = repo.commit();
        Self { repo, downloader, reporter, endpoint, commit, wanted: Vec::new(), refusal: None }
    }

    /// Returns the commit of the revision and all files of its checkpoint.
    pub(crate) fn plan(mut self) -> Result<(Commit, Vec<Wanted>)> {
        let missing = contents::missing(&mut self)?;
        if let (true, Some(refusal)) = (self.wanted.is_empty(), self.refusal.take()) {
            return Err(refusal);
        }
        if !missing.is_empty() {
            let why = "it is missing, and a model in the layout of transformers or open_clip needs it; \
                 choose another model or revision";
            return Err(self.subject(&missing.join(", ")).error(ErrorKind::FileNotFound, why));
        }
        let Some(commit) = self.commit.take() else {
            return Err(not_a_hub(&self.subject(CONFIG), "no commit"));
        };
        Ok((commit, self.wanted))
    }

    fn subject<'s>(&'s self, file: &'s str) -> Subject<'s> {
        Subject { repo: self.repo, file, endpoint: &self.endpoint }
    }

    /// Asks for every file at the commit of the first answer: a branch may move.
    fn ask(&mut self, file: &str) -> Result<Option<Metadata>> {
        let subject = Subject { repo: self.repo, file, endpoint: &self.endpoint };
        let revision = self.commit.as_ref().map_or(self.repo.revision(), Commit::as_str);
        let downloader = self.downloader;
        let retries = &downloader.options.retries;
        self.reporter.tell(Progress::Asking { file })?;
        let answer = retrying(retries, file, self.reporter, |_| {
            Metadata::ask(downloader.http, &subject, revision)
        });
        match answer {
            Ok(remote)
                if remote.size.is_some_and(|size| size > limit(file, downloader.options)) =>
            {
                Err(too_large(&subject, limit(file, downloader.options)))
            }
            Ok(remote) if self.commit.as_ref().is_none_or(|commit| *commit == remote.commit) => {
                self.commit = Some(remote.commit.clone());
                Ok(Some(remote))
            }
            Ok(_) => Err(not_a_hub(&subject, "it answers with another commit than we asked for")),
            Err(error) if error.kind() == ErrorKind::FileNotFound => {
                self.refusal.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks for a file in the cache, under this commit or another.
    fn wanted(&self, name: &str, remote: Metadata) -> Wanted {
        let cache = self.downloader.cache;
        let path = cache.snapshot(&remote.commit).join(name);
        let name = name.to_owned();
        if write::is_copy(&path, &remote.hash) {
            let cached = cache.size(&remote.commit, &name);
            return Wanted { name, remote, cached, linked: true };
        }
        let cached = self.downloader.sound_blob(&remote);
        let linked = write::is_link(&path, &name, &remote.hash);
        Wanted { name, remote, cached, linked }
    }
}

impl Listing for Planner<'_, '_> {
    type Error = Error;

    fn has(&mut self, file: &str) -> Result<bool> {
        let Some(remote) = self.ask(file)? else { return Ok(false) };
        let wanted = self.wanted(file, remote);
        self.wanted.push(wanted);
        Ok(true)
    }

    fn index(&mut self, file: &str, format: Format) -> Result<Index> {
        let Some(wanted) = self.wanted.iter().find(|wanted| wanted.name == file) else {
            return index(file, &[], format);
        };
        let cache = self.downloader.cache;
        let subject = Subject { repo: self.repo, file, endpoint: &self.endpoint };
        if wanted.remote.size.is_some_and(|size| size > MAX_INDEX) {
            return Err(too_large(&subject, MAX_INDEX));
        }
        if wanted.cached.is_none() {
            cache.prepare(&wanted.remote.commit)?;
            self.downloader.blob(&subject, &wanted.remote, MAX_INDEX, self.reporter)?;
        }
        let path = match wanted.linked {
            true => cache.snapshot(&wanted.remote.commit).join(file),
            false => cache.blob(&wanted.remote.hash),
        };
        index(file, &read(&path, MAX_INDEX)?, format)
    }
}

/// Returns the bytes of all files of known size.
pub(crate) fn known_bytes(wanted: &[Wanted]) -> u64 {
    let sizes = wanted.iter().map(|wanted| wanted.cached.or(wanted.remote.size));
    sizes.map(Option::unwrap_or_default).fold(0, u64::saturating_add)
}

/// Refuses a model that is too large for the limit or for the disk, before it is fetched. Returns
/// the bytes to download.
pub(crate) fn check_room(
    repo: &Repo,
    downloader: &Downloader<'_>,
    wanted: &[Wanted],
) -> Result<u64> {
    let size = |wanted: &Wanted| wanted.remote.size.unwrap_or_default();
    let (all, limit) = (known_bytes(wanted), downloader.options.max_bytes);
    if all > limit {
        let message = format!(
            "{repo} has {all} bytes, the limit for a model is {limit}; choose another one, or \
             fetch it with Hugging Face's own tools (`hf download {}`), whose cache is used here",
            repo.name()
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let absent = wanted.iter().filter(|wanted| wanted.cached.is_none());
    let bytes = absent.map(size).fold(0, u64::saturating_add);
    if bytes > 0 && free(downloader.cache).is_some_and(|free| free < bytes.saturating_add(RESERVE))
    {
        let message = format!(
            "{repo} needs {bytes} bytes in {} and fewer are free; free some, or set HF_HUB_CACHE \
             to a directory on a larger disk",
            downloader.cache.root().display()
        );
        return Err(Error::new(ErrorKind::DiskFull, message));
    }
    Ok(bytes)
}

/// Returns the free space of the disk. If we cannot ask, writing will tell.
fn free(cache: &RepoCache) -> Option<u64> {
    let disk = rustix::fs::statvfs(cache.blobs()).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Reads an index of shards.
pub(crate) fn index(file: &str, bytes: &[u8], format: Format) -> Result<Index> {
    Index::parse(bytes, format).map_err(|why| {
        let message = format!("{file} cannot be used: {why}; choose another revision of the model");
        Error::new(ErrorKind::InvalidIndex, message)
    })
}
