//! What both bridges to the Erlang VM need: failures, and the values that travel between them.

mod preprocessing;

// Only a panic that unwinds can be caught before it reaches the VM.
#[cfg(not(panic = "unwind"))]
compile_error!("the native library needs panics that unwind: take `panic=abort` out of RUSTFLAGS");

use std::borrow::Cow;
use std::fmt::Display;

use clip::error::caught;
use clip::{Error, ErrorKind, Result};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, Term};

pub use preprocessing::PreprocessingTerm;

/// `{reason, message}`.
#[derive(Debug)]
pub struct Failure {
    reason: &'static str,
    message: String,
}

impl Failure {
    /// What became of an error.
    pub fn new(reason: &'static str, error: impl Display) -> Self {
        Self { reason, message: error.to_string() }
    }
}

impl Encoder for Failure {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (Atom::from_str(env, self.reason).ok(), &self.message).encode(env)
    }
}

/// Runs the body of a function so that a panic in it is an error value. `reason` gives the word for
/// the kind of an error.
pub fn guarded<T, E: Display>(
    reason: fn(&E) -> &'static str,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, Failure> {
    match caught(body) {
        Ok(result) => result.map_err(|error| Failure::new(reason(&error), error)),
        Err(panic) => Err(Failure::new("internal", format!("a native function failed: {panic}"))),
    }
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
