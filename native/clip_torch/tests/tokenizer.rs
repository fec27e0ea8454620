//! A tokenizer out of `vocab.json` and `merges.txt` against the same one as `tokenizer.json`, and
//! what becomes of files that are neither.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use clip_torch::config::{Config, TextConfig};
use clip_torch::{ErrorKind, Tokenizer};
use serde_json::Value;
use support::{Scratch, fixture, on_a_small_stack, project};

/// Texts on which tokenizers differ: special tokens in them, white space and letters of all kinds,
/// compositions, cases that change their length, contractions, controls.
const NASTY: [&str; 34] = [
    "",
    " ",
    "a photo of a dog",
    "A PHOTO  of\ta\ndog\r\n",
    "<|startoftext|>",
    "<|endoftext|>",
    "a<|startoftext|>b<|endoftext|>c",
    "<|STARTOFTEXT|> <|EndOfText|> <|endoftext",
    "< | endoftext | >",
    "it's we're they've I'm he'll she'd don't",
    "IT'S WE'RE DON'T 'S 'Tis '' '",
    "rock'n'roll o'clock 'll'd's",
    "12345 3.14 ½ Ⅷ ٣ १२३ x2y",
    "dé\u{301}jà vu résumé e\u{301}e\u{301}",
    "İstanbul ıI ẞß ΑΣ ΣΑΣ ǅ ﬁ ﬂ",
    "日本語のテキスト 한국어 ภาษาไทย עִבְרִית العربية",
    "क्षि தமிழ் བོད་སྐད",
    "😀👩‍👩‍👧‍👦🏳️‍🌈 👍🏽 ❤️",
    "a\u{a0}b\u{3000}c\u{2003}d\u{85}e\u{2028}f\u{1680}g",
    "zero\u{200b}width \u{feff}mark so\u{ad}ft",
    "\u{0}\u{1}\u{7f}\u{80}\u{9f}",
    "\u{fffd}\u{10ffff}\u{e000}",
    "!!!...---___***~~~ ?!?! ((())) #$%^&",
    "a,b;c:d/e\\f|g`h~i@j#k",
    "http://example.org/a?b=c&d=e#f user@example.org",
    "CamelCase snake_case kebab-case SCREAMING",
    "\u{1d400}\u{1d41b} Ｆｕｌｌ ｗｉｄｔｈ ™ ℃ №",
    "\u{212b} \u{c5} A\u{30a} \u{1e9b}\u{323}",
    "\u{1100}\u{1161}\u{11a8} \u{ac01}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "naïve café Œuvre Łódź Ærøskøbing þorn ðað",
    "Ǆ ǆ ŉ ΐ ᾳ ᾼ ﬀ",
    "</w> Ġ Ċ ##ing ▁",
];

fn text_config(folder: &Path) -> TextConfig {
    Config::from_json(&fs::read(folder.join("config.json")).unwrap()).unwrap().text
}

/// Writes `vocab.json` and `merges.txt` out of a `tokenizer.json`.
fn take_apart(whole: &Path, folder: &Path) {
    let whole: Value = serde_json::from_slice(&fs::read(whole).unwrap()).unwrap();
    fs::write(folder.join("vocab.json"), whole["model"]["vocab"].to_string()).unwrap();
    let merges = whole["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge {
        Value::String(pair) => pair.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    });
    let merges: Vec<String> = merges.collect();
    fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))
        .unwrap();
}

fn compare(whole: &Path, pieces: &Path, config: &TextConfig, texts: &[&str]) {
    let whole = Tokenizer::from_file(whole, config).unwrap();
    let built = Tokenizer::open(pieces, config).unwrap();
    assert_eq!(built.files(), [pieces.join("vocab.json"), pieces.join("merges.txt")]);
    for text in texts {
        assert_eq!(built.ids(text).unwrap(), whole.ids(text).unwrap(), "{text:?}");
    }
}

#[test]
fn the_embedded_tokenizer_is_the_same_out_of_its_pieces() {
    let (model, scratch) = (project("priv/models/emoji-clip"), Scratch::new());
    take_apart(&model.join("tokenizer.json"), scratch.path());
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        fs::copy(model.join(file), scratch.path().join(file)).unwrap();
    }
    compare(&model.join("tokenizer.json"), scratch.path(), &text_config(&model), &NASTY);
}

/// Of both ages of tokenizer.json, in which merges are pairs or strings.
#[test]
#[ignore = "needs CLIP_TEST_DATA"]
fn the_real_tokenizer_is_the_same_out_of_its_pieces() {
    let pieces = fixture("published/clip-vit-base-patch32");
    let goldens = fs::read(fixture("goldens/clip_tokens_hf.json")).unwrap();
    let goldens: Value = serde_json::from_slice(&goldens).unwrap();
    let cases = goldens["cases"].as_array().unwrap().iter();
    let mut texts: Vec<&str> = cases.map(|case| case["text"].as_str().unwrap()).collect();
    texts.extend(NASTY);
    let whole = support::test_data().join("tokenizers/clip-vit-base-patch32");
    let variants = fs::read_dir(whole.join("variants")).unwrap();
    let mut files: Vec<_> = variants.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    assert!(!files.is_empty());
    files.push(whole.join("tokenizer.json"));
    for file in files {
        compare(&file, &pieces, &text_config(&pieces), &texts);
    }
}

/// Special tokens are described in three files, all of which may be missing or of another age.
#[test]
fn special_tokens_come_from_any_of_their_files() {
    let metaclip = fixture("checkpoints/metaclip");
    let config = text_config(&metaclip);
    let expected = Tokenizer::open(&metaclip, &config).unwrap().ids("a<|endoftext|>").unwrap();
    let start_as_letters = |files: &[(&str, String)]| {
        let scratch = Scratch::new();
        for file in ["vocab.json", "merges.txt"] {
            fs::copy(metaclip.join(file), scratch.path().join(file)).unwrap();
        }
        for (file, content) in files {
            fs::write(scratch.path().join(file), content).unwrap();
        }
        let tokenizer = Tokenizer::open(scratch.path(), &config).unwrap();
        assert_eq!(tokenizer.ids("a<|endoftext|>").unwrap(), expected);
        // Only a token that is looked for in the normalised text is found in capitals.
        tokenizer.ids("<|STARTOFTEXT|>").unwrap().len() > 3
    };
    let token = r#"{"content": "<|startoftext|>", "normalized": true}"#;
    let (start, end) = (expected[0], expected[expected.len() - 1]);
    let map = |token: &str| ("special_tokens_map.json", format!(r#"{{"bos_token": {token}}}"#));
    let decoder = format!(r#"{{"added_tokens_decoder": {{"{start}": {token}}}}}"#);
    let added = format!(r#"{{"<|startoftext|>": {start}, "<|endoftext|>": {end}}}"#);
    assert!(start_as_letters(&[]));
    assert!(start_as_letters(&[map(r#""<|startoftext|>""#)]));
    assert!(!start_as_letters(&[map(token)]));
    assert!(!start_as_letters(&[("tokenizer_config.json", decoder)]));
    assert!(start_as_letters(&[map(token), ("added_tokens.json", added)]));
}

/// Why a directory with these files is refused. Of the first file, whatever it is, in the message.
fn refusal(files: &[(&str, Vec<u8>)]) -> String {
    let scratch = Scratch::new();
    for (name, content) in files {
        fs::write(scratch.path().join(name), content).unwrap();
    }
    let config = text_config(&fixture("checkpoints/metaclip"));
    let error = Tokenizer::open(scratch.path(), &config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTokenizer, "{error}");
    let message = error.to_string();
    assert!(message.contains(files[0].0), "{message}");
    message
}

fn expect(files: &[(&str, Vec<u8>)], expected: &str) {
    let message = refusal(files);
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_malformed_tokenizer_json_is_an_error() {
    on_a_small_stack(|| {
        let file = |content: &str| [("tokenizer.json", content.as_bytes().to_vec())];
        for content in ["", "{}", "null", "[]", "\u{0}", "{\"version\": \"1.0\"}", "{\"model\": 5}"]
        {
            expect(&file(content), "tokenizer.json cannot be used: ");
        }
        expect(&[("tokenizer.json", vec![b'{'; 1 << 20])], "nested more than 32 deep");
        expect(&[("tokenizer.json", vec![b' '; 11 << 20])], "is larger than 10485760 bytes");
        let whole = fixture("checkpoints/laion-b32/tokenizer.json");
        let whole = fs::read_to_string(whole).unwrap();
        for part in 0..64 {
            let cut = whole.as_bytes()[..whole.len() * part / 64].to_vec();
            refusal(&[("tokenizer.json", cut)]);
        }
        // A normaliser in a normaliser in a normaliser …: it would be walked recursively.
        let document: Value = serde_json::from_str(&whole).unwrap();
        let nested = |depth: usize| {
            let open = r#"{"type":"Sequence","normalizers":["#.repeat(depth);
            let nested = format!(r#""normalizer":{open}{}"#, "]}".repeat(depth));
            let mut document = document.clone();
            document["normalizer"] = Value::Null;
            document.to_string().replacen(r#""normalizer":null"#, &nested, 1)
        };
        expect(&file(&nested(60)), "nested more than 32 deep");
        let scratch = Scratch::new();
        fs::write(scratch.path().join("tokenizer.json"), nested(14)).unwrap();
        let config = text_config(&fixture("checkpoints/metaclip"));
        Tokenizer::open(scratch.path(), &config).unwrap().encode(&"a ".repeat(1_000)).unwrap();
    });
}

/// One label would fill the memory, some of these already at load.
#[test]
fn a_tokenizer_that_makes_texts_endless_is_an_error() {
    let replace = |content: &str, count: usize| {
        let step = serde_json::json!({
            "type": "Replace", "pattern": {"Regex": "."}, "content": content,
        });
        let steps = serde_json::json!({"type": "Sequence", "normalizers": vec![step; count]});
        changed("/normalizer", serde_json::json!({"type": "Sequence", "normalizers": [steps]}))
    };
    expect(&replace("x", 9), "its normalizer has 9 steps, the limit is 8");
    expect(&replace("xx", 3), "its normalizer puts in more than 2 texts of 4 bytes");
    expect(&replace("xxxxx", 1), "its normalizer puts in more than 2 texts of 4 bytes");
    let bytes = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    });
    let steps = serde_json::json!({"type": "Sequence", "pretokenizers": vec![bytes; 30]});
    expect(&changed("/pre_tokenizer", steps), "its pre_tokenizer has 30 steps, the limit is 8");
    let token = |content: &str| {
        serde_json::json!({
            "id": 0, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": true, "special": true,
        })
    };
    let many = vec![token("x"); 10_001];
    expect(&changed("/added_tokens", many.into()), "it has 10001 added tokens");
    let long = vec![token(&"x".repeat(513))];
    expect(&changed("/added_tokens", long.into()), "an added token has 513 bytes");
}

/// Changes one thing in a sound `tokenizer.json`.
fn changed(pointer: &str, value: Value) -> [(&'static str, Vec<u8>); 1] {
    let whole = fs::read(fixture("checkpoints/laion-b32/tokenizer.json")).unwrap();
    let mut document: Value = serde_json::from_slice(&whole).unwrap();
    *document.pointer_mut(pointer).unwrap() = value;
    [("tokenizer.json", document.to_string().into_bytes())]
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model_is_an_error() {
    on_a_small_stack(|| {
        let merge = |left: &str, right: &str| serde_json::json!([[left, right]]);
        // The crate panics on the first two: joined, they are longer than any piece, or a prefix
        // is longer than what it should be cut from.
        refusal(&changed("/model/merges", merge("</w>", "</w>")));
        refusal(&changed("/model/continuing_subword_prefix", "long prefix".into()));
        refusal(&changed("/model/merges", merge("no such piece", "a")));
        refusal(&changed("/model/vocab", serde_json::json!({"a": -1})));
        refusal(&changed("/model/vocab", serde_json::json!({"a": 4_294_967_296u64})));
        refusal(&changed("/model/type", "Unigram".into()));
        refusal(&changed("/pre_tokenizer/pretokenizers/0/pattern/Regex", "(((".into()));
        expect(
            &changed("/post_processor", Value::Null),
            "an empty text to become a start and an end",
        );
        expect(&changed("/post_processor/sep/1", 5.into()), "an empty text to become a start and");
        let beyond = changed("/post_processor/cls/1", 70_000.into());
        expect(&beyond, "token id 70000 is not below config.json's vocab_size");
    });
}

#[test]
fn a_token_beyond_the_models_table_is_an_error_when_a_text_has_it() {
    let scratch = Scratch::new();
    let [(name, bytes)] = changed("/model/vocab/a<~1w>", 60_000.into());
    fs::write(scratch.path().join(name), bytes).unwrap();
    let config = text_config(&fixture("checkpoints/metaclip"));
    let tokenizer = Tokenizer::open(scratch.path(), &config).unwrap();
    tokenizer.encode("b").unwrap();
    let error = tokenizer.encode("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTokenizer);
    assert!(error.to_string().starts_with("token id 60000 is not below"), "{error}");
}

#[test]
fn malformed_pieces_are_an_error() {
    on_a_small_stack(|| {
        let folder = fixture("checkpoints/metaclip");
        let sound = |name: &str| fs::read(folder.join(name)).unwrap();
        let vocab = |content: &str| {
            [("vocab.json", content.as_bytes().to_vec()), ("merges.txt", sound("merges.txt"))]
        };
        expect(&vocab("[]"), "vocab.json cannot be used: it is not a JSON object");
        expect(&vocab("{"), "vocab.json cannot be used: it is not JSON");
        expect(&vocab(r#"{"a": "b"}"#), "expected \"a\" to have an id, got \"b\"");
        expect(&vocab(r#"{"a": 4294967296}"#), "expected \"a\" to have an id");
        expect(&vocab(r#"{"a": 0}"#), "vocab.json cannot be used: ");
        expect(&vocab(&"[".repeat(100_000)), "nested more than 32 deep");
        let merges = |content: &[u8]| {
            [("merges.txt", content.to_vec()), ("vocab.json", sound("vocab.json"))]
        };
        expect(&merges(b"a b c\n"), "expected two pieces in line 1, got \"a b c\"");
        expect(&merges(b"#version: 0.2\na\n"), "expected two pieces in line 2, got \"a\"");
        expect(&merges(b"\xff \xfe\n"), "merges.txt cannot be used: it is not UTF-8");
        let config = |content: &str| {
            let config = ("tokenizer_config.json", content.as_bytes().to_vec());
            [config, ("vocab.json", sound("vocab.json")), ("merges.txt", sound("merges.txt"))]
        };
        expect(&config(r#"{"added_tokens_decoder": {"x": "a"}}"#), "expected an id, got \"x\"");
        expect(
            &config(r#"{"added_tokens_decoder": {"1": 5}}"#),
            "added_tokens_decoder.1 to be a token",
        );
        expect(&config(r#"{"bos_token": 5}"#), "expected bos_token to be a token, got 5");
    });
}
