//! The one error type of this crate.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What went wrong, for a program to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name of a repository, revision or file is not one.
    InvalidName,
    /// An option makes no sense: the endpoint, the token, the file with certificates.
    InvalidOption,
    /// Not in the cache, and offline mode is on.
    Offline,
    /// 401: a token is needed, or the one given is not accepted.
    Unauthorized,
    /// The licence of the model has to be accepted first.
    Gated,
    /// 403 for another reason, or 451.
    Forbidden,
    /// There is no such repository, or it is private.
    RepoNotFound,
    /// The repository has no such branch, tag or commit.
    RevisionNotFound,
    /// The repository lacks a file that is needed.
    FileNotFound,
    /// 410: removed from the Hub.
    Gone,
    /// 429: too many requests; [`Error::retry_after`] has what the hub asked for.
    RateLimited,
    /// 408 or 5xx, every time it was tried.
    Server,
    /// A status that is not part of this protocol.
    UnexpectedStatus,
    /// An answer that no hub gives: a login page, no commit, no content hash.
    NotAHub,
    /// The content came compressed although we did not ask for that.
    Encoded,
    /// The connection ended before the content did.
    Truncated,
    /// The content has another length than the hub said.
    WrongLength,
    /// The content does not match its hash.
    HashMismatch,
    /// No answer, or no bytes, for too long; or far too few of them.
    Timeout,
    /// The hub could not be reached or the connection broke.
    Connection,
    /// A redirect led to where one had been before.
    RedirectLoop,
    /// One redirect too many.
    TooManyRedirects,
    /// A redirect to where nothing should be fetched from: plain HTTP, a link-local address.
    Insecure,
    /// More bytes than `max_bytes` allows.
    TooLarge,
    /// No space left for the model.
    DiskFull,
    /// The cache cannot be written to, or something is in the way.
    CacheNotWritable,
    /// A file of the cache cannot be read.
    CacheNotReadable,
    /// `model.safetensors.index.json` cannot be used.
    InvalidIndex,
    /// The caller asked to stop.
    Cancelled,
}

impl ErrorKind {
    /// The kind as a `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid_name",
            Self::InvalidOption => "invalid_option",
            Self::Offline => "offline",
            Self::Unauthorized => "unauthorized",
            Self::Gated => "gated",
            Self::Forbidden => "forbidden",
            Self::RepoNotFound => "repo_not_found",
            Self::RevisionNotFound => "revision_not_found",
            Self::FileNotFound => "file_not_found",
            Self::Gone => "gone",
            Self::RateLimited => "rate_limited",
            Self::Server => "server_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::NotAHub => "not_a_hub",
            _ => self.transfer_str(),
        }
    }

    fn transfer_str(self) -> &'static str {
        match self {
            Self::Encoded => "encoded",
            Self::Truncated => "truncated",
            Self::WrongLength => "wrong_length",
            Self::HashMismatch => "hash_mismatch",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::RedirectLoop => "redirect_loop",
            Self::TooManyRedirects => "too_many_redirects",
            Self::Insecure => "insecure",
            Self::TooLarge => "too_large",
            Self::DiskFull => "disk_full",
            Self::CacheNotWritable => "cache_not_writable",
            Self::CacheNotReadable => "cache_not_readable",
            Self::InvalidIndex => "invalid_index",
            _ => "cancelled",
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Server | Self::Truncated | Self::Timeout | Self::Connection
        )
    }
}

/// An error: a kind to match on, and a sentence that names the thing, what was expected and the
/// way out.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    #[must_use]
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// What went wrong, for a program to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How long the hub asked to wait, with [`ErrorKind::RateLimited`] and [`ErrorKind::Server`].
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
