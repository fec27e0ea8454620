//! What a `tokenizer.json` may ask for.
//!
//! It is a small program over texts, and some of its steps make a text longer. A few dozen of them
//! in a row would fill any memory with one label. CLIP's tokenizers have two or three.

use clip::checkpoint::json;
use serde::Deserialize;
use serde_json::Value;

/// Most steps of the normaliser, and of the splitter: each may double a text at most.
const MAX_STEPS: usize = 8;
/// Longest text that a step puts in, in bytes, and most steps that do so.
const MAX_INSERTION: usize = 4;
const MAX_INSERTIONS: usize = 2;
/// Most tokens beside the vocabulary, and the longest one, in bytes.
const MAX_ADDED: usize = 10_000;
const MAX_ADDED_LENGTH: usize = 512;

/// The parts that are looked at; the vocabulary and the merges are not.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
}

#[derive(Deserialize)]
struct Added {
    content: String,
}

/// Says why a document may not be parsed by the `tokenizers` crate, which runs parts of it at once.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    json::check_depth(bytes)?;
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| format!("it is not a tokenizer: {e}"))?;
    check_steps("normalizer", "normalizers", &document.normalizer)?;
    check_steps("pre_tokenizer", "pretokenizers", &document.pre_tokenizer)?;
    let added = &document.added_tokens;
    if added.len() > MAX_ADDED {
        return Err(format!("it has {} added tokens, the limit is {MAX_ADDED}", added.len()));
    }
    match added.iter().find(|token| token.content.len() > MAX_ADDED_LENGTH) {
        None => Ok(()),
        Some(long) => {
            let length = long.content.len();
            Err(format!("an added token has {length} bytes, the limit is {MAX_ADDED_LENGTH}"))
        }
    }
}

fn check_steps(field: &str, inner: &str, root: &Value) -> Result<(), String> {
    let mut steps = Vec::new();
    collect(root, inner, &mut steps);
    if steps.len() > MAX_STEPS {
        return Err(format!("its {field} has {} steps, the limit is {MAX_STEPS}", steps.len()));
    }
    let insertions = steps.iter().filter_map(|step| step.get("content")?.as_str());
    let insertions: Vec<&str> = insertions.collect();
    if insertions.len() > MAX_INSERTIONS || insertions.iter().any(|it| it.len() > MAX_INSERTION) {
        return Err(format!(
            "its {field} puts in more than {MAX_INSERTIONS} texts of {MAX_INSERTION} bytes"
        ));
    }
    Ok(())
}

/// Flattens sequences of sequences. The depth of the document is bounded.
fn collect<'a>(step: &'a Value, inner: &str, steps: &mut Vec<&'a Value>) {
    match step.get(inner).and_then(Value::as_array) {
        Some(parts) => parts.iter().for_each(|part| collect(part, inner, steps)),
        None if step.is_null() => {}
        None => steps.push(step),
    }
}
