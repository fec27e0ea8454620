//! One file, from the hub to its blob.

use crate::error::{ErrorKind, Result};
use crate::hash::matches;
use crate::http::Http;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::metadata::Metadata;
use crate::options::HubOptions;
use crate::progress::{Progress, Reporter};
use crate::retry::retrying;
use crate::subject::Subject;
use crate::transfer::Transfer;
use crate::write::{sweep, written};

/// Largest file that is no weights. Real tokenizers have a few MB.
const MAX_SMALL: u64 = 64 << 20;

/// What a number of attempts has to bring to be followed by as many more.
const AHEAD: u64 = 8 << 20;

/// Most bytes a file may have.
pub(crate) fn limit(file: &str, options: &HubOptions) -> u64 {
    let weights = file.ends_with(".safetensors") || file.ends_with(".bin");
    if weights { options.max_bytes } else { options.max_bytes.min(MAX_SMALL) }
}

/// What every download of a fetch has in common.
#[derive(Debug)]
pub(crate) struct Downloader<'a> {
    pub(crate) http: &'a Http,
    pub(crate) layout: &'a Layout,
    pub(crate) options: &'a HubOptions,
}

impl Downloader<'_> {
    /// Makes sure that the blob is there, whole and checked, and of at most so many bytes. Returns
    /// its size.
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
            sweep(&self.layout.blob(&remote.hash));
        }
        let blob = self.layout.blob(&remote.hash);
        let mut transfer = Transfer::new(subject, remote, most, self.options, &blob)?;
        self.transfer(&mut transfer, remote, reporter)?;
        let bytes = transfer.finish()?;
        reporter.tell(Progress::Finished { file, bytes })?;
        Ok(bytes)
    }

    /// Gets all bytes of a file. Attempts that get ahead do not count against their number, or
    /// a large file could not come over a bad line at all.
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
                Err(error) if error.kind().is_transient() && transfer.done() >= before + AHEAD => {}
                result => return result,
            }
        }
    }

    fn lock(&self, file: &str, remote: &Metadata, reporter: &mut Reporter<'_>) -> Result<Lock> {
        let blob = self.layout.blob(&remote.hash);
        let patience = self.options.timeouts.lock;
        Lock::acquire(&self.layout.lock(&remote.hash), patience, || {
            let done = written(&blob);
            reporter.tell(Progress::Waiting { file, done })?;
            Ok(done)
        })
    }

    /// Size of the blob, if it is there and is what its name says.
    pub(crate) fn sound_blob(&self, remote: &Metadata) -> Option<u64> {
        let mut file = self.layout.open_blob(&remote.hash, remote.size)?;
        let sound = matches(&mut file, &remote.hash).unwrap_or(false);
        if !sound {
            log::warn!("{} is damaged: replacing it", self.layout.blob(&remote.hash).display());
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
            // Not 416 alone: whatever is wrong, the whole file may still be had.
            Err(error) if error.kind() == ErrorKind::UnexpectedStatus && transfer.done() > 0 => {
                Err(transfer.started_over()?)
            }
            Err(error) => Err(error),
            Ok(answer) => transfer.receive(answer, reporter),
        }
    }
}
