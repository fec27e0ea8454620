//! safetensors files that are damaged or hostile: each a typed error that names the file and the
//! tensor. `pickle.rs` has those of `pytorch_model.bin`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/victim.rs"]
mod victim;

use clip_torch::ErrorKind;
use serde_json::{Value, json};
use support::on_a_small_stack;
use victim::Victim;

const WEIGHTS: &str = "model.safetensors";

/// The parts of a safetensors file, to be put together again in another way.
struct Parts {
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        Self { header, data: bytes[8 + length..].to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        with_header(self.header.to_string().as_bytes(), &self.data)
    }
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

#[test]
fn a_safetensors_header_that_lies_is_refused() {
    on_a_small_stack(|| {
        let victim = Victim::new("laion-b32");
        let expect = |content: &[u8], expected: &str| {
            victim.expect(WEIGHTS, content, ErrorKind::InvalidWeights, expected);
        };
        expect(b"", "it has 0 bytes, too few");
        expect(&[0; 7], "it has 7 bytes, too few");
        expect(&[0; 8], "its header is wrong");
        expect(&(1u64 << 63).to_le_bytes(), "claims 9223372036854775808 bytes of 8");
        expect(&u64::MAX.to_le_bytes(), "claims 18446744073709551615 bytes of 8");
        let large = [(101u64 << 20).to_le_bytes().to_vec(), vec![b' '; 11 << 20]].concat();
        expect(&large, "header claims 105906176 bytes");
        let large = [(11u64 << 20).to_le_bytes().to_vec(), vec![b' '; 11 << 20]].concat();
        expect(&large, "header claims 11534336 bytes");
        expect(&with_header(b"{\"\xff\": 1}", b""), "its header is wrong");
        expect(&with_header(b"[]", b""), "its header is wrong");
        expect(&with_header(&b"[".repeat(100_000), b""), "nested more than 32 deep");
        let deep = [b"{\"a\":".repeat(100_000), b"}".repeat(100_000)].concat();
        expect(&with_header(&deep, b""), "nested more than 32 deep");
        expect(&with_header(b"{}", b""), "it has no tensor \"");
        expect(&with_header(b"{}", b"x"), "expected 10 bytes, found 11");
        let entry = |shape: &str, offsets: &str| {
            let header =
                format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
            with_header(header.as_bytes(), &[0; 8])
        };
        expect(&entry("[2]", "[8,0]"), "(tensor \"a\")");
        expect(&entry("[3]", "[0,8]"), "(tensor \"a\")");
        expect(&entry("[-2]", "[0,8]"), "its header is wrong");
        expect(&entry("[4294967296,4294967296,2]", "[0,8]"), "(tensor \"a\")");
        expect(&entry("[2]", "[18446744073709551615,8]"), "its header is wrong");
        expect(&entry("[1]", "[4,8]"), "a");
        let twice = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let twice = format!("{{{twice},{}}}", twice.replace("[0,4]", "[4,8]"));
        expect(&with_header(twice.as_bytes(), &[0; 8]), "its header is wrong");
    });
}

#[test]
fn a_safetensors_file_of_another_model_is_refused_by_tensor() {
    let victim = Victim::new("laion-b32");
    let sound = victim.read(WEIGHTS);
    let names: Vec<String> =
        Parts::of(&sound).header.as_object().unwrap().keys().cloned().collect();
    let needed: Vec<&String> =
        names.iter().filter(|name| name.contains('.') && !name.ends_with("position_ids")).collect();
    assert!(needed.len() > 60, "{needed:?}");
    for name in needed {
        let changed = |change: fn(&mut Value)| {
            let mut parts = Parts::of(&sound);
            change(&mut parts.header[name.as_str()]);
            parts.bytes()
        };
        let expect = |content: &[u8], expected: &str| {
            let message = victim.refusal(WEIGHTS, content, ErrorKind::InvalidWeights);
            assert!(message.contains(&format!("tensor {name:?}")), "{message}");
            assert!(message.contains(expected), "{message}");
        };
        // The same bytes by another shape and another type.
        expect(
            &changed(|entry| entry["shape"].as_array_mut().unwrap().push(1.into())),
            "has shape",
        );
        expect(&changed(|entry| entry["dtype"] = "I32".into()), "is of type I32, expected");
        let mut parts = Parts::of(&sound);
        let entry = parts.header.as_object_mut().unwrap().remove(name.as_str()).unwrap();
        parts.header["other"] = entry;
        expect(&parts.bytes(), "it has no tensor");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_tensor() {
    let victim = Victim::new("laion-b32");
    let sound = victim.read(WEIGHTS);
    let with = |name: &str, number: usize, value: f32| {
        let mut parts = Parts::of(&sound);
        let start = parts.header[name]["data_offsets"][0].as_u64().unwrap() as usize + 4 * number;
        parts.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        (parts.bytes(), format!("tensor {name:?} has values that are not finite"))
    };
    for (name, value) in [("visual_projection.weight", f32::INFINITY), ("logit_scale", f32::NAN)] {
        let (bytes, expected) = with(name, 0, value);
        victim.expect(WEIGHTS, &bytes, ErrorKind::InvalidWeights, &expected);
    }

    // A row of the token table, which is 8 numbers wide, is read when it is needed.
    let row = victim.load().unwrap().tokenize("!").unwrap().ids[1] as usize;
    let table = "text_model.embeddings.token_embedding.weight";
    let (bytes, expected) = with(table, 8 * row, f32::NAN);
    victim.write(WEIGHTS, bytes);
    let model = victim.load().unwrap();
    assert!(model.encode_texts(&["a"]).is_ok());
    let error = model.encode_texts(&["!"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidWeights);
    assert!(error.to_string().contains(&expected), "{error}");
    victim.write(WEIGHTS, &sound);

    let mut parts = Parts::of(&sound);
    let start = parts.header["logit_scale"]["data_offsets"][0].as_u64().unwrap() as usize;
    parts.data[start..start + 4].copy_from_slice(&1e9f32.to_le_bytes());
    let expected = "to be a logarithm near 4.6, got 1000000000";
    victim.expect(WEIGHTS, &parts.bytes(), ErrorKind::InvalidWeights, expected);
}

#[test]
fn a_safetensors_file_cut_short_or_too_long_is_refused() {
    let victim = Victim::new("fashion-clip");
    let sound = victim.read(WEIGHTS);
    for part in 0..64 {
        let cut = &sound[..sound.len() * part / 64];
        victim.refusal(WEIGHTS, cut, ErrorKind::InvalidWeights);
    }
    let long = [sound.as_slice(), b"x"].concat();
    victim.expect(WEIGHTS, &long, ErrorKind::InvalidWeights, "is it cut short?");
}

#[test]
fn an_index_of_shards_that_lies_is_refused() {
    let (victim, index) = (Victim::new("laion-bigg"), "model.safetensors.index.json");
    let sound: Value = serde_json::from_slice(&victim.read(index)).unwrap();
    let tensor = "logit_scale";
    let one = sound["weight_map"][tensor].as_str().unwrap();
    let changed = |file: Value| {
        let mut document = sound.clone();
        document["weight_map"][tensor] = file;
        document.to_string()
    };
    let expect = |content: &str, expected: &str| {
        victim.expect(index, content.as_bytes(), ErrorKind::InvalidWeights, expected);
    };
    for name in
        ["../model.safetensors", "/etc/passwd", "a/b", "..", "", ".hidden", "a\\b", "a\u{0}b"]
    {
        expect(&changed(name.into()), "expected weight_map.logit_scale to be a plain file name");
    }
    expect(&changed(5.into()), "to be a plain file name with .safetensors, got 5");
    expect("{}", "it has no object weight_map");
    expect("[", "it is not JSON");
    expect(&"[".repeat(1_000), "nested more than 32 deep");
    let many: Value =
        (0..1_001).map(|i| (i.to_string(), Value::from(format!("{i}.safetensors")))).collect();
    expect(&json!({"weight_map": many}).to_string(), "it names 1001 files, the limit is 1000");
    // In the other shard; in a file that is not there.
    let two = if one.contains("00001-") {
        one.replace("00001-", "00002-")
    } else {
        one.replace("00002-", "00001-")
    };
    expect(
        &changed(two.into()),
        "it has no tensor \"logit_scale\", which model.safetensors.index.json says",
    );
    victim.write(index, changed("gone.safetensors".into()));
    let error = victim.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("gone.safetensors"), "{error}");
}

/// A pipe keeps whoever opens it waiting for a writer.
#[test]
#[cfg(unix)]
fn a_pipe_or_a_directory_in_a_files_place_is_an_error() {
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        let victim = Victim::new("laion-b32");
        let path = victim.path(file);
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            std::fs::create_dir(&path).unwrap();
        }
        let error = victim.load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().ends_with(&format!("{file}: it is not a file")), "{error}");
    }
}
