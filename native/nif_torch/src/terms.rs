//! How values look as Erlang terms.

use clip_torch::{LoadOptions, Precision};
use nif_terms::PreprocessingTerm;
use rustler::NifMap;

/// `%{device: "auto", cache_dir: path or nil, torchscript: nil, precision: "f32", concurrency: 1,
/// threads: 4}`.
#[derive(NifMap)]
pub(crate) struct LoadOptionsTerm {
    device: String,
    cache_dir: Option<String>,
    torchscript: Option<String>,
    precision: String,
    concurrency: usize,
    threads: usize,
}

impl LoadOptionsTerm {
    pub(crate) fn options(self) -> clip_torch::Result<LoadOptions> {
        Ok(LoadOptions {
            device: self.device.parse()?,
            cache: self.cache_dir.map(Into::into),
            torchscript: self.torchscript.map(Into::into),
            precision: self.precision.parse()?,
            concurrency: self.concurrency,
            threads: self.threads,
        })
    }
}

/// What `model_info` answers.
#[derive(NifMap)]
#[rustler(encode)]
pub(crate) struct ModelInfo {
    device: String,
    device_note: Option<String>,
    dim: usize,
    logit_scale: f64,
    logit_bias: Option<f64>,
    family: &'static str,
    context_length: usize,
    image_size: usize,
    patch_size: usize,
    precision: Option<&'static str>,
    memory: u64,
    concurrency: usize,
    threads: usize,
    format: String,
    weights: String,
    tokenizer: Vec<String>,
    commit: String,
    encoders: Option<String>,
    encoders_note: Option<String>,
    preprocessing: PreprocessingTerm,
}

impl From<&clip_torch::Info> for ModelInfo {
    fn from(info: &clip_torch::Info) -> Self {
        let encoders = info.encoders.as_ref();
        Self {
            device: info.device.clone(),
            device_note: info.device_note.clone(),
            dim: info.dim,
            logit_scale: info.logit_scale,
            logit_bias: info.logit_bias,
            family: info.family.model_type,
            context_length: info.context_length,
            image_size: info.image_size,
            patch_size: info.patch_size,
            precision: info.precision.map(Precision::name),
            memory: info.memory,
            concurrency: info.concurrency,
            threads: info.threads,
            format: info.format.to_owned(),
            weights: info.weights.display().to_string(),
            tokenizer: info.tokenizer.iter().map(|path| path.display().to_string()).collect(),
            commit: info.version.clone(),
            encoders: encoders.ok().map(|path| path.display().to_string()),
            encoders_note: encoders.err().map(|error| nif_terms::message(error)),
            preprocessing: (&info.preprocessing).into(),
        }
    }
}
