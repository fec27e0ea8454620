//! Progress of a fetch, as its caller hears it.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// One step of a fetch.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// We ask the hub whether it has a file.
    Asking {
        /// The file.
        file: &'a str,
    },
    /// All files to fetch are known.
    Planned {
        /// The commit the revision is at.
        commit: &'a str,
        /// How many files the model has here.
        files: usize,
        /// Bytes to download.
        bytes: u64,
        /// Bytes that are in the cache.
        cached: u64,
    },
    /// The download of a file starts. Sent again for every attempt.
    Started {
        /// The file.
        file: &'a str,
        /// Bytes kept from earlier attempts.
        done: u64,
        /// Its size, if the hub tells it.
        bytes: Option<u64>,
    },
    /// Some of a file has arrived.
    Advanced {
        /// The file.
        file: &'a str,
        /// Bytes so far.
        done: u64,
        /// Its size, if the hub tells it.
        bytes: Option<u64>,
    },
    /// The file has arrived, whole and checked.
    Finished {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// Another process is downloading the file. Sent a few times a second.
    Waiting {
        /// The file.
        file: &'a str,
        /// Bytes the other process has so far.
        done: u64,
    },
    /// A request failed and is sent again after a pause. Sent a few times a second.
    Retrying {
        /// The file.
        file: &'a str,
        /// Number of the next attempt, from 2.
        attempt: u32,
        /// Rest of the pause.
        pause: Duration,
        /// What went wrong.
        error: &'a Error,
    },
}

/// Passes steps on to the caller. Its stop becomes an error.
pub(crate) struct Reporter<'a> {
    callback: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(callback: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) -> Self {
        Self { callback }
    }

    pub(crate) fn tell(&mut self, step: Progress<'_>) -> Result<()> {
        match (self.callback)(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(Error::new(ErrorKind::Cancelled, "the caller stopped the download"))
            }
        }
    }
}
