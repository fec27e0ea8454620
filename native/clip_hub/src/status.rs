//! What a hub says when it does not give what was asked for.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};

use crate::error::{Error, ErrorKind};
use crate::subject::Subject;
use crate::token::Token;

/// Longest text of a hub that is passed on.
const MAX_TEXT: usize = 200;

/// The error that a status means. The hub's own code says more, where there is one.
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
            "the repository has no such file; choose a model in the layout of transformers, or \
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
            "404, without a word on what is missing; check the name, the revision and HF_ENDPOINT",
        ),
        410 => subject.error(ErrorKind::Gone, "410, it is no longer there; choose another model"),
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
        "its licence has to be accepted first: do so at {}, then set HF_TOKEN to a token of the \
         same user",
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

/// `Retry-After` in seconds, or what is left of the window that `RateLimit` (`"api";r=0;t=55`)
/// tells of.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = text(headers, "retry-after").and_then(|text| text.trim().parse().ok());
    let window = || {
        let mut parts = text(headers, "ratelimit")?.split(';');
        parts.find_map(|part| part.trim().strip_prefix("t=")).and_then(|text| text.parse().ok())
    };
    seconds.or_else(window).map(Duration::from_secs)
}

/// The hub's own words, as far as they are printable, and without the token.
fn said(headers: &HeaderMap, token: Option<&Token>) -> String {
    let Some(message) = text(headers, "x-error-message") else { return String::new() };
    let message = token.map_or_else(|| message.to_owned(), |token| token.hide_in(message));
    format!(" ({})", message.chars().take(MAX_TEXT).collect::<String>())
}

/// A header as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
