//! Links planted in the cache: refused or replaced, never written through.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use clip_hub::ErrorKind;

use crate::site::{COMMIT, Site, model};
use crate::support::{Directory, failure, fetch, options, repo};

const PRECIOUS: &[u8] = b"precious";

struct Planted {
    site: Site,
    cache: Directory,
    elsewhere: Directory,
}

/// Plants a link at `path` to a file or a directory outside the cache.
fn plant(path: &str, to_directory: bool) -> Planted {
    let (cache, elsewhere) = (Directory::new(), Directory::new());
    for name in ["file", "main", "config.json", "model.safetensors"] {
        fs::write(elsewhere.join(name), PRECIOUS).unwrap();
    }
    let link = cache.join(path);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let target = if to_directory { elsewhere.to_path_buf() } else { elsewhere.join("file") };
    symlink(target, link).unwrap();
    Planted { site: Site::new(model()), cache, elsewhere }
}

fn is_untouched(elsewhere: &Path) -> bool {
    let entries: Vec<_> = fs::read_dir(elsewhere).unwrap().flatten().collect();
    entries.len() == 4 && entries.iter().all(|e| fs::read(e.path()).unwrap() == PRECIOUS)
}

#[test]
fn a_link_instead_of_a_directory_is_refused() {
    let snapshot = format!("models--org--model/snapshots/{COMMIT}");
    for path in [
        "models--org--model",
        "models--org--model/blobs",
        "models--org--model/refs",
        "models--org--model/snapshots",
        &snapshot,
        ".locks",
        ".locks/models--org--model",
    ] {
        let planted = plant(path, true);
        let error = failure(&options(&planted.site, &planted.cache));
        assert_eq!(error.kind(), ErrorKind::CacheNotWritable, "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
        assert!(is_untouched(&planted.elsewhere), "{path}");
    }
}

#[test]
fn a_link_instead_of_a_file_is_replaced() {
    let weights = model()[4].hash();
    let pointer = format!("models--org--model/snapshots/{COMMIT}/config.json");
    let blob = format!("models--org--model/blobs/{weights}");
    for path in ["models--org--model/refs/main", &pointer, &blob] {
        let planted = plant(path, false);
        let snapshot = fetch(&repo(), &options(&planted.site, &planted.cache)).unwrap();
        snapshot.verify().unwrap();
        for file in model() {
            assert_eq!(fs::read(snapshot.directory.join(file.name)).unwrap(), *file.content);
        }
        assert!(is_untouched(&planted.elsewhere), "{path}");
    }
}

#[test]
fn links_at_locks_and_unfinished_files_are_not_followed() {
    let weights = model()[4].hash();
    let planted = plant(&format!(".locks/models--org--model/{weights}.lock"), false);
    let error = failure(&options(&planted.site, &planted.cache));
    assert_eq!(error.kind(), ErrorKind::CacheNotWritable, "{error}");
    assert!(is_untouched(&planted.elsewhere));

    for name in [format!("{weights}.incomplete"), format!("{weights}.00000000.incomplete")] {
        let planted = plant(&format!("models--org--model/blobs/{name}"), false);
        fetch(&repo(), &options(&planted.site, &planted.cache)).unwrap().verify().unwrap();
        assert!(is_untouched(&planted.elsewhere));
    }
}

#[test]
fn a_pipe_instead_of_a_file_is_replaced() {
    // Opening a pipe would block forever.
    let (site, cache) = (Site::new(model()), Directory::new());
    fetch(&repo(), &options(&site, &cache)).unwrap();
    let pointer = cache.join("models--org--model/snapshots").join(COMMIT).join("config.json");
    fs::remove_file(&pointer).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pointer).status().unwrap();
    assert!(made.success());
    let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
    assert_eq!(fs::read(snapshot.directory.join("config.json")).unwrap(), *model()[0].content);
}

#[test]
fn the_cache_itself_may_be_a_link() {
    let (site, cache, links) = (Site::new(model()), Directory::new(), Directory::new());
    symlink(&*cache, links.join("cache")).unwrap();
    let snapshot = fetch(&repo(), &options(&site, &links.join("cache"))).unwrap();
    snapshot.verify().unwrap();
    assert!(cache.join("models--org--model/refs/main").is_file());
}
