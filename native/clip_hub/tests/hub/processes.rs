//! Processes that share a cache or die.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clip_hub::{HubOptions, Progress, cached};

use crate::server::How;
use crate::site::{File, Site, git, model, sha256};
use crate::support::{Directory, fetch, leftovers, options, repo, tree};

/// Fetches the model in a process of its own, for the other tests.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Ok(endpoint) = std::env::var("CLIP_HUB_TEST_ENDPOINT") else { return };
    let mut options = HubOptions::new(std::env::var("CLIP_HUB_TEST_CACHE").unwrap());
    options.endpoint = endpoint;
    options.refresh = std::env::var("CLIP_HUB_TEST_REFRESH").is_ok();
    let last = std::env::var("CLIP_HUB_TEST_STEPS").ok().and_then(|text| text.parse().ok());
    let mut steps = 0;
    let result = clip_hub::fetch(&repo(), &options, &mut |step| {
        steps += usize::from(is_countable(step));
        if Some(steps) == last {
            let id = std::process::id().to_string();
            Command::new("kill").args(["-9", &id]).status().unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
        ControlFlow::Continue(())
    });
    match result {
        Ok(snapshot) => println!("directory {}", snapshot.directory.display()),
        Err(error) => println!("error {}: {error}", error.kind().as_str()),
    }
}

/// The command that runs [`child`].
pub(crate) fn child_command(options: &HubOptions) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "processes::child", "--ignored", "--nocapture"]);
    command.env("CLIP_HUB_TEST_ENDPOINT", &options.endpoint);
    command.env("CLIP_HUB_TEST_CACHE", &options.cache_dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(options: &HubOptions) -> Child {
    child_command(options).spawn().unwrap()
}

/// Every file with the name of a blob has its content.
fn assert_blobs_are_whole(cache: &Path) {
    for path in tree(cache).iter().filter(|path| path.contains("/blobs/")) {
        let content = fs::read(cache.join(path)).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap();
        let whole = name == git(&content) || name == sha256(&content);
        assert!(whole || name.ends_with(".incomplete") || path.contains("->"), "{path}");
    }
}

/// After a process died, nothing is broken and the next fetch needs no help.
fn assert_recovers(cache: &Path) {
    assert_blobs_are_whole(cache);
    let site = Site::new(model());
    let options = options(&site, cache);
    if let Some(snapshot) = cached(&repo(), &options) {
        snapshot.verify().unwrap();
    }
    let snapshot = fetch(&repo(), &options).unwrap();
    snapshot.verify().unwrap();
    assert_eq!(snapshot.files.len(), model().len());
    assert_eq!(leftovers(&cache.join("models--org--model")), [""; 0]);
}

/// Nobody can tell in how many pieces a file comes.
fn is_countable(step: Progress<'_>) -> bool {
    !matches!(step, Progress::Advanced { .. })
}

/// Steps of an undisturbed fetch.
fn steps() -> usize {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut steps = 0;
    let count = &mut |step: Progress<'_>| {
        steps += usize::from(is_countable(step));
        ControlFlow::Continue(())
    };
    clip_hub::fetch(&repo(), &options(&site, &cache), count).unwrap();
    steps
}

#[test]
fn a_process_killed_at_any_step_leaves_a_sound_cache() {
    let steps = steps();
    assert!(steps >= 14, "{steps}");
    for point in 1..=steps {
        let (site, cache) = (Site::new(model()), Directory::new());
        let mut command = child_command(&options(&site, &cache));
        command.env("CLIP_HUB_TEST_STEPS", point.to_string());
        let output = command.output().unwrap();
        assert!(output.status.code().is_none(), "killed at {point} of {steps}: {output:?}");
        assert_recovers(&cache);
    }
}

#[test]
fn a_process_killed_within_a_file_leaves_a_sound_cache() {
    for point in 0..6 {
        let (site, cache) = (Site::with(model(), slow), Directory::new());
        let mut child = spawn(&options(&site, &cache));
        site.content.wait_for_pieces(1 + point * 9);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(leftovers(&cache).len(), 1, "there is something to recover from");
        drop(site);
        assert_recovers(&cache);
    }
}

/// Weights in some 60 pieces, over 120 ms and more.
fn slow(request: &crate::server::Request, reply: crate::server::Reply) -> crate::server::Reply {
    let pause = Duration::from_millis(2);
    if request.path.starts_with("/xet/") { reply.how(How::Slow(5000, pause)) } else { reply }
}

#[test]
fn several_processes_download_every_file_once() {
    for count in [2, 8] {
        let (site, cache) = (Site::with(model(), slow), Directory::new());
        let options = options(&site, &cache);
        let children: Vec<Child> = (0..count).map(|_| spawn(&options)).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("\ndirectory "), "{text}");
        }
        assert_blobs_are_whole(&cache);
        assert_eq!(leftovers(&cache), [""; 0]);
        cached(&repo(), &options).unwrap().verify().unwrap();
        let mut blobs = tree(&cache);
        blobs.retain(|path| path.starts_with("models--org--model/blobs"));
        assert_eq!(blobs.len(), model().len(), "one copy");
        for file in model() {
            assert_eq!(site.downloads(&file), 1, "{}", file.name);
        }
    }
}

fn lock_of(cache: &Path, file: &File) -> fs::File {
    let folder = cache.join(".locks/models--org--model");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join(format!("{}.lock", file.hash()))).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_lock_holder_that_makes_progress_is_waited_for() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    options.timeouts.lock = Duration::from_millis(500);
    let weights = &model()[4];
    let lock = lock_of(&cache, weights);
    let blobs = cache.join("models--org--model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let (part, blob) =
        (blobs.join(format!("{}.12345678.incomplete", weights.hash())), blobs.join(weights.hash()));
    let (mut waits, start) = (0, Instant::now());
    let snapshot = clip_hub::fetch(&repo(), &options, &mut |step| {
        if let Progress::Waiting { done, .. } = step {
            waits += 1;
            // The other process, three times as long as one without progress is waited for.
            fs::write(&part, vec![0; done as usize + 1]).unwrap();
            if start.elapsed() > Duration::from_millis(1500) {
                fs::write(&part, &*weights.content).unwrap();
                fs::rename(&part, &blob).unwrap();
                lock.unlock().unwrap();
            }
        }
        ControlFlow::Continue(())
    });
    snapshot.unwrap().verify().unwrap();
    assert!(waits > 5, "{waits}");
    assert_eq!(site.downloads(weights), 0, "the other's copy is used");
}

#[test]
fn a_lock_holder_that_hangs_is_not_waited_for() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mut options = options(&site, &cache);
    options.timeouts.lock = Duration::from_millis(300);
    let weights = &model()[4];
    let _lock = lock_of(&cache, weights);
    fetch(&repo(), &options).unwrap().verify().unwrap();
    assert_eq!(site.downloads(weights), 1);
}

#[test]
fn a_fetch_fits_on_a_small_stack() {
    // Threads of a virtual machine may have no more.
    let (site, cache) = (Site::new(model()), Directory::new());
    let options = options(&site, &cache);
    let thread = std::thread::Builder::new().stack_size(128 * 1024);
    let result = thread.spawn(move || fetch(&repo(), &options)).unwrap().join().unwrap();
    result.unwrap().verify().unwrap();
}
