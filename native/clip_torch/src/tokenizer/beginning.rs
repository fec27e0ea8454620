//! The first ids of a long text, out of its beginning alone.
//!
//! A model takes some 77 tokens of a text, whatever its length. So a long text is cut before it is
//! tokenized, and only those ids are taken that no continuation can change:
//!
//! - the cut stands before a character that Unicode's composition cannot join to the one before it;
//! - the last [`MARGIN`] bytes are left out, because a contraction (`'ll`) or a special token could
//!   reach from there into the rest, and nothing longer can;
//! - whole words before that are certain, since BPE works within a word;
//! - of a word that goes on, [`Merges`] says which of its tokens are certain.
//!
//! All of this is true of the way in which CLIP's tokenizers work. For any other there is no
//! [`Beginnings`], and a text is tokenized as a whole.

use std::sync::OnceLock;

use serde::Serialize;
use serde_json::{Value, json};
use tokenizers::{
    Model as _, ModelWrapper, OffsetReferential, OffsetType, PreTokenizer as _, Tokenizer,
};
use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::merges::Merges;

/// Bytes of a text that are tokenized as they are, and of the first beginning that is tried: enough
/// for 75 tokens of most languages.
pub(super) const SHORT: usize = 400;
/// Bytes at the end of a beginning that are not relied on. No added token may be as long.
const MARGIN: usize = 64;

/// How CLIP cuts a text into words, before transformers 4.38 and since.
const WORDS: [&str; 2] = [
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    crate::tokenizer::vocabulary::WORDS,
];

/// What is known of a tokenizer that works as CLIP's does.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// Made when the first endless word comes, which may be never.
    merges: OnceLock<Option<Merges>>,
}

impl Beginnings {
    /// None for a tokenizer that works in another way.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return None };
        let plain = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        let is_plain = bpe.dropout.is_none()
            && plain(&bpe.continuing_subword_prefix)
            && !(bpe.fuse_unk || bpe.byte_fallback || bpe.ignore_merges);
        let is_known = is_plain
            && steps_are_clips(tokenizer)
            && tokenizer.get_added_vocabulary().get_added_tokens_decoder().values().all(|token| {
                let plain = !(token.single_word || token.lstrip || token.rstrip);
                let content = &token.content;
                plain && content.len() < MARGIN && content.bytes().all(|b| b.is_ascii_graphic())
            });
        is_known.then(Self::default)
    }

    /// At least so many ids of a text, without the special tokens around it; or none, where the text
    /// has to be tokenized as a whole.
    pub(super) fn first_ids(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        count: usize,
    ) -> tokenizers::Result<Option<Vec<u32>>> {
        let mut length = SHORT;
        while let Some(start) = beginning(text, length) {
            let ids = self.certain_ids(tokenizer, start, count)?;
            if ids.len() >= count {
                return Ok(Some(ids));
            }
            length *= 2;
        }
        Ok(None)
    }

    /// The ids of a beginning that its continuation cannot change, or the first `count` of them.
    fn certain_ids(
        &self,
        tokenizer: &Tokenizer,
        start: &str,
        count: usize,
    ) -> tokenizers::Result<Vec<u32>> {
        let added = tokenizer.get_added_vocabulary();
        let mut text = added.extract_and_normalize(tokenizer.get_normalizer(), start);
        if let Some(words) = tokenizer.get_pre_tokenizer() {
            words.pre_tokenize(&mut text)?;
        }
        let words = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
        let all: usize = words.iter().map(|(word, ..)| word.len()).sum();
        let (mut ids, mut known) = (Vec::new(), all.saturating_sub(MARGIN));
        for (word, _, tokens) in words {
            if ids.len() >= count {
                break;
            }
            match (tokens, known.checked_sub(word.len())) {
                (Some(tokens), Some(_)) => ids.extend(tokens.iter().map(|token| token.id)),
                (None, Some(_)) => {
                    let tokens = tokenizer.get_model().tokenize(word)?;
                    ids.extend(tokens.iter().map(|token| token.id));
                }
                (None, None) => {
                    let known = (0..=known).rev().find(|at| word.is_char_boundary(*at));
                    let merges = self.merges.get_or_init(|| Merges::of(tokenizer.get_model()));
                    let certain = merges.as_ref().zip(known);
                    ids.extend(
                        certain
                            .map(|(merges, known)| merges.certain_ids(&word[..known]))
                            .unwrap_or_default(),
                    );
                    break;
                }
                (Some(_), None) => break,
            }
            known -= word.len();
        }
        Ok(ids)
    }
}

/// Whether the steps around the model are those of CLIP.
fn steps_are_clips(tokenizer: &Tokenizer) -> bool {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ]});
    let words = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]})
    };
    let around = as_json(&tokenizer.get_post_processor());
    as_json(&tokenizer.get_normalizer()) == normalizer
        && WORDS.map(words).contains(&as_json(&tokenizer.get_pre_tokenizer()))
        && around.get("type").is_some_and(|kind| kind == "RobertaProcessing")
}

fn as_json(step: &impl Serialize) -> Value {
    serde_json::to_value(step).unwrap_or_default()
}

/// A text with each run of white space as one space, which is what becomes of it.
pub(super) fn squeezed(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    let mut in_space = false;
    for c in text.chars() {
        if !c.is_whitespace() {
            squeezed.push(c);
        } else if !in_space {
            squeezed.push(' ');
        }
        in_space = c.is_whitespace();
    }
    squeezed
}

/// The start of a text, of so many bytes or a few more. None if that is all of it.
fn beginning(text: &str, length: usize) -> Option<&str> {
    let mut behind = text.char_indices().skip_while(|(at, _)| *at < length);
    behind.find(|(_, c)| stands_alone(*c)).map(|(at, _)| &text[..at])
}

/// Whether a character is never joined to what stands before it, nor moved before that.
fn stands_alone(c: char) -> bool {
    let quick = is_nfc_quick(std::iter::once(c));
    canonical_combining_class(c) == 0 && matches!(quick, IsNormalized::Yes)
}
