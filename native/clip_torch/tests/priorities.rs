//! The threads that a model keeps, and their priorities.
//!
//! A program of its own, as it looks at all threads of the process.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use clip::priority::{BULK, SERVING};
use clip_torch::{DeviceRequest, LoadOptions, Model};
use rustix::process::{Pid, getpriority_process};
use support::{Scratch, project};

/// The niceness of each thread that computes, as far as it is above this one's.
fn niceness() -> Vec<i32> {
    let own = getpriority_process(None).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let computes = |task: &std::path::PathBuf| {
        // Threads of a team have the name of the one that started them.
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "clip-inference")
    };
    let of_task = |task: std::path::PathBuf| {
        let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        getpriority_process(Pid::from_raw(id)).unwrap() - own
    };
    let mut all: Vec<i32> = tasks.filter(computes).map(of_task).collect();
    all.sort_unstable();
    all
}

/// libgomp lets teams wait in a loop only while they have no more threads than there are cores. Without it a picture
/// or some labels take twice as long, see `runtime/threads.rs`.
#[test]
fn a_model_has_one_team_at_a_higher_priority_and_workers_at_a_lower_one() {
    let cache = Scratch::new();
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    (options.concurrency, options.threads) = (1, 2);
    let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
    let own = getpriority_process(None).unwrap();
    // The kernel knows none above 19.
    let [serving, bulk] = [SERVING, BULK].map(|more| (own + more).min(19) - own);
    let expected = [serving, serving, bulk, bulk];
    assert_eq!(niceness(), expected, "after the load");

    let picture = vec![0; 3 * model.info().image_size.pow(2)];
    let prompts: Vec<String> = (0..100).map(|i| format!("a photo of {i} cats")).collect();
    for pictures in [1, 2, 20] {
        model.encode_images(&vec![&picture[..]; pictures]).unwrap();
    }
    for count in [1, 10, 100] {
        model.encode_texts(&prompts[..count]).unwrap();
    }
    assert_eq!(niceness(), expected, "after work of all sizes");
}
