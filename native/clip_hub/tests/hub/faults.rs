//! Faults of a hub or a network. Each has its kind of error.

use std::time::{Duration, Instant};

use clip_hub::{Error, ErrorKind};

use crate::server::{How, Reply, Request};
use crate::site::{File, Site, large, model, refused, small};
use crate::support::{Directory, disconnected, failure, fetch, leftovers, options, repo, tree};

/// Returns the error that a fault leads to, and all requests.
fn faulty(
    fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> (Error, Vec<Request>) {
    let (site, cache) = (Site::with(model(), fault), Directory::new());
    let mut options = options(&site, &cache);
    options.timeouts.stall = Duration::from_millis(400);
    options.timeouts.slowest = 10_000;
    let error = failure(&options);
    assert_eq!(leftovers(&cache), [""; 0], "{error}");
    assert!(!tree(&cache).iter().any(|path| path.contains("refs/")), "{error}");
    assert!(error.to_string().starts_with("cannot get "), "{error}");
    let mut requests = site.hub.requests();
    requests.extend(site.content.requests());
    (error, requests)
}

/// Answers every request like this.
fn config(reply: Reply) -> (ErrorKind, String, usize) {
    let (error, requests) = faulty(move |_, _| reply.clone());
    (error.kind(), error.to_string(), requests.len())
}

/// Answers requests for the weights like this.
fn weights(change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> (ErrorKind, String, usize) {
    let (error, requests) =
        faulty(
            move |request, reply| {
                if request.path.starts_with("/xet/") { change(reply) } else { reply }
            },
        );
    let tries = requests.iter().filter(|request| request.path.starts_with("/xet/")).count();
    (error.kind(), error.to_string(), tries)
}

#[test]
fn every_status_has_its_kind_of_error() {
    use ErrorKind::*;
    for (reply, kind, hint, requests) in [
        (Reply::new(401), Unauthorized, "set HF_TOKEN", 1),
        (refused(401, "GatedRepo"), Gated, "/org/model, then set HF_TOKEN", 1),
        (refused(403, "GatedRepo"), Gated, "licence", 1),
        (Reply::new(403).with("x-error-message", "disabled"), Forbidden, "(disabled)", 1),
        (refused(401, "RepoNotFound"), RepoNotFound, "check the name", 1),
        (refused(404, "RepoNotFound"), RepoNotFound, "private", 1),
        (refused(404, "RevisionNotFound"), RevisionNotFound, "\"main\"", 1),
        (refused(404, "EntryNotFound"), FileNotFound, "config.json of org/model at main", 3),
        (Reply::new(404), FileNotFound, "HF_ENDPOINT", 3),
        (Reply::new(410), Gone, "choose another", 1),
        (Reply::new(418), UnexpectedStatus, "418", 1),
        (Reply::new(416), UnexpectedStatus, "416", 1),
        (Reply::new(206), UnexpectedStatus, "206", 1),
        (Reply::new(429), RateLimited, "try again later", 3),
        (Reply::new(408), Server, "408", 3),
        (Reply::new(500), Server, "500", 3),
        (Reply::new(503), Server, "try again later", 3),
    ] {
        let status = reply.status;
        let (found, message, sent) = config(reply);
        assert_eq!((found, sent), (kind, requests), "{status}: {message}");
        assert!(message.contains(hint), "{status}: {message}");
    }
}

#[test]
fn retry_after_is_honoured_up_to_a_limit() {
    let start = Instant::now();
    let (error, requests) = faulty(|_, _| Reply::new(429).with("retry-after", 1));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(requests.len(), 3);
    assert!(start.elapsed() >= Duration::from_secs(2));
    for header in ["retry-after", "ratelimit"] {
        let value = if header == "ratelimit" { "\"resolvers\";r=0;t=3600" } else { "3600" };
        let (error, requests) = faulty(move |_, _| Reply::new(429).with(header, value));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        assert_eq!(requests.len(), 1, "nobody waits for an hour");
        assert!(error.to_string().contains("try again in 3600 s"), "{error}");
    }
}

#[test]
fn a_passing_fault_is_retried() {
    let (broken, cache) = (std::sync::atomic::AtomicUsize::new(0), Directory::new());
    let site = Site::with(model(), move |request, reply| {
        let number = broken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match number % 3 {
            0 if request.path.starts_with("/xet/") => reply.how(How::Cut(1000)),
            0 => Reply::new(502),
            _ => reply,
        }
    });
    let mut options = options(&site, &cache);
    options.retries.attempts = 6;
    fetch(&repo(), &options).unwrap().verify().unwrap();
    assert_eq!(leftovers(&cache), [""; 0]);
}

#[test]
fn an_answer_that_no_hub_gives_is_an_error() {
    let page = || Reply::new(200).with("content-type", "text/html; charset=utf-8");
    let etag = |etag: &str| page().with("etag", etag).with("x-repo-commit", "0".repeat(40));
    for reply in [
        page().body(b"<html>please log in</html>"),
        etag("\"5d8c72a5edda8d6a:0\""),
        etag(&"a".repeat(40)).with("x-repo-commit", "main"),
        etag(&"a".repeat(40)).with("content-length", "many"),
        Reply::new(302),
        Reply::new(302).with("location", "file:///etc/passwd"),
    ] {
        let status = reply.status;
        let (kind, message, _) = config(reply);
        // A length that is not a number is not HTTP: the library refuses it before we can.
        let expected = [ErrorKind::NotAHub, ErrorKind::Connection];
        assert!(expected.contains(&kind), "{status} {kind:?}: {message}");
        assert!(message.contains("HF_ENDPOINT"), "{message}");
    }
    let html = b"<html></html>";
    let (kind, message, tries) =
        weights(|_| Reply::new(200).with("content-type", "text/html").body(html));
    assert_eq!((kind, tries), (ErrorKind::NotAHub, 1), "{message}");
}

#[test]
fn a_body_of_another_length_is_an_error() {
    let (kind, message, tries) = weights(|reply| reply.how(How::Cut(1000)));
    assert_eq!((kind, tries), (ErrorKind::Truncated, 3), "{message}");
    assert!(message.contains("ended after 1000 of 300000 bytes"), "{message}");

    let (kind, message, tries) = weights(|reply| {
        let content = reply.body.clone();
        reply.body(&content[..1000])
    });
    assert_eq!((kind, tries), (ErrorKind::WrongLength, 1), "{message}");
    assert!(message.contains("expected 300000 bytes, got 1000"), "{message}");

    let longer = |reply: Reply| {
        let content = [&reply.body[..], b"more"].concat();
        reply.body(&content)
    };
    assert_eq!(weights(longer).0, ErrorKind::WrongLength);
    let (kind, message, _) =
        weights(move |reply| longer(reply).without("content-length").how(How::Chunked));
    assert_eq!(kind, ErrorKind::WrongLength, "{message}");
    assert!(message.contains("got more"), "{message}");
    let (kind, ..) = weights(|reply| reply.without("content-length").how(How::Cut(1000)));
    assert_eq!(kind, ErrorKind::Truncated);
}

#[test]
fn content_that_does_not_match_its_hash_is_an_error() {
    let flip = |reply: Reply, index: usize| {
        let mut content = reply.body.to_vec();
        content[index] ^= 1;
        reply.body(&content)
    };
    let (kind, message, tries) = weights(move |reply| flip(reply, 299_999));
    assert_eq!((kind, tries), (ErrorKind::HashMismatch, 1), "{message}");
    // The file changed on the hub between the two requests: the same, and small files too.
    let (error, _) = faulty(move |request, reply| {
        let cache = "/api/resolve-cache";
        let config = request.is_get("config.json") && request.path.starts_with(cache);
        if config { flip(reply, 3).with("etag", "\"changed\"") } else { reply }
    });
    assert_eq!(error.kind(), ErrorKind::HashMismatch, "{error}");
    assert!(error.to_string().starts_with("cannot get config.json of org/model at main"));
}

#[test]
fn a_compressed_body_is_an_error() {
    for encoding in ["gzip", "br"] {
        let (kind, message, _) = weights(move |reply| reply.with("content-encoding", encoding));
        assert_eq!(kind, ErrorKind::Encoded, "{message}");
    }
    let site = Site::with(model(), |_, reply| reply.with("content-encoding", "identity"));
    assert!(fetch(&repo(), &options(&site, &Directory::new())).is_ok());
    assert!(site.hub.requests().iter().all(|r| r.head.contains("accept-encoding: identity")));
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error() {
    let (kind, message, tries) = weights(|reply| reply.how(How::Reset(1000)));
    assert_eq!((kind, tries), (ErrorKind::Truncated, 3), "{message}");

    let start = Instant::now();
    let (kind, message, tries) = weights(|reply| reply.how(How::Stall(1000)));
    assert_eq!((kind, tries), (ErrorKind::Timeout, 3), "{message}");
    let (error, _) = faulty(|_, reply| reply.how(How::Stall(0)));
    // The head came, and for a HEAD that is all.
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Long before the server would go on.
    assert!(start.elapsed() < Duration::from_secs(40));
}

#[test]
fn a_trickle_of_bytes_is_a_timeout() {
    let pause = Duration::from_millis(50);
    let (kind, message, _) = weights(move |reply| reply.how(How::Slow(1, pause)));
    assert_eq!(kind, ErrorKind::Timeout, "{message}");
    assert!(message.contains("fewer than 10000 bytes a second"), "{message}");
}

#[test]
fn an_unreachable_hub_is_an_error() {
    let cache = Directory::new();
    let error = failure(&disconnected(&cache));
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
    assert_eq!(tree(&cache), [""; 0]);
}

#[test]
fn a_model_that_lacks_a_file_is_an_error_before_any_download() {
    for (name, hint) in [
        ("model.safetensors", "weights (model.safetensors, "),
        ("tokenizer.json", "tokenizer.json or vocab.json with merges.txt"),
        ("preprocessor_config.json", "preprocessor_config.json or processor_config.json"),
    ] {
        let files: Vec<File> = model().into_iter().filter(|file| file.name != name).collect();
        let (site, cache) = (Site::new(files), Directory::new());
        let error = failure(&options(&site, &cache));
        assert_eq!(error.kind(), ErrorKind::FileNotFound);
        assert!(error.to_string().contains(hint), "{error}");
        assert_eq!(tree(&cache), [""; 0], "nothing is fetched of what cannot be used");
    }
}

#[test]
fn a_model_over_the_limit_is_refused() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    // Too large by itself, and together with the rest.
    for limit in [299_999, 300_001] {
        options.max_bytes = limit;
        let error = failure(&options);
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let message = error.to_string();
        assert!(message.contains(&limit.to_string()), "{message}");
        assert!(message.contains("`hf download org/model`"), "{message}");
        assert!(!message.contains("max_bytes"), "nobody can set it: {message}");
    }
    assert_eq!(site.content.requests().len(), 0);

    let unknown = |_: &Request, reply: Reply| {
        reply.without("x-linked-size").without("content-length").how(How::Chunked)
    };
    let site = Site::with(model(), unknown);
    options.endpoint = site.hub.url();
    options.max_bytes = 299_999;
    assert_eq!(failure(&options).kind(), ErrorKind::TooLarge);
    options.max_bytes = 400_000;
    fetch(&repo(), &options).unwrap().verify().unwrap();
}

#[test]
fn the_limit_holds_for_files_of_unknown_size_together() {
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let mut files: Vec<File> = model().into_iter().filter(|file| !file.large).collect();
    files.push(small("model.safetensors.index.json", index));
    files.extend([large("model-1.safetensors", 3), large("model-2.safetensors", 4)]);
    let site = Site::with(files, |_, reply| {
        reply.without("x-linked-size").without("content-length").how(How::Chunked)
    });
    let cache = Directory::new();
    let mut options = options(&site, &cache);
    // Enough for each of them, and not for both.
    options.max_bytes = 500_000;
    let error = failure(&options);
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let message = error.to_string();
    assert!(message.starts_with("cannot get model-2.safetensors of org/model"), "{message}");
    assert!(message.contains("`hf download org/model`"), "{message}");
    assert!(!message.contains("max_bytes"), "{message}");
    assert_eq!(leftovers(&cache), [""; 0]);
    options.max_bytes = 700_000;
    fetch(&repo(), &options).unwrap().verify().unwrap();
}

#[test]
fn a_caller_can_stop_at_every_step() {
    use std::ops::ControlFlow;
    for stop in 0..12 {
        let (site, cache) = (Site::new(model()), Directory::new());
        let mut steps = 0;
        let result = clip_hub::fetch(&repo(), &options(&site, &cache), &mut |_| {
            steps += 1;
            if steps > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(leftovers(&cache), [""; 0]);
    }
}
