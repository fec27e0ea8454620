//! Requests: one agent, every redirect followed by hand.
//!
//! By hand, because who gets the token, which scheme may follow which, and how far to go are
//! decisions of ours, and because the interesting headers are those of the first answer.

use std::io;
use std::path::Path;

use clip::checkpoint::files;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy, Timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::options::HubOptions;
use crate::resolver::{Guarded, LinkLocal};
use crate::status::{refusal, text};
use crate::subject::Subject;
use crate::token::Token;
use crate::url::Url;

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
/// redirect away from the endpoint that [`Http::head`] did not follow.
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

    /// What the hub has to say about a file. Redirects are followed as far as the hub that knows
    /// it: the repository was renamed, or a mirror sends us on.
    pub(crate) fn head(&self, subject: &Subject<'_>, url: Url) -> Result<Answer> {
        self.follow(subject, Method::Head, url)
    }

    /// The file, from wherever the hub keeps it, and from the byte `from` if it is asked to.
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
        // A token is for the endpoint alone: a redirect may lead anywhere.
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
            let why = format!("{from} redirects to nowhere; check HF_ENDPOINT");
            subject.error(ErrorKind::NotAHub, why)
        })?;
        if self.endpoint.is_https() && !next.is_https() {
            let why = format!("{from} redirects to {next}, which is not encrypted");
            return Err(subject.error(ErrorKind::Insecure, why));
        }
        Ok(next)
    }
}

/// Ends a way that does not.
fn check_way(subject: &Subject<'_>, visited: &[String], next: &Url) -> Result<()> {
    if visited.contains(&next.full()) {
        let why = format!("its redirects go round in a circle, by way of {next}");
        return Err(subject.error(ErrorKind::RedirectLoop, why));
    }
    if visited.len() > MAX_REDIRECTS {
        let why = format!("more than {MAX_REDIRECTS} redirects, the last to {next}");
        return Err(subject.error(ErrorKind::TooManyRedirects, why));
    }
    Ok(())
}

/// Whether a redirect comes from the hub that has the file, to where its content is.
fn tells_all(headers: &HeaderMap) -> bool {
    let etag = headers.contains_key("x-linked-etag") || headers.contains_key(header::ETAG);
    etag && headers.contains_key("x-repo-commit")
}

/// The error of a request that got no answer, or of a body that broke off.
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
        "no secure connection to {url} ({error}); if a proxy of your organisation answers in its \
         place, set SSL_CERT_FILE to a file with its certificate"
    )
}

/// The certificates to trust: Mozilla's, or those of a file.
fn roots(file: Option<&Path>) -> RootCerts {
    let Some(file) = file else { return RootCerts::WebPki };
    let pem = files::read(file, MAX_CERTIFICATES).ok().flatten().unwrap_or_default();
    let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = items.collect();
    if certificates.is_empty() {
        // Variables that name a file of another system are common, and Mozilla's are no risk.
        log::warn!("no certificates in {}: using the built-in ones", file.display());
        return RootCerts::WebPki;
    }
    RootCerts::new_with_certs(&certificates)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::names::Repo;

    #[test]
    fn encryption_is_not_given_up() {
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
