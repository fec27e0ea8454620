//! From the name of a model to a directory on this machine.
//!
//! [`fetch`] takes a [`Repo`], `openai/clip-vit-base-patch32` at `main`, and returns a
//! [`Snapshot`]: the directory with the files a CLIP model is loaded from.
//!
//! ```text
//! cache: refs/main ── commit ── snapshots/<commit> ── all files there ──> Snapshot, no request
//! hub:   HEAD every file ── commit, hash, size ── GET what is absent ── hash checked
//!        ── rename into blobs/ ── link from snapshots/ ── refs/main ──> Snapshot
//! ```
//!
//! The cache is Hugging Face's own: what Python's `huggingface_hub` downloaded is used, and it
//! finds what we download. The reference for its layout, its variables and the protocol is
//! `huggingface_hub` 2.4.
//!
//! What comes from outside is hostile until checked: names and hashes before they become paths,
//! content against its hash before it becomes a blob, redirects before they are followed. A file is
//! in the cache whole or not at all, whenever a process dies. The token goes to the endpoint and
//! to nobody else.
//!
//! A connection that breaks is resumed by the process that has the first part; what another process
//! left is not, as in `huggingface_hub`: nobody knows what it is.

mod download;
mod environment;
mod error;
mod fetch;
mod hash;
mod http;
mod layout;
mod lock;
mod metadata;
mod names;
mod needed;
mod options;
mod plan;
mod progress;
mod resolver;
mod retry;
mod snapshot;
mod status;
mod subject;
mod token;
mod transfer;
mod url;
mod write;

pub use error::{Error, ErrorKind, Result};
pub use fetch::{cached, fetch};
pub use names::Repo;
pub use options::{HubOptions, Overrides, Retries, Timeouts};
pub use progress::Progress;
pub use snapshot::{Snapshot, SnapshotFile};
pub use token::{Token, TokenChoice};
