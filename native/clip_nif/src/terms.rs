//! How values look as Erlang terms.

use clip::image::{DecodeOptions, Rgb};
use clip::preprocess::{Filter, Resize};
use clip::{Error, ErrorKind, Limits, LoadOptions, Preprocessing};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifMap, NifTaggedEnum, NifUnitEnum, Term};

/// `{reason, message}`.
pub(crate) struct Failure {
    reason: &'static str,
    message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { reason: error.kind().as_str(), message: error.to_string() }
    }
}

impl From<clip_hub::Error> for Failure {
    fn from(error: clip_hub::Error) -> Self {
        Self { reason: error.kind().as_str(), message: error.to_string() }
    }
}

impl Encoder for Failure {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (Atom::from_str(env, self.reason).ok(), &self.message).encode(env)
    }
}

/// Runs the body of a function so that a panic in it is an error value.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    clip::error::guarded("a native function", ErrorKind::Internal, || Ok(body()))?
}

/// Bytes that become a binary.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Encoder for Bytes {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let mut binary = NewBinary::new(env, self.0.len());
        binary.as_mut_slice().copy_from_slice(&self.0);
        Binary::from(binary).encode(env)
    }
}

/// f32 values that travel as a binary in the machine's byte order.
pub(crate) struct Floats(pub(crate) Vec<f32>);

impl Floats {
    /// Reads a binary, which need not be aligned.
    pub(crate) fn read(binary: &Binary<'_>) -> clip::Result<Vec<f32>> {
        let (floats, rest) = binary.as_slice().as_chunks::<4>();
        if rest.is_empty() {
            return Ok(floats.iter().copied().map(f32::from_ne_bytes).collect());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("expected a binary of 32-bit floats, got {} bytes", binary.len()),
        ))
    }
}

impl Encoder for Floats {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        let mut binary = NewBinary::new(env, self.0.len() * 4);
        for (bytes, float) in binary.as_mut_slice().as_chunks_mut::<4>().0.iter_mut().zip(&self.0) {
            *bytes = float.to_ne_bytes();
        }
        Binary::from(binary).encode(env)
    }
}

/// `%{device: "auto", cache_dir: path, torchscript: nil}`.
#[derive(NifMap)]
pub(crate) struct LoadOptionsTerm {
    device: String,
    cache_dir: String,
    torchscript: Option<String>,
}

impl LoadOptionsTerm {
    pub(crate) fn options(self) -> clip::Result<LoadOptions> {
        let mut options = LoadOptions::new(self.device.parse()?, self.cache_dir);
        options.torchscript = self.torchscript.map(Into::into);
        Ok(options)
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
    context_length: usize,
    image_size: usize,
    precision: &'static str,
    format: String,
    weights: String,
    tokenizer: Vec<String>,
    commit: Option<String>,
    encoders: Option<String>,
    encoders_note: Option<String>,
    preprocessing: PreprocessingTerm,
}

impl From<&clip::Info> for ModelInfo {
    fn from(info: &clip::Info) -> Self {
        let encoders = info.encoders.as_ref();
        Self {
            device: info.device.clone(),
            device_note: info.device_note.clone(),
            dim: info.dim,
            logit_scale: info.logit_scale,
            context_length: info.context_length,
            image_size: info.image_size,
            precision: "f32",
            format: info.format.to_owned(),
            weights: info.weights.display().to_string(),
            tokenizer: info.tokenizer.iter().map(|path| path.display().to_string()).collect(),
            commit: info.commit.clone(),
            encoders: encoders.ok().map(|path| path.display().to_string()),
            encoders_note: encoders.err().cloned(),
            preprocessing: (&info.preprocessing).into(),
        }
    }
}

/// The part of a model's preprocessing that happens before its encoder: plain data, so that a node
/// without the model can prepare pictures for one that has it.
#[derive(NifMap)]
pub(crate) struct PreprocessingTerm {
    resize: ResizeTerm,
    crop: Option<(u32, u32)>,
    filter: FilterTerm,
}

#[derive(NifTaggedEnum)]
enum ResizeTerm {
    ShortestEdge(u32),
    Exact(u32, u32),
}

#[derive(NifUnitEnum)]
enum FilterTerm {
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl From<&Preprocessing> for PreprocessingTerm {
    fn from(preprocessing: &Preprocessing) -> Self {
        Self {
            resize: match preprocessing.resize {
                Resize::ShortestEdge(size) => ResizeTerm::ShortestEdge(size),
                Resize::Exact { height, width } => ResizeTerm::Exact(height, width),
            },
            crop: preprocessing.crop,
            filter: match preprocessing.filter {
                Filter::Lanczos => FilterTerm::Lanczos,
                Filter::Bilinear => FilterTerm::Bilinear,
                Filter::Bicubic => FilterTerm::Bicubic,
                Filter::Box => FilterTerm::Box,
                Filter::Hamming => FilterTerm::Hamming,
            },
        }
    }
}

impl From<PreprocessingTerm> for Preprocessing {
    fn from(term: PreprocessingTerm) -> Self {
        // Mean and standard deviation belong to the encoder and stay there.
        let mut preprocessing = Self::clip(0);
        preprocessing.resize = match term.resize {
            ResizeTerm::ShortestEdge(size) => Resize::ShortestEdge(size),
            ResizeTerm::Exact(height, width) => Resize::Exact { height, width },
        };
        preprocessing.crop = term.crop;
        preprocessing.filter = match term.filter {
            FilterTerm::Lanczos => Filter::Lanczos,
            FilterTerm::Bilinear => Filter::Bilinear,
            FilterTerm::Bicubic => Filter::Bicubic,
            FilterTerm::Box => Filter::Box,
            FilterTerm::Hamming => Filter::Hamming,
        };
        preprocessing
    }
}

/// `{:encoded, bytes}` or `{:raw, bytes, height, width, channels}`.
#[derive(NifTaggedEnum)]
pub(crate) enum Source<'a> {
    Encoded(Binary<'a>),
    Raw(Binary<'a>, u32, u32, u32),
}

impl Source<'_> {
    /// The picture's upright RGB pixels.
    pub(crate) fn decode(&self, options: &DecodeOptions) -> clip::Result<Rgb> {
        match self {
            Self::Encoded(bytes) => clip::image::decode(bytes, options),
            Self::Raw(bytes, height, width, channels) => {
                clip::image::from_raw(bytes, *height, *width, *channels, options)
            }
        }
    }
}

/// The background for transparent pixels, and what a picture may cost.
#[derive(NifMap)]
pub(crate) struct ImageOptions {
    background: Option<(u8, u8, u8)>,
    max_pixels: u64,
    max_side: u32,
    max_bytes: u64,
    max_decode_bytes: u64,
}

impl From<ImageOptions> for DecodeOptions {
    fn from(options: ImageOptions) -> Self {
        Self {
            background: options.background.map(|(red, green, blue)| [red, green, blue]),
            limits: Limits {
                max_pixels: options.max_pixels,
                max_side: options.max_side,
                max_bytes: options.max_bytes,
                max_decode_bytes: options.max_decode_bytes,
            },
        }
    }
}
