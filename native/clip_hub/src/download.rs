//! One file, from the hub to its blob.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, header};

use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Running, matches};
use crate::http::{Http, failure};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::metadata::{Metadata, not_a_hub};
use crate::options::HubOptions;
use crate::progress::{Progress, Reporter};
use crate::retry::retrying;
use crate::status::text;
use crate::subject::Subject;
use crate::url::Url;
use crate::write::{Temporary, sweep, written};

const CHUNK: usize = 128 * 1024;

/// Largest file that is no weights. Real tokenizers have a few MB.
const MAX_SMALL: u64 = 64 << 20;

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
    /// Makes sure that the blob is there, whole and checked. Returns its size.
    pub(crate) fn blob(
        &self,
        subject: &Subject<'_>,
        remote: &Metadata,
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
        let bytes = retrying(&self.options.retries, file, reporter, |reporter| {
            self.attempt(subject, remote, reporter)
        })?;
        reporter.tell(Progress::Finished { file, bytes })?;
        Ok(bytes)
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
        subject: &Subject<'_>,
        remote: &Metadata,
        reporter: &mut Reporter<'_>,
    ) -> Result<u64> {
        let url = self.http.endpoint.resolve(subject.repo, remote.commit.as_str(), subject.file)?;
        let answer = self.http.get(subject, url.clone())?;
        let length = check_head(subject, remote, answer.response.headers())?;
        let expected = remote.size.or(length);
        reporter.tell(Progress::Started { file: subject.file, bytes: expected })?;
        let blob = self.layout.blob(&remote.hash);
        let mut transfer = Transfer {
            subject,
            url: &url,
            expected,
            limit: limit(subject.file, self.options),
            temporary: Temporary::create(&blob)?,
            hash: Running::new(&remote.hash),
            pace: Pace::new(self.options),
        };
        let done = transfer.run(answer.response.into_body().into_reader(), reporter)?;
        transfer.finish(&blob)?;
        Ok(done)
    }
}

/// Refuses a body by its head. Returns the length it announces.
fn check_head(
    subject: &Subject<'_>,
    remote: &Metadata,
    headers: &HeaderMap,
) -> Result<Option<u64>> {
    let encoding = text(headers, header::CONTENT_ENCODING.as_str()).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let why = "the content came compressed, which was not asked for; check HF_ENDPOINT and \
                   the proxy";
        return Err(subject.error(ErrorKind::Encoded, why));
    }
    if text(headers, "content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(not_a_hub(subject, "a web page came in place of the file"));
    }
    let length: Option<u64> = text(headers, "content-length").and_then(|text| text.parse().ok());
    match (length, remote.size) {
        (Some(length), Some(size)) if length != size => {
            Err(wrong_length(subject, size, &length.to_string()))
        }
        _ => Ok(length),
    }
}

pub(crate) fn too_large(subject: &Subject<'_>, limit: u64) -> Error {
    let why = format!("it has more than {limit} bytes; raise max_bytes, or choose another model");
    subject.error(ErrorKind::TooLarge, why)
}

fn wrong_length(subject: &Subject<'_>, expected: u64, got: &str) -> Error {
    let why = format!(
        "expected {expected} bytes, got {got}; try again, and check the proxy if it stays so"
    );
    subject.error(ErrorKind::WrongLength, why)
}

/// A body on its way to the disk.
struct Transfer<'a> {
    subject: &'a Subject<'a>,
    url: &'a Url,
    expected: Option<u64>,
    limit: u64,
    temporary: Temporary,
    hash: Running<'a>,
    pace: Pace,
}

impl Transfer<'_> {
    fn run(&mut self, mut body: impl Read, reporter: &mut Reporter<'_>) -> Result<u64> {
        let (file, bytes) = (self.subject.file, self.expected);
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let count = body.read(&mut buffer).map_err(|error| self.broken(done, error.into()))?;
            if count == 0 {
                break;
            }
            done += count as u64;
            self.check_size(done)?;
            self.hash.update(&buffer[..count]);
            self.temporary.write(&buffer[..count])?;
            self.pace.check(self.subject, count as u64)?;
            reporter.tell(Progress::Advanced { file, done, bytes })?;
        }
        match bytes {
            Some(expected) if done < expected => Err(self.truncated(done)),
            _ => Ok(done),
        }
    }

    fn check_size(&self, done: u64) -> Result<()> {
        match self.expected {
            Some(expected) if done > expected => Err(wrong_length(self.subject, expected, "more")),
            _ if done > self.limit => Err(too_large(self.subject, self.limit)),
            _ => Ok(()),
        }
    }

    /// Compares the content with its hash and makes it the blob.
    fn finish(mut self, blob: &std::path::Path) -> Result<()> {
        let sound = self.hash.confirms(&mut self.temporary.file);
        if sound.map_err(|error| Error::cache(blob, error))? {
            return self.temporary.persist(blob);
        }
        let why = "the content is not what its hash says: it was changed or damaged on the way; \
                   try again, and check the proxy and HF_ENDPOINT if it stays so";
        Err(self.subject.error(ErrorKind::HashMismatch, why))
    }

    fn broken(&self, done: u64, error: ureq::Error) -> Error {
        match error {
            ureq::Error::Timeout(_) => failure(self.subject, self.url, error),
            error => self.truncated(done).with_source(error),
        }
    }

    fn truncated(&self, done: u64) -> Error {
        let of = self.expected.map_or_else(String::new, |expected| format!(" of {expected}"));
        let why = format!("the connection ended after {done}{of} bytes; try again");
        self.subject.error(ErrorKind::Truncated, why)
    }
}

/// Notices a sender that keeps a connection open with next to nothing.
struct Pace {
    slowest: u64,
    period: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(options: &HubOptions) -> Self {
        let times = &options.timeouts;
        let period = times.stall.saturating_mul(2);
        Self { slowest: times.slowest, period, since: Instant::now(), bytes: 0 }
    }

    fn check(&mut self, subject: &Subject<'_>, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        let elapsed = self.since.elapsed();
        if elapsed < self.period {
            return Ok(());
        }
        if (self.bytes as f64) < self.slowest as f64 * elapsed.as_secs_f64() {
            let why = format!(
                "fewer than {} bytes a second came; try again, or from another network",
                self.slowest
            );
            return Err(subject.error(ErrorKind::Timeout, why));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}
