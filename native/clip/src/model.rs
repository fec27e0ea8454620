//! A loaded model: what callers hold.

use std::path::{Path, PathBuf};

use tch::Kind;

use crate::checkpoint::Checkpoint;
use crate::device::{self, Chosen, DeviceRequest};
use crate::encoder::{Encoders, InferenceThread};
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::Preprocessing;
use crate::tokenizer::{Tokenizer, Tokens};
use crate::weights::Weights;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where its encoders run.
    pub device: DeviceRequest,
    /// Where exported encoders are kept.
    pub cache: PathBuf,
    /// A directory with encoders that the user exported, `image.pt` and `text.pt`, to use instead
    /// of ours. TorchScript is a program and runs with the rights of this process: name nothing
    /// that you would not run.
    pub torchscript: Option<PathBuf>,
}

impl LoadOptions {
    /// Our own encoders on this device, exported ones kept in this directory.
    pub fn new(device: DeviceRequest, cache: impl Into<PathBuf>) -> Self {
        Self { device, cache: cache.into(), torchscript: None }
    }
}

/// Facts about a loaded model.
#[derive(Debug, Clone)]
pub struct Info {
    /// Where the encoders run: `cpu`, `cuda:0`, `mps`.
    pub device: String,
    /// Why it is the CPU although any device would do.
    pub device_note: Option<String>,
    /// Components of an embedding.
    pub dim: usize,
    /// Factor between cosines and logits, `exp` of the trained weight.
    pub logit_scale: f64,
    /// Most tokens of a prompt, start and end included.
    pub context_length: usize,
    /// Side of the square picture that the image tower takes, in pixels.
    pub image_size: usize,
    /// How the weights are written: `safetensors`, `pytorch` or `torchscript`.
    pub format: &'static str,
    /// Path of the weights: the one file, the index of several, or the directory of the encoders
    /// that the user exported.
    pub weights: PathBuf,
    /// Files that the tokenizer was made of.
    pub tokenizer: Vec<PathBuf>,
    /// Commit of the repository, if the directory is a snapshot in Hugging Face's cache.
    pub commit: Option<String>,
    /// Folder of the exported encoders, or why they could not be kept.
    pub encoders: Result<PathBuf, String>,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
}

/// Both towers, the tokenizer and the facts about them.
#[derive(Debug)]
pub struct Model {
    thread: InferenceThread,
    tokenizer: Tokenizer,
    info: Info,
}

/// Embeddings of prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct TextEmbeddings {
    /// `[prompts, dim]` unit vectors, row after row.
    pub rows: Vec<f32>,
    /// Indices of the prompts that were too long and lost their end.
    pub truncated: Vec<usize>,
}

/// A way to provoke a failure, for tests of what becomes of it.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drill {
    /// A Rust panic on the inference thread.
    Panic,
    /// A C++ exception out of libtorch.
    Exception,
}

impl Model {
    /// Loads a model directory in Hugging Face layout.
    pub fn load(directory: &Path, options: &LoadOptions) -> Result<Self> {
        // On, the first calls of every shape take up to three times as long, and later ones are no
        // faster (shared by the whole process).
        tch::jit::f_set_profiling_mode(false)?;
        let checkpoint = Checkpoint::open(directory)?;
        let source = Source::choose(&checkpoint, options)?;
        let chosen = device::choose(options.device)?;
        let (thread, loaded) = InferenceThread::start({
            let (checkpoint, options, device) =
                (checkpoint.clone(), options.clone(), chosen.device);
            move || encoders(&checkpoint, &options, device)
        })?;
        // Parsed while the thread reads the weights: it takes as long as a small model's.
        let tokenizer = Tokenizer::open(checkpoint.directory(), &checkpoint.config.text);
        let logit_scale = logit_scale(&checkpoint);
        let encoders = loaded()?;
        let tokenizer = tokenizer?;
        let info =
            Info::new(&checkpoint, source, chosen, encoders, tokenizer.files(), logit_scale?);
        Ok(Self { thread, tokenizer, info })
    }

    /// Facts about the model.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Token ids of a prompt.
    pub fn tokenize(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.encode(prompt)
    }

    /// Unit embeddings of preprocessed pictures: each `3 * image_size * image_size` bytes, all in
    /// one batch. Returns `[pictures, dim]`, row after row.
    pub fn encode_images(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        let side = self.info.image_size;
        let expected = 3 * side * side;
        if let Some((i, wrong)) = pictures.iter().enumerate().find(|(_, p)| p.len() != expected) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "picture {i} has {} bytes, the model takes {expected} (3 x {side} x {side})",
                    wrong.len()
                ),
            ));
        }
        let pixels = pictures.concat();
        self.thread.run(move |encoders| encoders.images(&pixels, side as i64))
    }

    /// Unit embeddings of prompts.
    pub fn encode_texts<S: AsRef<str>>(&self, prompts: &[S]) -> Result<TextEmbeddings> {
        let tokens: Vec<Tokens> =
            prompts.iter().map(|prompt| self.tokenize(prompt.as_ref())).collect::<Result<_>>()?;
        let truncated =
            tokens.iter().enumerate().filter(|(_, t)| t.truncated).map(|(i, _)| i).collect();
        let rows: Vec<Vec<u32>> = tokens.into_iter().map(|tokens| tokens.ids).collect();
        let dim = self.info.dim;
        let rows = self.thread.run(move |encoders| encoders.texts(&rows, dim))?;
        Ok(TextEmbeddings { rows, truncated })
    }

    /// Frees the encoders and waits until they are freed. Later calls fail with
    /// [`ErrorKind::ModelUnloaded`].
    pub fn unload(&self) {
        self.thread.stop();
    }

    /// Provokes a failure on the inference thread.
    #[doc(hidden)]
    pub fn drill(&self, drill: Drill) -> Result<()> {
        self.thread.run(move |encoders| match drill {
            #[allow(clippy::panic)]
            Drill::Panic => panic!("drill"),
            Drill::Exception => {
                let nonsense = tch::Tensor::f_zeros([1], (Kind::Uint8, encoders.device))?;
                let _ = encoders.image.forward_ts(&[nonsense])?;
                Ok(())
            }
        })
    }
}

impl Info {
    fn new(
        checkpoint: &Checkpoint,
        source: Source,
        chosen: Chosen,
        encoders: Result<PathBuf, String>,
        tokenizer: &[PathBuf],
        logit_scale: f64,
    ) -> Self {
        let config = &checkpoint.config;
        Self {
            device: device::name(chosen.device),
            device_note: chosen.note,
            dim: config.projection_dim as usize,
            logit_scale,
            context_length: config.text.max_positions as usize,
            image_size: config.vision.image_size as usize,
            format: source.format,
            weights: source.path,
            tokenizer: tokenizer.to_vec(),
            commit: checkpoint.commit().map(str::to_owned),
            encoders,
            preprocessing: checkpoint.preprocessing.clone(),
        }
    }
}

/// Where the towers come from, for [`Info`].
struct Source {
    format: &'static str,
    path: PathBuf,
}

impl Source {
    fn choose(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
        if let Some(folder) = &options.torchscript {
            return Ok(Self { format: "torchscript", path: folder.clone() });
        }
        let weights = checkpoint.weights()?;
        Ok(Self { format: weights.format.name(), path: weights.path.clone() })
    }
}

fn encoders(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    device: tch::Device,
) -> Result<(Encoders, Result<PathBuf, String>)> {
    match &options.torchscript {
        None => crate::export::encoders(checkpoint, &options.cache, device),
        Some(folder) => {
            let encoders = crate::torchscript::encoders(&checkpoint.config, folder, device)?;
            Ok((encoders, Ok(folder.clone())))
        }
    }
}

/// `exp(logit_scale)`: the weight is the logarithm. Without weights, beside encoders that the user
/// exported, `config.json` has it.
fn logit_scale(checkpoint: &Checkpoint) -> Result<f64> {
    let mut weights = checkpoint.weights().ok().map(Weights::open).transpose()?;
    let (log, place) = match &mut weights {
        Some(weights) if weights.contains("logit_scale") => {
            let log = weights.tensor("logit_scale", &[])?.f_double_value(&[])?;
            (log, format!("tensor \"logit_scale\" of {}", weights.path().display()))
        }
        _ => {
            (checkpoint.config.logit_scale_init, "logit_scale_init_value of config.json".to_owned())
        }
    };
    let scale = log.exp();
    if scale.is_finite() {
        return Ok(scale);
    }
    let message = format!("expected {place} to be a logarithm near 4.6, got {log}");
    Err(Error::new(ErrorKind::InvalidWeights, message))
}
