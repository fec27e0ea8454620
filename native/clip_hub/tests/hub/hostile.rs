//! A hostile hub: names and hashes in its answers would leave the cache.

use clip_hub::ErrorKind;

use crate::server::{Reply, Request};
use crate::site::{COMMIT, Site, git, model, small};
use crate::support::{Directory, failure, fetch, options, repo, tree};

const HOSTILE: [&str; 10] = [
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "%2e%2e%2f",
    "a b",
    "C:/x",
    "3d74acf9a28c67741b2f4f2ea7635f0aaf6f026g",
    "\u{ff41}\u{ff41}",
    "....................................................................../x",
];

/// Puts the cache deep in a directory, which would show what got out.
fn inside(fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> ErrorKind {
    let (site, outer) = (Site::with(model(), fault), Directory::new());
    let cache = outer.join("a/b/cache");
    let error = failure(&options(&site, &cache));
    assert!(tree(&outer).iter().all(|path| path.starts_with("a/b/cache/")));
    assert!(error.to_string().len() < 1000 && error.to_string().is_ascii(), "{error}");
    error.kind()
}

#[test]
fn commits_and_hashes_cannot_be_paths() {
    let long = "a".repeat(300);
    for name in HOSTILE.into_iter().map(str::to_owned).chain([long, "a\0b".to_owned()]) {
        for header in ["x-repo-commit", "etag", "x-linked-etag"] {
            let value = name.clone();
            let kind = inside(move |_, reply| reply.with(header, &value));
            // A header with characters that HTTP forbids is a broken answer.
            assert!(
                matches!(kind, ErrorKind::NotAHub | ErrorKind::Connection),
                "{header} {name:?}: {kind:?}"
            );
        }
    }
}

#[test]
fn another_commit_halfway_is_refused() {
    let other = "f".repeat(40);
    let kind = inside(move |request, reply| {
        if request.path.ends_with("tokenizer.json") {
            reply.with("x-repo-commit", &other)
        } else {
            reply
        }
    });
    assert_eq!(kind, ErrorKind::NotAHub);
}

#[test]
fn shards_cannot_be_paths() {
    for name in ["../x", "/etc/x", "a/../../x", "a\\\\x", "x\\u0000", "..", ".git", "\u{ff0e}x"] {
        let index = format!(r#"{{"weight_map": {{"a": "{name}.safetensors"}}}}"#);
        let mut files = model();
        files.retain(|file| !file.large);
        files.push(small("model.safetensors.index.json", &index));
        let (site, cache) = (Site::new(files), Directory::new());
        let error = failure(&options(&site, &cache));
        assert_eq!(error.kind(), ErrorKind::InvalidIndex, "{name}");
        assert!(error.to_string().is_ascii(), "{error}");
        let known = |path: &str| path.starts_with("/org/model/") || path.starts_with("/api/");
        assert!(site.hub.requests().iter().all(|request| known(&request.path)));
    }
}

#[test]
fn an_oversized_index_is_refused() {
    let mut files = model();
    files.retain(|file| !file.large);
    files.push(small("model.safetensors.index.json", "{}"));
    let site = Site::with(files, |request, reply| {
        if request.is_head("index.json") { reply.with("content-length", 11 << 20) } else { reply }
    });
    let error = failure(&options(&site, &Directory::new()));
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}

#[test]
fn endless_headers_are_refused() {
    let kind = inside(|_, reply| reply.with("x-filler", "a".repeat(1 << 20)));
    assert_eq!(kind, ErrorKind::NotAHub);
}

#[test]
fn a_size_that_overflows_is_refused() {
    let kind = inside(|request, reply| {
        if request.path.contains("model.safetensors") {
            reply.with("x-linked-size", u64::MAX)
        } else {
            reply
        }
    });
    assert_eq!(kind, ErrorKind::TooLarge);
}

#[test]
fn files_with_the_same_content_share_a_blob() {
    let mut files = model();
    files[1].content = files[0].content.clone();
    let (site, cache) = (Site::new(files), Directory::new());
    let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    let blob = git(&model()[0].content);
    assert_eq!(
        tree(&cache).iter().filter(|path| path.ends_with(&format!("blobs/{blob}"))).count(),
        3
    );
}
