//! The threads that a model keeps, and their priorities.
//!
//! A program of its own, as it looks at all threads of the process.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::time::Duration;

use clip::priority::{BULK, SERVING};
use clip_torch::{DeviceRequest, LoadOptions, Model};
use rustix::process::{Pid, getpriority_process};
use support::{Scratch, project};

/// How much higher the niceness of each computing thread is than that of this one.
fn niceness() -> Vec<i32> {
    let own = getpriority_process(None).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let computes = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("clip-"))
    };
    let of_task = |task: std::path::PathBuf| {
        let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        getpriority_process(Pid::from_raw(id)).unwrap() - own
    };
    let mut all: Vec<i32> = tasks.filter(computes).map(of_task).collect();
    all.sort_unstable();
    all
}

/// A thread that has ended is listed for another moment.
fn assert_niceness(expected: &[i32], when: &str) {
    for _ in 0..1000 {
        if niceness() == expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(niceness(), expected, "{when}");
}

/// libgomp lets a team spin only while there are no more threads in teams than cores. Without it a picture or some
/// labels take twice as long, see `runtime/team.rs`.
#[test]
fn models_share_a_team_at_a_higher_priority_and_have_workers_at_a_lower_one() {
    let cache = Scratch::new();
    let load = |threads| {
        let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
        (options.concurrency, options.threads) = (1, threads);
        Model::load(&project("priv/models/emoji-clip"), &options).unwrap()
    };
    let own = getpriority_process(None).unwrap();
    // The kernel knows none above 19.
    let [serving, bulk] = [SERVING, BULK].map(|more| (own + more).min(19) - own);
    let expected = |models: usize| [vec![serving; models + 2], vec![bulk; 2 * models]].concat();

    let models = [load(2), load(2)];
    assert_niceness(&expected(2), "after two loads");
    let picture = vec![0; 3 * models[0].info().image_size.pow(2)];
    let prompts: Vec<String> = (0..100).map(|i| format!("a photo of {i} cats")).collect();
    for model in &models {
        for pictures in [1, 2, 20] {
            model.encode_images(&vec![&picture[..]; pictures]).unwrap();
        }
        for count in [1, 10, 100] {
            model.encode_texts(&prompts[..count]).unwrap();
        }
    }
    assert_niceness(&expected(2), "after work of all sizes");

    models[0].unload();
    assert_eq!(models[1].encode_images(&[&picture]).unwrap().len(), models[1].info().dim);
    // It is its own team: the thread that serves it.
    let single = load(1);
    assert_eq!(single.encode_images(&[&picture]).unwrap().len(), single.info().dim);
    assert_niceness(&[vec![serving; 4], vec![bulk; 2]].concat(), "one of two and another");
}
