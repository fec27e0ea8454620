//! A model directory in Hugging Face layout.

use std::path::{Path, PathBuf};

use clip::checkpoint::files::{self, LFS_POINTER_FOUND, is_lfs_pointer};
use clip::checkpoint::json;
use clip::checkpoint::layout::{CONFIG, FOLDERS, PROCESSORS};
use clip::error::Remedy;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
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
    commit: Option<String>,
    /// Sizes of both towers.
    pub config: Config,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
    weights: Option<WeightsFiles>,
}

impl Checkpoint {
    /// Opens a model directory, or one of sentence-transformers with such a directory in it.
    pub fn open(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no model directory at {}", directory.display()),
            ));
        }
        let commit = commit_of(directory).map(str::to_owned);
        let mut folders = FOLDERS.into_iter().map(|folder| directory.join(folder));
        let folder = folders.find(|folder| is_there(&folder.join(CONFIG)));
        let directory = folder.ok_or_else(|| without_config(directory))?;
        let config = read_config(&directory)?;
        let preprocessing = read_preprocessing(&directory, config.vision.image_size as u32)?;
        let weights = WeightsFiles::find(&directory)?;
        Ok(Self { directory, commit, config, preprocessing, weights })
    }

    /// Path of the directory with the files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Commit of the repository, if this is a snapshot in Hugging Face's cache: the cache names
    /// their directories so.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// The files with the weights.
    pub(crate) fn weights(&self) -> Result<&WeightsFiles> {
        self.weights.as_ref().ok_or_else(|| WeightsFiles::missing(&self.directory))
    }
}

fn commit_of(directory: &Path) -> Option<&str> {
    let name = directory.file_name()?.to_str()?;
    let in_snapshots = directory.parent()?.ends_with("snapshots");
    let is_hash = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (in_snapshots && is_hash).then_some(name)
}

fn read_config(directory: &Path) -> Result<Config> {
    let bytes = read_file(&directory.join(CONFIG), MAX_CONFIG, ErrorKind::InvalidConfig)?;
    Config::from_json(&bytes).map_err(|error| error.at(format!("in {}", directory.display())))
}

/// What to say of a directory without `config.json`.
fn without_config(directory: &Path) -> Error {
    let message = format!("no {CONFIG} in {}", directory.display());
    match NOT_CLIP.iter().find(|(name, _)| is_there(&directory.join(name))) {
        None => Error::new(ErrorKind::NotFound, message),
        Some((name, what)) => {
            let error = Error::new(ErrorKind::UnsupportedModel, format!("{message}: {what}"));
            if *name == OPEN_CLIP { error.with_remedy(Remedy::LoadTorchScript) } else { error }
        }
    }
}

const OPEN_CLIP: &str = "open_clip_config.json";

/// Files that tell what a directory without `config.json` is.
const NOT_CLIP: [(&str, &str); 4] = [
    (
        "modules.json",
        "it is a pipeline of sentence-transformers without a CLIP model, whose folder would be \
         0_CLIPModel; choose one that has it, such as sentence-transformers/clip-ViT-B-32",
    ),
    (
        OPEN_CLIP,
        "it is a model of open_clip in its own layout; take its conversion for transformers, or \
         export its encoders as TorchScript (training/export_open_clip.py) and",
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
    let [path, newer] = PROCESSORS.map(|name| directory.join(name));
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
    Preprocessing::from_json(&bytes, side)
        .map_err(|error| error.at(format!("in {}", directory.display())).into())
}

/// Whether a name stands in its directory. A link that leads nowhere does: what it should lead to
/// is missing, which is an error, not a reason to look for something else.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a whole file of at most `most` bytes. That it is larger, or not the file itself, is an
/// error of this kind.
pub(crate) fn read_file(path: &Path, most: u64, unusable: ErrorKind) -> Result<Vec<u8>> {
    let bytes = files::read(path, most).map_err(|e| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot read {}: {e}", path.display())).with_source(e)
    })?;
    let path = path.display();
    match bytes {
        None => Err(Error::new(unusable, format!("{path} is larger than {most} bytes"))),
        Some(bytes) if is_lfs_pointer(&bytes) => {
            Err(Error::new(unusable, format!("{path} cannot be used: {LFS_POINTER_FOUND}")))
        }
        Some(bytes) => Ok(bytes),
    }
}
