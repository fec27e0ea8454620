//! Addresses: of the endpoint, of files below it, and of what a redirect leads to.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::error::{Error, ErrorKind, Result};
use crate::names::{Repo, shown};

/// An `http` or `https` address with a host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(Uri);

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.split('#').next()?.parse().ok()?;
        let authority = uri.authority()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let sound = !authority.as_str().contains('@') && !authority.host().is_empty();
        (known && sound).then(|| Self(uri))
    }

    /// The endpoint: what everything else is below.
    pub(crate) fn endpoint(text: &str) -> Result<Self> {
        let url = Self::parse(text.trim_end_matches('/'));
        // An `@` behind the host too: a password with a slash in it is taken for a path.
        url.filter(|url| url.0.query().is_none() && !text.contains('@')).ok_or_else(|| {
            // A query may hold a secret as well.
            let text = shown(text.split('?').next().unwrap_or_default());
            let message = format!(
                "expected HF_ENDPOINT to be an address such as https://huggingface.co, without a \
                 user or a query, got: \"{text}\"; what the Hub knows you by goes into HF_TOKEN",
            );
            Error::new(ErrorKind::InvalidOption, message)
        })
    }

    /// Where an endpoint has a file of a repository.
    pub(crate) fn resolve(&self, repo: &Repo, revision: &str, file: &str) -> Result<Self> {
        // What else may be in a revision needs no escape.
        let revision = revision.replace('/', "%2F").replace('+', "%2B");
        let text = format!("{self}/{}/resolve/{revision}/{file}", repo.name());
        Self::parse(&text)
            .ok_or_else(|| Error::new(ErrorKind::InvalidName, format!("no address: {text}")))
    }

    /// Where a `Location` header leads to from here. None if it is no address of ours.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        if location.is_empty() {
            return None;
        }
        let before_path = location.split(['/', '?', '#']).next().unwrap_or_default();
        let text = if before_path.contains(':') {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{}:{location}", self.scheme())
        } else if location.starts_with('/') {
            format!("{}{location}", self.origin())
        } else {
            let folder = self.0.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{}{folder}/{location}", self.origin())
        };
        Self::parse(&text)
    }

    pub(crate) fn scheme(&self) -> &str {
        self.0.scheme_str().unwrap_or_default()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme() == "https"
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// Scheme, host and port: what a token is for.
    pub(crate) fn origin(&self) -> String {
        let host = self.host().to_ascii_lowercase();
        let usual = if self.is_https() { 443 } else { 80 };
        match self.0.port_u16() {
            Some(port) if port != usual => format!("{}://{host}:{port}", self.scheme()),
            _ => format!("{}://{host}", self.scheme()),
        }
    }

    /// Whether the host is this machine, which no proxy has to be asked for.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The address as the request has it. The query of a redirect is a signature: keep it out of
    /// messages and logs.
    pub(crate) fn full(&self) -> String {
        self.0.to_string()
    }
}

/// Without the query, which may be a signature, and without a last slash.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.0.path().trim_end_matches('/'))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn repo() -> Repo {
        Repo::new("org/name", "refs/pr/15").unwrap()
    }

    #[test]
    fn files_of_a_repository() {
        for (endpoint, expected) in [
            ("https://huggingface.co/", "https://huggingface.co/org/name/resolve/refs%2Fpr%2F15/f"),
            ("http://mirror:8080/hf", "http://mirror:8080/hf/org/name/resolve/refs%2Fpr%2F15/f"),
        ] {
            let url = Url::endpoint(endpoint).unwrap();
            assert_eq!(url.resolve(&repo(), "refs/pr/15", "f").unwrap().full(), expected);
        }
    }

    #[test]
    fn endpoints_that_are_none() {
        let none = ["", "huggingface.co", "ftp://x", "https://", "https://a@b", "https://x?y=1"];
        let secret = ["https://me:secret@x", "https://me:se/cret@x", "ftp://secret@x", "x?secret"];
        for endpoint in none.into_iter().chain(secret) {
            let error = Url::endpoint(endpoint).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{endpoint}");
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }

    #[test]
    fn redirects() {
        let from = Url::endpoint("https://hub.test:444/a/b").unwrap();
        for (location, expected) in [
            ("/c?d=e#f", Some("https://hub.test:444/c?d=e")),
            ("c", Some("https://hub.test:444/a/c")),
            ("//cdn.test/c", Some("https://cdn.test/c")),
            ("HTTP://cdn.test/c", Some("http://cdn.test/c")),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://user:secret@cdn.test/c", None),
            ("https:///c", None),
            ("/c d", None),
        ] {
            assert_eq!(from.join(location).map(|url| url.full()).as_deref(), expected);
        }
    }

    #[test]
    fn signatures_are_not_shown() {
        let url = Url::endpoint("https://hub.test").unwrap().join("/c?signature=s").unwrap();
        assert!(!format!("{url} {url:?}").contains("signature"));
    }

    #[test]
    fn origins() {
        let origin = |text| Url::endpoint(text).unwrap().origin();
        assert_eq!(origin("https://Hub.test:443/x"), origin("https://hub.test"));
        assert_ne!(origin("https://hub.test"), origin("http://hub.test"));
        assert_ne!(origin("https://hub.test"), origin("https://hub.test:444"));
        assert_ne!(origin("https://hub.test"), origin("https://hub.test.evil.test"));
    }
}
