//! Exported encoders in the cache: whole or absent, undamaged, and made by one process alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, copy_folder, fixture, project};

fn load(folder: &Path, cache: &Path) -> Model {
    Model::load(folder, &LoadOptions::new(DeviceRequest::Cpu, cache)).unwrap()
}

fn small() -> PathBuf {
    fixture("checkpoints/fashion-clip")
}

fn answer(model: &Model) -> (Vec<f32>, Vec<f32>) {
    let picture = vec![100; 3 * model.info().image_size.pow(2)];
    (model.encode_images(&[&picture]).unwrap(), model.encode_texts(&["a dog"]).unwrap().rows)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_flipped_byte_is_noticed_and_the_encoders_are_made_again() {
    let cache = Scratch::new();
    let model = load(&small(), cache.path());
    let (kept, expected) = (model.info().encoders.clone().unwrap(), answer(&model));
    assert_eq!(names(&kept), ["checksums.txt", "image.pt", "parts.pt", "text.pt"]);
    for file in ["image.pt", "parts.pt", "text.pt", "checksums.txt"] {
        let sound = fs::read(kept.join(file)).unwrap();
        for part in 0..8 {
            let mut damaged = sound.clone();
            damaged[(sound.len() - 2) * part / 7] ^= 0x10;
            fs::write(kept.join(file), &damaged).unwrap();
            assert_eq!(answer(&load(&small(), cache.path())), expected, "{file} {part}");
            assert_ne!(fs::read(kept.join(file)).unwrap(), damaged, "{file} {part}");
        }
        fs::remove_file(kept.join(file)).unwrap();
        assert_eq!(answer(&load(&small(), cache.path())), expected, "without {file}");
    }
}

#[test]
fn encoders_are_made_once_and_read_ever_after() {
    let cache = Scratch::new();
    let made = load(&small(), cache.path()).info().encoders.clone().unwrap();
    let written = || fs::metadata(made.join("image.pt")).unwrap().modified().unwrap();
    let first = written();
    load(&small(), cache.path());
    assert_eq!(written(), first);
    // Another checkpoint in the same place has encoders of its own.
    let scratch = Scratch::new();
    copy_folder(&small(), scratch.path());
    let one = load(scratch.path(), cache.path()).info().encoders.clone().unwrap();
    copy_folder(&fixture("checkpoints/laion-b32"), scratch.path());
    let two = load(scratch.path(), cache.path()).info().encoders.clone().unwrap();
    assert!(made != one && one != two, "{made:?} {one:?} {two:?}");
}

/// Set in a child: the cache to use.
const CHILD: &str = "CLIP_TEST_CACHE";

/// Runs `child` in a process of its own.
fn spawn(cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, cache)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn child() {
    if let Some(cache) = std::env::var_os(CHILD) {
        let model = load(&project("priv/models/emoji-clip"), Path::new(&cache));
        println!("kept in {}", model.info().encoders.as_ref().unwrap().display());
    }
}

#[test]
fn a_second_process_waits_and_takes_what_the_first_one_made() {
    let (elsewhere, cache) = (Scratch::new(), Scratch::new());
    let made = load(&project("priv/models/emoji-clip"), elsewhere.path());
    let made = made.info().encoders.clone().unwrap();
    let kept = cache.path().join("encoders").join(made.file_name().unwrap());
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    // Here is the first process: it holds the lock, and makes the folder.
    let lock = File::create(kept.with_file_name(lock_name(&made))).unwrap();
    lock.lock().unwrap();
    let mut second = spawn(cache.path());
    std::thread::sleep(Duration::from_millis(700));
    assert!(second.try_wait().unwrap().is_none(), "it does not wait");
    assert_eq!(names(kept.parent().unwrap()), [lock_name(&made)], "it does the work itself");
    copy_folder(&made, &kept);
    let written = fs::metadata(kept.join("image.pt")).unwrap().modified().unwrap();
    drop(lock);
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.contains(&format!("kept in {}", kept.display())), "{output}");
    assert_eq!(fs::metadata(kept.join("image.pt")).unwrap().modified().unwrap(), written);
}

fn lock_name(folder: &Path) -> String {
    format!("{}.lock", folder.file_name().unwrap().to_str().unwrap())
}

#[test]
fn many_processes_at_once_all_succeed() {
    let cache = Scratch::new();
    let children: Vec<Child> = (0..4).map(|_| spawn(cache.path())).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let names = names(&cache.path().join("encoders"));
    assert_eq!(names.len(), 2, "one folder and its lock: {names:?}");
}

#[test]
fn a_process_that_is_killed_leaves_nothing_half_done() {
    let cache = Scratch::new();
    for round in 0..12 {
        let mut child = spawn(cache.path());
        std::thread::sleep(Duration::from_millis(100 + 40 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(entries) = fs::read_dir(cache.path().join("encoders")) {
            for entry in entries.map(|entry| entry.unwrap().path()) {
                let is_whole = !entry.to_str().unwrap().contains(".part");
                assert!(!entry.is_dir() || !is_whole || entry.join("checksums.txt").exists());
            }
        }
    }
    assert!(spawn(cache.path()).wait_with_output().unwrap().status.success());
    let names = names(&cache.path().join("encoders"));
    assert_eq!(names.len(), 2, "what was left is gone: {names:?}");
}

/// Whoever opens a pipe waits for its other end.
#[test]
#[cfg(unix)]
fn a_pipe_in_the_cache_is_no_reason_to_wait() {
    let cache = Scratch::new();
    let model = load(&small(), cache.path());
    let (kept, expected) = (model.info().encoders.clone().unwrap(), answer(&model));
    let mkfifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for file in ["image.pt", "parts.pt", "text.pt", "checksums.txt"] {
        mkfifo(&kept.join(file));
        let model = load(&small(), cache.path());
        assert_eq!(
            (model.info().encoders.as_ref().unwrap(), answer(&model)),
            (&kept, expected.clone())
        );
    }
    fs::remove_dir_all(&kept).unwrap();
    mkfifo(&kept.with_file_name(lock_name(&kept)));
    let model = load(&small(), cache.path());
    assert!(model.info().encoders.as_ref().unwrap_err().to_string().contains(".lock"));
    assert_eq!(answer(&model), expected);
}

#[test]
fn a_file_in_the_folders_place_is_replaced() {
    let cache = Scratch::new();
    let kept = load(&small(), cache.path()).info().encoders.clone().unwrap();
    fs::remove_dir_all(&kept).unwrap();
    fs::write(&kept, "in the way").unwrap();
    let model = load(&small(), cache.path());
    assert_eq!(model.info().encoders.as_ref().unwrap(), &kept);
    assert!(kept.join("image.pt").is_file());
}

#[test]
fn without_a_cache_encoders_are_made_for_now() {
    let cache = Scratch::new();
    let expected = answer(&load(&small(), cache.path()));
    let mut options = LoadOptions::new(DeviceRequest::Cpu, "");
    options.cache = None;
    let model = Model::load(&small(), &options).unwrap();
    let why = model.info().encoders.as_ref().unwrap_err().to_string();
    assert_eq!(why, "there is no directory to keep them in; name one");
    assert_eq!(answer(&model), expected);
}
