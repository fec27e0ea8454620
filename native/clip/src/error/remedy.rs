//! What the caller can do, where that has another name on the caller's side.

use std::fmt;

/// One of [`Limits`](crate::Limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `max_pixels`.
    Pixels,
    /// `max_side`.
    Side,
    /// `max_bytes`.
    Bytes,
    /// `max_decode_bytes`.
    DecodeBytes,
    /// `max_decode_time`.
    DecodeTime,
}

/// A way out that needs a setting or a command of the caller's side.
///
/// An error shows it in the words of these crates. A bridge to another language shows its own:
/// there the same setting has another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// To raise a limit of the picture.
    Raise(Limit),
    /// To raise the most entries of an index.
    RaiseMaxSize,
    /// To give the call more time.
    MoreTime,
    /// To decode the picture without its colour profile.
    IgnoreProfile,
    /// To name a directory in which exported encoders are kept.
    NameEncoderCache,
    /// To name a directory for the Hub's cache.
    NameHubCache,
    /// To fetch this repository where there is a network.
    FetchElsewhere(String),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raise(Limit::Pixels) => "raise max_pixels",
            Self::Raise(Limit::Side) => "raise max_side",
            Self::Raise(Limit::Bytes) => "raise max_bytes",
            Self::Raise(Limit::DecodeBytes) => "raise max_decode_bytes",
            Self::Raise(Limit::DecodeTime) => "raise max_decode_time",
            Self::RaiseMaxSize => "raise max_size",
            Self::MoreTime => "allow more time",
            Self::IgnoreProfile => "decode it without its profile",
            Self::NameEncoderCache => "name one",
            Self::NameHubCache => "name one for the cache",
            Self::FetchElsewhere(repo) => {
                return write!(f, "fetch {repo} where there is a network");
            }
        })
    }
}
