//! [`clip::Error`], which libtorch's errors become too.

use std::fmt;
use std::ops::Deref;

use clip::error::{Remedy, Source, caught};

pub use clip::ErrorKind;

/// A [`clip::Error`]. A type of its own, because only a crate's own type can say in it how an error
/// of `tch` is converted.
#[derive(Debug, Clone)]
pub struct Error(clip::Error);

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(clip::Error::new(kind, message))
    }

    /// Says where it happened, in front of the message.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self(self.0.at(place))
    }

    /// Ends the message with a way out: the message leads up to it, such as `...; resize it or`.
    #[must_use]
    pub fn with_remedy(self, remedy: Remedy) -> Self {
        Self(self.0.with_remedy(remedy))
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(self, source: impl Into<Source>) -> Self {
        Self(self.0.with_source(source))
    }
}

impl Deref for Error {
    type Target = clip::Error;

    fn deref(&self) -> &clip::Error {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

impl From<clip::Error> for Error {
    fn from(error: clip::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for clip::Error {
    fn from(error: Error) -> Self {
        error.0
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
}
