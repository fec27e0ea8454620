//! The bytes of one file, over one connection or several.
//!
//! A connection that breaks is resumed by the process that has the first part and has hashed it.
//! What a dead process left is never resumed: we would have to trust it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, StatusCode, header};

use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hasher;
use crate::http::{Answer, Metadata};
use crate::options::HubOptions;
use crate::progress::{Progress, Reporter};
use crate::refusal::{Subject, failure, not_a_hub, text, too_large};
use crate::write::Temporary;

const CHUNK: usize = 128 * 1024;

/// A file while it is downloaded.
pub(crate) struct Transfer<'a> {
    pub(crate) subject: &'a Subject<'a>,
    remote: &'a Metadata,
    /// Most bytes that it may have.
    most: u64,
    options: &'a HubOptions,
    blob: PathBuf,
    temporary: Temporary,
    hash: Hasher<'a>,
    done: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        subject: &'a Subject<'a>,
        remote: &'a Metadata,
        most: u64,
        options: &'a HubOptions,
        blob: &Path,
    ) -> Result<Self> {
        let temporary = Temporary::create(blob)?;
        let (hash, blob) = (Hasher::new(&remote.hash), blob.to_owned());
        Ok(Self { subject, remote, most, options, blob, temporary, hash, done: 0 })
    }

    /// Returns how many bytes have arrived.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Throws away what has arrived. Returns the error that leads to another attempt.
    pub(crate) fn started_over(&mut self) -> Result<Error> {
        self.temporary.empty()?;
        self.hash = Hasher::new(&self.remote.hash);
        let error = self.truncated();
        self.done = 0;
        Ok(error)
    }

    /// Reads the body of an answer, from where the last one ended.
    pub(crate) fn receive(&mut self, answer: Answer, reporter: &mut Reporter<'_>) -> Result<()> {
        let headers = answer.response.headers();
        check_kind(self.subject, headers)?;
        let resumed = answer.response.status() == StatusCode::PARTIAL_CONTENT;
        if resumed && first_byte(headers) != Some(self.done) {
            return Err(self.started_over()?);
        }
        if !resumed && self.done > 0 {
            // The server ignores ranges and sends it all again.
            self.started_over()?;
        }
        let length = self.check_length(headers)?;
        let expected = self.remote.size.or(length.map(|length| self.done + length));
        let (file, done) = (self.subject.file, self.done);
        reporter.tell(Progress::Started { file, done, bytes: expected })?;
        self.run(answer, expected, reporter)
    }

    /// Returns the length of the body, which has to be the length of the missing part.
    fn check_length(&self, headers: &HeaderMap) -> Result<Option<u64>> {
        let length = text(headers, "content-length").and_then(|text| text.parse().ok());
        match (length, self.remote.size) {
            (Some(length), Some(size)) if self.done.saturating_add(length) != size => {
                let got = self.done.saturating_add(length).to_string();
                Err(wrong_length(self.subject, size, &got))
            }
            _ => Ok(length),
        }
    }

    fn run(
        &mut self,
        answer: Answer,
        expected: Option<u64>,
        reporter: &mut Reporter<'_>,
    ) -> Result<()> {
        let mut body = answer.response.into_body().into_reader();
        let mut pace = Pace::new(self.options);
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = body.read(&mut buffer).map_err(|error| self.broken(error.into()))?;
            if count == 0 {
                break;
            }
            self.take(&buffer[..count], expected)?;
            pace.check(self.subject, count as u64)?;
            let (file, done) = (self.subject.file, self.done);
            reporter.tell(Progress::Advanced { file, done, bytes: expected })?;
        }
        if expected.is_some_and(|expected| self.done < expected) {
            return Err(self.truncated());
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], expected: Option<u64>) -> Result<()> {
        self.check_size(self.done + bytes.len() as u64, expected)?;
        self.hash.update(bytes);
        self.temporary.write(bytes)?;
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn check_size(&self, done: u64, expected: Option<u64>) -> Result<()> {
        match expected {
            Some(expected) if done > expected => Err(wrong_length(self.subject, expected, "more")),
            _ if done > self.most => Err(too_large(self.subject, self.most)),
            _ => Ok(()),
        }
    }

    /// Compares the content with its hash and makes it the blob. Returns its size.
    pub(crate) fn finish(mut self) -> Result<u64> {
        let sound = self.hash.confirms(self.temporary.file());
        if sound.map_err(|error| Error::cache(&self.blob, error))? {
            self.temporary.persist(&self.blob)?;
            return Ok(self.done);
        }
        let why = "the content does not match its hash: it was changed or damaged on the way; try \
                   again, and check the proxy and HF_ENDPOINT if that does not help";
        Err(self.subject.error(ErrorKind::HashMismatch, why))
    }

    fn broken(&self, error: ureq::Error) -> Error {
        match error {
            ureq::Error::Timeout(_) => failure(self.subject, "the sender", error),
            error => self.truncated().with_source(error),
        }
    }

    fn truncated(&self) -> Error {
        let of = self.remote.size.map_or_else(String::new, |size| format!(" of {size}"));
        let why = format!("the connection ended after {}{of} bytes; try again", self.done);
        self.subject.error(ErrorKind::Truncated, why)
    }
}

/// Refuses a body by its headers.
fn check_kind(subject: &Subject<'_>, headers: &HeaderMap) -> Result<()> {
    let encoding = text(headers, header::CONTENT_ENCODING.as_str()).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let why = "the content came compressed although we did not ask for that; check \
                   HF_ENDPOINT and the proxy";
        return Err(subject.error(ErrorKind::Encoded, why));
    }
    if text(headers, "content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(not_a_hub(subject, "a web page came instead of the file"));
    }
    Ok(())
}

/// Returns the first byte of a part: 100 for `content-range: bytes 100-199/200`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn wrong_length(subject: &Subject<'_>, expected: u64, got: &str) -> Error {
    let why = format!(
        "expected {expected} bytes, got {got}; try again, and check the proxy if that does not help"
    );
    subject.error(ErrorKind::WrongLength, why)
}

/// Notices a sender that keeps a connection open but sends next to nothing.
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
