//! A loaded model: what callers hold.

use std::path::{Path, PathBuf};

use tch::Kind;

use crate::checkpoint::Checkpoint;
use crate::device::{self, DeviceRequest};
use crate::encoder::InferenceThread;
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
    /// Path of the weights that were read.
    pub weights: PathBuf,
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
        let chosen = device::choose(options.device)?;
        let (thread, loaded) = InferenceThread::start({
            let (checkpoint, cache) = (checkpoint.clone(), options.cache.clone());
            move || crate::export::encoders(&checkpoint, &cache, chosen.device)
        })?;
        // Parsed while the thread reads the weights: it takes as long as a small model's.
        let tokenizer = Tokenizer::from_file(&checkpoint.tokenizer(), &checkpoint.config.text);
        let logit_scale = logit_scale(&checkpoint);
        let encoders = loaded()?;
        let config = &checkpoint.config;
        let info = Info {
            device: device::name(chosen.device),
            device_note: chosen.note,
            dim: config.projection_dim as usize,
            logit_scale: logit_scale?,
            context_length: config.text.max_positions as usize,
            image_size: config.vision.image_size as usize,
            weights: checkpoint.weights(),
            encoders,
            preprocessing: checkpoint.preprocessing.clone(),
        };
        Ok(Self { thread, tokenizer: tokenizer?, info })
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
        let (pixels, count) = (pictures.concat(), pictures.len());
        self.thread.run(move |encoders| encoders.images(&pixels, count, side as i64))
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

/// `exp(logit_scale)`: the weight is the logarithm.
fn logit_scale(checkpoint: &Checkpoint) -> Result<f64> {
    let mut weights = Weights::open(&checkpoint.weights())?;
    let log = if weights.contains("logit_scale") {
        weights.tensor("logit_scale", &[])?.f_double_value(&[])?
    } else {
        checkpoint.config.logit_scale_init
    };
    let scale = log.exp();
    if scale.is_finite() {
        Ok(scale)
    } else {
        Err(Error::new(
            ErrorKind::InvalidWeights,
            format!("tensor \"logit_scale\" is {log}, expected a logarithm near 4.6"),
        ))
    }
}
