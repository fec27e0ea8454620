//! The one error type of this crate.

use std::fmt;

use clip::error::{Source, caught};

/// What went wrong, for a program to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not a picture that can be read to its end.
    InvalidImage,
    /// A picture, but of a format or a kind that is not read here.
    UnsupportedImage,
    /// The picture exceeds one of [`Limits`](crate::Limits).
    ImageTooLarge,
    /// A file of the checkpoint is missing.
    NotFound,
    /// `config.json` or `preprocessor_config.json` makes no sense.
    InvalidConfig,
    /// The weights are damaged, incomplete or of another shape than the config says.
    InvalidWeights,
    /// `tokenizer.json` cannot be used with the model.
    InvalidTokenizer,
    /// A sound checkpoint of something that is not a CLIP model.
    UnsupportedModel,
    /// The device asked for is not there.
    DeviceUnavailable,
    /// The device has no memory left for the call.
    OutOfMemory,
    /// An argument of a call is out of range.
    InvalidArgument,
    /// The model was unloaded.
    ModelUnloaded,
    /// A file could not be read or written.
    Io,
    /// libtorch refused an operation.
    Torch,
    /// The time of the call was over before a picture was decoded.
    Timeout,
    /// Other pictures hold the memory that decoding this one takes.
    Busy,
    /// A fault of this library: a panic that was caught.
    Internal,
}

impl ErrorKind {
    /// The kind as a `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImage => "invalid_image",
            Self::UnsupportedImage => "unsupported_image",
            Self::ImageTooLarge => "image_too_large",
            Self::NotFound => "not_found",
            Self::InvalidConfig => "invalid_config",
            Self::InvalidWeights => "invalid_weights",
            Self::InvalidTokenizer => "invalid_tokenizer",
            Self::UnsupportedModel => "unsupported_model",
            Self::DeviceUnavailable => "device_unavailable",
            Self::OutOfMemory => "out_of_memory",
            Self::InvalidArgument => "invalid_argument",
            Self::ModelUnloaded => "model_unloaded",
            Self::Io => "io",
            Self::Torch => "torch",
            Self::Timeout => "timeout",
            Self::Busy => "overloaded",
            Self::Internal => "internal",
        }
    }
}

/// An error: a kind to match on, and a sentence that names the thing, what was expected and the
/// way out.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, for a program to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = match &error {
            tch::TchError::Torch(text) => text.clone(),
            other => other.to_string(),
        };
        let cause = cause(&text);
        let kind = if NO_MEMORY.iter().any(|phrase| cause.contains(phrase)) {
            ErrorKind::OutOfMemory
        } else {
            ErrorKind::Torch
        };
        Self::new(kind, format!("libtorch: {cause}")).with_source(error)
    }
}

/// How libtorch says that there is no memory left: CUDA's allocator, the CPU's, and cuBLAS.
const NO_MEMORY: [&str; 3] =
    ["out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"];

/// The line of libtorch's message that a person can use.
///
/// A C++ backtrace may follow it, and inside an encoder TorchScript puts a traceback of its program
/// in front.
fn cause(text: &str) -> &str {
    let raised = text.lines().find_map(|line| line.strip_prefix("RuntimeError: "));
    raised.or_else(|| text.lines().next()).unwrap_or_default()
}

impl From<clip::Error> for Error {
    fn from(error: clip::Error) -> Self {
        use clip::ErrorKind as Base;

        let (kind, message, source) = error.into_parts();
        let kind = match kind {
            Base::InvalidImage => ErrorKind::InvalidImage,
            Base::UnsupportedImage => ErrorKind::UnsupportedImage,
            Base::ImageTooLarge => ErrorKind::ImageTooLarge,
            Base::InvalidConfig => ErrorKind::InvalidConfig,
            Base::InvalidArgument => ErrorKind::InvalidArgument,
            Base::Timeout => ErrorKind::Timeout,
            Base::Busy => ErrorKind::Busy,
            Base::Internal => ErrorKind::Internal,
        };
        Self { kind, message, source }
    }
}

/// Runs `job` so that a panic in it becomes an error.
///
/// For parsers that are known to panic on hostile input, and for libtorch calls that unwrap.
pub fn guarded<T>(what: &str, kind: ErrorKind, job: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(job).unwrap_or_else(|panic| Err(Error::new(kind, format!("{what} failed: {panic}"))))
}

#[cfg(test)]
mod tests {
    use tch::{CModule, Device, Kind, Tensor};

    use super::*;

    /// More bytes than a process can address, so that no allocator tries.
    const TOO_MUCH: i64 = 1 << 48;

    #[test]
    fn memory_that_an_encoder_does_not_get_is_out_of_memory() {
        let example = Tensor::f_zeros([1], (Kind::Uint8, Device::Cpu)).unwrap();
        let mut double = |x: &[Tensor]| vec![x[0].f_add(&x[0]).unwrap()];
        let traced =
            CModule::create_by_tracing("M", "forward", &[example.shallow_clone()], &mut double)
                .unwrap();
        let large = example.f_expand([TOO_MUCH], false).unwrap();

        for error in [large.f_add(&large).unwrap_err(), traced.forward_ts(&[large]).unwrap_err()] {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
            assert!(error.to_string().contains("you tried to allocate"), "{error}");
        }
    }

    #[test]
    fn memory_that_cublas_does_not_get_is_out_of_memory() {
        let text = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`";
        let error = Error::from(tch::TchError::Torch(text.to_owned()));
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    fn an_error_of_the_base_keeps_its_kind_its_message_and_its_source() {
        use clip::ErrorKind as Base;

        for kind in [
            Base::InvalidImage,
            Base::UnsupportedImage,
            Base::ImageTooLarge,
            Base::InvalidConfig,
            Base::InvalidArgument,
            Base::Internal,
        ] {
            let base = clip::Error::new(kind, "what happened").with_source("the cause");
            let error = Error::from(base);
            assert_eq!(error.kind().as_str(), kind.as_str());
            assert_eq!(error.to_string(), "what happened");
            assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the cause");
        }
    }
}
