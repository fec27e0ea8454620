//! What the hub says about a file before it is fetched.

use ureq::http::{HeaderMap, StatusCode};

use crate::error::{Error, ErrorKind, Result};
use crate::http::{Answer, Http};
use crate::names::{Commit, ContentHash};
use crate::status::text;
use crate::subject::Subject;

/// A file as the hub has it.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub(crate) commit: Commit,
    pub(crate) hash: ContentHash,
    pub(crate) size: Option<u64>,
}

impl Metadata {
    /// Asks for a file at a revision.
    pub(crate) fn ask(http: &Http, subject: &Subject<'_>, revision: &str) -> Result<Self> {
        let url = http.endpoint.resolve(subject.repo, revision, subject.file)?;
        let answer = http.head(subject, url)?;
        Self::read(&answer).map_err(|what| not_a_hub(subject, &format!("the answer has {what}")))
    }

    /// Large files are elsewhere, and the hub's redirect tells of them in headers of their own.
    fn read(answer: &Answer) -> Result<Self, &'static str> {
        let last = answer.response.headers();
        let header = |name: &str| {
            let mut heads = answer.heads.iter().chain([last]);
            heads.find_map(|head: &HeaderMap| text(head, name))
        };
        let here = answer.response.status() == StatusCode::OK;
        let commit = header("x-repo-commit").ok_or("no x-repo-commit")?;
        let commit = Commit::parse(commit).ok_or("an x-repo-commit that is no commit")?;
        let etag = header("x-linked-etag").or_else(|| text(last, "etag")).ok_or("no etag")?;
        let hash = ContentHash::from_etag(etag).ok_or("an etag that is no content hash")?;
        let length = || if here { text(last, "content-length") } else { None };
        let size = match header("x-linked-size").or_else(length) {
            Some(size) => Some(size.parse().map_err(|_| "a size that is no number")?),
            None => None,
        };
        Ok(Self { commit, hash, size })
    }
}

/// An answer that no hub gives.
pub(crate) fn not_a_hub(subject: &Subject<'_>, what: &str) -> Error {
    let why = format!(
        "this is not a Hugging Face hub ({what}); check HF_ENDPOINT, and whether a proxy or a \
         login page answers in its place"
    );
    subject.error(ErrorKind::NotAHub, why)
}
