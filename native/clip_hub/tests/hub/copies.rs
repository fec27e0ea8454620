//! File systems without links: a snapshot then holds the content itself, as with
//! `huggingface_hub`.

use std::fs;
use std::path::Path;
use std::process::Command;

use clip_hub::{Repo, cached};

use crate::processes::child_command;
use crate::site::{COMMIT, File, NAME, Site, model, small};
use crate::support::{Directory, disconnected, fetch, leftovers, options, repo, tree};

/// Every file lies in the snapshot and nowhere else.
fn assert_copies(cache: &Path, files: &[File]) {
    let snapshot = cache.join("models--org--model/snapshots").join(COMMIT);
    for file in files {
        let path = snapshot.join(file.name);
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{}", file.name);
        assert_eq!(fs::read(&path).unwrap(), *file.content);
    }
    let tree = tree(cache);
    assert!(!tree.iter().any(|path| path.contains("/blobs/") || path.contains("->")), "{tree:?}");
    assert_eq!(leftovers(cache), [""; 0]);
    assert!(fetch(&repo(), &disconnected(cache)).is_ok());
}

#[test]
fn without_links_the_files_are_moved_into_the_snapshot() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    options.symlinks = false;
    let snapshot = fetch(&repo(), &options).unwrap();
    assert_eq!(snapshot.files.len(), model().len());
    assert_copies(&cache, &model());

    // Copies are recognised by their content, so damage is noticed.
    options.refresh = true;
    assert!(fetch(&repo(), &options).unwrap().files.iter().all(|file| file.cached));
    fs::write(snapshot.directory.join("model.safetensors"), "damaged").unwrap();
    fetch(&repo(), &options).unwrap();
    assert_copies(&cache, &model());
    assert_eq!(site.downloads(&model()[4]), 2);
}

#[test]
fn a_blob_that_others_may_link_to_is_copied() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    let linked = fetch(&repo(), &options).unwrap().directory;
    let other = linked.with_file_name("0".repeat(40));
    fs::rename(&linked, &other).unwrap();
    options.symlinks = false;
    options.refresh = true;
    let snapshot = fetch(&Repo::new(NAME, COMMIT).unwrap(), &options).unwrap();
    for file in model() {
        assert!(fs::symlink_metadata(snapshot.directory.join(file.name)).unwrap().is_file());
        assert_eq!(fs::read(other.join(file.name)).unwrap(), *file.content, "its blob is there");
        assert_eq!(site.downloads(&file), 1);
    }
}

#[test]
fn a_file_system_without_links_gets_copies() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let child = child_command(&options(&site, &cache));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=symlink,symlinkat"]);
    command.args(["-e", "inject=symlink,symlinkat:error=EPERM"]);
    command.arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ok(output) = command.output() else {
        return eprintln!("skipped: strace, which refuses the links here, is not installed");
    };
    let output = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.contains("ptrace") {
        return eprintln!("skipped: strace is not allowed here");
    }
    assert!(output.contains("\ndirectory "), "{output}");
    assert_copies(&cache, &model());
}

#[test]
fn a_model_in_a_folder_of_sentence_transformers_is_fetched() {
    let names = [
        "0_CLIPModel/config.json",
        "0_CLIPModel/preprocessor_config.json",
        "0_CLIPModel/tokenizer.json",
        "0_CLIPModel/pytorch_model.bin",
    ];
    let files: Vec<File> = names.into_iter().map(|name| small(name, name)).collect();
    for symlinks in [true, false] {
        let (site, cache) = (Site::new(files.clone()), Directory::new());
        let mut options = options(&site, &cache);
        options.symlinks = symlinks;
        let snapshot = fetch(&repo(), &options).unwrap();
        assert!(snapshot.files.iter().map(|file| file.name.as_str()).eq(names));
        assert!(snapshot.directory.ends_with(COMMIT));
        snapshot.verify().unwrap();
        for file in &files {
            let path = snapshot.directory.join(file.name);
            assert_eq!(fs::read(&path).unwrap(), *file.content);
            let target = format!("../../../blobs/{}", file.hash());
            assert_eq!(fs::read_link(path).is_ok_and(|path| path == Path::new(&target)), symlinks);
        }
        assert_eq!(cached(&repo(), &options).unwrap().files.len(), 4);
        options.refresh = true;
        assert!(fetch(&repo(), &options).unwrap().files.iter().all(|file| file.cached));
    }
}
