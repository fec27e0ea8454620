//! Several threads on one set of encoders, and the jobs that they take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::mpsc::channel;
use std::time::Duration;

use clip_torch::{DeviceRequest, ErrorKind, LoadOptions, Model};
use support::{Scratch, project};

fn load(concurrency: usize, threads: usize) -> clip_torch::Result<Model> {
    let cache = Scratch::new();
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    (options.concurrency, options.threads) = (concurrency, threads);
    Model::load(&project("priv/models/emoji-clip"), &options)
}

/// Pictures of noise, and prompts of many lengths, of which calls take any stretch.
struct Inputs {
    pictures: Vec<Vec<u8>>,
    prompts: Vec<String>,
}

impl Inputs {
    fn new(model: &Model, count: usize) -> Self {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let size = 3 * model.info().image_size.pow(2);
        let pictures = (0..count).map(|_| (0..size).map(|_| noise()).collect()).collect();
        let prompts = (0..count).map(|i| "a cat on a mat ".repeat(i % 12) + &i.to_string());
        Self { pictures, prompts: prompts.collect() }
    }

    /// Embeddings of a stretch of the pictures and of the prompts.
    fn encode(&self, model: &Model, from: usize, to: usize) -> [Vec<f32>; 2] {
        let pictures: Vec<&[u8]> = self.pictures[from..to].iter().map(Vec::as_slice).collect();
        let texts = model.encode_texts(&self.prompts[from..to]).unwrap().rows;
        [model.encode_images(&pictures).unwrap(), texts]
    }
}

#[test]
fn copies_give_the_answers_of_one() {
    let (one, many) = (load(1, 1).unwrap(), load(4, 2).unwrap());
    let inputs = Inputs::new(&one, 40);
    let (dim, expected) = (one.info().dim, inputs.encode(&one, 0, 40));
    let (inputs, many, expected) = (&inputs, &many, &expected);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || {
                for call in 0..25 {
                    let from = (caller * 7 + call * 5) % 32;
                    let to = from + 1 + (caller + call) % 8;
                    let given = inputs.encode(many, from, to);
                    for (given, expected) in given.iter().zip(expected) {
                        let expected = &expected[from * dim..to * dim];
                        assert_eq!(given.len(), expected.len());
                        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6;
                        assert!(given.iter().zip(expected).all(close), "{from}..{to}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_team_gives_the_answers_of_one_thread() {
    let (one, workers) = (load(1, 1).unwrap(), load(1, 3).unwrap());
    let inputs = Inputs::new(&one, 120);
    // Fewer pictures than threads, as many for each, and passes that are not equal.
    for to in [1, 2, 3, 5, 6, 7, 20, 49, 120] {
        let [expected, given] = [&one, &workers].map(|model| inputs.encode(model, 0, to));
        for (given, expected) in given.iter().zip(&expected) {
            assert_eq!(given.len(), expected.len());
            assert!(given.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6), "{to}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (concurrency, threads, name) in
        [(0, 1, "concurrency"), (1, 0, "threads"), (1, 100_000, "threads")]
    {
        let error = load(concurrency, threads).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with(&format!("expected {name} to be ")), "{error}");
    }
}

#[test]
fn the_memory_of_the_encoders_is_known() {
    let model = load(2, 1).unwrap();
    let weights = std::fs::metadata(project("priv/models/emoji-clip/model.safetensors")).unwrap();
    let memory = model.info().memory;
    assert!((weights.len()..3 * weights.len()).contains(&memory), "{memory} bytes");
    assert_eq!((model.info().concurrency, model.info().threads), (2, 1));
}

#[test]
fn a_job_encodes_as_the_model_does() {
    let model = load(2, 1).unwrap();
    let picture = vec![7; 3 * model.info().image_size.pow(2)];
    let (reply, answer) = channel();
    let submitted = picture.clone();
    model
        .submit(move |running| {
            let image = running.encode_images(&[&submitted]).unwrap();
            let texts = running.encode_texts(&["a cat"]).unwrap();
            let wrong = running.encode_images(&[&[0]]).unwrap_err().kind();
            move || reply.send((image, texts, wrong)).unwrap()
        })
        .unwrap();
    let (image, texts, wrong) = answer.recv().unwrap();
    assert_eq!(image, model.encode_images(&[&picture]).unwrap());
    assert_eq!(texts, model.encode_texts(&["a cat"]).unwrap());
    assert_eq!(wrong, ErrorKind::InvalidArgument);
}

#[test]
fn a_panic_ends_its_job_alone() {
    let model = load(1, 1).unwrap();
    let (reply, answer) = channel::<()>();
    model
        .submit(move |_| {
            let _reply = reply;
            if true {
                panic!("drill");
            }
            || ()
        })
        .unwrap();
    assert!(answer.recv().is_err());
    assert_eq!(model.encode_texts(&["a cat"]).unwrap().rows.len(), model.info().dim);
}

#[test]
fn an_unload_waits_for_what_runs_and_drops_what_waits() {
    let model = load(1, 1).unwrap();
    let (running, runs) = channel();
    let (go_on, wait) = channel::<()>();
    let (ended, end) = channel();
    model
        .submit(move |_| {
            running.send(()).unwrap();
            let _ = wait.recv();
            move || ended.send(()).unwrap()
        })
        .unwrap();
    runs.recv().unwrap();
    let (reply, answer) = channel();
    model.submit(move |_| move || reply.send(()).unwrap()).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| model.encode_texts(&["a cat"]).unwrap_err().kind());
        let unload = scope.spawn(|| model.unload());
        // Dropped, while the first still runs.
        assert!(answer.recv().is_err());
        assert_eq!(waiter.join().unwrap(), ErrorKind::ModelUnloaded);
        assert!(!unload.is_finished());
        go_on.send(()).unwrap();
        unload.join().unwrap();
    });
    end.try_recv().unwrap();
    assert_eq!(model.submit(|_| || ()).unwrap_err().kind(), ErrorKind::ModelUnloaded);
}

#[test]
fn a_drop_does_not_wait() {
    let model = load(2, 1).unwrap();
    let (go_on, wait) = channel::<()>();
    let (ended, end) = channel();
    model
        .submit(move |_| {
            let _ = wait.recv();
            move || ended.send(()).unwrap()
        })
        .unwrap();
    let (dropped, drops) = channel();
    std::thread::spawn(move || {
        drop(model);
        dropped.send(()).unwrap();
    });
    drops.recv_timeout(Duration::from_secs(60)).unwrap();
    go_on.send(()).unwrap_or_default();
    // Dropped unrun or run, by then.
    let _ = end.recv_timeout(Duration::from_secs(5));
}
