//! A process that ends while models are at work ends with its own exit code, and soon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::explicit_write)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, exit};
use std::thread::{sleep, spawn};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

/// Set in the child: what to be at, for how many microseconds before it exits, and the cache.
const CHILD: &str = "CLIP_TEST_EXIT";
const EXIT_CODE: i32 = 7;
/// From the call of `exit`. One that waits for a thread of libtorch waits forever.
const PROMISE: Duration = Duration::from_secs(30);
/// Set in the child by those who want more.
const ROUNDS: &str = "CLIP_TEST_EXIT_ROUNDS";

/// What the child writes when a call returns that `exit` must not wait for.
const CALL_RETURNED: &str = "the call returned";
/// What the child writes before the time.
const BEFORE_EXIT: &str = "exit at ";

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn rounds(few: u32) -> u32 {
    std::env::var(ROUNDS).map_or(few, |rounds| rounds.parse().unwrap())
}

/// Ends a child that is at `work` in many rounds, each a step later.
fn exits(test: &str, work: fn(&Path), few: u32, first: Duration, step: Duration) {
    if let Ok(arguments) = std::env::var(CHILD) {
        let (microseconds, cache) = arguments.split_once(' ').unwrap();
        work(cache.as_ref());
        sleep(Duration::from_micros(microseconds.parse().unwrap()));
        // Not by a macro, whose output the test harness keeps.
        writeln!(std::io::stdout(), "{BEFORE_EXIT}{}", since_1970().as_millis()).unwrap();
        exit(EXIT_CODE);
    }
    let cache = Scratch::new();
    let mut failed = Vec::new();
    let rounds = rounds(few);
    for round in 0..rounds {
        let before_exit = first + step * (round % few);
        let output = Command::new(std::env::current_exe().unwrap())
            .arg(test)
            .env(CHILD, format!("{} {}", before_exit.as_micros(), cache.path().display()))
            // A process that ends at once leaves its temporary files.
            .env("TMPDIR", cache.path())
            .output()
            .unwrap();
        let end = since_1970();
        let told = String::from_utf8(output.stdout).unwrap();
        let start = told.split(BEFORE_EXIT).nth(1).unwrap().lines().next().unwrap();
        let took = end.saturating_sub(Duration::from_millis(start.parse().unwrap()));
        let waited = took > PROMISE || told.contains(CALL_RETURNED);
        if output.status.code() != Some(EXIT_CODE) || waited {
            failed.push(format!("after {before_exit:?}: {} in {took:?}", output.status));
        }
    }
    assert!(failed.is_empty(), "{} of {rounds}: {failed:#?}", failed.len());
}

fn model(cache: &Path) -> Model {
    let options = LoadOptions::new(DeviceRequest::Cpu, cache);
    Model::load(&project("priv/models/emoji-clip"), &options).unwrap()
}

/// Several at a time, so that several threads are somewhere inside libtorch.
fn at_once(work: impl Fn() + Clone + Send + 'static) {
    for _ in 0..4 {
        spawn(work.clone());
    }
}

/// On a thread of its own, for as long as the process lives.
fn load_and_run(cache: &Path) {
    let cache = cache.to_owned();
    spawn(move || {
        let model = model(&cache);
        let picture = vec![128; 3 * 64 * 64];
        loop {
            model.encode_images(&[&picture]).unwrap();
            model.encode_texts(&["a cat"]).unwrap();
        }
    });
}

/// The load may begin when destructors run already. With an empty cache it takes longer.
#[test]
fn an_exit_when_the_first_load_begins() {
    let loads = |_: &Path| {
        let cache = Scratch::new();
        load_and_run(cache.path());
        std::mem::forget(cache);
    };
    let test = "an_exit_when_the_first_load_begins";
    exits(test, loads, 20, Duration::ZERO, Duration::ZERO);
}

/// When libtorch sets itself up.
#[test]
fn an_exit_while_the_first_model_is_loaded() {
    let test = "an_exit_while_the_first_model_is_loaded";
    exits(test, load_and_run, 20, Duration::ZERO, Duration::from_millis(15));
}

#[test]
fn an_exit_while_loading() {
    let loads = |cache: &Path| {
        drop(model(cache));
        let cache = cache.to_owned();
        at_once(move || {
            loop {
                drop(model(&cache));
            }
        });
    };
    exits("an_exit_while_loading", loads, 12, Duration::ZERO, Duration::from_millis(20));
}

#[test]
fn an_exit_while_exporting() {
    let exports = |cache: &Path| {
        drop(model(cache));
        at_once(|| {
            loop {
                drop(model(Scratch::new().path()));
            }
        });
    };
    exits("an_exit_while_exporting", exports, 12, Duration::ZERO, Duration::from_millis(20));
}

#[test]
fn an_exit_while_running() {
    let runs = |cache: &Path| {
        let models: Vec<Model> = (0..4).map(|_| model(cache)).collect();
        for model in models {
            spawn(move || {
                let picture = vec![128; 3 * 64 * 64];
                let pictures = vec![picture.as_slice(); 16];
                loop {
                    model.encode_images(&pictures).unwrap();
                    model.encode_texts(&["a cat", "a rocket on a launch pad"]).unwrap();
                }
            });
        }
    };
    exits("an_exit_while_running", runs, 15, Duration::ZERO, Duration::from_micros(2_700));
}

#[test]
fn an_exit_does_not_wait_for_a_long_call() {
    let runs = |cache: &Path| {
        let model = model(cache);
        spawn(move || {
            let picture = vec![128; 3 * 64 * 64];
            model.encode_images(&vec![picture.as_slice(); 20_000]).unwrap();
            writeln!(std::io::stdout(), "{CALL_RETURNED}").unwrap();
        });
    };
    let test = "an_exit_does_not_wait_for_a_long_call";
    exits(test, runs, 1, Duration::from_millis(500), Duration::ZERO);
}

#[test]
fn an_exit_of_an_idle_process() {
    let idles = |cache: &Path| std::mem::forget(model(cache));
    exits("an_exit_of_an_idle_process", idles, 2, Duration::ZERO, Duration::ZERO);
}
