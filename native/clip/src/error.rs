//! The one error type of this crate.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Once;

/// What went wrong, for a program to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The bytes are not a picture that can be read to its end.
    InvalidImage,
    /// A picture, but of a format or a kind that is not read here.
    UnsupportedImage,
    /// The picture exceeds one of [`Limits`](crate::Limits).
    ImageTooLarge,
    /// `preprocessor_config.json` makes no sense.
    InvalidConfig,
    /// An argument of a call is out of range.
    InvalidArgument,
    /// The time of the call was over, or nobody waited for the result any more.
    Timeout,
    /// Others hold what this needs; the same may succeed when they have ended.
    Busy,
    /// A fault of this library: a panic that was caught.
    Internal,
}

impl ErrorKind {
    /// The kind as a `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImage => "invalid_image",
            Self::UnsupportedImage => "unsupported_image",
            Self::ImageTooLarge => "image_too_large",
            Self::InvalidConfig => "invalid_config",
            Self::InvalidArgument => "invalid_argument",
            Self::Timeout => "timeout",
            Self::Busy => "overloaded",
            Self::Internal => "internal",
        }
    }
}

/// What caused an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error: a kind to match on, and a sentence that names the thing, what was expected and the
/// way out.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. The message is lower case without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, for a program to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Takes it apart, for a crate whose own errors have more kinds.
    pub fn into_parts(self) -> (ErrorKind, String, Option<Source>) {
        (self.kind, self.message, self.source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
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
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
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
