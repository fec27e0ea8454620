//! Errors for requests that did not bring what was asked for.

use std::io;
use std::time::Duration;

use ureq::Timeout;
use ureq::http::{HeaderMap, StatusCode};

use crate::error::{Error, ErrorKind};
use crate::names::Repo;
use crate::options::Token;
use crate::url::LinkLocal;

/// Longest text of a hub that we pass on.
const MAX_TEXT: usize = 200;

/// The file of a repository that a request asks a hub for: the subject of its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) repo: &'a Repo,
    pub(crate) file: &'a str,
    pub(crate) endpoint: &'a str,
}

impl Subject<'_> {
    /// Every message starts with the file that we could not get and the hub we asked.
    pub(crate) fn error(&self, kind: ErrorKind, why: impl AsRef<str>) -> Error {
        let Self { repo, file, endpoint } = self;
        let why = why.as_ref();
        Error::new(kind, format!("cannot get {file} of {repo} from {endpoint}: {why}"))
    }

    /// Returns the address of the model's page, where licences are accepted.
    pub(crate) fn page(&self) -> String {
        format!("{}/{}", self.endpoint, self.repo.name())
    }
}

/// The error for a status. The hub's own code says more, if there is one.
pub(crate) fn refusal(
    subject: &Subject<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    token: Option<&Token>,
) -> Error {
    log::debug!("{} of {}: {status}", subject.file, subject.repo);
    match text(headers, "x-error-code").unwrap_or_default() {
        "GatedRepo" => gated(subject),
        "RepoNotFound" => no_repo(subject, token),
        "RevisionNotFound" => no_revision(subject),
        "EntryNotFound" => subject.error(
            ErrorKind::FileNotFound,
            "the repository has no such file; choose a model in the layout of transformers or open_clip, or \
             another revision",
        ),
        _ => by_status(subject, status, headers, token),
    }
}

fn by_status(
    subject: &Subject<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    token: Option<&Token>,
) -> Error {
    let said = said(headers, token);
    match status.as_u16() {
        401 => unauthorized(subject, token),
        403 | 451 => subject.error(ErrorKind::Forbidden, format!("{status}{said}")),
        404 => subject.error(
            ErrorKind::FileNotFound,
            "404, and the answer does not say what is missing; check the name, the revision and \
             HF_ENDPOINT",
        ),
        410 => subject.error(ErrorKind::Gone, "removed from the Hub (410); choose another model"),
        429 => limited(subject, headers),
        408 | 500..=599 => subject
            .error(ErrorKind::Server, format!("{status}{said}; try again later"))
            .with_retry_after(retry_after(headers)),
        _ => {
            subject.error(ErrorKind::UnexpectedStatus, format!("unexpected status {status}{said}"))
        }
    }
}

fn gated(subject: &Subject<'_>) -> Error {
    let why = format!(
        "its licence has to be accepted first: accept it at {}, then set HF_TOKEN to a token of \
         the same user",
        subject.page()
    );
    subject.error(ErrorKind::Gated, why)
}

fn no_repo(subject: &Subject<'_>, token: Option<&Token>) -> Error {
    let hint = match token {
        None => "if it is private, set HF_TOKEN to a token that can read it",
        Some(_) => "if it is private, the token in use has no access to it",
    };
    let why = format!("there is no such repository: check the name; {hint}");
    subject.error(ErrorKind::RepoNotFound, why)
}

fn no_revision(subject: &Subject<'_>) -> Error {
    let why = format!(
        "the repository has no branch, tag or commit \"{}\"; \"main\" is the usual one",
        subject.repo.revision()
    );
    subject.error(ErrorKind::RevisionNotFound, why)
}

fn unauthorized(subject: &Subject<'_>, token: Option<&Token>) -> Error {
    let why = match token {
        None => "401, a token is needed: make one in the settings of your account and set HF_TOKEN",
        Some(_) => {
            "401, the token is not accepted: make a new one in the settings of your account and \
             set HF_TOKEN, or use none for a public model"
        }
    };
    subject.error(ErrorKind::Unauthorized, why)
}

fn limited(subject: &Subject<'_>, headers: &HeaderMap) -> Error {
    let wait = retry_after(headers);
    let when = match wait {
        Some(wait) => format!("in {} s", wait.as_secs()),
        None => "later".to_owned(),
    };
    let why =
        format!("429, too many requests: try again {when}, or set HF_TOKEN for a higher limit");
    subject.error(ErrorKind::RateLimited, why).with_retry_after(wait)
}

/// Reads `Retry-After` in seconds, or the rest of the window in `RateLimit` (`"api";r=0;t=55`).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = text(headers, "retry-after").and_then(|text| text.trim().parse().ok());
    let window = || {
        let mut parts = text(headers, "ratelimit")?.split(';');
        parts.find_map(|part| part.trim().strip_prefix("t=")).and_then(|text| text.parse().ok())
    };
    seconds.or_else(window).map(Duration::from_secs)
}

/// Returns the hub's own words, cut short, without the token.
fn said(headers: &HeaderMap, token: Option<&Token>) -> String {
    let Some(message) = text(headers, "x-error-message") else { return String::new() };
    let message = token.map_or_else(|| message.to_owned(), |token| token.hide_in(message));
    format!(" ({})", message.chars().take(MAX_TEXT).collect::<String>())
}

/// The error for a request without an answer, or for a body that broke off.
pub(crate) fn failure(subject: &Subject<'_>, url: &str, error: ureq::Error) -> Error {
    let (kind, why) = reason(url, &error);
    let way_out = match kind {
        ErrorKind::Timeout | ErrorKind::Connection => {
            "; check the network, the proxy and HF_ENDPOINT, or use a model that is on this machine"
        }
        _ => "",
    };
    subject.error(kind, format!("{why}{way_out}")).with_source(error)
}

fn reason(url: &str, error: &ureq::Error) -> (ErrorKind, String) {
    use ureq::Error::{Io, LargeResponseHeader, Other, Pem, Rustls, Timeout as TimedOut, Tls};
    match error {
        TimedOut(Timeout::Connect | Timeout::Resolve) => {
            (ErrorKind::Timeout, format!("no connection to {url} in time"))
        }
        TimedOut(_) => (ErrorKind::Timeout, format!("no answer from {url} in time")),
        Other(other) if other.is::<LinkLocal>() => {
            (ErrorKind::Insecure, format!("{url} is a link-local address"))
        }
        Rustls(_) | Tls(_) | Pem(_) => (ErrorKind::Insecure, untrusted(url, error)),
        Io(io) if io.kind() == io::ErrorKind::InvalidData => {
            (ErrorKind::Insecure, untrusted(url, error))
        }
        LargeResponseHeader(..) => {
            (ErrorKind::NotAHub, format!("{url} answered with endless headers"))
        }
        _ => (ErrorKind::Connection, format!("no connection to {url} ({error})")),
    }
}

fn untrusted(url: &str, error: &ureq::Error) -> String {
    format!(
        "no secure connection to {url} ({error}); if a proxy of your organisation answers \
         instead, set SSL_CERT_FILE to a file with its certificate"
    )
}

/// The error for an answer that no hub gives.
pub(crate) fn not_a_hub(subject: &Subject<'_>, what: &str) -> Error {
    let why = format!(
        "this is not a Hugging Face hub ({what}); check HF_ENDPOINT, and whether a proxy or a \
         login page answers instead"
    );
    subject.error(ErrorKind::NotAHub, why)
}

/// The error for a file larger than it may be.
pub(crate) fn too_large(subject: &Subject<'_>, limit: u64) -> Error {
    let why = format!(
        "it has more than {limit} bytes, the limit for it; choose another model, or \
         fetch it with Hugging Face's own tools (`hf download {}`), whose cache is used here",
        subject.repo.name()
    );
    subject.error(ErrorKind::TooLarge, why)
}

/// Returns a header as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
