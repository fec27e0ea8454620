//! Downloads one file to its blob, in as many attempts as that takes.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::RepoCache;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::matches;
use crate::http::{Http, Metadata};
use crate::options::{HubOptions, Retries};
use crate::progress::{Progress, Reporter};
use crate::refusal::Subject;
use crate::transfer::Transfer;
use crate::write::{Lock, sweep, written};

/// Largest file other than weights. MetaCLIP 2's tokenizer has some 62 MB.
const MAX_SMALL: u64 = 128 << 20;

/// Bytes that a round of attempts has to bring to earn another round.
const AHEAD: u64 = 8 << 20;

/// Returns the most bytes a file may have.
pub(crate) fn limit(file: &str, options: &HubOptions) -> u64 {
    let weights = file.ends_with(".safetensors") || file.ends_with(".bin");
    if weights { options.max_bytes } else { options.max_bytes.min(MAX_SMALL) }
}

/// Downloads the files of one fetch.
#[derive(Debug)]
pub(crate) struct Downloader<'a> {
    pub(crate) http: &'a Http,
    pub(crate) cache: &'a RepoCache,
    pub(crate) options: &'a HubOptions,
}

impl Downloader<'_> {
    /// Makes sure that the blob is there, whole, checked, with at most `most` bytes. Returns its
    /// size.
    pub(crate) fn blob(
        &self,
        subject: &Subject<'_>,
        remote: &Metadata,
        most: u64,
        reporter: &mut Reporter<'_>,
    ) -> Result<u64> {
        let file = subject.file;
        let lock = self.lock(file, remote, reporter)?;
        // Another process may have finished it while we waited.
        if let Some(bytes) = self.sound_blob(remote) {
            reporter.tell(Progress::Finished { file, bytes })?;
            return Ok(bytes);
        }
        if lock.is_held() {
            sweep(&self.cache.blob(&remote.hash));
        }
        let blob = self.cache.blob(&remote.hash);
        let mut transfer = Transfer::new(subject, remote, most, self.options, &blob)?;
        self.transfer(&mut transfer, remote, reporter)?;
        let bytes = transfer.finish()?;
        reporter.tell(Progress::Finished { file, bytes })?;
        Ok(bytes)
    }

    /// Gets all bytes of a file. Attempts that make progress do not count, or a large file could
    /// not be downloaded over a bad connection at all.
    fn transfer(
        &self,
        transfer: &mut Transfer<'_>,
        remote: &Metadata,
        reporter: &mut Reporter<'_>,
    ) -> Result<()> {
        loop {
            let before = transfer.done();
            let file = transfer.subject.file;
            let result = retrying(&self.options.retries, file, reporter, |reporter| {
                self.attempt(transfer, remote, reporter)
            });
            match result {
                Err(error) if error.is_transient() && transfer.done() >= before + AHEAD => {}
                result => return result,
            }
        }
    }

    fn lock(&self, file: &str, remote: &Metadata, reporter: &mut Reporter<'_>) -> Result<Lock> {
        let blob = self.cache.blob(&remote.hash);
        let patience = self.options.timeouts.lock;
        Lock::acquire(&self.cache.lock(&remote.hash), patience, || {
            let done = written(&blob);
            reporter.tell(Progress::Waiting { file, done })?;
            Ok(done)
        })
    }

    /// Returns the size of the blob, if it is there and matches its name.
    pub(crate) fn sound_blob(&self, remote: &Metadata) -> Option<u64> {
        let mut file = self.cache.open_blob(&remote.hash, remote.size)?;
        let sound = matches(&mut file, &remote.hash).unwrap_or(false);
        if !sound {
            log::warn!("{} is damaged: replacing it", self.cache.blob(&remote.hash).display());
        }
        if sound { file.metadata().ok().map(|metadata| metadata.len()) } else { None }
    }

    fn attempt(
        &self,
        transfer: &mut Transfer<'_>,
        remote: &Metadata,
        reporter: &mut Reporter<'_>,
    ) -> Result<()> {
        let subject = transfer.subject;
        let url = self.http.endpoint.resolve(subject.repo, remote.commit.as_str(), subject.file)?;
        match self.http.get(subject, url, transfer.done()) {
            // Not only 416: whatever is wrong, asking for the whole file may still work.
            Err(error) if error.kind() == ErrorKind::UnexpectedStatus && transfer.done() > 0 => {
                Err(transfer.started_over()?)
            }
            Err(error) => Err(error),
            Ok(answer) => transfer.receive(answer, reporter),
        }
    }
}

/// How often a caller hears of a pause and can end it.
const TICK: Duration = Duration::from_millis(200);

/// Runs `attempt` until it succeeds, fails for good, or has failed often enough.
pub(crate) fn retrying<T>(
    retries: &Retries,
    file: &str,
    reporter: &mut Reporter<'_>,
    mut attempt: impl FnMut(&mut Reporter<'_>) -> Result<T>,
) -> Result<T> {
    let mut number = 1;
    loop {
        let error = match attempt(reporter) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(pause) = pause(retries, number, &error) else { return Err(error) };
        number += 1;
        log::debug!("{file}: attempt {number} in {pause:?} ({})", error.kind().as_str());
        sleep(pause, |pause| {
            reporter.tell(Progress::Retrying { file, attempt: number, pause, error: &error })
        })?;
    }
}

/// Returns how long to wait before the next attempt, if there is one.
fn pause(retries: &Retries, number: u32, error: &Error) -> Option<Duration> {
    if number >= retries.attempts || !error.is_transient() {
        return None;
    }
    if let Some(asked) = error.retry_after() {
        // A hub that asks for longer would refuse any earlier attempt, so the caller has to know.
        return (asked <= retries.longest).then_some(asked);
    }
    let doubled = retries.pause.saturating_mul(1 << (number - 1).min(16));
    // Processes that failed together should not all come back together.
    let share = RandomState::new().hash_one(number) % 512;
    Some(doubled.min(retries.longest).mul_f64(0.75 + share as f64 / 1024.0))
}

fn sleep(pause: Duration, mut tick: impl FnMut(Duration) -> Result<()>) -> Result<()> {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        tick(left)?;
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(TICK));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let retries = Retries::default();
        let error = |kind| Error::new(kind, "");
        let server = error(ErrorKind::Server);
        assert!(pause(&retries, 1, &server).unwrap() < pause(&retries, 3, &server).unwrap());
        assert_eq!(pause(&retries, 5, &server), None);
        assert_eq!(pause(&retries, 1, &error(ErrorKind::HashMismatch)), None);
        let asked = |seconds| {
            let wait = Duration::from_secs(seconds);
            pause(&retries, 1, &error(ErrorKind::RateLimited).with_retry_after(Some(wait)))
        };
        assert_eq!(asked(60), Some(Duration::from_secs(60)));
        assert_eq!(asked(61), None);
    }
}
