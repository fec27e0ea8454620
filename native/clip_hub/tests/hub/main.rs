//! Tests of the hub and its cache, against a scripted hub.

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
