//! A model directory in Hugging Face layout.

use std::path::{Path, PathBuf};

use clip::checkpoint::config::Config;
use clip::checkpoint::contents;
use clip::checkpoint::directory::{Directory, is_there, read_file};
use clip::checkpoint::layout::{CONFIG, Layout, MAX_CONFIG, OPEN_CLIP_CONFIG, PROCESSORS};
use clip::checkpoint::open_clip::{OpenClip, TimmSizes};
use clip::checkpoint::processor;

use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::Preprocessing;
use crate::tokenizer::Tokenizer;
use crate::weights::{Weights, WeightsFiles};

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
    layout: Layout,
    /// The repository whose tokenizer open_clip would take.
    tokenizer: Option<String>,
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
        let layout = contents::layout(&mut Directory(directory))?;
        let layout = layout.ok_or_else(|| without_config(directory))?;
        if layout == Layout::OpenClip {
            return Self::of_open_clip(directory, commit);
        }
        let directory = directory.join(layout.folder());
        let config = read_config(&directory)?;
        let preprocessing = read_preprocessing(&directory, &config)?;
        // The folder is the directory now.
        let layout = Layout::Transformers("");
        let weights = WeightsFiles::find(&directory, layout)?;
        Ok(Self { directory, commit, config, preprocessing, layout, tokenizer: None, weights })
    }

    fn of_open_clip(directory: &Path, commit: Option<String>) -> Result<Self> {
        let (layout, directory) = (Layout::OpenClip, directory.to_owned());
        let path = directory.join(OPEN_CLIP_CONFIG);
        let bytes = read_file(&path, MAX_CONFIG, ErrorKind::InvalidConfig)?;
        let weights = WeightsFiles::find(&directory, layout)?;
        let opened = weights.as_ref().map(|files| Weights::open(files, "")).transpose()?;
        let timm = || opened.as_ref().and_then(timm_sizes);
        let OpenClip { config, preprocessing, tokenizer } =
            OpenClip::from_json(&bytes, timm).map_err(|error| within(&directory, error))?;
        let tokenizer = tokenizer.or(Some("openai/clip-vit-large-patch14".to_owned()));
        Ok(Self { directory, commit, config, preprocessing, layout, tokenizer, weights })
    }

    /// Opens the tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::open(&self.directory, &self.config.text).map_err(|error| match &self.tokenizer {
            Some(name) if error.kind() == ErrorKind::NotFound => {
                let message = format!("{error}; copy the one of {name}, which open_clip takes");
                Error::new(ErrorKind::NotFound, message)
            }
            _ => error,
        })
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
        self.weights.as_ref().ok_or_else(|| WeightsFiles::missing(&self.directory, self.layout))
    }
}

/// The sizes that timm's names do not say, out of the shapes of tensors.
fn timm_sizes(weights: &Weights) -> Option<TimmSizes> {
    let block = |layer: i64| format!("vision_model.encoder.layers.{layer}.mlp.fc1.weight");
    let [mlp_width, width] = *weights.shape(&block(0))? else { return None };
    let layers = (0..).take_while(|layer| weights.contains(&block(*layer))).count() as i64;
    Some(TimmSizes { width, layers, mlp_width })
}

fn commit_of(directory: &Path) -> Option<&str> {
    let name = directory.file_name()?.to_str()?;
    let in_snapshots = directory.parent()?.ends_with("snapshots");
    let is_hash = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (in_snapshots && is_hash).then_some(name)
}

fn read_config(directory: &Path) -> Result<Config> {
    let bytes = read_file(&directory.join(CONFIG), MAX_CONFIG, ErrorKind::InvalidConfig)?;
    Ok(Config::from_json(&bytes).map_err(|error| within(directory, error))?)
}

/// What to say of a directory without `config.json`.
fn without_config(directory: &Path) -> Error {
    let message = format!("no {CONFIG} in {}", directory.display());
    match NOT_CLIP.iter().find(|(name, _)| is_there(&directory.join(name))) {
        None => Error::new(
            ErrorKind::NotFound,
            format!(
                "{message}; a model's directory holds {CONFIG}, weights such as model.safetensors, and a \
                 tokenizer such as tokenizer.json"
            ),
        ),
        Some((_, what)) => Error::new(ErrorKind::UnsupportedModel, format!("{message}: {what}")),
    }
}

/// Files that tell what a directory without `config.json` is.
const NOT_CLIP: [(&str, &str); 3] = [
    (
        "modules.json",
        "it is a pipeline of sentence-transformers without a CLIP model, whose folder would be \
         0_CLIPModel; choose one that has it, such as sentence-transformers/clip-ViT-B-32",
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

/// Without any such file, transformers refuses to guess, and so do we.
fn read_preprocessing(directory: &Path, config: &Config) -> Result<Preprocessing> {
    let name = contents::processor(&mut Directory(directory), "")?.unwrap_or(PROCESSORS[0]);
    let bytes = read_file(&directory.join(name), MAX_CONFIG, ErrorKind::InvalidConfig)?;
    let side = config.vision.image_size as u32;
    let preprocessing = processor::parse(name, &bytes, side, config.family.processor);
    Ok(preprocessing.map_err(|error| within(directory, error))?)
}

fn within(directory: &Path, error: clip::Error) -> clip::Error {
    error.at(format!("in {}", directory.display()))
}
