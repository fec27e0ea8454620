//! JSON from strangers, as Python's `json` reads it.

use std::io::{self, Read};

use serde_json::Value;

/// Deepest nesting that is read. The files of a checkpoint reach 7.
///
/// Every parser of JSON here is recursive, in other crates too, and what it builds is walked and
/// dropped recursively. The caller's stack may be small, and overflowing it ends the process.
const MAX_DEPTH: usize = 32;

/// Numbers of Python's that JSON does not have: it writes and reads them all the same.
const PYTHONS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Parses a document that is not nested too deeply. `NaN` and the infinities become strings, so that
/// whoever asks for such a field is not given a number.
///
/// # Errors
/// Why it cannot be used.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    check_depth(bytes)?;
    serde_json::from_slice(bytes)
        .or_else(|error| serde_json::from_slice(&with_pythons_quoted(bytes)).map_err(|_| error))
        .map_err(|error| format!("it is not JSON: {error}"))
}

fn with_pythons_quoted(mut bytes: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(bytes.len() + 64);
    let mut strings = Strings::default();
    while let Some(byte) = bytes.first() {
        let inside = strings.passes(*byte);
        let number = PYTHONS.iter().find(|name| !inside && bytes.starts_with(name.as_bytes()));
        match number {
            Some(name) => quoted.extend(format!("\"{name}\"").bytes()),
            None => quoted.push(*byte),
        }
        bytes = &bytes[number.map_or(1, |name| name.len())..];
    }
    quoted
}

/// Counts brackets, for a document that another parser is going to read.
///
/// # Errors
/// When they are nested too deeply.
pub fn check_depth(bytes: &[u8]) -> Result<(), String> {
    Depth::default().pass(bytes)
}

/// Brackets that are open, after what was read so far.
#[derive(Debug, Default)]
struct Depth {
    open: usize,
    strings: Strings,
}

impl Depth {
    fn pass(&mut self, bytes: &[u8]) -> Result<(), String> {
        for byte in bytes {
            match (self.strings.passes(*byte), byte) {
                (false, b'[' | b'{') => self.open += 1,
                (false, b']' | b'}') => self.open = self.open.saturating_sub(1),
                _ => {}
            }
            if self.open > MAX_DEPTH {
                return Err(format!("its JSON is nested more than {MAX_DEPTH} deep"));
            }
        }
        Ok(())
    }
}

/// A document on its way to another parser, which gets an error where [`check_depth`] returns one.
#[derive(Debug)]
pub struct DepthLimit<R> {
    inner: R,
    depth: Depth,
}

impl<R: Read> DepthLimit<R> {
    /// Reads from here.
    pub fn new(inner: R) -> Self {
        Self { inner, depth: Depth::default() }
    }
}

impl<R: Read> Read for DepthLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.depth.pass(&buffer[..length]).map_err(io::Error::other)?;
        Ok(length)
    }
}

/// Tells what lies within strings from what does not.
#[derive(Debug, Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Goes on by a byte, and says whether it is part of a string.
    fn passes(&mut self, byte: u8) -> bool {
        let part = self.inside || byte == b'"';
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.inside => self.escaped = true,
            b'"' => self.inside = !self.inside,
            _ => {}
        }
        part
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        let text = format!(r#"{{"a\"{}": "\\", "b": [1]}}"#, "[".repeat(1_000));
        assert_eq!(parse(text.as_bytes()).unwrap()["b"][0], 1);
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let error = parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert_eq!(error, "its JSON is nested more than 32 deep");
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn depth_has_a_limit_while_a_document_is_read() {
        let read = |text: &str| {
            let mut pieces = DepthLimit::new(text.as_bytes());
            let (mut all, mut piece) = (Vec::new(), [0; 7]);
            loop {
                match pieces.read(&mut piece).map_err(|error| error.to_string())? {
                    0 => return Ok(all),
                    length => all.extend_from_slice(&piece[..length]),
                }
            }
        };
        let nested = |depth| format!("{}\"[[\"{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(&nested(MAX_DEPTH)), Ok(nested(MAX_DEPTH).into_bytes()));
        let error = read(&nested(MAX_DEPTH + 1));
        assert_eq!(error, Err("its JSON is nested more than 32 deep".to_owned()));
    }

    #[test]
    fn numbers_of_pythons_are_strings() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN\" Infinity", "d": 1}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value["a"], "NaN");
        assert_eq!(value["b"], serde_json::json!(["-Infinity", "Infinity"]));
        assert_eq!((&value["c"], &value["d"]), (&"NaN\" Infinity".into(), &1.into()));
        for wrong in ["{\"a\": NaNx}", "nan", "{\"a\": +Infinity}", "{\"a\": NaN", "-NaN"] {
            assert!(
                parse(wrong.as_bytes()).unwrap_err().starts_with("it is not JSON: "),
                "{wrong}"
            );
        }
    }
}
