//! CLIP on libtorch: pictures and prompts in, unit embeddings out.
//!
//! A [`Model`] is loaded from a directory in Hugging Face layout. The path of a picture:
//!
//! ```text
//! encoded bytes ── image::decode ──> upright RGB ── Preprocessing::apply ──> u8 [3, side, side]
//!     ── Model::encode_images ──> unit embedding ── score::rank ──> probabilities
//! prompt ── Tokenizer ──> token ids ── Model::encode_texts ──> unit embedding ──┘
//! ```
//!
//! The two towers are written once in libtorch operations, `towers/vision.rs` and `towers/text.rs`, filled
//! from safetensors, traced to TorchScript with a dynamic batch, and kept in a cache. The oracle is
//! Hugging Face transformers' `CLIPModel`; preprocessing is OpenAI's recipe on Pillow. What of the
//! path needs no libtorch, pictures and scores, is the crate `clip`.
//!
//! Nothing here knows of the Erlang VM, and nothing panics on what a user can send: parsers that
//! are known to are guarded, and libtorch is called by its fallible functions alone.
//!
//! # Failures for tests
//!
//! `Drill` provokes a panic and a C++ exception on an inference thread; the bridges have a `drill`
//! function and two kinds of picture for the same purpose. They are part of the shipped library on
//! purpose: what they test is that the very library that users load survives them. Behind a cargo
//! feature, the tests would load another library, and a build would be needed for each. They cannot
//! be reached from the public API, and no input leads to them.

mod checkpoint;
mod cpp;
mod encoders;
pub mod error;
mod model;
mod runtime;
mod tensor;
mod tokenizer;
mod towers;
mod weights;

pub use checkpoint::Checkpoint;
pub use clip::checkpoint::config;
pub use clip::{Limits, Preprocessing, image, limits, preprocess, score};
pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use model::Drill;
pub use model::{Inference, Info, LoadOptions, Model, TextEmbeddings};
pub use runtime::device::{self, DeviceRequest};
pub use runtime::precision::{Precision, PrecisionRequest};
pub use tokenizer::{MAX_PROMPT_BYTES, Tokenizer, Tokens};
#[doc(hidden)]
pub use weights::read_weights;
