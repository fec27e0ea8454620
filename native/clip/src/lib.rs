//! The half of CLIP that needs no libtorch.
//!
//! ```text
//! encoded bytes ── image::decode ──> upright RGB ── Preprocessing::apply ──> u8 [3, side, side]
//!              └── Preprocessing::read, both in one ─────────────────────┘
//! unit embeddings ── score::rank ──> probabilities
//! unit embeddings ── search::Index ──> nearest neighbours
//! parts of an embedding ── explain::accounts ──> maps ── explain::Drawing ──> pictures of them
//! ```
//!
//! A node that sends its pictures to another one's GPU needs no more than this, and libtorch costs
//! a process 100 MB. The crate `clip_torch` has the encoders in between. Pictures are decoded wherever the
//! caller wants, or on the threads of a [`Pool`](pool::Pool).
//!
//! Nothing here knows of the Erlang VM, and nothing panics on what a user can send: parsers that
//! are known to are guarded.

pub mod budget;
pub mod checkpoint;
pub mod error;
pub mod explain;
pub mod image;
pub mod limits;
pub mod pool;
pub mod preprocess;
pub mod priority;
pub mod score;
pub mod search;
pub mod thumbnail;

pub use budget::Budget;
pub use error::{Error, ErrorKind, Result};
pub use limits::Limits;
pub use preprocess::Preprocessing;
