//! Callers may have little stack: a dirty scheduler of the Erlang VM has 320 KB, and a stack that
//! overflows ends the process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

/// Stack of the calling thread, with room to spare below a dirty scheduler's.
const STACK: usize = 160 * 1024;

fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_model_loads_and_answers() {
    on_a_small_stack(|| {
        let cache = Scratch::new();
        let options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
        let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
        let side = model.info().image_size;
        let picture = vec![0; 3 * side * side];
        assert_eq!(model.encode_images(&[&picture]).unwrap().len(), model.info().dim);
        let long = "It's 12 déjà-vu\u{1f600}s, isn't it? ".repeat(400);
        assert_eq!(model.encode_texts(&[&long]).unwrap().truncated, [0]);
    });
}

#[test]
fn every_sample_is_decoded() {
    on_a_small_stack(|| {
        let mut decoded = 0;
        for entry in std::fs::read_dir(project("priv/samples")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension != "txt") {
                let bytes = std::fs::read(&path).unwrap();
                let picture =
                    clip_torch::image::decode(&bytes, &Default::default(), &Default::default())
                        .unwrap();
                let pixels = clip_torch::Preprocessing::clip(224).apply(&picture).unwrap();
                decoded += usize::from(pixels.len() == 3 * 224 * 224);
            }
        }
        assert!(decoded >= 6, "{decoded} samples");
    });
}
