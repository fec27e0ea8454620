//! [`clip::Error`], with what the Hub asked for.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use clip::error::{Remedy, Source};

pub use clip::ErrorKind;

/// A [`clip::Error`], and how long the Hub asked to wait.
#[derive(Debug)]
pub struct Error {
    error: clip::Error,
    retry_after: Option<Duration>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { error: clip::Error::new(kind, message), retry_after: None }
    }

    #[must_use]
    pub(crate) fn with_source(self, source: impl Into<Source>) -> Self {
        Self { error: self.error.with_source(source), ..self }
    }

    #[must_use]
    pub(crate) fn with_remedy(self, remedy: Remedy) -> Self {
        Self { error: self.error.with_remedy(remedy), ..self }
    }

    #[must_use]
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// How long the Hub asked to wait, with [`ErrorKind::RateLimited`] and [`ErrorKind::Server`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        use ErrorKind::{Connection, RateLimited, Server, Timeout, Truncated};

        matches!(self.kind(), RateLimited | Server | Truncated | Timeout | Connection)
    }

    /// A failed read below the cache directory.
    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        let path = path.display();
        let message =
            format!("cannot read {path} ({error}); look at its permissions, or delete it");
        Self::new(ErrorKind::CacheNotReadable, message).with_source(error)
    }

    /// A failed write below the cache directory.
    pub(crate) fn cache(path: &Path, error: io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::new(
                ErrorKind::DiskFull,
                format!(
                    "no space left to write {path}; free some, or set HF_HUB_CACHE to a \
                     directory on a larger disk"
                ),
            ),
            _ => Self::new(
                ErrorKind::CacheNotWritable,
                format!(
                    "cannot write {path} ({error}); set HF_HUB_CACHE to a directory that can be \
                     written"
                ),
            ),
        }
        .with_source(error)
    }
}

impl Deref for Error {
    type Target = clip::Error;

    fn deref(&self) -> &clip::Error {
        &self.error
    }
}

impl From<Error> for clip::Error {
    fn from(error: Error) -> Self {
        error.error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
