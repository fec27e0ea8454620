//! A process that ends while a model is at work ends with its own exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::Command;

use clip::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

/// Set in the child: the cache to use, and how many microseconds to work before it exits.
const CHILD: &str = "CLIP_TEST_EXIT";
const EXIT_CODE: i32 = 7;
/// Without the wait at exit, 2 of 80 such processes ended with SIGSEGV; with it, none of 120.
const ROUNDS: u32 = 25;

#[test]
fn an_exit_during_inference_keeps_its_code() {
    if let Ok(arguments) = std::env::var(CHILD) {
        let (microseconds, cache) = arguments.split_once(' ').unwrap();
        exit_at_work(cache.as_ref(), microseconds.parse().unwrap());
    }
    let cache = Scratch::new();
    for round in 0..ROUNDS {
        let status = Command::new(std::env::current_exe().unwrap())
            .arg("an_exit_during_inference_keeps_its_code")
            .env(CHILD, format!("{} {}", round * 700, cache.path().display()))
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(EXIT_CODE), "round {round}: {status}");
    }
}

fn exit_at_work(cache: &std::path::Path, microseconds: u64) -> ! {
    let options = LoadOptions::new(DeviceRequest::Cpu, cache);
    // Several models, so that several threads are somewhere inside libtorch.
    for _ in 0..4 {
        let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
        std::thread::spawn(move || {
            let picture = vec![128; 3 * 64 * 64];
            let pictures = vec![picture.as_slice(); 16];
            for _ in 0..10_000 {
                model.encode_images(&pictures).unwrap();
            }
        });
    }
    std::thread::sleep(std::time::Duration::from_micros(50_000 + microseconds));
    std::process::exit(EXIT_CODE);
}
