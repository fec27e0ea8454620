//! A hub like the real one: small files come from itself through a redirect, large ones from a
//! content network, and everything missing has a status and a code.

use std::sync::Arc;

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::server::{Reply, Request, Server};

pub(crate) const NAME: &str = "org/model";
pub(crate) const COMMIT: &str = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268";

/// Larger than every buffer in between.
pub(crate) const WEIGHTS: usize = 300_000;

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) large: bool,
}

impl File {
    pub(crate) fn hash(&self) -> String {
        if self.large { sha256(&self.content) } else { git(&self.content) }
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&SHA256, content)
}

pub(crate) fn git(content: &[u8]) -> String {
    let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    hex(&SHA1_FOR_LEGACY_USE_ONLY, &blob)
}

fn hex(algorithm: &'static Algorithm, content: &[u8]) -> String {
    digest(algorithm, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn small(name: &'static str, content: &str) -> File {
    File { name, content: Arc::new(content.as_bytes().to_vec()), large: false }
}

pub(crate) fn large(name: &'static str, seed: usize) -> File {
    let content = (0..WEIGHTS).map(|i| ((i * 31 + seed) ^ (i >> 8)) as u8).collect();
    File { name, content: Arc::new(content), large: true }
}

/// Returns the files of a model as they are written today.
pub(crate) fn model() -> Vec<File> {
    vec![
        small("config.json", r#"{"model_type": "clip"}"#),
        small("preprocessor_config.json", r#"{"crop_size": 224}"#),
        small("tokenizer.json", r#"{"version": "1.0"}"#),
        small("tokenizer_config.json", "{}"),
        large("model.safetensors", 1),
    ]
}

type Intercept = dyn Fn(&Request, Reply) -> Reply + Send + Sync;

/// A hub and its content network.
pub(crate) struct Site {
    pub(crate) hub: Server,
    pub(crate) content: Server,
}

impl Site {
    pub(crate) fn new(files: Vec<File>) -> Self {
        Self::with(files, |_, reply| reply)
    }

    /// A site where `intercept` can replace every answer.
    pub(crate) fn with(
        files: Vec<File>,
        intercept: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (files, intercept): (Arc<Vec<File>>, Arc<Intercept>) =
            (Arc::new(files), Arc::new(intercept));
        let (ours, hook) = (files.clone(), intercept.clone());
        let content = Server::start(move |request| {
            let file = ours.iter().find(|file| request.path.contains(&file.hash()));
            let reply = file.map_or(Reply::new(403), |file| Reply::new(200).body(&file.content));
            hook(request, reply)
        });
        let address = content.url();
        let hub =
            Server::start(move |request| intercept(request, answer(&files, request, &address)));
        Self { hub, content }
    }

    pub(crate) fn downloads(&self, file: &File) -> usize {
        let end = if file.large { file.hash() } else { format!("/{}", file.name) };
        let server = if file.large { &self.content } else { &self.hub };
        let cache = |request: &Request| file.large || request.path.starts_with("/api/");
        let requests = server.requests();
        let path = |request: &Request| request.path.split('?').next().unwrap().to_owned();
        let is_one = |r: &&Request| r.method == "GET" && cache(r) && path(r).ends_with(&end);
        requests.iter().filter(is_one).count()
    }
}

fn answer(files: &[File], request: &Request, content: &str) -> Reply {
    let cached = format!("/api/resolve-cache/models/{NAME}/{COMMIT}/");
    if let Some(name) = request.path.strip_prefix(&cached) {
        return match files.iter().find(|file| file.name == name) {
            Some(file) => found(file).body(&file.content),
            None => refused(404, "EntryNotFound"),
        };
    }
    let Some(rest) = request.path.strip_prefix(&format!("/{NAME}/resolve/")) else {
        return refused(401, "RepoNotFound");
    };
    let (revision, name) = rest.split_once('/').unwrap();
    if !["main", "refs%2Fpr%2F15", COMMIT].contains(&revision) {
        return refused(404, "RevisionNotFound");
    }
    match files.iter().find(|file| file.name == name) {
        Some(file) if file.large => elsewhere(file, content),
        Some(file) => {
            let location = format!("{cached}{name}");
            found(file).with("location", location).body(b"307").status(307)
        }
        None => refused(404, "EntryNotFound").with("x-repo-commit", COMMIT),
    }
}

fn elsewhere(file: &File, content: &str) -> Reply {
    found(file)
        .with("etag", "\"an-etag-of-the-content-network\"")
        .with("x-linked-etag", format!("\"{}\"", file.hash()))
        .with("x-linked-size", file.content.len())
        .with("x-xet-hash", "0".repeat(64))
        .with("location", format!("{content}/xet/{}?Signature=s1gn", file.hash()))
        .status(302)
}

fn found(file: &File) -> Reply {
    let etag = format!("\"{}\"", file.hash());
    Reply::new(200).with("x-repo-commit", COMMIT).with("etag", etag)
}

pub(crate) fn refused(status: u16, code: &str) -> Reply {
    Reply::new(status).with("x-error-code", code).body(b"{\"error\":\"no\"}")
}

impl Reply {
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}
