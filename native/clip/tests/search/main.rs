//! Nearest neighbours: what is found, by whom at the same time, and what a file keeps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod concurrency;
mod entries;
mod files;
mod neighbours;
mod recall;
mod support;
