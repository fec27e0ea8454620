//! Checkpoints in the layouts of the repositories that people use, against transformers.
//!
//! `test/oracle/checkpoints.py` writes `test/fixtures/checkpoints`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use clip_torch::{Checkpoint, DeviceRequest, ErrorKind, LoadOptions, Model, Tokenizer};
use safetensors::SafeTensors;
use serde_json::Value;
use support::{Scratch, copy_folder, fixture};

fn load(folder: &Path, cache: &Path) -> clip_torch::Result<Model> {
    Model::load(folder, &LoadOptions::new(DeviceRequest::Cpu, cache))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|value| value.is_finite()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Compares everything with the answers of transformers that lie beside the checkpoint.
fn compare(name: &str, model: &Model) {
    let checkpoint = Checkpoint::open(&fixture("checkpoints").join(name)).unwrap();
    let folder = checkpoint.directory();
    let bytes = fs::read(folder.join("goldens.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let bytes = goldens.tensor(name).unwrap().data().as_chunks::<4>().0;
        bytes.iter().copied().map(f32::from_le_bytes).collect()
    };
    let facts: Value =
        serde_json::from_slice(&fs::read(folder.join("goldens.json")).unwrap()).unwrap();

    let side = model.info().image_size;
    let pixels = goldens.tensor("pixels").unwrap();
    let pictures: Vec<&[u8]> = pixels.data().chunks(3 * side * side).collect();
    let images = model.encode_images(&pictures).unwrap();
    let difference = largest_difference(&images, &floats("image_embeddings"));
    assert!(difference <= 1e-5, "{name}: image embeddings differ by {difference}");

    let prompts = facts["prompts"].as_array().unwrap();
    let texts: Vec<&str> = prompts.iter().map(|prompt| prompt["text"].as_str().unwrap()).collect();
    let embedded = model.encode_texts(&texts).unwrap();
    let difference = largest_difference(&embedded.rows, &floats("text_embeddings"));
    assert!(difference <= 1e-5, "{name}: text embeddings differ by {difference}");

    let config = &checkpoint.config.text;
    let tokenizer = Tokenizer::open(folder, config).unwrap();
    for (number, prompt) in prompts.iter().enumerate() {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
        let is_cut = ids.len() > config.max_positions as usize;
        assert_eq!(tokenizer.ids(texts[number]).unwrap(), ids, "{name}: {prompt}");
        assert_eq!(embedded.truncated.contains(&number), is_cut, "{name}: {prompt}");
    }

    let scale = facts["logit_scale"].as_f64().unwrap();
    assert!((model.info().logit_scale - scale).abs() <= 1e-3 * scale, "{name}");
}

#[test]
fn every_layout_gives_the_answers_of_transformers() {
    let expected = [
        ("openai-b32", "pytorch", "pytorch_model.bin"),
        ("openai-b16", "pytorch", "pytorch_model.bin"),
        ("openai-l14", "safetensors", "model.safetensors"),
        ("openai-l14-336", "pytorch", "pytorch_model.bin"),
        ("laion-b32", "safetensors", "model.safetensors"),
        ("laion-h14", "safetensors", "model.safetensors"),
        ("laion-bigg", "safetensors", "model.safetensors.index.json"),
        ("metaclip", "pytorch", "pytorch_model.bin"),
        ("fashion-clip", "safetensors", "model.safetensors"),
        ("bin-shards", "pytorch", "pytorch_model.bin.index.json"),
        ("bin-views", "pytorch", "pytorch_model.bin"),
        ("transformers-5", "safetensors", "model.safetensors"),
        ("saved-from-double", "safetensors", "model.safetensors"),
        ("sentence-transformers", "pytorch", "0_CLIPModel/pytorch_model.bin"),
    ];
    let cache = Scratch::new();
    assert_eq!(fs::read_dir(fixture("checkpoints")).unwrap().count(), expected.len());
    for (name, format, weights) in expected {
        let folder = fixture("checkpoints").join(name);
        let model = load(&folder, cache.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        compare(name, &model);
        let info = model.info();
        assert_eq!((info.format, &info.weights), (format, &folder.join(weights)));
        let tokenizer: Vec<_> =
            info.tokenizer.iter().map(|path| path.file_name().unwrap()).collect();
        match name {
            "metaclip" => assert_eq!(tokenizer, ["vocab.json", "merges.txt"]),
            _ => assert_eq!(tokenizer, ["tokenizer.json"]),
        }
        assert_eq!(info.commit, None);
    }
}

#[test]
fn weights_are_looked_for_in_a_fixed_order() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    let folder = scratch.path().join("model");
    copy_folder(&fixture("checkpoints/bin-shards"), &folder);
    compare("bin-shards", &load(&folder, cache.path()).unwrap());
    // None of these can be used: what is looked at says so.
    for (file, content) in [
        ("pytorch_model.bin", ""),
        ("model.safetensors.index.json", r#"{"weight_map": {}}"#),
        ("model.safetensors", ""),
    ] {
        fs::write(folder.join(file), content).unwrap();
        let error = load(&folder, cache.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidWeights);
        assert!(error.to_string().contains(&format!("/{file} cannot be used")), "{error}");
    }
}

/// A snapshot as `huggingface_hub` lays it out: links into a folder of blobs.
fn snapshot(root: &Path, name: &str, commit: &str) -> PathBuf {
    let repository = root.join("models--org--name");
    let (blobs, snapshot) = (repository.join("blobs"), repository.join("snapshots").join(commit));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (number, entry) in fs::read_dir(fixture("checkpoints").join(name)).unwrap().enumerate() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), blobs.join(number.to_string())).unwrap();
        let target = format!("../../blobs/{number}");
        std::os::unix::fs::symlink(target, snapshot.join(entry.file_name())).unwrap();
    }
    snapshot
}

const COMMIT: &str = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268";

#[test]
#[cfg(unix)]
fn a_snapshot_is_known_by_its_commit_wherever_it_lies() {
    let (one, two, cache) = (Scratch::new(), Scratch::new(), Scratch::new());
    let mut kept = Vec::new();
    for root in [&one, &two] {
        let model = load(&snapshot(root.path(), "openai-b32", COMMIT), cache.path()).unwrap();
        compare("openai-b32", &model);
        assert_eq!(model.info().commit.as_deref(), Some(COMMIT));
        kept.push(model.info().encoders.clone().unwrap());
    }
    assert_eq!(kept[0], kept[1]);
    assert!(kept[0].file_name().unwrap().to_str().unwrap().starts_with(COMMIT));
    let other = snapshot(one.path(), "openai-b32", &COMMIT.replace('3', "4"));
    assert_ne!(load(&other, cache.path()).unwrap().info().encoders.as_ref().unwrap(), &kept[0]);
}

#[test]
#[cfg(unix)]
fn a_link_to_a_file_that_is_gone_is_an_error_not_another_format() {
    let (root, cache) = (Scratch::new(), Scratch::new());
    let folder = snapshot(root.path(), "fashion-clip", COMMIT);
    for (name, number) in fs::read_dir(&folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.clone(), fs::canonicalize(path).unwrap())
    }) {
        if ["model.safetensors", "tokenizer.json"].iter().any(|file| name.ends_with(file)) {
            let away = number.with_extension("away");
            fs::rename(&number, &away).unwrap();
            let error = load(&folder, cache.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(name.to_str().unwrap()), "{error}");
            fs::rename(&away, &number).unwrap();
        }
    }
}

#[test]
#[cfg(unix)]
fn a_snapshot_of_sentence_transformers_is_known_by_its_commit() {
    let (root, cache) = (Scratch::new(), Scratch::new());
    let snapshot = root.path().join("models--org--name/snapshots").join(COMMIT);
    let folder = fixture("checkpoints/sentence-transformers/0_CLIPModel");
    copy_folder(&folder, &snapshot.join("0_CLIPModel"));
    let model = load(&snapshot, cache.path()).unwrap();
    assert_eq!(model.info().commit.as_deref(), Some(COMMIT));
    compare("sentence-transformers", &model);
}

/// What `git clone` leaves of large files where Git LFS is not installed.
#[test]
fn a_git_lfs_pointer_says_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n";
    for (name, file, kind) in [
        ("laion-b32", "model.safetensors", ErrorKind::InvalidWeights),
        ("laion-bigg", "model-00002-of-00002.safetensors", ErrorKind::InvalidWeights),
        ("laion-bigg", "model.safetensors.index.json", ErrorKind::InvalidWeights),
        ("metaclip", "pytorch_model.bin", ErrorKind::InvalidWeights),
        ("bin-shards", "pytorch_model-00001-of-00002.bin", ErrorKind::InvalidWeights),
        ("laion-b32", "tokenizer.json", ErrorKind::InvalidTokenizer),
        ("metaclip", "vocab.json", ErrorKind::InvalidTokenizer),
        ("metaclip", "merges.txt", ErrorKind::InvalidTokenizer),
        ("metaclip", "special_tokens_map.json", ErrorKind::InvalidTokenizer),
        ("laion-b32", "config.json", ErrorKind::InvalidConfig),
        ("laion-b32", "preprocessor_config.json", ErrorKind::InvalidConfig),
        ("transformers-5", "processor_config.json", ErrorKind::InvalidConfig),
    ] {
        let (scratch, cache) = (Scratch::new(), Scratch::new());
        copy_folder(&fixture("checkpoints").join(name), scratch.path());
        fs::write(scratch.path().join(file), pointer).unwrap();
        let error = load(scratch.path(), cache.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(message.contains(&format!("/{file} cannot be used: it is a Git LFS pointer")));
        assert!(message.contains("run `git lfs pull`"), "{message}");
    }
}

#[test]
fn other_models_are_refused_by_what_they_are() {
    let scratch = Scratch::new();
    let refusal = |config: &str| {
        fs::write(scratch.path().join("config.json"), config).unwrap();
        let error = Checkpoint::open(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedModel, "{error}");
        error.to_string()
    };
    let way_out =
        "zero-shot classification needs both towers of a model whose model_type is supported";
    for (model_type, what) in [
        ("clip_text_model", "this is only the text tower of a CLIP model"),
        ("siglip_vision_model", "this is only the image tower of a SigLIP model"),
        ("siglip2", "this is a SigLIP 2 model of the NaFlex kind"),
        ("bert", "this is a model of type \"bert\", which is not supported"),
    ] {
        let message = refusal(&format!(r#"{{"model_type": "{model_type}"}}"#));
        assert!(message.contains(what) && message.contains(way_out), "{message}");
    }
    assert!(refusal("{}").contains("has no model_type in its config.json"));
    let text_only = fixture("published/clip-vit-large-patch14-text-only/config.json");
    refusal(&fs::read_to_string(text_only).unwrap());
}

#[test]
fn a_directory_without_config_says_what_it_is_instead() {
    for (file, what) in [
        ("model_index.json", "a diffusers pipeline"),
        ("adapter_config.json", "an adapter without its model"),
        ("modules.json", "whose folder would be 0_CLIPModel"),
    ] {
        let scratch = Scratch::new();
        fs::write(scratch.path().join(file), "{}").unwrap();
        let error = Checkpoint::open(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedModel);
        assert!(error.to_string().contains(what), "{error}");
    }
    let scratch = Scratch::new();
    let error = Checkpoint::open(scratch.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("no config.json in "), "{error}");
    assert!(
        error.to_string().contains("; a model's directory holds config.json, weights"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let cache = Scratch::new();
    for (file, expected) in [
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("tokenizer.json", "no tokenizer in "),
        ("model.safetensors", "no weights in "),
    ] {
        let scratch = Scratch::new();
        copy_folder(&fixture("checkpoints/laion-b32"), scratch.path());
        for file in ["vocab.json", "open_clip_config.json", file] {
            fs::remove_file(scratch.path().join(file)).unwrap();
        }
        let error = load(scratch.path(), cache.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
