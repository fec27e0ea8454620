//! Exact nearest neighbours in memory.
//!
//! ```text
//! unit vectors ── Index::put ──> blocks of rows ── Team::search ──> the k best, by a message
//! ```
//!
//! An [`Index`] holds its rows in blocks of a megabyte that are never changed while somebody reads them:
//! a search takes hold of the blocks as they are, and a writer that changes one meanwhile changes a
//! copy. So searches and writers do not wait for each other, a search sees the index as it was at one
//! moment, and so does a file.
//!
//! A [`Team`] of threads takes the searches that wait for an index, up to 64, and reads its rows once for
//! all of them. Whoever asks often waits in turns with the others.

mod block;
mod file;
mod ids;
mod index;
mod kernel;
mod lines;
mod pass;
mod state;
mod team;
mod top;
mod turns;

pub use ids::{Id, Ids};
pub use index::{Index, Model, Settings};
pub use kernel::{Instructions, Row};
pub use lines::{F16x16, F32x16, I8x64, U8x64};
pub use pass::{Asker, Hit, Query, Search};
pub use team::Team;

/// Most components of a vector: the products of more bytes would not fit 32 bits.
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
    /// A byte a component to look through, and a second one for the last digits of those that come into
    /// question. Together they hold 16 bits relative to the largest component.
    I8,
}
