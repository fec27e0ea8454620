//! Connections that break and are resumed.

use clip_hub::ErrorKind;

use crate::server::{How, Reply, Request};
use crate::site::{Site, model};
use crate::support::{Directory, failure, fetch, leftovers, options, repo};

/// Answers with the rest of a body, as a server that supports ranges does.
fn rest(request: &Request, reply: Reply) -> (Reply, usize) {
    let from = request.head.split("range: bytes=").nth(1);
    let Some(from) = from.and_then(|text| text.split('-').next()?.parse::<usize>().ok()) else {
        return (reply, 0);
    };
    let body = reply.body.clone();
    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
    (reply.status(206).with("content-range", range).body(&body[from..]), from)
}

#[test]
fn a_connection_that_breaks_is_resumed() {
    let site = Site::with(model(), |request, reply| {
        if !request.path.starts_with("/xet/") {
            return reply;
        }
        let (reply, from) = rest(request, reply);
        let left = reply.body.len();
        match from {
            0 => reply.how(How::Cut(left / 2)),
            150_000 => reply.how(How::Reset(left / 2)),
            _ => reply,
        }
    });
    let cache = Directory::new();
    let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
    snapshot.verify().unwrap();
    let requests = site.content.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].head.contains("range: bytes=150000-"), "{}", requests[1].head);
    assert!(!requests[0].head.contains("range"));
}

#[test]
fn attempts_that_make_progress_do_not_count() {
    let mut files = model();
    files[4].content = vec![7; 30 << 20].into();
    let site = Site::with(files, |request, reply| {
        if !request.path.starts_with("/xet/") {
            return reply;
        }
        let (reply, _) = rest(request, reply);
        let piece = reply.body.len().min(9 << 20);
        reply.how(How::Cut(piece))
    });
    let cache = Directory::new();
    let mut options = options(&site, &cache);
    options.retries.attempts = 1;
    fetch(&repo(), &options).unwrap().verify().unwrap();
    assert_eq!(site.content.requests().len(), 4);
}

/// Sends the start of the weights, then the rest changed like this.
fn second_half(change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> ErrorKind {
    let site = Site::with(model(), move |request, reply| {
        if !request.path.starts_with("/xet/") {
            return reply;
        }
        match rest(request, reply) {
            (reply, 0) => reply.how(How::Cut(1000)),
            (reply, _) => change(reply),
        }
    });
    let cache = Directory::new();
    let error = failure(&options(&site, &cache));
    let ranges = site.content.requests().iter().filter(|r| r.head.contains("range")).count();
    assert_eq!(ranges, 1, "{error}");
    assert_eq!(leftovers(&cache), [""; 0]);
    error.kind()
}

#[test]
fn a_part_that_does_not_fit_is_refused() {
    type Change = fn(Reply) -> Reply;
    let changes: [Change; 4] = [
        |reply| reply.with("content-range", "bytes 0-299999/300000"),
        |reply| reply.without("content-range"),
        |_| Reply::new(416),
        |_| Reply::new(400),
    ];
    for change in changes {
        // The download starts over, and the connection breaks again.
        assert_eq!(second_half(change), ErrorKind::Truncated);
    }
    let zeros = |reply: Reply| {
        let zeros = vec![0; reply.body.len()];
        reply.body(&zeros)
    };
    assert_eq!(second_half(zeros), ErrorKind::HashMismatch);
    assert_eq!(second_half(|reply| reply.body(b"less")), ErrorKind::WrongLength);
}
