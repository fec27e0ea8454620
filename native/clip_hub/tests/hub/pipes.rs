//! Pipes instead of files: opening one blocks forever.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use clip_hub::{HubOptions, Overrides, cached};

use crate::site::{COMMIT, Site, model};
use crate::support::{Directory, fetch, options, repo};

fn mkfifo(path: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Returns the result of a job, or fails if it blocks.
fn soon<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(job()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it waits")
}

#[test]
fn a_pipe_anywhere_in_the_cache_blocks_nothing() {
    let weights = model()[4].hash();
    let folder = "models--org--model";
    for path in [
        format!("{folder}/refs/main"),
        format!("{folder}/snapshots/{COMMIT}/config.json"),
        format!("{folder}/snapshots/{COMMIT}/model.safetensors"),
        format!("{folder}/blobs/{weights}"),
        format!(".locks/{folder}/{weights}.lock"),
    ] {
        for has_rest in [false, true] {
            let (site, cache) = (Site::new(model()), Directory::new());
            let options = options(&site, &cache);
            if has_rest {
                fetch(&repo(), &options).unwrap();
            }
            mkfifo(&cache.join(&path));
            let ours = options.clone();
            let (found, fetched) = soon(move || (cached(&repo(), &ours), fetch(&repo(), &ours)));
            let fetched = fetched.unwrap_or_else(|error| panic!("{path}: {error}"));
            fetched.verify().unwrap();
            assert_eq!(found.is_some(), has_rest && path.starts_with(".locks"), "{path}");
            for file in model() {
                assert_eq!(fs::read(fetched.directory.join(file.name)).unwrap(), *file.content);
            }
        }
    }
}

#[test]
fn a_pipe_instead_of_an_index_blocks_nothing() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let options = options(&site, &cache);
    let snapshot = fetch(&repo(), &options).unwrap();
    fs::remove_file(snapshot.directory.join("model.safetensors")).unwrap();
    mkfifo(&snapshot.directory.join("model.safetensors.index.json"));
    soon(move || fetch(&repo(), &options)).unwrap();
}

#[test]
fn a_pipe_instead_of_a_token_or_certificates_blocks_nothing() {
    let home = Directory::new();
    mkfifo(&home.join("token"));
    mkfifo(&home.join("certificates"));
    let options = soon(move || {
        let variable = |name: &str| match name {
            "HF_HOME" => Some(home.display().to_string()),
            "SSL_CERT_FILE" => Some(home.join("certificates").display().to_string()),
            _ => None,
        };
        let mut options = HubOptions::from_vars(&variable, &Overrides::default()).unwrap();
        options.endpoint = "http://127.0.0.1:9".to_owned();
        options.retries.attempts = 1;
        fetch(&repo(), &options).unwrap_err();
        options
    });
    assert!(options.token.is_none());
}
