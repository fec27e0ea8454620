//! What both bridges to the Erlang VM need: failures, and the values that travel between them.

mod preprocessing;

// Only a panic that unwinds can be caught before it reaches the VM.
#[cfg(not(panic = "unwind"))]
compile_error!("the native library needs panics that unwind: take `panic=abort` out of RUSTFLAGS");

use std::borrow::Cow;

use clip::error::{Limit, Remedy, caught};
use clip::{Error, ErrorKind, Result};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Term};

pub use preprocessing::PreprocessingTerm;

/// `{reason, message}`.
#[derive(Debug)]
pub struct Failure {
    reason: &'static str,
    message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { reason: error.kind().as_str(), message: message(&error) }
    }
}

/// What an error says to a user of the Elixir library.
pub fn message(error: &Error) -> String {
    error.message(in_elixir)
}

/// A way out, in the words of Elixir's side: the one place for the names of its options and tasks.
fn in_elixir(remedy: &Remedy) -> String {
    let fixed = match remedy {
        Remedy::Raise(Limit::Pixels) => "raise :max_pixels",
        Remedy::Raise(Limit::Side) => "raise :max_side",
        Remedy::Raise(Limit::Bytes) => "raise :max_bytes",
        Remedy::Raise(Limit::DecodeBytes) => "raise :max_decode_bytes",
        Remedy::Raise(Limit::DecodeTime) => "raise :max_decode_ms",
        Remedy::RaiseMaxSize => "raise :max_size",
        Remedy::MoreTime => "raise :timeout",
        Remedy::IgnoreProfile => "decode it without its profile with color_profile: :ignore",
        Remedy::NameEncoderCache => "set HOME or XDG_CACHE_HOME, or give one as :cache_dir",
        Remedy::NameHubCache => "give one as :hub_cache",
        Remedy::FetchElsewhere(repo) => {
            return format!(
                "run `mix image_vision.download_models --zero-shot --repo {repo}` where there is a \
                 network"
            );
        }
    };
    fixed.to_owned()
}

impl Encoder for Failure {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (Atom::from_str(env, self.reason).ok(), &self.message).encode(env)
    }
}

/// Runs the body of a function so that a panic in it is an error value.
pub fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
    let result = caught(body).unwrap_or_else(|panic| {
        let message = format!("a native function failed: {panic}");
        Err(Error::new(ErrorKind::Internal, message))
    });
    result.map_err(Failure::from)
}

/// f32 values that travel as a binary in the machine's byte order.
#[derive(Debug)]
pub struct Floats(pub Vec<f32>);

impl Floats {
    /// Reads a binary where it lies, or copies it if that is not where floats may lie.
    pub fn read<'a>(binary: &'a Binary<'_>) -> Result<Cow<'a, [f32]>> {
        if let Ok(floats) = bytemuck::try_cast_slice(binary.as_slice()) {
            return Ok(Cow::Borrowed(floats));
        }
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
