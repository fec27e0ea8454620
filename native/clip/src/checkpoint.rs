//! A model directory in Hugging Face layout.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::preprocess::Preprocessing;
use crate::weights::WeightsFiles;

/// Largest JSON configuration that is read. Real ones have a few KB.
pub(crate) const MAX_CONFIG: u64 = 1024 * 1024;

/// The files of one directory: `config.json`, `preprocessor_config.json`, a tokenizer and weights.
///
/// Opening it reads the configurations and looks which of the others are there.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    directory: PathBuf,
    /// Sizes of both towers.
    pub config: Config,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
    weights: Option<WeightsFiles>,
}

impl Checkpoint {
    /// Opens a model directory.
    pub fn open(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no model directory at {}", directory.display()),
            ));
        }
        let config = read_config(directory)?;
        let preprocessing = read_preprocessing(directory, config.vision.image_size as u32)?;
        let weights = WeightsFiles::find(directory)?;
        Ok(Self { directory: directory.to_owned(), config, preprocessing, weights })
    }

    /// Path of the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Commit of the repository, if this is a snapshot in Hugging Face's cache: the cache names
    /// their directories so.
    pub fn commit(&self) -> Option<&str> {
        let name = self.directory.file_name()?.to_str()?;
        let in_snapshots = self.directory.parent()?.ends_with("snapshots");
        let is_hash = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        (in_snapshots && is_hash).then_some(name)
    }

    /// The files with the weights.
    pub(crate) fn weights(&self) -> Result<&WeightsFiles> {
        self.weights.as_ref().ok_or_else(|| WeightsFiles::missing(&self.directory))
    }
}

fn read_config(directory: &Path) -> Result<Config> {
    let path = directory.join("config.json");
    if !is_there(&path) {
        let mut message = format!("no config.json in {}", directory.display());
        if let Some((_, what)) = NOT_CLIP.iter().find(|(name, _)| is_there(&directory.join(name))) {
            message = format!("{message}: {what}");
            return Err(Error::new(ErrorKind::UnsupportedModel, message));
        }
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Config::from_json(&read_file(&path, MAX_CONFIG, ErrorKind::InvalidConfig)?)
        .map_err(|error| within(directory, &error))
}

/// Files that tell what a directory without `config.json` is.
const NOT_CLIP: [(&str, &str); 3] = [
    (
        "open_clip_config.json",
        "it is a model of open_clip in its own layout; take its conversion for transformers, or \
         export its encoders as TorchScript (training/export_open_clip.py) and load them with the \
         option :torchscript",
    ),
    (
        "model_index.json",
        "it is a diffusers pipeline; zero-shot classification needs a CLIP model, such as \
         openai/clip-vit-base-patch32",
    ),
    (
        "adapter_config.json",
        "it is an adapter without its model; merge it into the model first (peft: \
         merge_and_unload)",
    ),
];

/// Processors of transformers 5 write `processor_config.json` instead, with the same fields one
/// level deeper. Without either, transformers refuses to guess, and so do we.
fn read_preprocessing(directory: &Path, side: u32) -> Result<Preprocessing> {
    let path = directory.join("preprocessor_config.json");
    let newer = directory.join("processor_config.json");
    let bytes = if is_there(&path) || !is_there(&newer) {
        read_file(&path, MAX_CONFIG, ErrorKind::InvalidConfig)?
    } else {
        let invalid = |why: String| {
            let message = format!("{} cannot be used: {why}", newer.display());
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let root = json::parse(&read_file(&newer, MAX_CONFIG, ErrorKind::InvalidConfig)?)
            .map_err(invalid)?;
        let inner = root.get("image_processor").filter(|value| value.is_object());
        inner
            .ok_or_else(|| invalid("it has no object image_processor".to_owned()))?
            .to_string()
            .into()
    };
    json::check_depth(&bytes)
        .map_err(|why| {
            Error::new(ErrorKind::InvalidConfig, format!("preprocessor_config.json: {why}"))
        })
        .and_then(|()| Ok(Preprocessing::from_json(&bytes, side)?))
        .map_err(|error| within(directory, &error))
}

/// Whether a name stands in its directory. A link that leads nowhere does: what it should lead to
/// is missing, which is an error, not a reason to look for something else.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn within(directory: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("in {}: {error}", directory.display()))
}

/// Opens a file. Nothing else: a pipe would keep its reader waiting for ever.
pub(crate) fn open_file(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(std::io::Error::other("it is not a file"))
}

/// Reads a whole file of at most `most` bytes, or says that it is larger in an error of this kind.
pub(crate) fn read_file(path: &Path, most: u64, too_large: ErrorKind) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot read {}: {e}", path.display())).with_source(e)
    };
    let mut bytes = Vec::new();
    let file = open_file(path).map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(
            too_large,
            format!("{} is larger than {most} bytes", path.display()),
        ));
    }
    Ok(bytes)
}
