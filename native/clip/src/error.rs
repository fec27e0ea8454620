//! The one error type, here and in the crates that build on this one.

mod kind;
mod remedy;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Once};

pub use kind::ErrorKind;
pub use remedy::{Limit, Remedy};

/// What caused an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error: a kind to match on, and a sentence that names the thing, what was expected and the
/// way out.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    remedy: Option<Remedy>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, source: None }
    }

    /// Ends the message with a way out: the message leads up to it, such as `...; resize it or`.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Says where it happened, in front of the message.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// What went wrong, for a program to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, with the remedy in words of the caller's choice.
    pub fn message(&self, words: impl FnOnce(&Remedy) -> String) -> String {
        match &self.remedy {
            None => self.message.clone(),
            Some(remedy) => format!("{} {}", self.message, words(remedy)),
        }
    }
}

// Nothing in an error changes once it is made, its source included.
impl UnwindSafe for Error {}
impl RefUnwindSafe for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(Remedy::to_string))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `job`, and gives the text and the place of the panic if there was one. Nothing is written to
/// standard error: a hostile file could fill a log with it.
pub fn caught<T>(job: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if CATCHING.get() {
                let place = panic.location().map(ToString::to_string);
                PLACE.replace(place.unwrap_or_default());
            } else {
                before(panic);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    // What `job` borrowed is dropped or discarded by every caller when it fails.
    let result = std::panic::catch_unwind(AssertUnwindSafe(job));
    CATCHING.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("{} at {}", text.unwrap_or("a panic without a message"), PLACE.take())
    })
}

/// Runs `job` so that a panic in it becomes an error. For parsers that are known to panic on hostile
/// input.
pub fn guarded<T>(what: &str, kind: ErrorKind, job: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(job).unwrap_or_else(|panic| Err(Error::new(kind, format!("{what} failed: {panic}"))))
}
