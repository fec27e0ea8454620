//! What a thread needs before it uses libtorch.

use std::thread::Builder;

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::inference_mode::InferenceMode;

/// Stack of an inference thread. libtorch has been seen to overflow 320 KB.
const STACK: usize = 8 * 1024 * 1024;

/// Does the work of a thread of a model, with so many threads inside libtorch.
pub(crate) fn with_threads(threads: usize, work: impl FnOnce()) {
    // Nothing in it is known to fail; if it does, there is one thread less.
    let _ = guarded("serving", ErrorKind::Internal, || {
        let _settings = {
            let _at_work = crate::runtime::exit::at_work();
            Settings::of_this_thread(threads)?
        };
        work();
        Ok(())
    });
}

/// What libtorch keeps for each thread.
pub(crate) struct Settings {
    _inference: InferenceMode,
}

impl Settings {
    /// Sets this thread's number of threads, which each must do for itself: OpenMP and MKL keep it
    /// for each thread that calls them.
    ///
    /// libtorch keeps the last number of the whole process too, and a thread takes that one over
    /// at its first operation. To ask is such an operation: it comes first, so that no later one
    /// undoes the setting.
    pub(crate) fn of_this_thread(threads: usize) -> Result<Self> {
        guarded("setting the number of threads", ErrorKind::Torch, || {
            tch::get_num_threads();
            tch::set_num_threads(threads as i32);
            Ok(Self { _inference: InferenceMode::begin()? })
        })
    }
}

/// A thread that is to use libtorch.
pub(crate) fn thread() -> Builder {
    Builder::new().name("clip-inference".to_owned()).stack_size(STACK)
}

/// The system refused one.
pub(crate) fn no_thread(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot start an inference thread: {error}"))
        .with_source(error)
}
