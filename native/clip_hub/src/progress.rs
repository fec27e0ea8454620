//! What a caller hears while a model is fetched, and how it says stop.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// One step of a download.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The hub is asked whether it has a file.
    Asking {
        /// The file.
        file: &'a str,
    },
    /// Everything that is needed is known.
    Planned {
        /// The commit the revision is at.
        commit: &'a str,
        /// How many files the model has here.
        files: usize,
        /// Bytes that still have to come.
        bytes: u64,
        /// Bytes that the cache has already.
        cached: u64,
    },
    /// A file is being downloaded. Comes again when it is tried again.
    Started {
        /// The file.
        file: &'a str,
        /// From which byte. What came before is kept.
        done: u64,
        /// Its size, where the hub says.
        bytes: Option<u64>,
    },
    /// So much of the file is here.
    Advanced {
        /// The file.
        file: &'a str,
        /// Bytes so far.
        done: u64,
        /// Its size, where the hub says.
        bytes: Option<u64>,
    },
    /// The file is here, whole and checked.
    Finished {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// Another process downloads the file. Comes a few times a second.
    Waiting {
        /// The file.
        file: &'a str,
        /// Bytes the other process has so far.
        done: u64,
    },
    /// A request failed and is sent again after a pause. Comes a few times a second.
    Retrying {
        /// The file.
        file: &'a str,
        /// Which attempt comes next, from 2.
        attempt: u32,
        /// What is left of the pause.
        pause: Duration,
        /// What went wrong.
        error: &'a Error,
    },
}

/// Passes steps on, and turns a stop into an error.
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
                Err(Error::new(ErrorKind::Cancelled, "the download was stopped by its caller"))
            }
        }
    }
}
