//! Prompts to token ids.

mod beginning;
mod bpe;
mod charsmap;
mod clip_bytes;
mod document;
mod json;
mod merges;
mod open_clip;
mod pieces;
mod pipeline;
mod siglip;
mod special;
mod steps;
mod unigram;
pub(crate) mod vocabulary;

use std::path::{Path, PathBuf};

use clip::checkpoint::config::TextConfig;
use clip::checkpoint::contents;
use clip::checkpoint::directory::{Directory, is_there, open_file, read_file};
use clip::checkpoint::family::TokenizerKind;
use clip::checkpoint::layout::{TOKENIZER, TOKENIZER_PIECES};

use crate::error::{Error, ErrorKind, Result, guarded};
use clip_bytes::Clip;
use document::Document;
use pipeline::Pipeline;
use special::special_token;
use steps::Steps;

/// Largest file of CLIP's tokenizer that is read. Real ones have 2 to 4 MB.
pub(crate) const MAX_FILE: u64 = 10 * 1024 * 1024;
/// Largest `tokenizer.json` of the other families. SigLIP 2's has 34 MB, MetaCLIP 2's 62 MB.
const MAX_LARGE_FILE: u64 = 128 * 1024 * 1024;

/// Longest prompt in bytes. 77 tokens are some 400 bytes; the rest is thrown away.
pub const MAX_PROMPT_BYTES: usize = 16 * 1024;

/// SentencePiece's own files, which repositories have beside `tokenizer.json`, or instead.
const SENTENCEPIECE: [&str; 3] = ["spiece.model", "tokenizer.model", "sentencepiece.bpe.model"];

/// The tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    steps: Steps,
    files: Vec<PathBuf>,
    special: Special,
    text: TextConfig,
}

/// Ids of special tokens.
#[derive(Debug, Default)]
struct Special {
    start: Option<u32>,
    end: u32,
    padding: u32,
}

/// The ids of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// From the first token to the pooled one, at most `max_positions`; with padding behind it and
    /// exactly `max_positions` where the model attends to padding.
    pub ids: Vec<u32>,
    /// The prompt had more tokens than the model has positions, and lost its end.
    pub truncated: bool,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory: `tokenizer.json`, or else, of CLIP's, `vocab.json`
    /// and `merges.txt`. Checks that it fits the model.
    pub fn open(directory: &Path, text: &TextConfig) -> Result<Self> {
        let is_clip = text.family.tokenizer.kind == TokenizerKind::Clip;
        let names = contents::tokenizer(&mut Directory(directory), "")?;
        match names {
            Some([whole]) => Self::from_file(&directory.join(whole), text),
            Some(names) if is_clip => {
                let made = "building the tokenizer";
                let clip =
                    guarded(made, ErrorKind::InvalidTokenizer, || Clip::from_pieces(directory))?;
                let files = names.iter().map(|name| directory.join(name)).collect();
                Self::checked(Steps::Clip(clip.into()), files, text)
            }
            _ => Err(missing(directory, is_clip)),
        }
    }

    /// Reads a `tokenizer.json`, with what stands beside it, and checks that it fits the model.
    pub fn from_file(path: &Path, text: &TextConfig) -> Result<Self> {
        let kind = text.family.tokenizer.kind;
        let read = "reading the tokenizer";
        let steps = if kind == TokenizerKind::Clip {
            let bytes = read_file(path, MAX_FILE, ErrorKind::InvalidTokenizer)?;
            guarded(read, ErrorKind::InvalidTokenizer, || {
                Clip::from_bytes(&bytes)
                    .map(|clip| Steps::Clip(clip.into()))
                    .map_err(|why| invalid(&why))
            })
        } else {
            let file = open_file(path, MAX_LARGE_FILE, ErrorKind::InvalidTokenizer)?;
            guarded(read, ErrorKind::InvalidTokenizer, || {
                Document::read(file)
                    .and_then(|document| Steps::of(kind, document))
                    .map_err(|why| invalid(&why))
            })
        };
        let steps = steps.map_err(|e| unusable(path, &e.to_string()))?;
        Self::checked(steps, vec![path.to_owned()], text)
    }

    fn checked(steps: Steps, files: Vec<PathBuf>, text: &TextConfig) -> Result<Self> {
        let special = Special::default();
        let mut tokenizer = Self { steps, files, special, text: text.clone() };
        let special = match &tokenizer.steps {
            Steps::Clip(_) => tokenizer.around_nothing(),
            steps => tokenizer.named(steps),
        };
        let wrong = |e: Error| unusable(&tokenizer.files[0], &e.to_string());
        tokenizer.special = special.map_err(wrong)?;
        tokenizer.check_pooling().map_err(|e| unusable(&tokenizer.files[0], &e.to_string()))?;
        Ok(tokenizer)
    }

    /// The files that it was made of.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The special tokens as CLIP's file puts them around an empty text.
    fn around_nothing(&self) -> Result<Special> {
        match *self.ids("")?.as_slice() {
            [start, end] => Ok(Special { start: Some(start), end, padding: end }),
            ref ids => Err(unfit(ids)),
        }
    }

    /// The special tokens as the files beside `tokenizer.json` name them.
    fn named(&self, steps: &Steps) -> Result<Special> {
        let directory = self.files[0].parent().unwrap_or(Path::new(""));
        let id = |field: &str, default: &str| {
            let token = special_token(directory, field, default)?;
            let id = steps.find(&token);
            id.ok_or_else(|| invalid(&format!("its vocabulary lacks the {field} {token:?}")))
        };
        let [start, end, padding] = steps.defaults();
        let rules = self.text.family.tokenizer;
        let start = rules.starts.then(|| id("bos_token", start)).transpose()?;
        Ok(Special { start, end: id("eos_token", end)?, padding: id("pad_token", padding)? })
    }

    /// The end token of an empty prompt has to be the one at which the model pools.
    fn check_pooling(&self) -> Result<()> {
        let ids = self.ids("")?;
        match self.text.pooling.position(&ids) {
            Some(pooled) if pooled + 1 == ids.len() => Ok(()),
            _ => Err(unfit(&ids)),
        }
    }

    /// Token ids of a prompt.
    ///
    /// A prompt that is too long is cut so that its last token is the end token, as OpenAI's
    /// `tokenize(truncate=True)` does, and transformers for the other families. What follows the
    /// pooled token is left out where it cannot change the embedding.
    pub fn encode(&self, prompt: &str) -> Result<Tokens> {
        if prompt.len() > MAX_PROMPT_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("prompt of {} bytes, the limit is {MAX_PROMPT_BYTES}", prompt.len()),
            ));
        }
        let most = self.text.max_positions as usize;
        let mut ids = self.first_ids(prompt, most)?;
        let truncated = ids.len() > most;
        if truncated {
            ids.truncate(most - 1);
            self.end(&mut ids);
        }
        if let Some(pooled) = self.text.pooling.position(&ids) {
            ids.truncate(pooled + 1);
        }
        if self.text.family.tokenizer.padded {
            ids.resize(most, self.special.padding);
        }
        Ok(Tokens { ids, truncated })
    }

    /// All ids of a prompt, or more than `most` of them where looking at its beginning is enough.
    fn first_ids(&self, prompt: &str, most: usize) -> Result<Vec<u32>> {
        let Steps::Clip(clip) = &self.steps else { return self.ids(prompt) };
        let squeezed = clip.squeezed(prompt);
        let prompt = squeezed.as_deref().unwrap_or(prompt);
        let first = guarded("tokenizing", ErrorKind::InvalidTokenizer, || {
            clip.first_ids(prompt, most - 1).map_err(|why| invalid(&why))
        })?;
        let Some(first) = first else { return self.ids(prompt) };
        let mut ids: Vec<u32> = self.special.start.into_iter().chain(first).collect();
        ids.push(self.special.end);
        self.within_vocabulary(ids)
    }

    /// All ids of a text with its special tokens, each one within the vocabulary.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = guarded("tokenizing", ErrorKind::InvalidTokenizer, || match &self.steps {
            Steps::Clip(clip) => clip.ids(text).map_err(|why| invalid(&why)),
            Steps::Siglip(siglip) => Ok(self.with_special(siglip.ids(text))),
            Steps::Pipeline(pipeline) => self.piped(pipeline, text),
            Steps::Cleaned(pipeline) => self.piped(pipeline, &open_clip::canonical(text)),
        })?;
        self.within_vocabulary(ids)
    }

    fn piped(&self, pipeline: &Pipeline, text: &str) -> Result<Vec<u32>> {
        pipeline.ids(text).map(|ids| self.with_special(ids)).map_err(|why| invalid(&why))
    }

    fn with_special(&self, ids: Vec<u32>) -> Vec<u32> {
        let mut ids: Vec<u32> = self.special.start.into_iter().chain(ids).collect();
        self.end(&mut ids);
        ids
    }

    /// Adds the end token. The first SigLIP's tokenizer does not add it to a text that ends with it.
    fn end(&self, ids: &mut Vec<u32>) {
        let has_end = ids.last() == Some(&self.special.end);
        if !(has_end && matches!(self.steps, Steps::Siglip(_))) {
            ids.push(self.special.end);
        }
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

/// What to say of a directory without a tokenizer that is read.
fn missing(directory: &Path, is_clip: bool) -> Error {
    let pieces = TOKENIZER_PIECES.join(" and ");
    let expected = if is_clip { format!("{TOKENIZER}, or {pieces}") } else { TOKENIZER.to_owned() };
    let shown = directory.display();
    let sentencepiece = SENTENCEPIECE.iter().find(|name| is_there(&directory.join(name)));
    match sentencepiece.filter(|_| !is_clip) {
        None => {
            let message = format!("no tokenizer in {shown}, expected {expected}");
            Error::new(ErrorKind::NotFound, message)
        }
        Some(name) => {
            let message = format!(
                "{} cannot be used: it is in SentencePiece's own format, expected {expected}, such \
                 as the repository of the model that this one was trained from has",
                directory.join(name).display()
            );
            Error::new(ErrorKind::InvalidTokenizer, message)
        }
    }
}

fn unfit(ids: &[u32]) -> Error {
    invalid(&format!(
        "expected an empty text to become a start and an end token as config.json's eos_token_id \
         names it, got {ids:?}"
    ))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidTokenizer, why)
}

fn unusable(path: &Path, why: &str) -> Error {
    invalid(&format!("{} cannot be used: {why}", path.display()))
}
