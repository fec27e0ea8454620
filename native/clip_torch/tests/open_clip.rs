//! Checkpoints in open_clip's own layout, against open_clip, and those of its models that are not
//! supported.
//!
//! `test/oracle/open_clip_layout.py` writes `test/fixtures/open_clip`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use clip::preprocess::{Filter, Resize};
use clip_torch::{Checkpoint, DeviceRequest, ErrorKind, LoadOptions, Model, Tokenizer};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use support::{Scratch, copy_folder, fixture};

const SAFETENSORS: &str = "open_clip_model.safetensors";
const BIN: &str = "open_clip_pytorch_model.bin";

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn load(folder: &Path, cache: &Path) -> clip_torch::Result<Model> {
    Model::load(folder, &LoadOptions::new(DeviceRequest::Cpu, cache))
}

fn check_close(name: &str, ours: &[f32], goldens: &SafeTensors<'_>, tensor: &str) {
    let bytes = goldens.tensor(tensor).unwrap().data().as_chunks::<4>().0;
    assert_eq!(ours.len(), bytes.len());
    for (ours, theirs) in ours.iter().zip(bytes) {
        let difference = (ours - f32::from_le_bytes(*theirs)).abs();
        assert!(difference <= 1e-5, "{name}: {tensor} differ by {difference}");
    }
}

/// Compares everything with the answers of open_clip that lie beside the checkpoint.
fn compare(name: &str, folder: &Path, model: &Model) {
    let golden = fixture("open_clip").join(name);
    let bytes = fs::read(golden.join("goldens.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&bytes).unwrap();
    let side = model.info().image_size;
    let pixels = goldens.tensor("pixels").unwrap();
    let pictures: Vec<&[u8]> = pixels.data().chunks(3 * side * side).collect();
    check_close(name, &model.encode_images(&pictures).unwrap(), &goldens, "image_embeddings");

    let facts = read(&golden.join("goldens.json"));
    let prompts = facts["prompts"].as_array().unwrap();
    let texts: Vec<&str> = prompts.iter().map(|prompt| prompt["text"].as_str().unwrap()).collect();
    let embedded = model.encode_texts(&texts).unwrap();
    check_close(name, &embedded.rows, &goldens, "text_embeddings");

    let config = Checkpoint::open(folder).unwrap().config;
    let tokenizer = Tokenizer::open(folder, &config.text).unwrap();
    for (text, prompt) in texts.iter().zip(prompts) {
        let mut ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
        if !name.starts_with("siglip") {
            // What follows the first end token changes nothing, and is left out.
            let end = tokenizer.ids("").unwrap()[1];
            ids.truncate(ids.iter().position(|id| *id == end).unwrap() + 1);
        }
        assert_eq!(tokenizer.encode(text).unwrap().ids, ids, "{name}: {text:?}");
    }
    let scale = facts["logit_scale"].as_f64().unwrap();
    assert!((model.info().logit_scale - scale).abs() <= 1e-3 * scale, "{name}");
    if name.starts_with("siglip") {
        assert_eq!(model.info().logit_bias, facts["logit_bias"].as_f64());
    }
}

#[test]
fn every_supported_model_gives_the_answers_of_open_clip() {
    let expected = [
        ("vit", SAFETENSORS),
        ("vit-custom-text", BIN),
        ("siglip", BIN),
        ("siglip2", "open_clip_model.safetensors.index.json"),
        ("worldwide", SAFETENSORS),
    ];
    let cache = Scratch::new();
    assert_eq!(fs::read_dir(fixture("open_clip")).unwrap().count(), expected.len());
    for (name, weights) in expected {
        let folder = fixture("open_clip").join(name);
        let model = load(&folder, cache.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.info().weights, folder.join(weights), "{name}");
        compare(name, &folder, &model);
    }
}

#[test]
fn pictures_are_prepared_as_preprocess_cfg_says() {
    let preprocessing =
        |name: &str| Checkpoint::open(&fixture("open_clip").join(name)).unwrap().preprocessing;
    let vit = preprocessing("vit");
    let shortest = (Resize::ShortestEdge(32), Some((32, 32)), Filter::Bilinear);
    assert_eq!((vit.resize, vit.crop, vit.filter), shortest);
    let siglip = preprocessing("siglip");
    let squash = (Resize::Exact { height: 48, width: 48 }, None, Filter::Bicubic);
    assert_eq!((siglip.resize, siglip.crop, siglip.filter), squash);
    assert_eq!((siglip.mean, siglip.std), ([0.5; 3], [0.5; 3]));
    assert_eq!(preprocessing("vit-custom-text").resize, Resize::Exact { height: 32, width: 32 });
}

/// The safe format counts where both are there, and transformers' layout where it is whole.
#[test]
fn weights_are_looked_for_in_a_fixed_order() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    let folder = scratch.path().join("model");
    copy_folder(&fixture("open_clip/vit"), &folder);
    fs::write(folder.join(BIN), "").unwrap();
    // Many repositories have one that only counts downloads.
    fs::write(folder.join("config.json"), "{}").unwrap();
    compare("vit", &folder, &load(&folder, cache.path()).unwrap());
    fs::write(folder.join("model.safetensors"), "").unwrap();
    let error = load(&folder, cache.path()).unwrap_err();
    assert!(error.to_string().contains("has no model_type in its config.json"), "{error}");

    copy_folder(&fixture("open_clip/vit"), &scratch.path().join("bare"));
    let bare = scratch.path().join("bare");
    fs::remove_file(bare.join(SAFETENSORS)).unwrap();
    let error = load(&bare, cache.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("expected one of open_clip_model.safetensors"), "{error}");
}

#[test]
fn a_missing_tokenizer_is_named_as_open_clip_knows_it() {
    let cache = Scratch::new();
    for (name, other) in [("siglip", "timm/ViT-B-16-SigLIP"), ("worldwide", "facebook/xlm-v-base")]
    {
        let scratch = Scratch::new();
        copy_folder(&fixture("open_clip").join(name), scratch.path());
        fs::remove_file(scratch.path().join("tokenizer.json")).unwrap();
        let error = load(scratch.path(), cache.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let way_out =
            format!("expected tokenizer.json; copy the one of {other}, which open_clip takes");
        assert!(error.to_string().ends_with(&way_out), "{error}");
    }
}

/// Why a checkpoint is refused with one thing changed in its configuration.
fn refusal(name: &str, pointer: &str, field: &str, value: Value) -> (ErrorKind, String) {
    let scratch = Scratch::new();
    copy_folder(&fixture("open_clip").join(name), scratch.path());
    let path = scratch.path().join("open_clip_config.json");
    let mut config = read(&path);
    config.pointer_mut(pointer).unwrap()[field] = value;
    fs::write(path, config.to_string()).unwrap();
    let error = Checkpoint::open(scratch.path()).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn models_that_are_not_supported_are_refused_by_what_they_are() {
    let vision = "/model_cfg/vision_cfg";
    let text = "/model_cfg/text_cfg";
    for (name, pointer, field, value, expected) in [
        ("vit", "/model_cfg", "multimodal_cfg", json!({}), "is a CoCa model"),
        ("vit", vision, "layers", json!([3, 4, 6, 3]), "has a ResNet as its image tower"),
        (
            "vit",
            vision,
            "timm_model_name",
            json!("convnext_base"),
            "has the image tower \"convnext_base\" of timm",
        ),
        // MobileCLIP 2's and PE-Core's.
        (
            "vit",
            vision,
            "timm_model_name",
            json!("fastvit_mci2"),
            "the image tower \"fastvit_mci2\"",
        ),
        (
            "vit",
            vision,
            "timm_model_name",
            json!("vit_pe_core_base_patch16_224"),
            "has the image tower \"vit_pe_core_base_patch16_224\" of timm",
        ),
        (
            "siglip",
            vision,
            "timm_model_name",
            json!("vit_base_patch16_siglip_gap_48"),
            "tower \"vit_base_patch16_siglip_gap_48\" of timm",
        ),
        (
            "vit",
            text,
            "hf_model_name",
            json!("roberta-base"),
            "has the text tower \"roberta-base\" of Hugging Face",
        ),
        (
            "vit",
            vision,
            "attentional_pool",
            json!(true),
            "has vision_cfg.attentional_pool = \"true\", where only false",
        ),
        ("vit", vision, "ls_init_value", json!(1e-5), "has vision_cfg.ls_init_value = "),
        ("vit", text, "embed_cls", json!(true), "has text_cfg.embed_cls = "),
        ("vit", text, "pool_type", json!("last"), "has a text tower that pools at \"last\""),
        ("vit", text, "no_causal_mask", json!(true), "has text_cfg.no_causal_mask = "),
        (
            "siglip",
            text,
            "pool_type",
            json!("argmax"),
            "with a text tower that pools at \"argmax\"",
        ),
        ("siglip", vision, "timm_pool", json!("avg"), "has vision_cfg.timm_pool = \"avg\""),
        (
            "siglip",
            text,
            "tokenizer_kwargs",
            json!({"clean": "lower"}),
            "has tokenizer_kwargs.clean = \"lower\"",
        ),
        (
            "vit",
            text,
            "tokenizer_kwargs",
            json!({"clean": "canonicalize"}),
            "which is known only for SigLIP",
        ),
    ] {
        let (kind, message) = refusal(name, pointer, field, value);
        assert_eq!(kind, ErrorKind::UnsupportedModel, "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(
            message.contains("supported are towers of ViT CLIP, SigLIP and MetaCLIP 2"),
            "{message}"
        );
    }
}

#[test]
fn a_configuration_that_makes_no_sense_is_an_error_that_names_the_field() {
    let vision = "/model_cfg/vision_cfg";
    for (name, pointer, field, value, expected) in [
        ("vit", vision, "width", json!("x"), "vision_cfg.width to be an integer, got"),
        ("vit", vision, "head_width", json!(0), "num_attention_heads"),
        (
            "vit",
            vision,
            "image_size",
            json!([32, 48]),
            "vision_cfg.image_size to be the side of a square",
        ),
        ("vit", vision, "mlp_ratio", json!([]), "vision_cfg.mlp_ratio to be a number"),
        ("vit", "/model_cfg", "embed_dim", json!(-1), "projection_dim"),
        ("vit", "/model_cfg", "text_cfg", json!(5), "it has no object text_cfg"),
        (
            "siglip",
            vision,
            "image_size",
            json!(64),
            "vision_cfg.image_size to be 48, as timm_model_name says",
        ),
        (
            "siglip",
            "/preprocess_cfg",
            "resize_mode",
            json!("longest"),
            "preprocess_cfg.resize_mode to be \"shortest\"",
        ),
        ("siglip", "/preprocess_cfg", "mean", json!("x"), "image_mean"),
    ] {
        let (kind, message) = refusal(name, pointer, field, value);
        assert_eq!(kind, ErrorKind::InvalidConfig, "{message}");
        assert!(
            message.contains(expected) && message.contains("open_clip_config.json"),
            "{message}"
        );
    }
    let scratch = Scratch::new();
    for content in
        ["", "[]", "{}", "{\"model_cfg\": 5}", "version https://git-lfs.github.com/spec/v1\n"]
    {
        fs::write(scratch.path().join("open_clip_config.json"), content).unwrap();
        let error = Checkpoint::open(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
}

#[test]
fn a_tensor_that_is_missing_or_has_another_shape_is_an_error() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    copy_folder(&fixture("open_clip/siglip2"), scratch.path());
    let (mut found, name) = (0, b"visual.trunk.attn_pool.latent");
    for part in ["00001", "00002"] {
        let path = scratch.path().join(format!("open_clip_model-{part}-of-00002.safetensors"));
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(name.len()).position(|part| part == name) {
            bytes[at] = b'x';
            found += 1;
        }
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(found, 1);
    let error = load(scratch.path(), cache.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidWeights, "{error}");
}
