//! Embeddings in fewer digits, and f32 whatever else is set in the process.

#![allow(clippy::unwrap_used)]

mod support;

use clip_torch::{
    DeviceRequest, ErrorKind, LoadOptions, Model, Precision, PrecisionRequest, score,
};
use support::{Scratch, project};

const PROMPTS: [&str; 4] = ["a photo of a dog", "a rocket", "", "two red apples and a green one"];

fn load(precision: PrecisionRequest, cache: &Scratch) -> clip_torch::Result<Model> {
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    options.precision = precision;
    Model::load(&project("priv/models/emoji-clip"), &options)
}

/// Of pictures of noise and of prompts.
fn embeddings(model: &Model) -> [Vec<f32>; 2] {
    let size = 3 * model.info().image_size.pow(2);
    let pixels: Vec<u8> = (0..3 * size).map(|i| (i * i % 251) as u8).collect();
    let pictures: Vec<&[u8]> = pixels.chunks(size).collect();
    [model.encode_images(&pictures).unwrap(), model.encode_texts(&PROMPTS).unwrap().rows]
}

fn lowest(a: &[f32], b: &[f32], dim: usize) -> f64 {
    let cosines = a.chunks(dim).zip(b.chunks(dim)).map(|(a, b)| score::cosine(a, b).unwrap());
    cosines.fold(1.0, f64::min)
}

#[test]
fn fewer_digits_give_nearly_the_same_embeddings_and_take_less_memory() {
    let cache = Scratch::new();
    let full = load(PrecisionRequest::default(), &cache).unwrap();
    assert_eq!(full.info().precision, Some(Precision::F32));
    let expected = embeddings(&full);
    for (precision, least, share) in [(Precision::Bf16, 0.999, 0.6), (Precision::Int8, 0.99, 0.5)] {
        let model = match load(PrecisionRequest::Exactly(precision), &cache) {
            Ok(model) => model,
            // A processor without the instructions says so.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::DeviceUnavailable, "{error}");
                println!("not tried: {error}");
                continue;
            }
        };
        assert_eq!(model.info().precision, Some(precision));
        assert!((model.info().memory as f64) < share * full.info().memory as f64, "{precision:?}");
        for (a, b) in expected.iter().zip(&embeddings(&model)) {
            let lowest = lowest(a, b, full.info().dim);
            assert!(lowest > least, "{precision:?}: {lowest}");
            assert!(a != b, "{precision:?} is f32");
        }
    }
    // All from one export.
    assert_eq!(std::fs::read_dir(cache.path().join("encoders")).unwrap().count(), 2);
}

#[test]
fn encoders_of_the_user_have_no_other_precision() {
    let cache = Scratch::new();
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    options.torchscript = Some(cache.path().into());
    options.precision = PrecisionRequest::Exactly(Precision::Bf16);
    let error = Model::load(&project("priv/models/emoji-clip"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("what they were exported with"), "{error}");
}
