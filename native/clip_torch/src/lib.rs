//! CLIP on libtorch: pictures and prompts in, unit embeddings out.
//!
//! A [`Model`] is loaded from a directory in Hugging Face layout. The path of a picture:
//!
//! ```text
//! encoded bytes ── image::decode ──> upright RGB ── Preprocessing::apply ──> u8 [3, side, side]
//!     ── Model::encode_images ──> unit embedding ── score::scores ──> probabilities
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

mod checkpoint;
pub mod config;
mod encoders;
pub mod error;
mod model;
mod runtime;
mod tensor;
mod tokenizer;
mod towers;
mod weights;

pub use checkpoint::Checkpoint;
pub use clip::{Limits, Preprocessing, image, limits, preprocess, score};
pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use model::Drill;
pub use model::{Inference, Info, LoadOptions, Model, TextEmbeddings};
pub use runtime::device::{self, DeviceRequest};
pub use tokenizer::{MAX_PROMPT_BYTES, Tokenizer, Tokens};
#[doc(hidden)]
pub use weights::read_weights;
