//! Addresses we may ask.
//!
//! Redirects may not lead to addresses that exist only on this machine's link. Clouds answer there
//! (169.254.169.254) with the secrets of the machine, and a hub may not be trustworthy.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Origin, SyntaxViolation};

use crate::error::{Error, ErrorKind, Result};
use crate::names::{Repo, shown};

/// An `http` or `https` address with a host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(url::Url);

impl Url {
    fn parse(base: Option<&url::Url>, text: &str) -> Option<Self> {
        // Browsers repair a broken address, each repair a chance to read it as another one than
        // the next program does. Only characters that need an escape are let through.
        let sound = Cell::new(!text.contains(' '));
        let refuse = |violation| {
            use SyntaxViolation::{NonUrlCodePoint, PercentDecode};
            if !matches!(violation, NonUrlCodePoint | PercentDecode) {
                sound.set(false);
            }
        };
        let options = url::Url::options().base_url(base);
        let mut url = options.syntax_violation_callback(Some(&refuse)).parse(text).ok()?;
        url.set_fragment(None);
        let known = matches!(url.scheme(), "http" | "https");
        let anonymous = url.username().is_empty() && url.password().is_none();
        (sound.get() && known && anonymous).then_some(Self(url))
    }

    /// The endpoint: everything else is below it.
    pub(crate) fn endpoint(text: &str) -> Result<Self> {
        let url = Self::parse(None, text.trim_end_matches('/'));
        // An `@` behind the host too: a password with a slash in it is taken for a path.
        url.filter(|url| url.0.query().is_none() && !text.contains('@')).ok_or_else(|| {
            // A query may hold a secret as well.
            let text = shown(text.split('?').next().unwrap_or_default());
            let message = format!(
                "expected HF_ENDPOINT to be an address such as https://huggingface.co, without a \
                 user or a query, got: \"{text}\"; the Hub's access token goes into HF_TOKEN",
            );
            Error::new(ErrorKind::InvalidOption, message)
        })
    }

    /// The address of a file of a repository.
    pub(crate) fn resolve(&self, repo: &Repo, revision: &str, file: &str) -> Result<Self> {
        // Nothing else that a revision may contain needs an escape.
        let revision = revision.replace('/', "%2F").replace('+', "%2B");
        let text = format!("{self}/{}/resolve/{revision}/{file}", repo.name());
        Self::parse(None, &text)
            .ok_or_else(|| Error::new(ErrorKind::InvalidName, format!("not an address: {text}")))
    }

    /// Follows a `Location` header from here. Returns `None` if it is not an address we may ask.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        if location.is_empty() {
            return None;
        }
        Self::parse(Some(&self.0), location)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Scheme, host and port: a token is valid for one of them.
    pub(crate) fn origin(&self) -> Origin {
        self.0.origin()
    }

    /// Whether the host is this machine, which is reached without a proxy.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The address with its query. The query of a redirect is a signature: keep it out of messages
    /// and logs.
    pub(crate) fn full(&self) -> String {
        self.0.to_string()
    }
}

/// Without the query, which may be a signature, and without a last slash.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.path().trim_end_matches('/');
        write!(f, "{}{path}", self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The usual resolver, but link-local addresses are refused for every host except the endpoint's.
#[derive(Debug)]
pub(crate) struct Guarded {
    inner: DefaultResolver,
    endpoint: String,
}

impl Guarded {
    pub(crate) fn new(endpoint_host: &str) -> Self {
        Self { inner: DefaultResolver::default(), endpoint: endpoint_host.to_owned() }
    }
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let ours = uri.host().is_some_and(|host| host.eq_ignore_ascii_case(&self.endpoint));
        if !ours && found.iter().any(|address| is_local(address.ip())) {
            return Err(ureq::Error::Other(Box::new(LinkLocal)));
        }
        Ok(found)
    }
}

fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    }
}

/// The reason of a refusal.
#[derive(Debug)]
pub(crate) struct LinkLocal;

impl fmt::Display for LinkLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link-local address")
    }
}

impl std::error::Error for LinkLocal {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn repo() -> Repo {
        Repo::new("org/name", "refs/pr/15").unwrap()
    }

    #[test]
    fn files_are_below_the_endpoint() {
        for (endpoint, expected) in [
            ("https://huggingface.co/", "https://huggingface.co/org/name/resolve/refs%2Fpr%2F15/f"),
            ("http://mirror:8080/hf", "http://mirror:8080/hf/org/name/resolve/refs%2Fpr%2F15/f"),
        ] {
            let url = Url::endpoint(endpoint).unwrap();
            assert_eq!(url.resolve(&repo(), "refs/pr/15", "f").unwrap().full(), expected);
        }
        let plus = Url::endpoint("http://hub.test").unwrap().resolve(&repo(), "v1+cpu", "f");
        assert_eq!(plus.unwrap().full(), "http://hub.test/org/name/resolve/v1%2Bcpu/f");
    }

    #[test]
    fn an_invalid_endpoint_is_an_error_without_its_secrets() {
        let invalid = ["", "huggingface.co", "ftp://x", "https://", "https://a@b", "https://x?y=1"];
        let repaired =
            ["https:x", "https:/x", "https:///x", "https:\\\\x", " https://x", "http://\tx"];
        let secret = ["https://me:secret@x", "https://me:se/cret@x", "ftp://secret@x", "x?secret"];
        for endpoint in invalid.into_iter().chain(repaired).chain(secret) {
            let error = Url::endpoint(endpoint).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{endpoint}");
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }

    #[test]
    fn redirects_lead_to_http_addresses_or_nowhere() {
        let from = Url::endpoint("https://hub.test:444/a/b").unwrap();
        for (location, expected) in [
            ("/c?d=e#f", Some("https://hub.test:444/c?d=e")),
            ("c", Some("https://hub.test:444/a/c")),
            ("//cdn.test/c", Some("https://cdn.test/c")),
            ("HTTP://cdn.test/c", Some("http://cdn.test/c")),
            ("/c?policy=a~b_c-d%3D|e", Some("https://hub.test:444/c?policy=a~b_c-d%3D|e")),
            ("https://0x7f.1/c", Some("https://127.0.0.1/c")),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://user:secret@cdn.test/c", None),
            ("https:///c", None),
            ("\\\\cdn.test\\c", None),
            ("/c d", None),
            ("/c\td", None),
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
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text| Url::endpoint(text).unwrap().origin();
        assert_eq!(origin("https://Hub.test:443/x"), origin("https://hub.test"));
        assert_ne!(origin("https://hub.test"), origin("http://hub.test"));
        assert_ne!(origin("https://hub.test"), origin("https://hub.test:444"));
        assert_ne!(origin("https://hub.test"), origin("https://hub.test.evil.test"));
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        let is_loopback = |text| Url::endpoint(text).unwrap().is_loopback();
        for text in ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:1"]
        {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["http://localhost.test", "http://10.0.0.1", "http://[::2]"] {
            assert!(!is_loopback(text), "{text}");
        }
    }

    #[test]
    fn link_local_addresses_are_recognised() {
        for text in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::"] {
            assert!(is_local(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "18.164.174.23", "::1", "2600:9000::1"] {
            assert!(!is_local(text.parse().unwrap()), "{text}");
        }
    }
}
