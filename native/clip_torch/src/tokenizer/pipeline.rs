//! Tokenizers of a large vocabulary whose steps are transformers': the steps are those of the
//! `tokenizers` crate, the model is ours, since the crate's takes ten times the memory.
//!
//! transformers builds these steps itself too, and takes only the vocabulary, the merges, the table
//! of characters and the added tokens out of the file.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Token,
    TokenizerImpl,
};

use super::bpe::Bpe;
use super::charsmap::Charsmap;
use super::document::{self, Added, Document};
use super::unigram::{Arithmetic, Unigram};

type Inner = TokenizerImpl<
    Pieced,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Steps of the crate around a model of ours.
pub(super) struct Pipeline(Inner);

/// Longest token beside the vocabulary, in bytes.
const MAX_ADDED_LENGTH: usize = 512;

impl Pipeline {
    /// transformers' `Siglip2Tokenizer`: Gemma's, with lower case before it.
    ///
    /// # Errors
    /// Why the document cannot be used.
    pub(super) fn siglip2(document: Document) -> Result<Self, String> {
        let document::Model { unk_token, end_of_word_suffix, vocab, merges, .. } = document.model;
        if end_of_word_suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(
                "its BPE marks ends of words, as CLIP's does and SigLIP 2's does not".into()
            );
        }
        let bpe = Bpe::new(vocab.texts, vocab.ids, &merges.0, unk_token.as_deref())?;
        let spaces = Replace::new(ReplacePattern::String(" ".to_owned()), "▁");
        let spaces = spaces.map_err(|e| e.to_string())?;
        let steps = Normalizers::new(vec![Lowercase.into(), spaces.into()]);
        Self::new(Pieced::Bpe(bpe), Some(steps.into()), None, document.added_tokens.0)
    }

    /// transformers' `XLMRobertaTokenizer`, and its `T5Tokenizer`.
    ///
    /// # Errors
    /// Why the document cannot be used.
    pub(super) fn words(document: Document) -> Result<Self, String> {
        let document::Model { unk_id, vocab, .. } = document.model;
        let unigram = Unigram::new(vocab.texts, vocab.scores, unk_id, Arithmetic::Tokenizers)?;
        let charsmap = document.normalizer.as_ref().and_then(|steps| steps.charsmap());
        let charsmap = charsmap.map(normalizer).transpose()?;
        let words = Metaspace::new('▁', PrependScheme::Always, true);
        let words = PreTokenizers::new(vec![WhitespaceSplit.into(), words.into()]);
        let added = document.added_tokens.0;
        Self::new(Pieced::Unigram(unigram), charsmap, Some(words.into()), added)
    }

    fn new(
        model: Pieced,
        normalizer: Option<NormalizerWrapper>,
        words: Option<PreTokenizerWrapper>,
        added: Vec<Added>,
    ) -> Result<Self, String> {
        let mut inner = Inner::new(model);
        inner.with_normalizer(normalizer).map_err(|e| e.to_string())?;
        inner.with_pre_tokenizer(words);
        for Added { id, token } in added {
            let content = token.content.clone();
            if content.len() > MAX_ADDED_LENGTH {
                let length = content.len();
                return Err(format!(
                    "an added token has {length} bytes, the limit is {MAX_ADDED_LENGTH}"
                ));
            }
            inner.add_tokens([token]).map_err(|e| e.to_string())?;
            let got = inner.token_to_id(&content);
            if got != Some(id) {
                return Err(format!("expected {content:?} to be {id}, got {got:?}"));
            }
        }
        Ok(Self(inner))
    }

    pub(super) fn is_bpe(&self) -> bool {
        matches!(self.0.get_model(), Pieced::Bpe(_))
    }

    pub(super) fn find(&self, piece: &str) -> Option<u32> {
        self.0.token_to_id(piece)
    }

    /// The ids of a text, without special tokens around it.
    ///
    /// # Errors
    /// Those of the crate.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.0.encode_fast(text, false).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get_model().fmt(f)
    }
}

/// The step that replaces characters, once the table is known to be one.
fn normalizer(charsmap: &str) -> Result<NormalizerWrapper, String> {
    Charsmap::parse(charsmap)?;
    let step = json!({"type": "Precompiled", "precompiled_charsmap": charsmap});
    serde_json::from_value(step).map_err(|e| e.to_string())
}

/// A model as the crate calls it.
#[derive(Debug)]
enum Pieced {
    Unigram(Unigram),
    Bpe(Bpe),
}

impl Model for Pieced {
    type Trainer = BpeTrainer;

    /// Ids are all that is used of tokens.
    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        let ids = match self {
            Self::Unigram(unigram) => unigram.ids(sequence),
            Self::Bpe(bpe) => bpe.ids(sequence),
        };
        Ok(ids.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Unigram(unigram) => unigram.find(token),
            Self::Bpe(bpe) => bpe.find(token),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            Self::Unigram(unigram) => unigram.len(),
            Self::Bpe(bpe) => bpe.len(),
        }
    }

    // What follows is for decoding, saving and training.

    fn id_to_token(&self, _id: u32) -> Option<String> {
        None
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        HashMap::new()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("not saved".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
