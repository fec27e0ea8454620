//! From the name of a model to a directory on this machine.
//!
//! [`fetch`] takes a [`Repo`], `openai/clip-vit-base-patch32` at `main`, and returns a
//! [`Snapshot`]: the directory with the files a CLIP model is loaded from.
//!
//! ```text
//! cache: refs/main ── commit ── snapshots/<commit> ── all files there ──> Snapshot, no request
//! hub:   HEAD every file ── commit, hash, size ── GET missing files ── hash checked
//!        ── rename into blobs/ ── link from snapshots/ ── refs/main ──> Snapshot
//! ```
//!
//! The cache is Hugging Face's own: we use what Python's `huggingface_hub` downloaded, and it finds
//! what we download. The reference for its layout, its variables and the protocol is
//! `huggingface_hub` 2.4.
//!
//! Everything from outside is hostile until checked: names and hashes before they become paths,
//! content against its hash before it becomes a blob, redirects before we follow them. A file is
//! in the cache whole or not at all, whenever a process dies. Only the endpoint gets the token.
//!
//! A connection that breaks is resumed by the process that has the first part. What another process
//! left is not resumed, as in `huggingface_hub`: nobody knows what it is.

mod cache;
mod download;
mod environment;
mod error;
mod fetch;
mod hash;
mod http;
mod names;
mod options;
mod plan;
mod progress;
mod refusal;
mod transfer;
mod url;
mod write;

pub use cache::{Snapshot, SnapshotFile};
pub use environment::{Overrides, TokenChoice};
pub use error::{Error, ErrorKind, Result};
pub use fetch::{cached, fetch};
pub use names::Repo;
pub use options::{HubOptions, Retries, Timeouts, Token};
pub use progress::Progress;
