//! A loaded model: what callers hold.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::available_parallelism;

use clip::checkpoint::family::{Family, Independent};
use clip::checkpoint::fingerprint::fingerprint;
use tch::{Device, Kind};

use crate::checkpoint::Checkpoint;
use crate::encoders::encoder::Encoders;
use crate::encoders::{export, user, warm_up};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::preprocess::Preprocessing;
use crate::runtime::device::{self, Chosen, DeviceRequest};
use crate::runtime::precision::{self, Precision, PrecisionRequest};
use crate::runtime::threads::{Answer, InferenceThreads, Loaded, Parallelism, unloaded};
use crate::runtime::workers::Workers;
use crate::tokenizer::{Tokenizer, Tokens};
use crate::towers::matmul::Storage;
use crate::weights::Weights;

/// Most inference threads of a model, and most threads inside libtorch for each. OpenMP ends the
/// process where the system refuses it a thread.
const MAX_THREADS: usize = 1024;
/// Prompts of a small job: some labels. They take about as long as a picture.
const BRIEF_PROMPTS: usize = 16;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where its encoders run.
    pub device: DeviceRequest,
    /// Where exported encoders are kept. Without it they are made by every load.
    pub cache: Option<PathBuf>,
    /// A directory with encoders that the user exported, `image.pt` and `text.pt`, to use instead
    /// of ours. TorchScript is a program and runs with the rights of this process: name nothing
    /// that you would not run.
    pub torchscript: Option<PathBuf>,
    /// What our encoders compute in. Encoders of the user compute in what they were exported with.
    pub precision: PrecisionRequest,
    /// How many calls run at once, at least 1: a thread each, on one set of encoders.
    pub concurrency: usize,
    /// How many threads a call is spread over on the CPU, at least 1.
    pub threads: usize,
}

impl LoadOptions {
    /// Our own encoders in f32 on this device, exported ones kept in this directory, and one call at a
    /// time on all processors.
    pub fn new(device: DeviceRequest, cache: impl Into<PathBuf>) -> Self {
        let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Self {
            device,
            cache: Some(cache.into()),
            torchscript: None,
            precision: PrecisionRequest::default(),
            concurrency: 1,
            threads,
        }
    }

    /// The precision on a device. Of encoders that the user exported it is not for us to choose.
    fn precision(&self, device: Device, in_half: bool) -> Result<Option<Precision>> {
        match (&self.torchscript, self.precision) {
            (None, request) => precision::choose(request, device, in_half).map(Some),
            (Some(_), PrecisionRequest::Auto | PrecisionRequest::Exactly(Precision::F32)) => {
                Ok(None)
            }
            (Some(_), PrecisionRequest::Exactly(precision)) => {
                let name = precision.name();
                let message = format!(
                    "precision {name} is for encoders made here; those of your own compute in what they \
                     were exported with, so leave the precision out"
                );
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        }
    }

    fn parallelism(&self) -> Result<Parallelism> {
        for (name, number) in [("concurrency", self.concurrency), ("threads", self.threads)] {
            if !(1..=MAX_THREADS).contains(&number) {
                let message = format!("expected {name} to be 1 to {MAX_THREADS}, got {number}");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        Ok(Parallelism { concurrency: self.concurrency, threads: self.threads })
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

/// Both towers, the tokenizer and the facts about them.
///
/// The towers run on the model's own threads, whose number is constant. To drop a model does not
/// wait: what is queued is dropped, and the threads free the encoders after what runs.
#[derive(Debug)]
pub struct Model {
    threads: InferenceThreads<Encoders>,
    facts: Arc<Facts>,
}

/// What does not need an inference thread.
#[derive(Debug)]
struct Facts {
    tokenizer: Tokenizer,
    info: Info,
}

/// A model on one of its inference threads: what a job of [`Model::submit`] gets.
pub struct Inference<'a> {
    facts: &'a Facts,
    encoders: &'a Encoders,
    workers: &'a Workers<Encoders>,
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
        let parallelism = options.parallelism()?;
        crate::runtime::exit::prepare();
        // On, the first calls of every shape take up to three times as long, and later ones are no
        // faster (shared by the whole process).
        tch::jit::f_set_profiling_mode(false)?;
        let checkpoint = Checkpoint::open(directory)?;
        let source = Source::choose(&checkpoint, options)?;
        let chosen = {
            let _at_work = crate::runtime::exit::at_work();
            device::choose(options.device)?
        };
        // CLIP was trained in f16; SigLIP and others in bf16, whose range is wider.
        let in_half = checkpoint.config.family.model_type == "clip";
        let precision = options.precision(chosen.device, in_half)?;
        let (threads, loaded) = InferenceThreads::start(parallelism, warm_up::warm_up, {
            let (checkpoint, options, device) =
                (checkpoint.clone(), options.clone(), chosen.device);
            move || encoders(&checkpoint, &options, device, precision)
        })?;
        // Parsed while the thread reads the weights: it takes as long as a small model's.
        let tokenizer = checkpoint.tokenizer();
        let logits = Logits::read(&checkpoint);
        let loaded = loaded()?;
        let tokenizer = tokenizer?;
        let info =
            Info::new(&checkpoint, source, chosen, loaded, tokenizer.files(), logits?, options);
        Ok(Self { threads, facts: Arc::new(Facts { tokenizer, info }) })
    }

    /// Facts about the model.
    pub fn info(&self) -> &Info {
        &self.facts.info
    }

    /// Token ids of a prompt.
    pub fn tokenize(&self, prompt: &str) -> Result<Tokens> {
        self.facts.tokenizer.encode(prompt)
    }

    /// Queues a job for the next inference thread that is free, and returns at once. `pictures` and
    /// `prompts` say how many it encodes: a small job runs at a higher priority if the model is idle. The job
    /// returns a function that answers. It is called when the job counts as finished.
    ///
    /// A job that still waits when the model is unloaded or dropped is dropped, with all that it
    /// holds. A panic ends the job alone. A job must not unload its own model, which would wait for
    /// the job.
    pub fn submit<A: FnOnce() + 'static>(
        &self,
        pictures: usize,
        prompts: usize,
        job: impl FnOnce(&Inference<'_>) -> A + Send + 'static,
    ) -> Result<()> {
        let facts = Arc::clone(&self.facts);
        let run = move |encoders: &Encoders, workers: &Workers<Encoders>| {
            Box::new(job(&Inference { facts: &facts, encoders, workers })) as Answer
        };
        let is_brief = pictures <= 1 && prompts <= BRIEF_PROMPTS;
        self.threads.submit(Box::new(run), is_brief)
    }

    /// Unit embeddings of preprocessed pictures: each `3 * image_size * image_size` bytes, all in
    /// one batch. Returns `[pictures, dim]`, row after row.
    pub fn encode_images(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        self.facts.check(pictures)?;
        let pictures: Vec<Vec<u8>> = pictures.iter().map(|picture| picture.to_vec()).collect();
        self.wait_for(pictures.len(), 0, move |inference| {
            inference.images(&pictures.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
    }

    /// Which parts of preprocessed pictures their embeddings come from: `[pictures, 1 + patches, dim]`,
    /// row after row. The first part of a picture is what no patch added; then come the patches, row by
    /// row of the picture. The parts of a picture sum to its unit embedding.
    ///
    /// # Errors
    /// `UnsupportedModel` for SigLIP, whose embeddings are not such a sum, and for encoders that the
    /// user exported.
    pub fn image_parts(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        self.facts.check(pictures)?;
        let pictures: Vec<Vec<u8>> = pictures.iter().map(|picture| picture.to_vec()).collect();
        self.wait_for(pictures.len(), 0, move |inference| {
            inference.parts(&pictures.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
    }

    /// Unit embeddings of prompts.
    pub fn encode_texts<S: AsRef<str>>(&self, prompts: &[S]) -> Result<TextEmbeddings> {
        let tokens = self.facts.tokens(prompts)?;
        self.wait_for(0, tokens.len(), move |inference| inference.texts(tokens))
    }

    /// Frees the encoders and waits until they are freed: as long as the calls take that run. Those
    /// that wait, and later ones, fail with [`ErrorKind::ModelUnloaded`].
    pub fn unload(&self) {
        self.threads.stop();
    }

    /// Provokes a failure on an inference thread.
    #[doc(hidden)]
    pub fn drill(&self, drill: Drill) -> Result<()> {
        self.wait_for(0, 0, move |inference| match drill {
            #[allow(clippy::panic)]
            Drill::Panic => panic!("drill"),
            Drill::Exception => {
                let device = inference.encoders.device;
                let nonsense = tch::Tensor::f_zeros([1], (Kind::Uint8, device))?;
                let _ = inference.encoders.image.module.forward_ts(&[nonsense])?;
                Ok(())
            }
        })
    }

    /// Runs a job on an inference thread and waits for it. A panic in it comes back as an error.
    fn wait_for<T: Send + 'static>(
        &self,
        pictures: usize,
        prompts: usize,
        job: impl FnOnce(&Inference<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = channel();
        self.submit(pictures, prompts, move |inference| {
            let result = guarded_inference(|| job(inference));
            // Nobody listens if the caller's thread is gone; that is not the job's fault.
            move || drop(reply.send(result))
        })?;
        // A job that ran has replied; one that did not was dropped.
        answer.recv().unwrap_or_else(|_| Err(unloaded()))
    }
}

impl Inference<'_> {
    /// As [`Model::encode_images`], on this thread. A panic in it is an error.
    pub fn encode_images(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        guarded_inference(|| {
            self.facts.check(pictures)?;
            self.images(pictures)
        })
    }

    /// As [`Model::image_parts`], on this thread. A panic in it is an error.
    pub fn image_parts(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        guarded_inference(|| {
            self.facts.check(pictures)?;
            self.parts(pictures)
        })
    }

    /// As [`Model::encode_texts`], on this thread. A panic in it is an error.
    pub fn encode_texts<S: AsRef<str>>(&self, prompts: &[S]) -> Result<TextEmbeddings> {
        guarded_inference(|| self.texts(self.facts.tokens(prompts)?))
    }

    /// Facts about the model.
    pub fn info(&self) -> &Info {
        &self.facts.info
    }

    fn images(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        self.encoders.images(self.workers, pictures)
    }

    fn parts(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        self.encoders.image_parts(self.workers, pictures)
    }

    fn texts(&self, tokens: Vec<Tokens>) -> Result<TextEmbeddings> {
        let truncated =
            tokens.iter().enumerate().filter(|(_, t)| t.truncated).map(|(i, _)| i).collect();
        let rows: Vec<Vec<u32>> = tokens.into_iter().map(|tokens| tokens.ids).collect();
        let rows = self.encoders.texts(self.workers, &rows)?;
        Ok(TextEmbeddings { rows, truncated })
    }
}

impl fmt::Debug for Inference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inference").field("info", &self.facts.info).finish_non_exhaustive()
    }
}

impl Facts {
    /// Whether each picture is of the model's size.
    fn check(&self, pictures: &[&[u8]]) -> Result<()> {
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
        Ok(())
    }

    fn tokens<S: AsRef<str>>(&self, prompts: &[S]) -> Result<Vec<Tokens>> {
        prompts.iter().map(|prompt| self.tokenizer.encode(prompt.as_ref())).collect()
    }
}

fn guarded_inference<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded("inference", ErrorKind::Internal, job)
}

/// What the thread that loaded the encoders tells of them.
struct Origin {
    folder: Result<PathBuf>,
    precision: Option<Precision>,
    bytes: u64,
}

impl Info {
    fn new(
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
struct Source {
    format: &'static str,
    path: PathBuf,
    version: String,
}

impl Source {
    fn choose(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self> {
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

fn encoders(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    device: Device,
    precision: Option<Precision>,
) -> Result<Loaded<Encoders, Origin>> {
    let (encoders, folder) = match (&options.torchscript, precision) {
        (Some(folder), _) => {
            let encoders = user::encoders(&checkpoint.config, folder, device)?;
            (encoders, Ok(folder.clone()))
        }
        (None, precision) => {
            let storage = Storage { device, precision: precision.unwrap_or_default() };
            export::encoders(checkpoint, options.cache.as_deref(), storage)?
        }
    };
    let value = Origin { folder, precision, bytes: encoders.bytes };
    // Threads divide what the CPU computes.
    let divisible = device == Device::Cpu;
    Ok(Loaded {
        shared: encoders,
        value,
        divisible,
        begin: (!divisible).then_some(Encoders::begin as _),
    })
}

/// What turns cosines into logits.
struct Logits {
    scale: f64,
    bias: Option<f64>,
}

impl Logits {
    /// `exp(logit_scale)`: the weight is the logarithm. Without weights, beside encoders that the user
    /// exported, `config.json` has it. A bias is only in the weights.
    fn read(checkpoint: &Checkpoint) -> Result<Self> {
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
