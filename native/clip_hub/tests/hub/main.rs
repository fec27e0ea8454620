//! The hub and its cache, against a hub that answers by a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod copies;
mod disk;
mod faults;
mod hostile;
mod links;
mod pipes;
mod processes;
mod redirects;
mod resume;
mod server;
mod site;
mod support;
