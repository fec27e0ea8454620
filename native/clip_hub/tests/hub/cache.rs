//! The cache: its layout, its use without a request, its gaps.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use clip_hub::{ErrorKind, Progress, Repo, cached};

use crate::site::{COMMIT, File, NAME, Site, large, model, small};
use crate::support::{Directory, disconnected, failure, fetch, options, repo, tree};

/// Lays files out as `huggingface_hub` does.
fn lay_out(cache: &Path, files: &[File]) {
    let folder = cache.join("models--org--model");
    let snapshot = folder.join("snapshots").join(COMMIT);
    for directory in [folder.join("blobs"), folder.join("refs"), snapshot.clone()] {
        fs::create_dir_all(directory).unwrap();
    }
    for file in files {
        fs::write(folder.join("blobs").join(file.hash()), &*file.content).unwrap();
        symlink(format!("../../blobs/{}", file.hash()), snapshot.join(file.name)).unwrap();
    }
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
}

#[test]
fn the_layout_is_that_of_huggingface_hub() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();

    let mut expected = vec!["models--org--model/refs/main".to_owned()];
    for file in model() {
        let (name, hash) = (file.name, file.hash());
        expected.push(format!(".locks/models--org--model/{hash}.lock"));
        expected.push(format!("models--org--model/blobs/{hash}"));
        expected
            .push(format!("models--org--model/snapshots/{COMMIT}/{name} -> ../../blobs/{hash}"));
    }
    expected.sort();
    assert_eq!(tree(&cache), expected);
    assert_eq!(fs::read_to_string(cache.join("models--org--model/refs/main")).unwrap(), COMMIT);
    for file in model() {
        assert_eq!(fs::read(snapshot.directory.join(file.name)).unwrap(), *file.content);
        assert_eq!(site.downloads(&file), 1);
    }
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.bytes, snapshot.files.iter().map(|file| file.size).sum::<u64>());
    assert!(snapshot.files.iter().all(|file| !file.cached));
    snapshot.verify().unwrap();
}

#[test]
fn a_cache_filled_by_huggingface_hub_needs_no_request() {
    let cache = Directory::new();
    lay_out(&cache, &model());
    for revision in ["main", COMMIT] {
        let repo = Repo::new(NAME, revision).unwrap();
        let snapshot = fetch(&repo, &disconnected(&cache)).unwrap();
        assert!(snapshot.files.iter().all(|file| file.cached));
        assert_eq!(snapshot.files.len(), model().len());
        assert!(snapshot.directory.ends_with(COMMIT));
        snapshot.verify().unwrap();
    }
}

#[test]
fn copies_instead_of_links_are_used_and_repaired() {
    let cache = Directory::new();
    let snapshot = cache.join("models--org--model/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    for file in model() {
        fs::write(snapshot.join(file.name), &*file.content).unwrap();
    }
    let repo = Repo::new(NAME, COMMIT).unwrap();
    assert!(fetch(&repo, &disconnected(&cache)).is_ok());

    let site = Site::new(model());
    let mut options = options(&site, &cache);
    options.refresh = true;
    assert!(fetch(&repo, &options).unwrap().files.iter().all(|file| file.cached));
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    fetch(&repo, &options).unwrap();
    assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), *model()[0].content);
    let links = tree(&cache).iter().filter(|path| path.contains(" -> ")).count();
    assert_eq!(links, 1, "sound copies stay");
}

#[test]
fn weights_are_chosen_by_preference() {
    let bin = large("pytorch_model.bin", 2);
    let shards = [large("model-1.safetensors", 3), large("model-2.safetensors", 4)];
    let index = small(
        "model.safetensors.index.json",
        r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#,
    );
    let rest = || model().into_iter().take(3);
    let names = |files: Vec<File>| {
        let (site, cache) = (Site::new(files), Directory::new());
        let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
        let again = fetch(&repo(), &disconnected(&cache)).unwrap();
        assert_eq!(again.files.len(), snapshot.files.len());
        snapshot.files.into_iter().skip(3).map(|file| file.name).collect::<Vec<_>>()
    };
    assert_eq!(names(rest().chain([bin.clone()]).collect()), ["pytorch_model.bin"]);
    let sharded: Vec<File> = rest().chain([bin.clone(), index]).chain(shards).collect();
    let expected = ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
    assert_eq!(names(sharded.clone()), expected);
    let pickled = [large("pytorch_model-1.bin", 6), large("pytorch_model-2.bin", 7)];
    let index = small(
        "pytorch_model.bin.index.json",
        r#"{"weight_map": {"a": "pytorch_model-2.bin", "b": "pytorch_model-1.bin"}}"#,
    );
    let expected = ["pytorch_model.bin.index.json", "pytorch_model-1.bin", "pytorch_model-2.bin"];
    assert_eq!(names(rest().chain([index.clone()]).chain(pickled.clone()).collect()), expected);
    assert_eq!(names(rest().chain([index, bin]).collect()), ["pytorch_model.bin"]);
    let all = sharded.into_iter().chain(pickled).chain([large("model.safetensors", 5)]);
    assert_eq!(names(all.collect()), ["model.safetensors"]);
}

#[test]
fn a_tokenizer_in_two_files_is_fetched() {
    let mut files = model();
    files.retain(|file| !file.name.starts_with("tokenizer"));
    files.extend([small("vocab.json", "{}"), small("merges.txt", "#version: 0.2")]);
    files.push(small("added_tokens.json", "{}"));
    let (site, cache) = (Site::new(files), Directory::new());
    let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
    for name in ["vocab.json", "merges.txt", "added_tokens.json"] {
        assert!(snapshot.files.iter().any(|file| file.name == name), "{name}");
    }
}

#[test]
fn a_model_in_open_clips_layout_is_fetched() {
    let own = [small("open_clip_config.json", "{}"), small("tokenizer.json", "{}")];
    let index = r#"{"weight_map": {"logit_scale": "open_clip_model-1.safetensors"}}"#;
    for weights in [
        &[small("open_clip_model.safetensors", "x")][..],
        &[small("open_clip_pytorch_model.bin", "x")],
        &[
            small("open_clip_model.safetensors.index.json", index),
            small("open_clip_model-1.safetensors", "x"),
        ],
    ] {
        for more in [&[][..], &[small("config.json", "{}")]] {
            let files = [&own, weights, more].concat();
            let (site, cache) = (Site::new(files.clone()), Directory::new());
            let snapshot = fetch(&repo(), &options(&site, &cache)).unwrap();
            let names: Vec<&str> = snapshot.files.iter().map(|file| &*file.name).collect();
            assert_eq!(names.len(), files.len(), "{names:?}");
            let mut offline = options(&site, &cache);
            offline.offline = true;
            assert_eq!(fetch(&repo(), &offline).unwrap().files.len(), files.len());
        }
    }
}

#[test]
fn a_branch_stays_where_it_was_until_refreshed() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let old = "0".repeat(40);
    lay_out(&cache, &model());
    let folder = cache.join("models--org--model");
    fs::write(folder.join("refs/main"), &old).unwrap();
    fs::rename(folder.join("snapshots").join(COMMIT), folder.join("snapshots").join(&old)).unwrap();

    let mut options = options(&site, &cache);
    assert_eq!(fetch(&repo(), &options).unwrap().commit, old);
    assert!(site.hub.requests().is_empty());

    options.refresh = true;
    assert_eq!(fetch(&repo(), &options).unwrap().commit, COMMIT);
    assert!(model().iter().all(|file| site.downloads(file) == 0), "blobs are used again");
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn only_what_is_missing_is_fetched() {
    let (site, cache) = (Site::new(model()), Directory::new());
    lay_out(&cache, &model()[..4]);
    let mut planned = None;
    let snapshot = clip_hub::fetch(&repo(), &options(&site, &cache), &mut |step| {
        if let Progress::Planned { files, bytes, .. } = step {
            planned = Some((files, bytes));
        }
        ControlFlow::Continue(())
    });
    let weights = &model()[4];
    assert_eq!(planned, Some((5, weights.content.len() as u64)));
    let files = snapshot.unwrap().files;
    let fetched: Vec<_> = files.iter().filter(|file| !file.cached).collect();
    assert_eq!(fetched.len(), 1);
    assert_eq!((site.downloads(weights), site.downloads(&model()[0])), (1, 0));
}

#[test]
fn offline_sends_no_request_and_says_what_is_missing() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    options.offline = true;
    options.refresh = true;
    let error = failure(&options);
    assert_eq!(error.kind(), ErrorKind::Offline);
    assert_eq!(
        error.to_string(),
        format!(
            "org/model at main is not in the cache {} (missing: revision main) and offline mode is \
             on; switch it off (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE or the option offline), or \
             fetch org/model where there is a network",
            cache.display()
        )
    );
    assert!(cached(&repo(), &options).is_none());
    lay_out(&cache, &model()[..3]);
    let error = failure(&options).to_string();
    assert!(error.contains("(missing: weights (model.safetensors, "), "{error}");
    lay_out_rest(&cache);
    assert!(cached(&repo(), &options).is_some());
    assert!(fetch(&repo(), &options).is_ok());
    assert!(site.hub.requests().is_empty());
}

fn lay_out_rest(cache: &Path) {
    fs::remove_dir_all(cache.join("models--org--model")).unwrap();
    lay_out(cache, &model());
}

#[test]
fn a_pull_request_has_a_reference_and_a_commit_needs_none() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let request = Repo::new(NAME, "refs/pr/15").unwrap();
    fetch(&request, &options(&site, &cache)).unwrap();
    let reference = cache.join("models--org--model/refs/refs/pr/15");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    assert!(fetch(&request, &disconnected(&cache)).is_ok());
    // A commit needs no reference.
    assert!(fetch(&Repo::new(NAME, COMMIT).unwrap(), &disconnected(&cache)).is_ok());
}

#[test]
fn damage_is_noticed_and_repaired() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    fetch(&repo(), &options).unwrap();
    let weights = &model()[4];
    let blob = cache.join("models--org--model/blobs").join(weights.hash());
    let mut content = weights.content.to_vec();
    content[1000] ^= 1;
    fs::write(&blob, content).unwrap();

    let error = cached(&repo(), &options).unwrap().verify().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HashMismatch);
    assert!(error.to_string().contains("model.safetensors is damaged"), "{error}");
    options.refresh = true;
    fetch(&repo(), &options).unwrap().verify().unwrap();
    assert_eq!(site.downloads(weights), 2);
}

#[test]
fn an_unusable_reference_counts_as_missing() {
    for content in [&b""[..], b"main", b"../../../etc", b"\xff\xfe", &[b'a'; 100_000]] {
        let (site, cache) = (Site::new(model()), Directory::new());
        fs::create_dir_all(cache.join("models--org--model/refs")).unwrap();
        fs::write(cache.join("models--org--model/refs/main"), content).unwrap();
        assert_eq!(fetch(&repo(), &options(&site, &cache)).unwrap().commit, COMMIT);
    }
}

#[test]
fn files_of_the_cache_have_the_permissions_of_any_new_file() {
    let (site, cache) = (Site::new(model()), Directory::new());
    fetch(&repo(), &options(&site, &cache)).unwrap();
    fs::write(cache.join("any"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = cache.join("models--org--model");
    let blobs = model().into_iter().map(|file| folder.join("blobs").join(file.hash()));
    for path in blobs.chain([folder.join("refs/main")]) {
        assert_eq!(mode(&path), mode(&cache.join("any")), "{}", path.display());
    }
}
