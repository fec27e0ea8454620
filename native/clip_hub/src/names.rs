//! Checked names from outside.
//!
//! Names of repositories, revisions and commits become parts of paths and of addresses, and the
//! `hf-hub` crate takes any text for them. Each is checked once, at the door. The types say that it
//! was.

use std::fmt;

use hf_hub::RepoType;

use crate::error::{Error, ErrorKind, Result};

/// Longest part of a name on the Hub.
const MAX_PART: usize = 96;
const MAX_REVISION: usize = 200;
const MAX_PARTS: usize = 8;

/// A model repository at a revision, both with valid names.
#[derive(Debug, Clone)]
pub struct Repo {
    name: String,
    hub: hf_hub::Repo,
}

impl Repo {
    /// Takes `org/name`, or only `name` for the few old models without an organisation. The revision
    /// is a branch, a tag, a commit or `refs/pr/N`.
    pub fn new(name: &str, revision: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) || name.ends_with(".git") {
            return Err(invalid(
                "repository",
                name,
                "\"org/name\" with letters, digits, \".\", \"_\" and \"-\"",
            ));
        }
        if !is_revision(revision) {
            return Err(invalid(
                "revision",
                revision,
                "a branch, a tag, a commit or \"refs/pr/N\"",
            ));
        }
        let (id, revision) = (name.to_owned(), revision.to_owned());
        let hub = hf_hub::Repo::with_revision(id, RepoType::Model, revision);
        Ok(Self { name: name.to_owned(), hub })
    }

    /// Returns `org/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the revision as it was given: `main`, a tag, a commit.
    pub fn revision(&self) -> &str {
        self.hub.revision()
    }

    /// Returns the commit, if the revision is one.
    pub(crate) fn commit(&self) -> Option<Commit> {
        Commit::parse(self.revision())
    }

    pub(crate) fn hub(&self) -> &hf_hub::Repo {
        &self.hub
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.revision())
    }
}

/// A full commit hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit(String);

impl Commit {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a text from outside fit to be shown: short, in ASCII, without a password. In an address, a
/// user and a password stand before an `@`, and are left out.
pub(crate) fn shown(text: &str) -> String {
    if let Some((user, rest)) = text.rsplit_once('@')
        && user.contains(':')
    {
        return format!("***@{}", shown(rest));
    }
    let mut start: String = text.chars().take(80).flat_map(char::escape_default).collect();
    if text.chars().nth(80).is_some() {
        start.push_str("...");
    }
    start
}

fn invalid(what: &str, text: &str, expected: &str) -> Error {
    let message = format!("expected the {what} to be {expected}, got: \"{}\"", shown(text));
    Error::new(ErrorKind::InvalidName, message)
}

fn is_name(part: &str) -> bool {
    is_part(part, MAX_PART)
        && !part.contains("--")
        && !part.contains('+')
        && !part.ends_with(['.', '-'])
}

fn is_revision(revision: &str) -> bool {
    let parts = revision.split('/');
    revision.len() <= MAX_REVISION
        && parts.clone().count() <= MAX_PARTS
        && parts.into_iter().all(|part| is_part(part, MAX_REVISION) && !part.ends_with(".lock"))
}

/// One part of a path. It starts with a letter or digit, so it is not a dot file, an option or a way
/// up. It holds nothing that a path, an address or a terminal would read as more than text.
fn is_part(part: &str, longest: usize) -> bool {
    let first = part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    first && rest && part.len() <= longest && !part.contains("..")
}

pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn real_names_are_valid() {
        for name in
            ["openai/clip-vit-base-patch32", "gpt2", "laion/CLIP-ViT-B-32-laion2B_s34B.b79K"]
        {
            assert!(Repo::new(name, "main").is_ok(), "{name}");
        }
        for revision in ["main", "refs/pr/15", "v1.0+cpu", "feature/x", &"a".repeat(40)] {
            assert!(Repo::new("org/name", revision).is_ok(), "{revision}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(300);
        let hostile = [
            "",
            ".",
            "..",
            "../x",
            "a/..",
            "/etc/passwd",
            "a//b",
            "a/b/c",
            "a\\b",
            "a/b\\c",
            "a\0b",
            "%2e%2e/x",
            "a%2fb",
            "org/na me",
            "org/naïve",
            "\u{43e}rg/name",
            "org/na\u{202e}me",
            "-rf/x",
            ".git/x",
            "org/a--b",
            "org/a..b",
            "org/name.",
            "org/name.git",
            "org/name\n",
            "~/x",
            "C:/x",
            &long,
        ];
        for name in hostile {
            let error = Repo::new(name, "main").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{name}");
            assert!(error.to_string().len() < 700 && error.to_string().is_ascii(), "{error}");
        }
        for revision in hostile.iter().filter(|name| !["a/b/c", "org/a--b"].contains(name)) {
            let legal = ["org/name.", "org/name.git"].contains(revision);
            assert_eq!(Repo::new("org/name", revision).is_ok(), legal, "{revision}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for text in ["https://me:secret@hub.test", "me:sec@ret@hub.test", "https://secret@hub.test"]
        {
            assert_eq!(shown(text), "***@hub.test");
        }
        assert_eq!(shown("https://me:se/cret@hub.test/a"), "***@hub.test/a");
        assert_eq!(shown("org/name@main"), "org/name@main");
        let error = Repo::new("https://me:secret@hub.test/org/name", "main").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
