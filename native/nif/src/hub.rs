//! Models by name: the functions over `clip_hub`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clip_hub::{HubOptions, Overrides, Progress, Repo, Snapshot, Token, TokenChoice};
use nif_terms::{Failure, guarded};
use rustler::{Encoder, Env, LocalPid, NifMap, NifUntaggedEnum};

/// How often a caller hears of a download, at most.
const INTERVAL: Duration = Duration::from_millis(100);

mod atoms {
    rustler::atoms! { hub_progress }
}

/// A token, or `false` for none even where the environment has one.
#[derive(NifUntaggedEnum)]
enum TokenTerm {
    Text(String),
    Wanted(bool),
}

/// What a caller says of the hub. `nil` leaves it to `environment`.
#[derive(NifMap)]
struct Settings {
    endpoint: Option<String>,
    cache_dir: Option<String>,
    token: Option<TokenTerm>,
    offline: Option<bool>,
    refresh: bool,
    /// The VM's environment: what Elixir sets does not reach the C environment.
    environment: HashMap<String, String>,
}

impl Settings {
    fn options(self) -> clip_hub::Result<HubOptions> {
        let overrides = Overrides {
            endpoint: self.endpoint,
            cache_dir: self.cache_dir.map(Into::into),
            token: match self.token {
                None | Some(TokenTerm::Wanted(true)) => TokenChoice::Implicit,
                Some(TokenTerm::Wanted(false)) => TokenChoice::Without,
                Some(TokenTerm::Text(token)) => TokenChoice::Explicit(Token::new(&token)?),
            },
            offline: self.offline,
        };
        let variable = |name: &str| self.environment.get(name).cloned();
        let mut options = HubOptions::from_vars(&variable, &overrides)?;
        options.refresh = self.refresh;
        Ok(options)
    }
}

#[derive(NifMap)]
#[rustler(encode)]
struct FileTerm {
    name: String,
    size: u64,
    cached: bool,
}

#[derive(NifMap)]
#[rustler(encode)]
struct SnapshotTerm {
    directory: String,
    commit: String,
    files: Vec<FileTerm>,
    bytes: u64,
}

impl From<Snapshot> for SnapshotTerm {
    fn from(snapshot: Snapshot) -> Self {
        let files = snapshot.files.into_iter();
        Self {
            directory: snapshot.directory.display().to_string(),
            commit: snapshot.commit,
            files: files
                .map(|file| FileTerm { name: file.name, size: file.size, cached: file.cached })
                .collect(),
            bytes: snapshot.bytes,
        }
    }
}

/// `%{file: name, done: bytes, total: bytes}`, of all files together.
#[derive(NifMap)]
#[rustler(encode)]
struct ProgressTerm {
    file: String,
    done: u64,
    total: u64,
}

/// Tells a process how far a download is, and stops it when the process is gone.
struct Listener<'a> {
    env: Env<'a>,
    pid: Option<LocalPid>,
    /// Bytes of all files, and of those that are here whole.
    total: u64,
    finished: u64,
    told: Instant,
}

impl Listener<'_> {
    fn hear(&mut self, step: Progress<'_>) -> ControlFlow<()> {
        match step {
            Progress::Planned { bytes, cached, .. } => {
                (self.total, self.finished) = (bytes + cached, cached);
                self.tell("", self.finished)
            }
            Progress::Finished { file, bytes } => {
                self.finished += bytes;
                self.tell(file, self.finished)
            }
            Progress::Advanced { file, done, .. } if self.told.elapsed() >= INTERVAL => {
                self.tell(file, self.finished + done)
            }
            _ => self.still_wanted(),
        }
    }

    fn tell(&mut self, file: &str, done: u64) -> ControlFlow<()> {
        self.told = Instant::now();
        let Some(pid) = self.pid else { return ControlFlow::Continue(()) };
        let progress = ProgressTerm { file: file.to_owned(), done, total: self.total };
        let message = (atoms::hub_progress(), progress).encode(self.env);
        match self.env.send(&pid, message) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn still_wanted(&self) -> ControlFlow<()> {
        match self.pid {
            Some(pid) if !pid.is_alive(self.env) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn repo(name: &str, revision: Option<&str>) -> clip_hub::Result<Repo> {
    Repo::new(name, revision.unwrap_or("main"))
}

/// The snapshot of a repository, downloaded as far as it is not in the cache.
#[rustler::nif(schedule = "DirtyIo")]
fn hub_fetch(
    env: Env<'_>,
    name: String,
    revision: Option<String>,
    settings: Settings,
    progress: Option<LocalPid>,
) -> Result<SnapshotTerm, Failure> {
    guarded(|| {
        let repo = repo(&name, revision.as_deref())?;
        let told = Instant::now();
        let mut listener = Listener { env, pid: progress, total: 0, finished: 0, told };
        let snapshot =
            clip_hub::fetch(&repo, &settings.options()?, &mut |step| listener.hear(step))?;
        Ok(SnapshotTerm::from(snapshot))
    })
}

/// The snapshot of a repository if the cache has all of it; no request is sent.
#[rustler::nif(schedule = "DirtyIo")]
fn hub_cached(
    name: String,
    revision: Option<String>,
    settings: Settings,
) -> Result<Option<SnapshotTerm>, Failure> {
    guarded(|| {
        let repo = repo(&name, revision.as_deref())?;
        Ok(clip_hub::cached(&repo, &settings.options()?).map(SnapshotTerm::from))
    })
}
