//! Names of the files, and which of them are taken where a repository has several.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::json;

/// Folders below a repository in which a checkpoint may lie, the first one first: itself, and the
/// one of sentence-transformers, which saves one folder for each part of a pipeline.
pub const FOLDERS: [&str; 2] = ["", "0_CLIPModel"];

/// The sizes of both towers.
pub const CONFIG: &str = "config.json";
/// How pictures are preprocessed; transformers 5 writes the second, with the first inside.
pub const PROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];
/// The tokenizer in one file.
pub const TOKENIZER: &str = "tokenizer.json";
/// The same in two files, where there is no [`TOKENIZER`].
pub const TOKENIZER_PIECES: [&str; 2] = ["vocab.json", "merges.txt"];
/// What stands beside the tokenizer; many repositories lack some.
pub const TOKENIZER_EXTRAS: [&str; 3] =
    ["special_tokens_map.json", "tokenizer_config.json", "added_tokens.json"];

/// Where weights can lie, the first one first, as transformers looks for them: a format that can
/// hold only tensors before one that can hold more.
pub const WEIGHTS: [Weights; 4] = [
    Weights { name: "model.safetensors", format: Format::Safetensors, is_index: false },
    Weights { name: "model.safetensors.index.json", format: Format::Safetensors, is_index: true },
    Weights { name: "pytorch_model.bin", format: Format::PyTorch, is_index: false },
    Weights { name: "pytorch_model.bin.index.json", format: Format::PyTorch, is_index: true },
];

/// The sizes of both towers and how pictures are preprocessed, in open_clip's own layout.
pub const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
/// Where weights can lie in that layout, the first one first. open_clip itself writes no shards.
pub const OPEN_CLIP_WEIGHTS: [Weights; 4] = [
    Weights { name: "open_clip_model.safetensors", format: Format::Safetensors, is_index: false },
    Weights {
        name: "open_clip_model.safetensors.index.json",
        format: Format::Safetensors,
        is_index: true,
    },
    Weights { name: "open_clip_pytorch_model.bin", format: Format::PyTorch, is_index: false },
    Weights {
        name: "open_clip_pytorch_model.bin.index.json",
        format: Format::PyTorch,
        is_index: true,
    },
];

/// Who wrote a checkpoint, and with whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Hugging Face transformers, in this folder.
    Transformers(&'static str),
    /// open_clip.
    OpenClip,
}

impl Layout {
    /// The folder with the files.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Transformers(folder) => folder,
            Self::OpenClip => "",
        }
    }

    /// Where weights can lie, the first one first.
    pub fn weights(self) -> &'static [Weights] {
        match self {
            Self::Transformers(_) => &WEIGHTS,
            Self::OpenClip => &OPEN_CLIP_WEIGHTS,
        }
    }

    /// Names of all that weights can be called, for messages.
    pub fn weights_names(self) -> String {
        self.weights().iter().map(|weights| weights.name).collect::<Vec<_>>().join(", ")
    }
}

/// Largest JSON configuration that is read, in bytes. Real ones have a few KB.
pub const MAX_CONFIG: u64 = 1024 * 1024;
/// Largest index of shards that is read, in bytes. Real ones have some 200 KB.
pub const MAX_INDEX: u64 = 10 * 1024 * 1024;
/// Most shards of a checkpoint.
pub const MAX_SHARDS: usize = 1_000;

/// A file with the weights, or with the names of the files that have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Name of the file.
    pub name: &'static str,
    /// How the tensors are written.
    pub format: Format,
    /// Whether it is an index of shards.
    pub is_index: bool,
}

/// How tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header in JSON and the numbers.
    Safetensors,
    /// What `torch.save` writes: a zip of a pickle and the numbers.
    PyTorch,
}

impl Format {
    /// The format's name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::PyTorch => "pytorch",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Safetensors => ".safetensors",
            Self::PyTorch => ".bin",
        }
    }
}

/// An index of shards: file name by tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index(pub BTreeMap<String, String>);

impl Index {
    /// Reads an index of shards of this format.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, String> {
        let root = json::parse(bytes)?;
        let map = root.get("weight_map").and_then(Value::as_object);
        let map = map.filter(|map| !map.is_empty());
        let map = map.ok_or("it has no object weight_map with a tensor in it")?;
        let mut files = BTreeMap::new();
        for (tensor, file) in map {
            files.insert(tensor.clone(), shard(tensor, file, format)?);
        }
        let index = Self(files);
        match index.shards().len() {
            0..=MAX_SHARDS => Ok(index),
            many => Err(format!("it names {many} files, the limit is {MAX_SHARDS}")),
        }
    }

    /// The tensors that a file has.
    pub fn tensors_in(&self, file: &str) -> impl Iterator<Item = &str> {
        let tensors = self.0.iter().filter(move |(_, name)| *name == file);
        tensors.map(|(tensor, _)| tensor.as_str())
    }

    /// The files that it names, each once.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.0.values().map(String::as_str).collect()
    }
}

/// A name that leads elsewhere could make another file look like weights.
fn shard(tensor: &str, file: &Value, format: Format) -> Result<String, String> {
    let ending = format.ending();
    let name = file.as_str().filter(|name| is_plain_file_name(name) && name.ends_with(ending));
    name.map(str::to_owned).ok_or_else(|| {
        let (tensor, file) = (shown(tensor), shown(&file.to_string()));
        format!("expected weight_map.{tensor} to be a plain file name with {ending}, got {file}")
    })
}

/// Whether it is a plain file name, not a way to another folder.
fn is_plain_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Returns the start of a text from outside, fit for a message.
pub fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(80).collect();
    start = start.replace(|c: char| !c.is_ascii_graphic(), "?");
    if text.chars().nth(80).is_some() {
        start.push_str("...");
    }
    start
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_shards_of_an_index_each_once() {
        let index = r#"{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors",
            "c": "model-2.safetensors"}}"#;
        let index = Index::parse(index.as_bytes(), Format::Safetensors).unwrap();
        assert!(index.shards().into_iter().eq(["model-1.safetensors", "model-2.safetensors"]));
        let index = br#"{"weight_map": {"a": "pytorch_model-1.bin"}}"#;
        assert!(Index::parse(index, Format::PyTorch).is_ok());
        assert!(Index::parse(index, Format::Safetensors).is_err());
    }

    #[test]
    fn an_index_that_leads_elsewhere_is_refused() {
        for hostile in [
            "",
            "[]",
            "{}",
            r#"{"weight_map": {}}"#,
            r#"{"weight_map": []}"#,
            r#"{"weight_map": {"a": 1}}"#,
            r#"{"weight_map": {"a": "../x.safetensors"}}"#,
            r#"{"weight_map": {"a": "/etc/x.safetensors"}}"#,
            r#"{"weight_map": {"a": "x/y.safetensors"}}"#,
            r#"{"weight_map": {"a": "x\u0000.safetensors"}}"#,
            r#"{"weight_map": {"a": "model.bin"}}"#,
            r#"{"weight_map": {"a": "\u202e.safetensors"}}"#,
        ] {
            let why = Index::parse(hostile.as_bytes(), Format::Safetensors).unwrap_err();
            assert!(why.is_ascii(), "{why}");
        }
        let many: serde_json::Map<String, Value> =
            (0..=MAX_SHARDS).map(|i| (i.to_string(), format!("{i}.bin").into())).collect();
        let many = serde_json::json!({"weight_map": many}).to_string();
        let why = Index::parse(many.as_bytes(), Format::PyTorch).unwrap_err();
        assert_eq!(why, "it names 1001 files, the limit is 1000");
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain_file_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a\0", ".hidden", "ä", "c:"] {
            assert!(!is_plain_file_name(name), "{name:?}");
        }
    }
}
