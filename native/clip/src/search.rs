//! Exact nearest neighbours in memory.
//!
//! ```text
//! unit vectors ── Index::put ──> blocks of rows ── SearchThreads::search ──> the k best, by a message
//! ```
//!
//! An [`Index`] holds its rows in blocks of a megabyte. A block does not change while a search reads it: a
//! writer changes a copy. So searches and writers do not wait for each other, and a search, like a
//! save, sees the index as it was at one moment.
//!
//! [`SearchThreads`] take up to 64 searches that wait for an index together, and read its rows once for all of
//! them. Callers take turns.

mod block;
mod file;
mod ids;
mod index;
mod kernel;
mod lines;
mod model;
mod pass;
mod state;
mod threads;
mod top;
mod turns;

pub use ids::{Id, Ids};
pub use index::{Index, Settings};
pub use kernel::{Instructions, Row};
pub use lines::{F16x16, F32x16, I8x64, U8x64};
pub use model::Model;
pub use pass::{Asker, Hit, Query, Search};
pub use threads::SearchThreads;

/// Most components of a vector: the sum of more products of bytes would not fit 32 bits.
pub const MAX_DIM: usize = 65_536;

/// Longest id.
pub const MAX_ID: usize = 65_536;

/// How vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As they are: 4 bytes a component.
    F32,
    /// Rounded to half precision: 2 bytes a component.
    F16,
    /// Two bytes a component, 16 bits relative to the largest one. A search reads the upper bytes of all
    /// rows, and both bytes of the candidates.
    I8,
}
