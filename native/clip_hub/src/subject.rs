//! What a request is about, for the sentences of its errors.

use crate::error::{Error, ErrorKind};
use crate::names::Repo;

/// A file of a repository on a hub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) repo: &'a Repo,
    pub(crate) file: &'a str,
    pub(crate) endpoint: &'a str,
}

impl Subject<'_> {
    /// Every sentence starts with what could not be had, and of whom it was asked.
    pub(crate) fn error(&self, kind: ErrorKind, why: impl AsRef<str>) -> Error {
        let Self { repo, file, endpoint } = self;
        let why = why.as_ref();
        Error::new(kind, format!("cannot get {file} of {repo} from {endpoint}: {why}"))
    }

    /// The page of the model, where licences are accepted.
    pub(crate) fn page(&self) -> String {
        format!("{}/{}", self.endpoint, self.repo.name())
    }
}
