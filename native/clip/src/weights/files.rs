//! Which files of a directory hold the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::{is_there, read_file};
use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// Largest index of shards that is read. Real ones have some 200 KB.
const MAX_INDEX: u64 = 10 * 1024 * 1024;

/// Most files of one checkpoint.
const MAX_SHARDS: usize = 1_000;

/// What is looked for, the first one first: a format that can hold nothing but tensors before one
/// that can.
const ORDER: [(&str, Format, bool); 4] = [
    ("model.safetensors", Format::Safetensors, false),
    ("model.safetensors.index.json", Format::Safetensors, true),
    ("pytorch_model.bin", Format::PyTorch, false),
    ("pytorch_model.bin.index.json", Format::PyTorch, true),
];

/// How tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A header in JSON and the numbers.
    Safetensors,
    /// What `torch.save` writes: a zip of a pickle and the numbers.
    PyTorch,
}

impl Format {
    /// The format's name as users write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::PyTorch => "pytorch",
        }
    }
}

/// The weights of a directory.
#[derive(Debug, Clone)]
pub(crate) struct WeightsFiles {
    /// How they are written.
    pub(crate) format: Format,
    /// The one file, or the index of several.
    pub(crate) path: PathBuf,
    /// The files with tensors.
    pub(crate) files: Vec<PathBuf>,
    /// Which of them has which tensor, where there are several.
    pub(crate) index: Option<Index>,
}

/// An `*.index.json`.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    path: PathBuf,
    /// File name by tensor.
    files: BTreeMap<String, String>,
}

impl WeightsFiles {
    /// Looks for weights in a directory, by name alone.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>> {
        let found = ORDER.into_iter().find(|(name, ..)| is_there(&directory.join(name)));
        let Some((name, format, indexed)) = found else { return Ok(None) };
        let path = directory.join(name);
        if !indexed {
            return Ok(Some(Self { format, files: vec![path.clone()], path, index: None }));
        }
        let index = Index::read(&path)?;
        let names: BTreeSet<&String> = index.files.values().collect();
        let files = names.into_iter().map(|name| directory.join(name)).collect();
        Ok(Some(Self { format, path, files, index: Some(index) }))
    }

    /// What to say where there are none.
    pub(crate) fn missing(directory: &Path) -> Error {
        let names = ORDER.map(|(name, ..)| name).join(", ");
        let message = format!("no weights in {}, expected one of {names}", directory.display());
        Error::new(ErrorKind::NotFound, message)
    }
}

impl Index {
    fn read(path: &Path) -> Result<Self> {
        let bytes = read_file(path, MAX_INDEX, ErrorKind::InvalidWeights)?;
        Self::parse(path, &bytes).map_err(|why| {
            let message = format!("{} cannot be used: {why}", path.display());
            Error::new(ErrorKind::InvalidWeights, message)
        })
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let root = json::parse(bytes)?;
        let map = root.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or("it has no object weight_map")?;
        let mut files = BTreeMap::new();
        for (tensor, file) in map {
            // A name that leads elsewhere could make another file look like weights.
            let name = file.as_str().filter(|name| json::is_plain_file_name(name));
            let name = name.ok_or_else(|| {
                format!("expected weight_map.{tensor} to be a plain file name, got {file}")
            })?;
            files.insert(tensor.clone(), name.to_owned());
        }
        let shards = files.values().collect::<BTreeSet<_>>().len();
        if shards > MAX_SHARDS {
            return Err(format!("it names {shards} files, the limit is {MAX_SHARDS}"));
        }
        Ok(Self { path: path.to_owned(), files })
    }

    /// Tensors that lie in this file.
    pub(crate) fn names_in(&self, file: &Path) -> impl Iterator<Item = &str> {
        let tensors = self.files.iter().filter(move |(_, name)| file.ends_with(name));
        tensors.map(|(tensor, _)| tensor.as_str())
    }

    /// File name of the index, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }
}
