//! Which files make a CLIP checkpoint: one rule, for the cache and for the hub.

use std::fmt;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::names::{is_file_name, shown};

/// Largest index of shards that is read. Those of large models have some 100 KB.
pub(crate) const MAX_INDEX: u64 = 4 << 20;
const MAX_SHARDS: usize = 256;

pub(crate) const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";

/// Of the tokenizer, beside its vocabulary; many repositories lack some.
const EXTRAS: [&str; 3] = ["special_tokens_map.json", "tokenizer_config.json", "added_tokens.json"];

/// Something that files can be found in.
pub(crate) trait Source {
    /// Whether there is such a file. A `true` is remembered as a file to fetch.
    fn has(&mut self, file: &'static str) -> Result<bool>;
    /// The content of the index, which is there.
    fn index(&mut self, file: &'static str) -> Result<Vec<u8>>;
    /// Whether there is such a shard.
    fn has_shard(&mut self, file: &str) -> Result<bool>;
}

/// Looks for a whole checkpoint. Returns what is missing, in words.
pub(crate) fn missing(source: &mut dyn Source) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if !source.has(CONFIG)? {
        missing.push(CONFIG.to_owned());
    }
    // Transformers 5 writes the second, with the first inside.
    if !source.has("preprocessor_config.json")? && !source.has("processor_config.json")? {
        missing.push("preprocessor_config.json or processor_config.json".to_owned());
    }
    let tokenizer =
        source.has("tokenizer.json")? || (source.has("vocab.json")? && source.has("merges.txt")?);
    if !tokenizer {
        missing.push("tokenizer.json or vocab.json with merges.txt".to_owned());
    }
    for extra in EXTRAS {
        source.has(extra)?;
    }
    missing.extend(missing_weights(source)?);
    Ok(missing)
}

fn missing_weights(source: &mut dyn Source) -> Result<Vec<String>> {
    if source.has(WEIGHTS)? {
        return Ok(Vec::new());
    }
    if source.has(INDEX)? {
        let shards = shards(&source.index(INDEX)?)?;
        let mut missing = Vec::new();
        for shard in shards {
            if !source.has_shard(&shard)? {
                missing.push(shard);
            }
        }
        return Ok(missing);
    }
    if source.has(PICKLED)? {
        return Ok(Vec::new());
    }
    Ok(vec![format!("weights ({WEIGHTS}, {INDEX} or {PICKLED})")])
}

fn invalid(why: impl fmt::Display) -> Error {
    let message = format!("{INDEX} cannot be used: {why}; choose another revision of the model");
    Error::new(ErrorKind::InvalidIndex, message)
}

/// The files that an index names, each once, in order.
fn shards(index: &[u8]) -> Result<Vec<String>> {
    let index: Value = serde_json::from_slice(index)
        .map_err(|error| invalid("it is no JSON").with_source(error))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| invalid("it has no weight_map"))?;
    let mut shards = Vec::new();
    for name in map.values() {
        let name = name.as_str().unwrap_or_default();
        if !is_file_name(name) || !name.ends_with(".safetensors") {
            let why = format!("\"{}\" is no name of a .safetensors file beside it", shown(name));
            return Err(invalid(why));
        }
        shards.push(name.to_owned());
    }
    shards.sort_unstable();
    shards.dedup();
    if shards.len() > MAX_SHARDS {
        return Err(invalid(format!("more than {MAX_SHARDS} files")));
    }
    Ok(shards)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn indices() {
        let index = r#"{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors",
            "c": "model-2.safetensors"}}"#;
        assert_eq!(
            shards(index.as_bytes()).unwrap(),
            ["model-1.safetensors", "model-2.safetensors"]
        );
        for hostile in [
            "",
            "[]",
            "{}",
            r#"{"weight_map": {}}"#,
            r#"{"weight_map": {"a": 1}}"#,
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            r#"{"weight_map": {"a": "/etc/x.safetensors"}}"#,
            r#"{"weight_map": {"a": "x/y.safetensors"}}"#,
            r#"{"weight_map": {"a": "x\u0000.safetensors"}}"#,
            r#"{"weight_map": {"a": "model.bin"}}"#,
        ] {
            assert_eq!(shards(hostile.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidIndex);
        }
    }
}
