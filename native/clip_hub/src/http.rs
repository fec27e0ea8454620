//! Requests: one agent, every redirect followed by hand.
//!
//! By hand, because we decide who gets the token, which scheme may follow which, and how far to go.
//! Also, the interesting headers are those of the first answer.

use std::path::Path;

use clip::checkpoint::files;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};

use crate::error::{ErrorKind, Result};
use crate::hash::ContentHash;
use crate::names::Commit;
use crate::options::{HubOptions, Token};
use crate::refusal::{Subject, failure, not_a_hub, refusal, text};
use crate::url::{Guarded, Url};

const MAX_REDIRECTS: usize = 10;
/// Largest file with certificates that is read. Those of whole systems have some 200 KB.
const MAX_CERTIFICATES: u64 = 16 << 20;
const USER_AGENT: &str = concat!("image_zero_shot/", env!("CARGO_PKG_VERSION"));

/// A client for one endpoint.
#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
    pub(crate) endpoint: Url,
    token: Option<Token>,
}

/// An answer, with the heads of the redirects that led to it. Its status is a success, or a
/// redirect away from the endpoint, which [`Http::head`] does not follow.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) heads: Vec<HeaderMap>,
    pub(crate) response: Response<Body>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get { from: u64 },
}

impl Http {
    pub(crate) fn new(options: &HubOptions) -> Result<Self> {
        let endpoint = Url::endpoint(&options.endpoint)?;
        if options.token.is_some() && !endpoint.is_https() && !endpoint.is_loopback() {
            log::warn!("the token goes to {endpoint} without encryption");
        }
        let times = &options.timeouts;
        let proxy = if endpoint.is_loopback() { None } else { Proxy::try_from_env() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(USER_AGENT)
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots(options.ca_file.as_deref())).build())
            .timeout_resolve(Some(times.connect))
            .timeout_connect(Some(times.connect))
            .timeout_send_request(Some(times.stall))
            .timeout_recv_response(Some(times.response))
            .timeout_per_read(Some(times.stall))
            .timeout_per_write(Some(times.stall))
            .build();
        let resolver = Guarded::new(endpoint.host());
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Ok(Self { agent, endpoint, token: options.token.clone() })
    }

    /// Asks the hub about a file. Follows redirects up to the hub that knows it: a repository may
    /// have been renamed, or a mirror may send us on.
    pub(crate) fn head(&self, subject: &Subject<'_>, url: Url) -> Result<Answer> {
        self.follow(subject, Method::Head, url)
    }

    /// Gets the file from wherever the hub keeps it, starting at the byte `from`.
    pub(crate) fn get(&self, subject: &Subject<'_>, url: Url, from: u64) -> Result<Answer> {
        self.follow(subject, Method::Get { from }, url)
    }

    fn follow(&self, subject: &Subject<'_>, method: Method, mut url: Url) -> Result<Answer> {
        let mut visited: Vec<String> = Vec::new();
        let mut heads = Vec::new();
        loop {
            let response = self.send(subject, method, &url)?;
            if !response.status().is_redirection() {
                return self.accepted(subject, method, heads, response);
            }
            let next = self.next(subject, &url, response.headers())?;
            let away = next.origin() != self.endpoint.origin();
            if method == Method::Head && away && tells_all(response.headers()) {
                return Ok(Answer { heads, response });
            }
            visited.push(url.full());
            check_way(subject, &visited, &next)?;
            heads.push(response.headers().clone());
            url = next;
        }
    }

    fn accepted(
        &self,
        subject: &Subject<'_>,
        method: Method,
        heads: Vec<HeaderMap>,
        response: Response<Body>,
    ) -> Result<Answer> {
        match (response.status(), method) {
            (StatusCode::OK, _) => Ok(Answer { heads, response }),
            (StatusCode::PARTIAL_CONTENT, Method::Get { from: 1.. }) => {
                Ok(Answer { heads, response })
            }
            (status, _) => Err(refusal(subject, status, response.headers(), self.token.as_ref())),
        }
    }

    fn send(&self, subject: &Subject<'_>, method: Method, url: &Url) -> Result<Response<Body>> {
        let mut request = match method {
            Method::Head => self.agent.head(url.full()),
            Method::Get { .. } => self.agent.get(url.full()),
        };
        if let Method::Get { from: from @ 1.. } = method {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request = request.header(header::ACCEPT_ENCODING, "identity");
        // Only the endpoint gets the token: a redirect may lead anywhere.
        if let Some(token) = &self.token
            && url.origin() == self.endpoint.origin()
        {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        log::debug!("{method:?} {url}");
        request.call().map_err(|error| failure(subject, &url.to_string(), error))
    }

    /// Where a redirect leads to, if we go there.
    fn next(&self, subject: &Subject<'_>, from: &Url, headers: &HeaderMap) -> Result<Url> {
        let location = text(headers, "location").unwrap_or_default();
        let next = from.join(location).ok_or_else(|| {
            let why = format!(
                "{from} redirects to something that is not an http address; check HF_ENDPOINT"
            );
            subject.error(ErrorKind::NotAHub, why)
        })?;
        if self.endpoint.is_https() && !next.is_https() {
            let why = format!("{from} redirects to {next}, which is not encrypted");
            return Err(subject.error(ErrorKind::Insecure, why));
        }
        Ok(next)
    }
}

/// Ends a chain of redirects that does not end by itself.
fn check_way(subject: &Subject<'_>, visited: &[String], next: &Url) -> Result<()> {
    if visited.contains(&next.full()) {
        let why = format!("its redirects go round in a circle, through {next}");
        return Err(subject.error(ErrorKind::RedirectLoop, why));
    }
    if visited.len() > MAX_REDIRECTS {
        let why = format!("more than {MAX_REDIRECTS} redirects, the last to {next}");
        return Err(subject.error(ErrorKind::TooManyRedirects, why));
    }
    Ok(())
}

/// Whether a redirect comes from the hub that has the file and leads to its content.
fn tells_all(headers: &HeaderMap) -> bool {
    let etag = headers.contains_key("x-linked-etag") || headers.contains_key(header::ETAG);
    etag && headers.contains_key("x-repo-commit")
}

/// Returns the certificates to trust: Mozilla's, or those of a file.
fn roots(file: Option<&Path>) -> RootCerts {
    let Some(file) = file else { return RootCerts::WebPki };
    let pem = files::read(file, MAX_CERTIFICATES).ok().flatten().unwrap_or_default();
    let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = items.collect();
    if certificates.is_empty() {
        // Variables that name a file of another system are common, and Mozilla's are safe.
        log::warn!("no certificates in {}: using the built-in ones", file.display());
        return RootCerts::WebPki;
    }
    RootCerts::new_with_certs(&certificates)
}

/// A file as the hub describes it before it is fetched.
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

    /// Large files lie elsewhere. The redirect to them has headers of its own with hash and size.
    fn read(answer: &Answer) -> Result<Self, &'static str> {
        let last = answer.response.headers();
        let header = |name: &str| {
            let mut heads = answer.heads.iter().chain([last]);
            heads.find_map(|head: &HeaderMap| text(head, name))
        };
        let here = answer.response.status() == StatusCode::OK;
        let commit = header("x-repo-commit").ok_or("no x-repo-commit")?;
        let commit = Commit::parse(commit).ok_or("an x-repo-commit that is not a commit")?;
        let etag = header("x-linked-etag").or_else(|| text(last, "etag")).ok_or("no etag")?;
        let hash = ContentHash::from_etag(etag).ok_or("an etag that is not a content hash")?;
        let length = || if here { text(last, "content-length") } else { None };
        let size = match header("x-linked-size").or_else(length) {
            Some(size) => Some(size.parse().map_err(|_| "a size that is not a number")?),
            None => None,
        };
        Ok(Self { commit, hash, size })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::names::Repo;

    #[test]
    fn a_redirect_never_gives_up_encryption() {
        let repo = Repo::new("org/name", "main").unwrap();
        let subject = Subject { repo: &repo, file: "config.json", endpoint: "" };
        let next = |endpoint: &str, location: &str| {
            let mut options = HubOptions::new("");
            options.endpoint = endpoint.to_owned();
            let http = Http::new(&options).unwrap();
            let headers = HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]);
            http.next(&subject, &http.endpoint, &headers).map_err(|error| error.kind())
        };
        let (safe, plain) = ("https://hub.test", "http://mirror.test");
        assert_eq!(next(safe, "http://cdn.test/x").unwrap_err(), ErrorKind::Insecure);
        assert_eq!(next(safe, "http://hub.test/x").unwrap_err(), ErrorKind::Insecure);
        assert!(next(safe, "https://cdn.test/x").is_ok());
        assert!(next(plain, "http://cdn.test/x").is_ok());
        assert!(next(plain, "https://cdn.test/x").is_ok());
    }
}
