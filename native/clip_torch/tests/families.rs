//! Every family against transformers, and the smallest of CLIP's relatives.
//!
//! `test/oracle/families.py` writes `test/fixtures/families`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use clip_torch::config::{Config, Pooling};
use clip_torch::preprocess::{Filter, Resize};
use clip_torch::score::{self, Kind, Scoring};
use clip_torch::{Checkpoint, DeviceRequest, ErrorKind, LoadOptions, Model};
use safetensors::SafeTensors;
use serde_json::Value;
use support::{Scratch, copy_folder, fixture};

/// Most that a component of a unit embedding may differ.
const TOLERANCE: f32 = 1e-5;

const NAMES: [&str; 8] = [
    "siglip",
    "siglip-so400m",
    "siglip2-giant",
    "siglip2",
    "siglip-bin",
    "metaclip-2",
    "metaclip-2-squash",
    "tinyclip",
];

/// A model with the answers of transformers.
struct Case {
    name: &'static str,
    model: Model,
    goldens: Vec<u8>,
    facts: Value,
}

impl Case {
    fn load(name: &'static str) -> Self {
        let (folder, cache) = (fixture("families").join(name), Scratch::new());
        let model = load(&folder, cache.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let goldens = fs::read(folder.join("goldens.safetensors")).unwrap();
        let facts = fs::read(folder.join("goldens.json")).unwrap();
        Self { name, model, goldens, facts: serde_json::from_slice(&facts).unwrap() }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.goldens).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn prompts(&self) -> Vec<&str> {
        let prompts = self.facts["prompts"].as_array().unwrap();
        prompts.iter().map(|prompt| prompt["text"].as_str().unwrap()).collect()
    }

    fn images(&self) -> Vec<f32> {
        let pixels = self.bytes("pixels");
        let size = 3 * self.model.info().image_size.pow(2);
        self.model.encode_images(&pixels.chunks(size).collect::<Vec<_>>()).unwrap()
    }

    fn texts(&self) -> Vec<f32> {
        self.model.encode_texts(&self.prompts()).unwrap().rows
    }

    #[track_caller]
    fn close(&self, ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
        let most = differences.fold(0.0, f32::max);
        let finite = ours.iter().all(|value| value.is_finite());
        assert!(most <= TOLERANCE && finite, "{}: {most}", self.name);
    }
}

fn load(folder: &Path, cache: &Path) -> clip_torch::Result<Model> {
    Model::load(folder, &LoadOptions::new(DeviceRequest::Cpu, cache))
}

#[test]
fn embeddings_and_ids_are_those_of_transformers() {
    assert_eq!(fs::read_dir(fixture("families")).unwrap().count(), NAMES.len());
    for case in NAMES.map(Case::load) {
        case.close(&case.images(), &case.floats("image_embeddings"));
        case.close(&case.texts(), &case.floats("text_embeddings"));
        let most = case.model.info().context_length;
        for prompt in case.facts["prompts"].as_array().unwrap() {
            let theirs: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
            let tokens = case.model.tokenize(prompt["text"].as_str().unwrap()).unwrap();
            assert_eq!(theirs.len(), most);
            // CLIP's are not padded: nothing behind the pooled token counts.
            assert_eq!(tokens.ids, theirs[..tokens.ids.len()], "{}: {prompt}", case.name);
            let is_padded = case.model.info().family.text.tokenizer.padded;
            assert!(!is_padded || tokens.ids.len() == most, "{}: {prompt}", case.name);
        }
        let cut = case.model.encode_texts(&case.prompts()).unwrap().truncated;
        let long = case.prompts().iter().position(|prompt| prompt.starts_with("word")).unwrap();
        assert!(cut.contains(&long), "{}: {cut:?}", case.name);
    }
}

#[test]
fn prompts_of_unlike_lengths_are_together_what_each_is_alone() {
    for case in NAMES.map(Case::load) {
        let (prompts, together) = (case.prompts(), case.texts());
        let alone: Vec<f32> = prompts
            .iter()
            .flat_map(|prompt| case.model.encode_texts(&[prompt]).unwrap().rows)
            .collect();
        case.close(&together, &alone);
        // Many go through the tower in several passes.
        let many: Vec<&str> = prompts.iter().copied().cycle().take(prompts.len() * 9).collect();
        case.close(&case.model.encode_texts(&many).unwrap().rows, &together.repeat(9));
        // They differ, or the rest would say nothing.
        let dim = case.model.info().dim;
        let rows: Vec<&[f32]> = together.chunks(dim).collect();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[i + 1..] {
                assert!(a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 1e-3), "{}", case.name);
            }
        }
    }
}

#[test]
fn probabilities_of_labels_by_themselves_are_those_of_transformers() {
    for name in NAMES.into_iter().filter(|name| name.starts_with("siglip")) {
        let case = Case::load(name);
        let info = case.model.info();
        let scoring = Scoring {
            kind: Kind::Sigmoid,
            logit_scale: info.logit_scale,
            logit_bias: info.logit_bias,
            threshold: None,
            top: None,
            least: None,
        };
        assert!((info.logit_scale - case.facts["logit_scale"].as_f64().unwrap()).abs() < 1e-2);
        assert_eq!(info.logit_bias, case.facts["logit_bias"].as_f64());
        let (images, texts) = (case.images(), case.texts());
        let expected = case.floats("probabilities");
        let prompts = case.prompts().len();
        for (image, expected) in images.chunks(info.dim).zip(expected.chunks(prompts)) {
            let ranked = score::rank(image, &texts, &[], &scoring).unwrap();
            assert_eq!(ranked.len(), prompts);
            for (label, ours) in ranked {
                let theirs = f64::from(expected[label]);
                assert!((ours - theirs).abs() <= 1e-4, "{name}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn each_family_says_what_it_is() {
    for (name, family, positions, bias) in [
        ("siglip", "siglip", 64, true),
        ("siglip-so400m", "siglip", 16, true),
        ("metaclip-2", "metaclip_2", 77, false),
        ("tinyclip", "clip", 77, false),
    ] {
        let model = Case::load(name).model;
        let info = model.info();
        assert_eq!((info.family.model_type, info.context_length), (family, positions));
        assert_eq!(info.logit_bias.is_some(), bias);
    }
}

#[test]
fn pictures_are_prepared_as_the_files_say() {
    let squash = |side| Resize::Exact { height: side, width: side };
    for (name, resize, crop, filter) in [
        ("siglip", squash(32), None, Filter::Bicubic),
        ("siglip2", squash(32), None, Filter::Bilinear),
        ("siglip-so400m", squash(45), None, Filter::Bicubic),
        ("metaclip-2", Resize::ShortestEdge(32), Some((32, 32)), Filter::Bicubic),
        ("metaclip-2-squash", squash(42), None, Filter::Bicubic),
    ] {
        let checkpoint = Checkpoint::open(&fixture("families").join(name)).unwrap();
        let preprocessing = checkpoint.preprocessing;
        assert_eq!((preprocessing.resize, preprocessing.crop), (resize, crop), "{name}");
        assert_eq!(preprocessing.filter, filter, "{name}");
        if name.starts_with("siglip") {
            assert_eq!((preprocessing.mean, preprocessing.std), ([0.5; 3], [0.5; 3]));
        }
    }
}

#[test]
fn pooling_is_where_the_family_pools() {
    let pooling = |name: &str| {
        let config = fs::read(fixture("families").join(name).join("config.json")).unwrap();
        Config::from_json(&config).unwrap().text.pooling
    };
    assert_eq!(pooling("siglip"), Pooling::Last);
    assert_eq!(pooling("metaclip-2"), Pooling::FirstOf(2));
    assert_eq!(pooling("tinyclip"), Pooling::HighestId);
}

/// The table's rows are read when they are needed.
#[test]
fn weights_that_are_written_to_are_noticed_and_replaced_ones_are_not() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    copy_folder(&fixture("families/siglip2"), scratch.path());
    let path = scratch.path().join("model.safetensors");
    let model = load(scratch.path(), cache.path()).unwrap();
    let sound = model.encode_texts(&["x"]).unwrap();

    // Another file in its place: the model reads on in the one that it was loaded from.
    let bytes = fs::read(&path).unwrap();
    let other = scratch.path().join("other");
    fs::write(&other, &bytes[1..]).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(model.encode_texts(&["x"]).unwrap(), sound);
    fs::write(&path, &bytes).unwrap();
    let model = load(scratch.path(), cache.path()).unwrap();
    assert_eq!(model.encode_texts(&["x"]).unwrap(), sound);

    // The same file with other bytes, or fewer.
    for written in [&bytes[..], &bytes[..bytes.len() / 2]] {
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, written).unwrap();
        let error = model.encode_texts(&["x"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidWeights);
        assert!(error.to_string().contains("written to since the model was loaded"), "{error}");
    }
    fs::write(&path, &bytes).unwrap();
    let again = load(scratch.path(), cache.path()).unwrap();
    assert_eq!(again.encode_texts(&["x"]).unwrap(), sound);
}

#[test]
fn a_token_table_is_not_in_memory() {
    let case = Case::load("siglip2-giant");
    let weights = fs::metadata(fixture("families/siglip2-giant/model.safetensors")).unwrap().len();
    assert!(case.model.info().memory < weights - 900 * 12 * 4);
}

#[test]
fn a_bias_that_is_missing_or_no_number_is_an_error() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    copy_folder(&fixture("families/siglip"), scratch.path());
    let path = scratch.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let renamed: Vec<u8> = {
        let at = whole.windows(10).position(|bytes| bytes == b"logit_bias").unwrap();
        let mut renamed = whole.clone();
        renamed[at..at + 10].copy_from_slice(b"logit_xxxx");
        renamed
    };
    fs::write(&path, renamed).unwrap();
    let error = load(scratch.path(), cache.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidWeights);
    assert!(error.to_string().contains("it has no tensor \"logit_bias\""), "{error}");
}
