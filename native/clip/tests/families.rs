//! `config.json` of every family, as sparse as repositories have it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip::checkpoint::config::{Config, Pooling};
use clip::checkpoint::family::{CLIP, METACLIP_2, SIGLIP};
use clip::checkpoint::processor;
use clip::checkpoint::transformer::{Activation, TransformerConfig};
use clip::error::ErrorKind;
use clip::preprocess::{Filter, Preprocessing, Resize};

fn config(json: &str) -> Config {
    Config::from_json(json.as_bytes()).unwrap()
}

fn refusal(json: &str) -> String {
    let error = Config::from_json(json.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    error.to_string()
}

/// `SiglipTextConfig()` and `SiglipVisionConfig()`.
const BASE: TransformerConfig = TransformerConfig {
    width: 768,
    layers: 12,
    heads: 12,
    mlp_width: 3_072,
    activation: Activation::GeluTanh,
    layer_norm_eps: 1e-6,
};

#[test]
fn a_sparse_siglip_has_siglips_own_defaults() {
    // All that google/siglip2-base-patch16-224 says.
    let sparse = config(
        r#"{"model_type": "siglip", "text_config": {"vocab_size": 256000}, "vision_config": {}}"#,
    );
    assert_eq!(sparse.family, &SIGLIP);
    assert_eq!((&sparse.text.transformer, &sparse.vision.transformer), (&BASE, &BASE));
    assert_eq!((sparse.text.vocab_size, sparse.text.max_positions), (256_000, 64));
    assert_eq!((sparse.vision.patch_size, sparse.vision.image_size), (16, 224));
    assert_eq!((sparse.projection_dim, sparse.text.pooling), (768, Pooling::Last));
    assert_eq!(config(r#"{"model_type": "siglip"}"#).text.vocab_size, 32_000);

    let published = support::project("test/fixtures/published/siglip-base-patch16-224/config.json");
    let published = Config::from_json(&std::fs::read(published).unwrap()).unwrap();
    assert_eq!(published, config(r#"{"model_type": "siglip"}"#));
}

#[test]
fn published_sizes_of_siglip_are_read() {
    let so400m = r#"{"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16"#;
    let so400m = config(&format!(
        r#"{{"model_type": "siglip",
            "text_config": {so400m}, "max_position_embeddings": 16}},
            "vision_config": {so400m}, "patch_size": 14}}}}"#
    ));
    assert_eq!(so400m.text.max_positions, 16);
    assert_eq!(so400m.text.transformer.mlp_width, 4_304);
    assert_eq!(so400m.vision.transformer.width / so400m.vision.transformer.heads, 72);
    assert_eq!((so400m.vision.patches(), so400m.projection_dim), (256, 1_152));

    let giant = |projection: i64| {
        format!(
            r#"{{"model_type": "siglip",
                "text_config": {{"hidden_size": 1152, "intermediate_size": 4304,
                    "num_hidden_layers": 27, "num_attention_heads": 16,
                    "projection_size": {projection}, "vocab_size": 256000}},
                "vision_config": {{"hidden_size": 1536, "intermediate_size": 6144,
                    "num_hidden_layers": 40, "num_attention_heads": 16, "image_size": 384}}}}"#
        )
    };
    let large = config(&giant(1_536));
    assert_eq!((large.text.transformer.width, large.projection_dim), (1_152, 1_536));
    let why = refusal(&giant(1_152));
    assert!(why.contains("projection_size to be vision_config.hidden_size (1536)"), "{why}");
}

#[test]
fn ids_in_a_siglip_config_are_not_read() {
    // Defaults of CLIP that SigLIP's class has kept, beyond its own vocabulary.
    for id in ["49407", "1", "2", "[1, 2]"] {
        let json =
            format!(r#"{{"model_type": "siglip", "text_config": {{"eos_token_id": {id}}}}}"#);
        assert_eq!(config(&json).text.pooling, Pooling::Last);
    }
}

#[test]
fn an_image_tower_without_its_head_is_refused() {
    let with = |value: &str| {
        format!(r#"{{"model_type": "siglip", "vision_config": {{"vision_use_head": {value}}}}}"#)
    };
    assert_eq!(config(&with("true")).family, &SIGLIP);
    assert!(refusal(&with("false")).contains("expected vision_config.vision_use_head to be true"));
    assert!(refusal(&with("1")).contains("vision_use_head to be true or false, got 1"));
}

#[test]
fn metaclip_2_pools_at_its_end_token_also_where_that_is_2() {
    let json = |model_type: &str| {
        format!(
            r#"{{"model_type": "{model_type}", "projection_dim": 1024,
                "text_config": {{"eos_token_id": 2, "vocab_size": 901629}}}}"#
        )
    };
    let worldwide = config(&json("metaclip_2"));
    assert_eq!((worldwide.family, worldwide.projection_dim), (&METACLIP_2, 1_024));
    assert_eq!(worldwide.text.pooling, Pooling::FirstOf(2));
    assert_eq!(worldwide.text.pooling.position(&[0, 900_000, 2, 1, 2]), Some(2));
    let clip = config(&json("clip"));
    assert_eq!((clip.family, clip.text.pooling), (&CLIP, Pooling::HighestId));
    assert_eq!(clip.text.transformer, worldwide.text.transformer);
}

#[test]
fn the_family_says_which_processor_a_file_without_a_name_is_of() {
    let read = |family: &clip::checkpoint::family::Family, json: &str| {
        let file = "preprocessor_config.json";
        processor::parse(file, json.as_bytes(), 256, family.processor).unwrap()
    };
    for family in [&CLIP, &METACLIP_2] {
        assert_eq!(read(family, "{}"), Preprocessing::clip(256));
    }
    let squash = Resize::Exact { height: 256, width: 256 };
    let siglip = read(&SIGLIP, "{}");
    assert_eq!((siglip.resize, siglip.crop, siglip.filter), (squash, None, Filter::Bicubic));
    assert_eq!((siglip.mean, siglip.std), ([0.5; 3], [0.5; 3]));
    // SigLIP 2 is bilinear, where its file says so.
    let second = r#"{"image_processor_type": "SiglipImageProcessorFast", "resample": 2,
        "size": {"height": 256, "width": 256}, "do_convert_rgb": null}"#;
    let second = read(&SIGLIP, second);
    assert_eq!((second.resize, second.crop, second.filter), (squash, None, Filter::Bilinear));
    // What the file names wins.
    let named = r#"{"image_processor_type": "CLIPImageProcessor"}"#;
    assert_eq!(read(&SIGLIP, named), Preprocessing::clip(256));
}
