//! JSON from strangers.

use serde_json::Value;

/// Deepest nesting that is read. The files of a checkpoint reach 7.
///
/// Every parser of JSON here is recursive, in other crates too, and what it builds is walked and
/// dropped recursively. The caller's stack may be small, and overflowing it ends the process.
const MAX_DEPTH: usize = 32;

/// Parses a document that is not nested too deeply.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    check_depth(bytes)?;
    serde_json::from_slice(bytes).map_err(|e| format!("it is not JSON: {e}"))
}

/// Counts brackets, for a document that another parser is going to read.
pub(crate) fn check_depth(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("its JSON is nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

/// Whether it is a plain file name, not a way to another folder.
pub(crate) fn is_plain_file_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
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
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain_file_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a\0", ".hidden", "ä", "c:"] {
            assert!(!is_plain_file_name(name), "{name:?}");
        }
    }
}
