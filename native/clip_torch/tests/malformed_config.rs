//! Configurations that make no sense: each an error that names the file and the field.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/victim.rs"]
mod victim;

use clip_torch::ErrorKind;
use serde_json::{Value, json};
use support::on_a_small_stack;
use victim::Victim;

#[test]
fn a_config_that_makes_no_sense_is_refused_by_field() {
    on_a_small_stack(|| {
        let victim = Victim::new("transformers-5");
        let sound: Value = serde_json::from_slice(&victim.read("config.json")).unwrap();
        let invalid = ErrorKind::InvalidConfig;
        let mut cases = 0;
        for field in [
            "projection_dim",
            "text_config.hidden_size",
            "text_config.intermediate_size",
            "text_config.num_hidden_layers",
            "text_config.num_attention_heads",
            "text_config.vocab_size",
            "text_config.max_position_embeddings",
            "vision_config.hidden_size",
            "vision_config.image_size",
            "vision_config.patch_size",
        ] {
            let pointer = format!("/{}", field.replace('.', "/"));
            for value in [
                json!(0),
                json!(-1),
                json!(1e300),
                json!(0.5),
                json!("8"),
                json!([8]),
                json!(i64::MAX),
            ] {
                let mut document = sound.clone();
                *document.pointer_mut(&pointer).unwrap() = value;
                let expected = format!("expected {field} to be an integer");
                victim.expect("config.json", document.to_string().as_bytes(), invalid, &expected);
                cases += 1;
            }
        }
        assert_eq!(cases, 70);
        for (field, value, expected) in [
            ("text_config.num_attention_heads", json!(3), "a divisor of hidden_size"),
            ("vision_config.patch_size", json!(33), "patch_size to be at most image_size (32)"),
            ("text_config.hidden_act", json!("swish"), "expected text_config.hidden_act to be"),
            (
                "text_config.layer_norm_eps",
                json!(-1.0),
                "expected text_config.layer_norm_eps to be",
            ),
            ("text_config.layer_norm_eps", json!("x"), "expected text_config.layer_norm_eps to be"),
            ("text_config.eos_token_id", json!(1_000_000), "a token id below vocab_size"),
            (
                "text_config.eos_token_id",
                json!([1, 2]),
                "text_config.eos_token_id to be an integer",
            ),
            ("text_config", json!(5), "expected text_config to be an object"),
            (
                "logit_scale_init_value",
                json!("x"),
                "expected logit_scale_init_value to be a number",
            ),
        ] {
            let mut document = sound.clone();
            *document.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value;
            victim.expect("config.json", document.to_string().as_bytes(), invalid, expected);
        }
        for content in ["", "{", "[]", "null", "5", "\u{0}"] {
            victim.refusal("config.json", content.as_bytes(), invalid);
        }
        // Python writes it, where JSON has no such number.
        let text = String::from_utf8(victim.read("config.json")).unwrap();
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        };
        for (from, to, expected) in [
            ("\"projection_dim\": 12", "\"projection_dim\": NaN", "got \"NaN\""),
            ("\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": -Infinity", "to be a number"),
            ("\"hidden_size\": 8", "\"hidden_size\": Infinity", "hidden_size to be an integer"),
            ("\"hidden_size\": 8", "\"hidden_size\": nan", "it is not JSON"),
        ] {
            victim.expect("config.json", with(from, to).as_bytes(), invalid, expected);
        }
        victim.expect("config.json", b"\xff", invalid, "it is not JSON");
        victim.expect("config.json", &b"[".repeat(900_000), invalid, "nested more than 32 deep");
        victim.expect("config.json", &vec![b' '; 2 << 20], invalid, "is larger than 1048576 bytes");
    });
}

#[test]
fn sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken() {
    let victim = Victim::new("laion-b32");
    let sound: Value = serde_json::from_slice(&victim.read("config.json")).unwrap();
    for (pointer, value, tensor) in [
        ("/text_config/vocab_size", 10_000_000, "text_model.embeddings.token_embedding.weight"),
        (
            "/text_config/max_position_embeddings",
            65_536,
            "text_model.embeddings.position_embedding.weight",
        ),
        ("/text_config/intermediate_size", 1 << 20, "text_model.encoder.layers.0.mlp.fc1.weight"),
        (
            "/vision_config/num_hidden_layers",
            1_024,
            "vision_model.encoder.layers.1.self_attn.q_proj.weight",
        ),
        ("/projection_dim", 65_536, "visual_projection.weight"),
    ] {
        let mut document = sound.clone();
        *document.pointer_mut(pointer).unwrap() = value.into();
        victim.write("config.json", document.to_string());
        let error = victim.load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidWeights, "{error}");
        assert!(error.to_string().contains(tensor), "{error}");
    }
}

#[test]
fn a_processor_config_that_makes_no_sense_is_refused() {
    on_a_small_stack(|| {
        let (victim, file) = (Victim::new("transformers-5"), "processor_config.json");
        let expect = |content: &[u8], expected: &str| {
            victim.expect(file, content, ErrorKind::InvalidConfig, expected);
        };
        expect(b"{}", "it has no object image_processor");
        expect(br#"{"image_processor": 5}"#, "it has no object image_processor");
        expect(b"{", "it is not JSON");
        expect(&b"[".repeat(900_000), "nested more than 32 deep");
        victim.write("preprocessor_config.json", b"[".repeat(900_000));
        let error = victim.load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("preprocessor_config.json"), "{error}");
    });
}
