//! Redirects: where they may lead, who gets the token.

use std::sync::Mutex;

use clip_hub::{ErrorKind, Repo, Token};

use crate::server::{Reply, Request, Server};
use crate::site::{Site, model};
use crate::support::{Directory, failure, fetch, options, repo};

/// Everything this program logs.
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.target(), record.args());
        self.0.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}

#[test]
fn only_the_hub_gets_the_token() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    const CANARY: &str = "hf_canary_c4n4ry";
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    options.token = Some(Token::new(CANARY).unwrap());
    let snapshot = fetch(&repo(), &options).unwrap();

    let header = format!("authorization: Bearer {CANARY}\r\n");
    assert!(site.hub.requests().iter().all(|request| request.head.contains(&header)));
    assert_eq!(site.content.requests().len(), 1);
    assert!(site.content.requests().iter().all(|request| !request.head.contains("canary")));
    assert!(!format!("{options:?} {snapshot:?}").contains("canary"));

    // A hub that repeats the token in its errors, and every other kind of error.
    for status in [301, 401, 403, 404, 429, 500] {
        let site = Site::with(model(), move |_, _| {
            Reply::new(status).with("x-error-message", format!("bad token {CANARY}"))
        });
        options.endpoint = site.hub.url();
        options.refresh = true;
        let error = failure(&options);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
    let log = LOG.0.lock().unwrap().clone();
    assert!(log.contains("clip_hub") && log.contains("ureq"), "the log has everything");
    for secret in ["canary", "s1gn"] {
        let shown: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert_eq!(shown, [""; 0], "nor a signature of the content network");
    }
}

#[test]
fn the_token_follows_a_renamed_repository() {
    let (site, cache) = (
        Site::with(model(), |request, reply| match request.path.strip_prefix("/old/") {
            Some(rest) => Reply::new(307).with("location", format!("/org/{rest}")),
            None => reply,
        }),
        Directory::new(),
    );
    let mut options = options(&site, &cache);
    options.token = Some(Token::new("hf_secret").unwrap());
    let old = Repo::new("old/model", "main").unwrap();
    fetch(&old, &options).unwrap();
    assert!(site.hub.requests().iter().all(|request| request.head.contains("hf_secret")));
}

#[test]
fn a_mirror_may_redirect_but_its_target_gets_no_token() {
    let site = Site::new(model());
    let address = site.hub.url();
    let mirror = Server::start(move |request| {
        Reply::new(308).with("location", format!("{address}{}", request.path))
    });
    let cache = Directory::new();
    let mut options = options(&site, &cache);
    options.endpoint = mirror.url();
    options.token = Some(Token::new("hf_secret").unwrap());
    fetch(&repo(), &options).unwrap().verify().unwrap();
    assert!(mirror.requests().iter().all(|request| request.head.contains("hf_secret")));
    assert!(site.hub.requests().iter().all(|request| !request.head.contains("hf_secret")));
}

fn redirecting(
    location: impl Fn(&Request) -> String + Send + Sync + 'static,
) -> (ErrorKind, usize) {
    let site = Site::with(model(), move |request, reply| {
        if request.path.contains("model.safetensors") || request.path.starts_with("/away") {
            if request.method == "HEAD" {
                return reply;
            }
            return Reply::new(302).with("location", location(request));
        }
        reply
    });
    let error = failure(&options(&site, &Directory::new()));
    assert!(error.to_string().starts_with("cannot get model.safetensors of org/model"), "{error}");
    (error.kind(), site.hub.requests().iter().filter(|r| r.path.starts_with("/away")).count())
}

#[test]
fn endless_redirects_are_refused() {
    let circle = |r: &Request| if r.path == "/away/1" { "/away/2" } else { "/away/1" }.to_owned();
    assert_eq!(redirecting(circle).0, ErrorKind::RedirectLoop);
    assert_eq!(redirecting(|r| r.path.clone()).0, ErrorKind::RedirectLoop);
    let (kind, followed) = redirecting(|r| {
        let number: usize = r.path.trim_start_matches("/away/").parse().unwrap_or(0);
        format!("/away/{}", number + 1)
    });
    assert_eq!((kind, followed), (ErrorKind::TooManyRedirects, 10));
}

#[test]
fn redirects_to_forbidden_addresses_are_refused() {
    for (location, kind) in [
        ("http://169.254.169.254/latest/meta-data/", ErrorKind::Insecure),
        ("http://[fe80::1]/", ErrorKind::Insecure),
        ("http://[::ffff:169.254.169.254]/", ErrorKind::Insecure),
        ("http://0.0.0.0:9/", ErrorKind::Insecure),
        ("file:///etc/passwd", ErrorKind::NotAHub),
        ("gopher://127.0.0.1/", ErrorKind::NotAHub),
        ("http://user:password@127.0.0.1/", ErrorKind::NotAHub),
        ("http://", ErrorKind::NotAHub),
        ("", ErrorKind::NotAHub),
    ] {
        assert_eq!(redirecting(move |_| location.to_owned()).0, kind, "{location}");
    }
}
