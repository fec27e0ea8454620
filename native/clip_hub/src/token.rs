//! The secret that a hub knows a user by.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// An access token. Nothing shows it: not `Debug`, not an error, not a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token, with white space around it or not.
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

    /// A text from outside without the token, should it be in there.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Which token to use.
#[derive(Debug, Clone, Default)]
pub enum TokenChoice {
    /// The one of the environment or of `hf auth login`, if there is one.
    #[default]
    Implicit,
    /// None at all.
    Without,
    /// This one.
    Explicit(Token),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn is_not_shown() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert!(!format!("{token:?} {:?}", TokenChoice::Explicit(token.clone())).contains("hf_"));
        assert_eq!(token.hide_in("bad hf_secret"), "bad ***");
    }

    #[test]
    fn takes_no_header_apart() {
        for text in ["", " ", "hf_a\r\nX-Header: b", "hf_\u{e9}", "hf a"] {
            let error = Token::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(!error.to_string().contains("X-Header"));
        }
    }
}
