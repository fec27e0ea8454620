//! SigLIP's, SigLIP 2's and MetaCLIP 2's tokenizers against transformers, and what becomes of files
//! that are none. `test/oracle/sentencepieces.py` makes the goldens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use clip_torch::config::{Config, TextConfig};
use clip_torch::{ErrorKind, MAX_PROMPT_BYTES, Tokenizer};
use serde_json::{Value, json};
use support::{Scratch, fixture, on_a_small_stack};

/// Positions for which the goldens were made.
const POSITIONS: usize = 20;

fn folder(name: &str) -> PathBuf {
    match name {
        "published" => fixture("published/siglip-base-patch16-224"),
        name => fixture("tokenizers").join(name),
    }
}

fn text_config(model_type: &str, positions: usize) -> TextConfig {
    let config = json!({"model_type": model_type, "text_config": {
        // Ids that SigLIP's config has from CLIP's, and that mean nothing.
        "bos_token_id": 49_406, "pad_token_id": 1, "vocab_size": 32_000,
        "eos_token_id": if model_type == "siglip" { 49_407 } else { 2 },
        "max_position_embeddings": positions,
    }});
    Config::from_json(config.to_string().as_bytes()).unwrap().text
}

fn open(name: &str) -> Tokenizer {
    let model_type = if name == "metaclip-2" { "metaclip_2" } else { "siglip" };
    Tokenizer::open(&folder(name), &text_config(model_type, POSITIONS)).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn compare(name: &str) {
    let tokenizer = open(name);
    let (prompts, goldens) =
        (read(&fixture("tokenizers/prompts.json")), read(&fixture("tokenizers/goldens.json")));
    let (prompts, goldens) = (prompts.as_array().unwrap(), goldens[name].as_array().unwrap());
    assert!(prompts.len() == goldens.len() && prompts.len() > 250);
    for (prompt, golden) in prompts.iter().zip(goldens) {
        let mut golden = ids(golden);
        if name == "metaclip-2" {
            // What follows the first end token changes nothing, and is left out.
            golden.truncate(golden.iter().position(|id| *id == 2).unwrap() + 1);
        }
        let prompt = prompt.as_str().unwrap();
        assert_eq!(tokenizer.encode(prompt).unwrap().ids, golden, "{name}: {prompt:?}");
    }
}

#[test]
fn the_published_tokenizer_of_siglip_makes_transformers_ids() {
    compare("published");
    let tokenizer = open("published");
    for case in read(&fixture("goldens/siglip_tokens.json"))["cases"].as_array().unwrap() {
        let mut expected = ids(&case["ids_no_special"]);
        expected.push(1);
        assert_eq!(tokenizer.ids(case["text"].as_str().unwrap()).unwrap(), expected);
    }
}

#[test]
fn a_tokenizer_of_siglip_makes_transformers_ids() {
    compare("siglip");
}

#[test]
fn a_tokenizer_of_siglip_2_makes_transformers_ids() {
    compare("siglip2");
}

#[test]
fn a_tokenizer_of_metaclip_2_makes_transformers_ids() {
    compare("metaclip-2");
}

#[test]
fn every_prompt_of_siglip_is_as_long_as_the_model_says() {
    for (name, end, padding) in [("published", 1, 1), ("siglip2", 1, 0)] {
        for positions in [16, 64] {
            let config = text_config("siglip", positions);
            let tokenizer = Tokenizer::open(&folder(name), &config).unwrap();
            let empty = tokenizer.encode("").unwrap();
            let expected: Vec<u32> =
                [end].into_iter().chain(vec![padding; positions - 1]).collect();
            assert_eq!((empty.ids, empty.truncated), (expected, false));
            let long = tokenizer.encode(&"dog ".repeat(100)).unwrap();
            assert_eq!(
                (long.ids.len(), long.ids.last(), long.truncated),
                (positions, Some(&end), true)
            );
            assert!(!long.ids[..positions - 1].contains(&end));
        }
    }
}

#[test]
fn a_prompt_that_just_fits_is_not_cut() {
    let words = |count| vec!["a"; count].join(" ");
    let tokenizer = Tokenizer::open(&folder("siglip2"), &text_config("siglip", 64)).unwrap();
    let one = tokenizer.ids("a").unwrap().len() - 1;
    let fits = (1..80).take_while(|n| tokenizer.ids(&words(*n)).unwrap().len() <= 64).count();
    assert!(fits > 10 && one >= 1);
    assert!(!tokenizer.encode(&words(fits)).unwrap().truncated);
    assert!(tokenizer.encode(&words(fits + 1)).unwrap().truncated);
}

/// A copy of a tokenizer with one thing changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Scratch {
    let scratch = Scratch::new();
    support::copy_folder(&folder(name), scratch.path());
    let path = scratch.path().join("tokenizer.json");
    let mut document = read(&path);
    change(&mut document);
    fs::write(path, document.to_string()).unwrap();
    scratch
}

#[test]
fn what_the_file_says_of_steps_length_and_sides_does_not_count() {
    for name in ["siglip", "siglip2", "metaclip-2"] {
        let scratch = changed(name, |document| {
            document["padding"] = json!({"strategy": {"Fixed": 7}, "direction": "Left", "pad_to_multiple_of": null,
                "pad_id": 3, "pad_type_id": 0, "pad_token": "x"});
            document["truncation"] = json!({"direction": "Left", "max_length": 3,
                "strategy": "LongestFirst", "stride": 0});
            document["pre_tokenizer"] = Value::Null;
            document["post_processor"] = Value::Null;
        });
        let config =
            text_config(if name == "metaclip-2" { "metaclip_2" } else { "siglip" }, POSITIONS);
        let other = Tokenizer::open(scratch.path(), &config).unwrap();
        for prompt in ["", "a photo of a dog", "one two three four five six"] {
            assert_eq!(other.encode(prompt).unwrap(), open(name).encode(prompt).unwrap(), "{name}");
        }
    }
}

#[test]
fn merges_are_pairs_or_texts() {
    let scratch = changed("siglip2", |document| {
        for merge in document["model"]["merges"].as_array_mut().unwrap() {
            *merge =
                format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()).into();
        }
    });
    let other = Tokenizer::open(scratch.path(), &text_config("siglip", POSITIONS)).unwrap();
    let prompt = "a photo of a dog";
    assert_eq!(other.encode(prompt).unwrap(), open("siglip2").encode(prompt).unwrap());
}

#[test]
fn special_tokens_are_those_that_the_files_beside_it_name() {
    let scratch = changed("siglip2", |_| ());
    let config = text_config("siglip", POSITIONS);
    let write = |content: &str| {
        fs::write(scratch.path().join("tokenizer_config.json"), content).unwrap();
        Tokenizer::open(scratch.path(), &config)
    };
    assert_eq!(write("{}").unwrap().encode("").unwrap().ids[..2], [1, 0]);
    let other = write(r#"{"eos_token": {"content": "<bos>"}, "pad_token": "<mask>"}"#).unwrap();
    assert_eq!(other.encode("").unwrap().ids[..2], [2, 4]);
    let message = write(r#"{"eos_token": "nope"}"#).unwrap_err().to_string();
    assert!(message.ends_with("its vocabulary lacks the eos_token \"nope\""), "{message}");
    assert!(write(r#"{"eos_token": 5}"#).is_err());
}

fn refusal(directory: &Path, model_type: &str) -> String {
    let error = Tokenizer::open(directory, &text_config(model_type, POSITIONS)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTokenizer, "{error}");
    error.to_string()
}

#[test]
fn a_repository_with_only_sentencepieces_own_file_is_refused_by_its_name() {
    for (name, model_type) in [
        ("spiece.model", "siglip"),
        ("tokenizer.model", "siglip"),
        ("sentencepiece.bpe.model", "metaclip_2"),
    ] {
        let scratch = Scratch::new();
        fs::write(scratch.path().join(name), "").unwrap();
        let message = refusal(scratch.path(), model_type);
        let expected = "it is in SentencePiece's own format, expected tokenizer.json";
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
    let scratch = Scratch::new();
    let error = Tokenizer::open(scratch.path(), &text_config("siglip", POSITIONS)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("expected tokenizer.json"), "{error}");
}

#[test]
fn a_tokenizer_of_another_family_is_an_error() {
    for (name, model_type, expected) in [
        ("siglip2", "metaclip_2", "expected a model of type Unigram, got \"BPE\""),
        ("metaclip-2", "siglip", "its vocabulary lacks"),
    ] {
        let scratch = changed(name, |_| ());
        if model_type == "siglip" {
            fs::write(scratch.path().join("tokenizer_config.json"), r#"{"eos_token": "<eos>"}"#)
                .unwrap();
        }
        let message = refusal(scratch.path(), model_type);
        assert!(message.contains(expected), "{message}");
    }
    let message = refusal(&fixture("checkpoints/laion-b32"), "siglip");
    assert!(message.ends_with("as CLIP's does and SigLIP 2's does not"), "{message}");
    assert!(Tokenizer::open(&folder("siglip"), &text_config("clip", POSITIONS)).is_err());
}

#[test]
fn a_malformed_file_is_an_error() {
    on_a_small_stack(|| {
        let scratch = Scratch::new();
        let path = scratch.path().join("tokenizer.json");
        let refuse = |content: &[u8], model_type: &str| {
            fs::write(&path, content).unwrap();
            let message = refusal(scratch.path(), model_type);
            assert!(message.contains("tokenizer.json cannot be used: "), "{message}");
            assert!(message.len() < 1_000, "{message}");
            message
        };
        for content in ["", "{}", "null", "[]", "\u{0}", "{\"model\": 5}", "{\"model\": {}}"] {
            refuse(content.as_bytes(), "siglip");
        }
        let nested = format!("{{\"x\": {}", "[".repeat(1 << 20));
        assert!(refuse(nested.as_bytes(), "siglip").contains("nested more than 32 deep"));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 34362429\n";
        assert!(refuse(pointer, "siglip").contains("Git LFS pointer"));
        for name in ["siglip", "siglip2", "metaclip-2"] {
            let whole = fs::read(folder(name).join("tokenizer.json")).unwrap();
            let model_type = if name == "metaclip-2" { "metaclip_2" } else { "siglip" };
            for part in 0..64 {
                refuse(&whole[..whole.len() * part / 64], model_type);
            }
        }
    });
}

#[test]
fn a_vocabulary_that_makes_no_sense_is_an_error() {
    let expect = |name: &str, change: &dyn Fn(&mut Value), expected: &str| {
        let model_type = if name == "metaclip-2" { "metaclip_2" } else { "siglip" };
        let message = refusal(changed(name, change).path(), model_type);
        assert!(message.contains(expected), "{message}");
    };
    let merge =
        |document: &mut Value| document["model"]["merges"][0] = json!(["a", "no such piece"]);
    expect("siglip2", &merge, "merge 0 needs \"no such piece\", which is not a piece");
    let merge = |document: &mut Value| document["model"]["merges"][0] = json!(["a", "b", "c"]);
    expect("siglip2", &merge, "invalid length 3, expected two halves of a merge");
    for unknown in [json!(99_999_999), Value::Null] {
        let change = |document: &mut Value| document["model"]["unk_id"] = unknown.clone();
        expect("siglip", &change, "no unk_id within the vocabulary");
        expect("metaclip-2", &change, "no unk_id within the vocabulary");
    }
    let table = |document: &mut Value| {
        document["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "?".into()
    };
    expect("siglip", &table, "its precompiled_charsmap is not base64");
    expect("metaclip-2", &table, "its precompiled_charsmap is not base64");
    let steps = |document: &mut Value| {
        let step = document["normalizer"]["normalizers"][0].clone();
        document["normalizer"]["normalizers"] = vec![step; 9].into();
    };
    expect("siglip", &steps, "expected a list of at most 8");
    let other = |document: &mut Value| document["added_tokens"][0]["id"] = 7.into();
    expect("siglip2", &other, "expected \"<pad>\" to be 7, got Some(0)");
    let long =
        |document: &mut Value| document["added_tokens"][0]["content"] = "x".repeat(513).into();
    expect("metaclip-2", &long, "an added token has 513 bytes, the limit is 512");
    let score = |document: &mut Value| document["model"]["vocab"][5] = json!(["a", null]);
    expect("siglip", &score, "it is not a tokenizer: ");
}

#[test]
fn a_token_beyond_the_models_table_is_an_error_when_a_text_has_it() {
    let scratch = changed("siglip2", |document| document["model"]["vocab"]["犬"] = 40_000.into());
    let tokenizer = Tokenizer::open(scratch.path(), &text_config("siglip", POSITIONS)).unwrap();
    tokenizer.encode("dog").unwrap();
    let error = tokenizer.encode("犬").unwrap_err();
    assert!(error.to_string().starts_with("token id 40000 is not below"), "{error}");
}

#[test]
fn the_longest_prompts_are_tokenized_and_longer_ones_refused() {
    on_a_small_stack(|| {
        for name in ["published", "siglip", "siglip2", "metaclip-2"] {
            let tokenizer = open(name);
            for unit in ["a", "a ", " ", "ﷺ", "犬", "\u{301}", "</s>", "<eos>"] {
                let long = unit.repeat(MAX_PROMPT_BYTES / unit.len());
                assert!(tokenizer.encode(&long).unwrap().ids.len() <= POSITIONS, "{name} {unit:?}");
            }
            let error = tokenizer.encode(&"a".repeat(8 << 20)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    });
}
