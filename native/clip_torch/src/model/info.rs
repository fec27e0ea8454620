//! Facts about a loaded model, and where they come from.

use std::path::PathBuf;

use clip::checkpoint::family::{Family, Independent};
use clip::checkpoint::fingerprint::fingerprint;

use super::options::LoadOptions;
use crate::checkpoint::Checkpoint;
use crate::encoders::export;
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::Preprocessing;
use crate::runtime::device::{self, Chosen};
use crate::runtime::precision::Precision;
use crate::weights::Weights;

/// Facts about a loaded model.
#[derive(Debug, Clone)]
pub struct Info {
    /// Where the encoders run: `cpu`, `cuda:0`, `mps`.
    pub device: String,
    /// Why it is the CPU although any device would do.
    pub device_note: Option<String>,
    /// Components of an embedding.
    pub dim: usize,
    /// What the model is.
    pub family: &'static Family,
    /// Factor between cosines and logits, `exp` of the trained weight.
    pub logit_scale: f64,
    /// What is added to logits before the sigmoid, for families whose probability of a label by itself
    /// is one.
    pub logit_bias: Option<f64>,
    /// Most tokens of a prompt, start and end included.
    pub context_length: usize,
    /// Side of the square picture that the image tower takes, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels of that picture.
    pub patch_size: usize,
    /// How the weights are written: `safetensors`, `pytorch` or `torchscript`.
    pub format: &'static str,
    /// Path of the weights: the one file, the index of several, or the directory of the encoders
    /// that the user exported.
    pub weights: PathBuf,
    /// Files that the tokenizer was made of.
    pub tokenizer: Vec<PathBuf>,
    /// Commit of the repository, if the directory is a snapshot in Hugging Face's cache.
    pub commit: Option<String>,
    /// What tells it from others of the same name: the commit, or a hash of the weights.
    pub version: String,
    /// Folder of the exported encoders, or why they could not be kept.
    pub encoders: Result<PathBuf>,
    /// What the encoders compute in; unknown of encoders that the user exported.
    pub precision: Option<Precision>,
    /// Bytes that the encoders hold, on their device and once for all threads.
    pub memory: u64,
    /// How many calls run at once.
    pub concurrency: usize,
    /// How many threads a call is spread over on the CPU.
    pub threads: usize,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
}

/// What the thread that loaded the encoders tells of them.
pub(super) struct Origin {
    pub(super) folder: Result<PathBuf>,
    pub(super) precision: Option<Precision>,
    pub(super) bytes: u64,
}

impl Info {
    pub(super) fn new(
        checkpoint: &Checkpoint,
        source: Source,
        chosen: Chosen,
        origin: Origin,
        tokenizer: &[PathBuf],
        logits: Logits,
        options: &LoadOptions,
    ) -> Self {
        let config = &checkpoint.config;
        Self {
            device: device::name(chosen.device),
            device_note: chosen.note,
            dim: config.projection_dim as usize,
            logit_scale: logits.scale,
            logit_bias: logits.bias,
            family: config.family,
            context_length: config.text.max_positions as usize,
            image_size: config.vision.image_size as usize,
            patch_size: config.vision.patch_size as usize,
            format: source.format,
            weights: source.path,
            tokenizer: tokenizer.to_vec(),
            commit: checkpoint.commit().map(str::to_owned),
            version: source.version,
            encoders: origin.folder,
            precision: origin.precision,
            memory: origin.bytes,
            concurrency: options.concurrency,
            threads: options.threads,
            preprocessing: checkpoint.preprocessing.clone(),
        }
    }
}

/// Where the towers come from, for [`Info`].
pub(super) struct Source {
    format: &'static str,
    path: PathBuf,
    version: String,
}

impl Source {
    pub(super) fn choose(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        if let Some(folder) = &options.torchscript {
            // Whatever the commit beside them is.
            let version = local_version(&[folder.join(export::IMAGE), folder.join(export::TEXT)]);
            return Ok(Self { format: "torchscript", path: folder.clone(), version });
        }
        let weights = checkpoint.weights()?;
        let version = match checkpoint.commit() {
            Some(commit) => commit.to_owned(),
            None => local_version(&weights.files),
        };
        Ok(Self { format: weights.format.name(), path: weights.path.clone(), version })
    }
}

fn local_version(files: &[PathBuf]) -> String {
    match fingerprint(files.iter().map(PathBuf::as_path)) {
        Ok(hash) => format!("local-{hash:016x}"),
        // Loading the file fails too, and says what is wrong with it.
        Err(_) => String::new(),
    }
}

/// What turns cosines into logits.
pub(super) struct Logits {
    scale: f64,
    bias: Option<f64>,
}

impl Logits {
    /// `exp(logit_scale)`: the weight is the logarithm. Without weights, beside encoders that the user
    /// exported, `config.json` has it. A bias is only in the weights.
    pub(super) fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let _at_work = crate::runtime::exit::at_work();
        let (config, files) = (&checkpoint.config, checkpoint.weights());
        let has_bias = config.family.independent == Independent::Sigmoid;
        let weights = match files {
            Ok(files) => Some(Weights::open(files, config.family.prefix)?),
            Err(error) if has_bias => return Err(error),
            Err(_) => None,
        };
        let of =
            |weights: &Weights, name| format!("tensor {name:?} of {}", weights.path().display());
        let (log, place) = match &weights {
            Some(weights) if has_bias || weights.contains("logit_scale") => {
                (weights.number("logit_scale")?, of(weights, "logit_scale"))
            }
            _ => (config.logit_scale_init, "logit_scale_init_value of config.json".to_owned()),
        };
        let scale = log.exp();
        if !scale.is_finite() {
            let message = format!("expected {place} to be a logarithm near 4.6, got {log}");
            return Err(Error::new(ErrorKind::InvalidWeights, message));
        }
        let bias = weights.filter(|_| has_bias).map(|weights| weights.number("logit_bias"));
        Ok(Self { scale, bias: bias.transpose()? })
    }
}
