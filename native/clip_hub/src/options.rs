//! Settings of a fetch.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Everything [`fetch`](crate::fetch) needs to know apart from the repository.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Address of the hub.
    pub endpoint: String,
    /// Directory of the cache, the one that holds `models--org--name`.
    pub cache_dir: PathBuf,
    /// Sent only to the endpoint.
    pub token: Option<Token>,
    /// Never sends a request.
    pub offline: bool,
    /// Asks the hub which commit a branch is at, even if the cache knows one.
    pub refresh: bool,
    /// Certificates, in PEM, to trust instead of Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// Most bytes the files of a model may have together.
    pub max_bytes: u64,
    /// Whether a snapshot links to its content. If not, or if the file system has no links, it
    /// holds the content itself.
    pub symlinks: bool,
    /// Limits on waiting.
    pub timeouts: Timeouts,
    /// Limits on trying again.
    pub retries: Retries,
}

/// Limits on waiting.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For finding the host, and again for connecting to it.
    pub connect: Duration,
    /// From the request to the whole head of the answer.
    pub response: Duration,
    /// Without a byte.
    pub stall: Duration,
    /// Fewest bytes per second, over any period of twice `stall`.
    pub slowest: u64,
    /// Without progress of another process that is downloading the same file.
    pub lock: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            slowest: 1024,
            lock: Duration::from_secs(300),
        }
    }
}

/// Limits on trying again what may succeed a little later.
#[derive(Debug, Clone)]
pub struct Retries {
    /// Attempts, the first one included.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for every further one.
    pub pause: Duration,
    /// Longest wait. If a hub asks for longer, we give up at once.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl HubOptions {
    /// Returns the defaults, with this cache directory and no token. Ignores the environment.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            refresh: false,
            ca_file: None,
            max_bytes: 16 << 30,
            symlinks: true,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }
}

/// An access token. Neither `Debug` nor an error nor a log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token, and drops white space around it.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "expected the token to be printable characters such as \"hf_...\", got \
                           something else; look at HF_TOKEN or the token file";
            return Err(Error::new(ErrorKind::InvalidOption, message));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Replaces the token in a text from outside.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert!(!format!("{token:?}").contains("hf_"));
        assert_eq!(token.hide_in("bad hf_secret"), "bad ***");
    }

    #[test]
    fn a_token_cannot_split_a_header() {
        for text in ["", " ", "hf_a\r\nX-Header: b", "hf_\u{e9}", "hf a"] {
            let error = Token::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(!error.to_string().contains("X-Header"));
        }
    }
}
