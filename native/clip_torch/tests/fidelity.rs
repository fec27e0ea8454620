//! The answers of Hugging Face transformers, and ours.
//!
//! The goldens are written by `training/goldens.py` (the embedded model) and by transformers'
//! own tests (token ids of the real tokenizer).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use clip_torch::config::{Pooling, TextConfig};
use clip_torch::score::{self, Kind, Scoring};
use clip_torch::{DeviceRequest, LoadOptions, Model, Tokenizer};
use safetensors::SafeTensors;
use serde_json::Value;
use support::{Scratch, fixture, project};

struct Goldens {
    document: Value,
    tensors: Vec<u8>,
}

impl Goldens {
    fn read() -> Self {
        let folder = project("test/fixtures/goldens");
        let document = fs::read(folder.join("emoji-clip.json")).unwrap();
        Self {
            document: serde_json::from_slice(&document).unwrap(),
            tensors: fs::read(folder.join("emoji-clip.safetensors")).unwrap(),
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.tensors).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.document[name].as_array().unwrap()
    }
}

fn embedded_model(cache: &Path) -> Model {
    let options = LoadOptions::new(DeviceRequest::Cpu, cache);
    Model::load(&project("priv/models/emoji-clip"), &options).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn embeddings_and_probabilities_are_those_of_transformers() {
    let (goldens, cache) = (Goldens::read(), Scratch::new());
    let model = embedded_model(cache.path());
    let side = model.info().image_size;

    let pixels = goldens.bytes("pixels");
    let pictures: Vec<&[u8]> = pixels.chunks(3 * side * side).collect();
    let images = model.encode_images(&pictures).unwrap();
    let difference = largest_difference(&images, &goldens.floats("image_embeddings"));
    assert!(difference <= 1e-5, "image embeddings differ by {difference}");

    let prompts: Vec<&str> =
        goldens.list("prompts").iter().map(|p| p["text"].as_str().unwrap()).collect();
    let texts = model.encode_texts(&prompts).unwrap();
    let difference = largest_difference(&texts.rows, &goldens.floats("text_embeddings"));
    assert!(difference <= 1e-5, "text embeddings differ by {difference}");

    let logit_scale = goldens.document["logit_scale"].as_f64().unwrap();
    assert!((model.info().logit_scale - logit_scale).abs() <= 1e-4 * logit_scale);

    let expected = goldens.floats("probabilities");
    let dim = model.info().dim;
    for (i, picture) in goldens.list("pictures").iter().enumerate() {
        let names = picture["candidates"].as_array().unwrap().iter();
        let prompts: Vec<String> =
            names.map(|name| format!("a photo of {}", name.as_str().unwrap())).collect();
        let texts = model.encode_texts(&prompts).unwrap().rows;
        let image = &images[i * dim..][..dim];
        let ranked = score::rank(image, &texts, &[], &softmax(logit_scale)).unwrap();
        assert_eq!(ranked.len(), prompts.len());
        for (label, score) in &ranked {
            let expected = f64::from(expected[i * prompts.len() + label]);
            assert!((score - expected).abs() <= 1e-4, "{picture}: {ranked:?}");
        }
    }
}

fn softmax(logit_scale: f64) -> Scoring {
    Scoring {
        kind: Kind::Softmax,
        logit_scale,
        logit_bias: None,
        threshold: None,
        top: None,
        least: None,
    }
}

#[test]
fn a_batch_gives_what_its_members_give_alone() {
    let (goldens, cache) = (Goldens::read(), Scratch::new());
    let model = embedded_model(cache.path());
    let side = model.info().image_size;
    let pixels = goldens.bytes("pixels");
    let pictures: Vec<&[u8]> = pixels.chunks(3 * side * side).collect();
    let alone: Vec<f32> =
        pictures.iter().flat_map(|picture| model.encode_images(&[picture]).unwrap()).collect();
    assert!(largest_difference(&model.encode_images(&pictures).unwrap(), &alone) <= 1e-5);

    let prompts = ["", "a dog", "a photo of a hot air balloon", "x", "a cat", "two dogs and a cat"];
    let together = model.encode_texts(&prompts).unwrap().rows;
    let alone: Vec<f32> =
        prompts.iter().flat_map(|prompt| model.encode_texts(&[prompt]).unwrap().rows).collect();
    assert!(largest_difference(&together, &alone) <= 1e-5);
}

#[test]
fn a_model_from_the_cache_is_the_model_that_was_exported() {
    let (goldens, cache) = (Goldens::read(), Scratch::new());
    let pixels = goldens.bytes("pixels");
    let embed = |model: &Model| {
        let size = 3 * model.info().image_size.pow(2);
        model.encode_images(&[&pixels[..size]]).unwrap()
    };
    let exported = embedded_model(cache.path());
    let kept = exported.info().encoders.clone().unwrap();
    assert!(kept.starts_with(cache.path()));
    let from_cache = embedded_model(cache.path());
    assert_eq!(from_cache.info().encoders.clone().unwrap(), kept);
    assert_eq!(embed(&from_cache), embed(&exported));

    // Cut short, as by a full disk: made again.
    fs::write(kept.join("text.pt"), b"PK").unwrap();
    let repaired = embedded_model(cache.path());
    assert_eq!(embed(&repaired), embed(&exported));
    assert!(fs::metadata(kept.join("text.pt")).unwrap().len() > 2);
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_the_cache() {
    let scratch = Scratch::new();
    let file = scratch.path().join("not-a-folder");
    fs::write(&file, "").unwrap();
    let model = embedded_model(&file);
    let why = model.info().encoders.as_ref().unwrap_err().to_string();
    assert!(why.contains("not-a-folder"), "{why}");
    assert_eq!(model.encode_texts(&["a dog"]).unwrap().rows.len(), model.info().dim);
}

#[test]
fn token_ids_of_the_embedded_tokenizer_are_those_of_transformers() {
    let (goldens, cache) = (Goldens::read(), Scratch::new());
    let model = embedded_model(cache.path());
    for prompt in goldens.list("prompts") {
        let text = prompt["text"].as_str().unwrap();
        let mut expected = ids(&prompt["input_ids"]);
        let end = expected.iter().position(|id| id == expected.iter().max().unwrap()).unwrap();
        expected.truncate(end + 1);
        assert_eq!(model.tokenize(text).unwrap().ids, expected, "{text:?}");
    }
}

#[test]
fn token_ids_of_the_real_tokenizer_are_those_of_transformers() {
    let folder = fixture("published/clip-vit-base-patch32");
    let config =
        clip_torch::config::Config::from_json(&fs::read(folder.join("config.json")).unwrap());
    let text = config.unwrap().text;
    assert_eq!(text.pooling, Pooling::HighestId);

    let goldens = fs::read(fixture("goldens/clip_tokens_hf.json")).unwrap();
    let goldens: Value = serde_json::from_slice(&goldens).unwrap();
    let tokenizer = Tokenizer::open(&folder, &text).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    let compared = cases.iter().filter(|case| compare(&tokenizer, &text, case)).count();
    assert!(compared >= 20, "only {compared} cases compared");
}

/// Compares one case, and says whether it was one of CLIP's: OWL-ViT pads with "!".
fn compare(tokenizer: &Tokenizer, config: &TextConfig, case: &Value) -> bool {
    let (text, expected) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
    if case["model"].as_str().unwrap().contains("owl") {
        return false;
    }
    assert_eq!(tokenizer.ids(text).unwrap(), expected, "{text:?}");
    let tokens = tokenizer.encode(text).unwrap();
    assert_eq!(tokens.truncated, expected.len() > config.max_positions as usize);
    true
}

#[test]
fn a_prompt_that_is_too_long_keeps_its_end_token_and_says_so() {
    let cache = Scratch::new();
    let model = embedded_model(cache.path());
    let (most, end) =
        (model.info().context_length, *model.tokenize("").unwrap().ids.last().unwrap());
    let long = "dog ".repeat(200);
    let tokens = model.tokenize(&long).unwrap();
    assert!(tokens.truncated);
    assert_eq!((tokens.ids.len(), tokens.ids.last()), (most, Some(&end)));
    assert_eq!(model.encode_texts(&["a cat", &long, "a dog"]).unwrap().truncated, [1]);
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
