//! The one list of what can go wrong, for all crates.

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident => $word:literal,)+) => {
        /// What went wrong, for a program to match on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])+ $kind,)+
        }

        impl ErrorKind {
            /// The kind as a `snake_case` word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// The bytes are not a picture that can be read to its end.
    InvalidImage => "invalid_image",
    /// A picture, but of a format or a kind that is not read here.
    UnsupportedImage => "unsupported_image",
    /// The picture exceeds one of [`Limits`](crate::Limits).
    ImageTooLarge => "image_too_large",

    /// A vector that is not an embedding: empty, not finite, or without a direction.
    InvalidEmbedding => "invalid_embedding",

    /// A file is missing, or an entry of an index.
    NotFound => "not_found",
    /// A file could not be read or written.
    Io => "io",
    /// A configuration of the checkpoint makes no sense.
    InvalidConfig => "invalid_config",
    /// The weights are damaged, incomplete or of another shape than the config says.
    InvalidWeights => "invalid_weights",
    /// A file of the tokenizer is damaged or does not fit the model.
    InvalidTokenizer => "invalid_tokenizer",
    /// A sound checkpoint of something that is not a CLIP model.
    UnsupportedModel => "unsupported_model",

    /// The device asked for is not there.
    DeviceUnavailable => "device_unavailable",
    /// The device has no memory left for the call.
    OutOfMemory => "out_of_memory",
    /// The model was unloaded.
    ModelUnloaded => "model_unloaded",
    /// libtorch refused an operation.
    Torch => "torch",

    /// Embeddings of different models, which cannot be compared.
    WrongModel => "wrong_model",
    /// An index holds as many entries as it may.
    IndexFull => "index_full",
    /// A file is not that of an index, or it is damaged.
    InvalidIndexFile => "invalid_index_file",

    /// An argument of a call is out of range.
    InvalidArgument => "invalid_argument",
    /// The time of the call was over, nobody waited for the result any more, or the Hub was silent
    /// for too long.
    Timeout => "timeout",
    /// Others hold what this needs; the same may succeed when they have ended.
    Busy => "overloaded",
    /// A fault of this library: a panic that was caught.
    Internal => "internal",

    /// The name of a repository, revision or file is not one.
    InvalidName => "invalid_name",
    /// An option of the Hub makes no sense: the endpoint, the token, the file with certificates.
    InvalidOption => "invalid_option",
    /// Not in the cache, and offline mode is on.
    Offline => "offline",
    /// 401: a token is needed, or the one given is not accepted.
    Unauthorized => "unauthorized",
    /// The licence of the model has to be accepted first.
    Gated => "gated",
    /// 403 for another reason, or 451.
    Forbidden => "forbidden",
    /// There is no such repository, or it is private.
    RepoNotFound => "repo_not_found",
    /// The repository has no such branch, tag or commit.
    RevisionNotFound => "revision_not_found",
    /// The repository lacks a file that is needed.
    FileNotFound => "file_not_found",
    /// 410: removed from the Hub.
    Gone => "gone",
    /// 429: too many requests.
    RateLimited => "rate_limited",
    /// 408 or 5xx, every time it was tried.
    Server => "server_error",
    /// A status that is not part of this protocol.
    UnexpectedStatus => "unexpected_status",
    /// An answer that no Hub gives: a login page, no commit, no content hash.
    NotAHub => "not_a_hub",
    /// The content came compressed although we did not ask for that.
    Encoded => "encoded",
    /// The connection ended before the content did.
    Truncated => "truncated",
    /// The content has another length than the Hub said.
    WrongLength => "wrong_length",
    /// The content does not match its hash.
    HashMismatch => "hash_mismatch",
    /// The Hub could not be reached or the connection broke.
    Connection => "connection",
    /// A redirect led to where one had been before.
    RedirectLoop => "redirect_loop",
    /// One redirect too many.
    TooManyRedirects => "too_many_redirects",
    /// A redirect to where nothing should be fetched from: plain HTTP, a link-local address.
    Insecure => "insecure",
    /// The model has more bytes than the limit allows.
    TooLarge => "too_large",
    /// No space left for the model, or for the file of an index.
    DiskFull => "disk_full",
    /// The cache cannot be written to, or something is in the way.
    CacheNotWritable => "cache_not_writable",
    /// A file of the cache cannot be read.
    CacheNotReadable => "cache_not_readable",
    /// An index of shards on the Hub cannot be used.
    InvalidIndex => "invalid_index",
    /// The caller asked to stop.
    Cancelled => "cancelled",
}
