//! Prompts to token ids.

mod beginning;
mod json;
mod merges;
pub(crate) mod vocabulary;

use std::path::{Path, PathBuf};

use clip::checkpoint::config::TextConfig;
use clip::checkpoint::contents;
use clip::checkpoint::directory::{Directory, read_file};
use clip::checkpoint::layout::{TOKENIZER, TOKENIZER_PIECES};

use crate::error::{Error, ErrorKind, Result, guarded};
use beginning::{Beginnings, SHORT, squeezed};

/// Largest file of a tokenizer that is read. CLIP's have 2 to 4 MB.
pub(crate) const MAX_FILE: u64 = 10 * 1024 * 1024;

/// Longest prompt in bytes. 77 tokens are some 400 bytes; the rest is thrown away.
pub const MAX_PROMPT_BYTES: usize = 16 * 1024;

/// Byte-level BPE of a CLIP checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    beginnings: Option<Beginnings>,
    files: Vec<PathBuf>,
    start: u32,
    end: u32,
    text: TextConfig,
}

/// The ids of one prompt, from the start token to the pooled one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// At least one id and at most `max_positions`.
    pub ids: Vec<u32>,
    /// The prompt had more tokens than the model has positions, and lost its end.
    pub truncated: bool,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, or else `vocab.json` and
    /// `merges.txt`. Checks that it fits the model.
    pub fn open(directory: &Path, text: &TextConfig) -> Result<Self> {
        let Some(names) = contents::tokenizer(&mut Directory(directory), "")? else {
            let (directory, pieces) = (directory.display(), TOKENIZER_PIECES.join(" and "));
            let message = format!("no tokenizer in {directory}, expected {TOKENIZER}, or {pieces}");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        if let [whole] = names {
            return Self::from_file(&directory.join(whole), text);
        }
        let inner = guarded("building the tokenizer", ErrorKind::InvalidTokenizer, || {
            vocabulary::tokenizer(directory)
        })?;
        Self::checked(inner, names.iter().map(|name| directory.join(name)).collect(), text)
    }

    /// Reads a `tokenizer.json` and checks that it fits the model.
    pub fn from_file(path: &Path, text: &TextConfig) -> Result<Self> {
        let bytes = read_file(path, MAX_FILE, ErrorKind::InvalidTokenizer)?;
        json::check(&bytes).map_err(|why| unusable(path, &why))?;
        let inner = guarded("reading the tokenizer", ErrorKind::InvalidTokenizer, || {
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| invalid(&e.to_string()))
        })
        .map_err(|e| unusable(path, &e.to_string()))?;
        Self::checked(inner, vec![path.to_owned()], text)
    }

    fn checked(
        mut inner: tokenizers::Tokenizer,
        files: Vec<PathBuf>,
        text: &TextConfig,
    ) -> Result<Self> {
        // Both are done here: padding changes nothing but costs time, and the file's idea of a
        // length need not be the model's.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| invalid(&e.to_string()))?;
        let beginnings = Beginnings::of(&inner);
        let text = text.clone();
        let mut tokenizer = Self { inner, beginnings, files, start: 0, end: 0, text };
        let special = tokenizer.check_special_tokens();
        (tokenizer.start, tokenizer.end) =
            special.map_err(|e| unusable(&tokenizer.files[0], &e.to_string()))?;
        Ok(tokenizer)
    }

    /// The files that it was made of.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The empty prompt must be a start token and an end token at which the model pools.
    fn check_special_tokens(&self) -> Result<(u32, u32)> {
        let ids = self.ids("")?;
        match (ids.as_slice(), self.text.pooling.position(&ids)) {
            ([start, end], Some(1)) => Ok((*start, *end)),
            _ => Err(invalid(&format!(
                "expected an empty text to become a start and an end token as config.json's \
                 eos_token_id names it, got {ids:?}"
            ))),
        }
    }

    /// Token ids of a prompt.
    ///
    /// A prompt that is too long is cut so that its last token is the end token, as OpenAI's
    /// `tokenize(truncate=True)` does. What follows the pooled token is left out: it cannot change
    /// the embedding.
    pub fn encode(&self, prompt: &str) -> Result<Tokens> {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("prompt of {} bytes, the limit is {MAX_PROMPT_BYTES}", prompt.len()),
            ));
        }
        let most = self.text.max_positions as usize;
        let is_long = self.beginnings.is_some() && prompt.len() > SHORT;
        let squeezed = is_long.then(|| squeezed(prompt));
        let prompt = squeezed.as_deref().unwrap_or(prompt);
        let (mut ids, truncated) = match self.first_ids(prompt, most - 1)? {
            Some(first) => ([self.start].into_iter().chain(first).collect(), true),
            None => {
                let ids = self.ids(prompt)?;
                let truncated = ids.len() > most;
                (ids, truncated)
            }
        };
        if truncated {
            ids.truncate(most - 1);
            ids.push(self.end);
        }
        if let Some(pooled) = self.text.pooling.position(&ids) {
            ids.truncate(pooled + 1);
        }
        Ok(Tokens { ids, truncated })
    }

    /// So many ids of a long prompt or more, without special tokens around them; none if there are
    /// not as many, or all of the prompt has to be looked at.
    fn first_ids(&self, prompt: &str, count: usize) -> Result<Option<Vec<u32>>> {
        let Some(beginnings) = self.beginnings.as_ref().filter(|_| prompt.len() > SHORT) else {
            return Ok(None);
        };
        let ids = guarded("tokenizing", ErrorKind::InvalidTokenizer, || {
            let ids = beginnings.first_ids(&self.inner, prompt, count);
            ids.map_err(|e| invalid(&e.to_string()))
        })?;
        ids.map(|ids| self.within_vocabulary(ids)).transpose()
    }

    /// All ids of a text with its special tokens, each one within the vocabulary.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded("tokenizing", ErrorKind::InvalidTokenizer, || {
            self.inner.encode_fast(text, true).map_err(|e| invalid(&e.to_string()))
        })?;
        self.within_vocabulary(encoding.get_ids().to_vec())
    }

    fn within_vocabulary(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        match ids.iter().find(|id| i64::from(**id) >= self.text.vocab_size) {
            None => Ok(ids),
            Some(id) => Err(invalid(&format!(
                "token id {id} is not below config.json's vocab_size ({})",
                self.text.vocab_size
            ))),
        }
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidTokenizer, why)
}

fn unusable(path: &Path, why: &str) -> Error {
    invalid(&format!("{} cannot be used: {why}", path.display()))
}
