//! What the files beside `tokenizer.json` call a special token.

use std::path::Path;

use serde_json::Value;

use super::vocabulary::{content, read_optional};
use crate::error::Result;

/// The text of a special token: as `tokenizer_config.json` names it, or else
/// `special_tokens_map.json`; both may be missing.
pub(super) fn special_token(directory: &Path, field: &str, default: &str) -> Result<String> {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let (path, object) = read_optional(directory.join(name))?;
        match object.get(field) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let wrong = || format!("expected {field} to be a token, got {value}");
                let token = content(value).ok_or_else(|| super::unusable(&path, &wrong()));
                return token.map(str::to_owned);
            }
        }
    }
    Ok(default.to_owned())
}
