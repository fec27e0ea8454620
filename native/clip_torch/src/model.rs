//! A loaded model: what callers hold.

mod info;
mod options;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use tch::{Device, Kind};

pub use self::info::Info;
use self::info::{Logits, Origin, Source};
pub use self::options::LoadOptions;
use crate::checkpoint::Checkpoint;
use crate::encoders::encoder::Encoders;
use crate::encoders::{export, user};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::device;
use crate::runtime::precision::Precision;
use crate::runtime::threads::{Answer, InferenceThreads, Loaded, unloaded};
use crate::runtime::workers::Workers;
use crate::tokenizer::{Tokenizer, Tokens};
use crate::towers::matmul::Storage;

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
        let checkpoint = Checkpoint::open(directory)?;
        let source = Source::choose(&checkpoint, options)?;
        let chosen = {
            let _at_work = crate::runtime::exit::at_work();
            // On, the first calls of every shape take up to three times as long, and later ones are no
            // faster (shared by the whole process).
            tch::jit::f_set_profiling_mode(false)?;
            device::choose(options.device)?
        };
        // CLIP was trained in f16; SigLIP and others in bf16, whose range is wider.
        let in_half = checkpoint.config.family.model_type == "clip";
        let precision = options.precision(chosen.device, in_half)?;
        let (threads, loaded) = InferenceThreads::start(parallelism, {
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

    /// Queues a job for the next inference thread that is free, and returns at once. The job returns a function that
    /// answers, which is called last.
    ///
    /// A job that still waits when the model is unloaded or dropped is dropped, with all that it
    /// holds. A panic ends the job alone. A job must not unload its own model, which would wait for
    /// the job.
    pub fn submit<A: FnOnce() + 'static>(
        &self,
        job: impl FnOnce(&Inference<'_>) -> A + Send + 'static,
    ) -> Result<()> {
        let facts = Arc::clone(&self.facts);
        let run = move |encoders: &Encoders, workers: &Workers<Encoders>| {
            Box::new(job(&Inference { facts: &facts, encoders, workers })) as Answer
        };
        self.threads.submit(Box::new(run))
    }

    /// Unit embeddings of preprocessed pictures: each `3 * image_size * image_size` bytes, all in
    /// one batch. Returns `[pictures, dim]`, row after row.
    pub fn encode_images(&self, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        self.facts.check(pictures)?;
        let pictures: Vec<Vec<u8>> = pictures.iter().map(|picture| picture.to_vec()).collect();
        self.wait_for(move |inference| {
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
        self.wait_for(move |inference| {
            inference.parts(&pictures.iter().map(Vec::as_slice).collect::<Vec<_>>())
        })
    }

    /// Unit embeddings of prompts.
    pub fn encode_texts<S: AsRef<str>>(&self, prompts: &[S]) -> Result<TextEmbeddings> {
        let tokens = self.facts.tokens(prompts)?;
        self.wait_for(move |inference| inference.texts(tokens))
    }

    /// Frees the encoders and waits until they are freed: as long as the calls take that run. Those
    /// that wait, and later ones, fail with [`ErrorKind::ModelUnloaded`].
    pub fn unload(&self) {
        self.threads.stop();
    }

    /// Provokes a failure on an inference thread.
    #[doc(hidden)]
    pub fn drill(&self, drill: Drill) -> Result<()> {
        self.wait_for(move |inference| match drill {
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
        job: impl FnOnce(&Inference<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = channel();
        self.submit(move |inference| {
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
            let storage = Storage { device, precision: precision.unwrap_or_default(), fine: false };
            let threads = options.concurrency * options.threads;
            export::encoders(checkpoint, options.cache.as_deref(), storage, threads)?
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
