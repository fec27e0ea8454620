//! The tokenizer of a directory without `tokenizer.json`, out of `vocab.json` and `merges.txt`.
//!
//! What it does with a text is what transformers' `CLIPTokenizer` does. Special tokens come from
//! `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, as there, and all
//! three may be missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clip::checkpoint::directory::{is_there, read_file};
use clip::checkpoint::json;
use clip::checkpoint::layout::MAX_CONFIG;
use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::error::{Error, ErrorKind, Result};
use crate::tokenizer::MAX_FILE;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// How CLIP cuts a text into words, of which BPE then makes tokens.
pub(crate) const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Builds the tokenizer. The vocabulary and the merges must be there.
pub(crate) fn tokenizer(directory: &Path) -> Result<Tokenizer> {
    let special = SpecialTokens::read(directory)?;
    let path = directory.join("vocab.json");
    let vocab: Vocab = ids(&path, &read_object(&path, MAX_FILE)?)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges(&directory.join("merges.txt"))?)
        .unk_token(special.unknown.content.clone())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build();
    let mut tokenizer = Tokenizer::new(bpe.map_err(|e| unusable(&path, &e.to_string()))?);
    let broken = |e: tokenizers::Error| unusable(&path, &e.to_string());

    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(broken)?;
    let normalizers = vec![NFC.into(), spaces.into(), Lowercase.into()];
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(broken)?;
    let words = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(broken)?;
    let words = PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, true).into()]);
    tokenizer.with_pre_tokenizer(Some(words));

    special.add_to(&mut tokenizer, &path)?;
    Ok(tokenizer)
}

/// The special tokens of a directory.
struct SpecialTokens {
    start: AddedToken,
    end: AddedToken,
    unknown: AddedToken,
    padding: AddedToken,
    /// Tokens with the ids that they must get.
    added: BTreeMap<u32, AddedToken>,
}

impl SpecialTokens {
    fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| read_optional(directory.join(name));
        let (config_path, config) = read("tokenizer_config.json")?;
        let mut named = config.clone();
        let added = if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
            described_tokens(&config_path, decoder)?
        } else {
            // What came before that field.
            named.extend(read("special_tokens_map.json")?.1);
            let (path, tokens) = read("added_tokens.json")?;
            let special: Vec<&str> =
                named.values().filter_map(content).chain([START, END]).collect();
            let added = ids::<Vec<_>>(&path, &tokens)?.into_iter();
            added
                .map(|(text, id)| (id, AddedToken::from(&*text, special.contains(&&*text))))
                .collect()
        };
        let find = |name: &str, default: &str| match named.get(name).filter(|v| !v.is_null()) {
            None => Ok(AddedToken::from(default.to_owned(), true)),
            Some(value) => token(&config_path, name.to_owned(), value),
        };
        let mut tokens = Self {
            start: find("bos_token", START)?,
            end: find("eos_token", END)?,
            unknown: find("unk_token", END)?,
            padding: find("pad_token", END)?,
            added,
        };
        tokens.take_flags();
        Ok(tokens)
    }

    /// Lets what is known of a token by its id count for the one of the same name.
    fn take_flags(&mut self) {
        let named = [&mut self.start, &mut self.end, &mut self.unknown, &mut self.padding];
        for token in named {
            if let Some(added) = self.added.values().find(|added| added.content == token.content) {
                *token = added.clone();
            }
        }
    }

    fn add_to(&self, tokenizer: &mut Tokenizer, path: &Path) -> Result<()> {
        let broken = |e: tokenizers::Error| unusable(path, &e.to_string());
        for (id, token) in &self.added {
            tokenizer.add_tokens([token.clone()]).map_err(broken)?;
            let got = tokenizer.token_to_id(&token.content);
            if got != Some(*id) {
                let content = &token.content;
                return Err(unusable(
                    path,
                    &format!("expected {content:?} to be {id}, got {got:?}"),
                ));
            }
        }
        for token in [&self.unknown, &self.start, &self.end, &self.padding] {
            let token = token.clone().special(true);
            tokenizer.add_special_tokens([token]).map_err(broken)?;
        }
        let id = |token: &AddedToken| match tokenizer.token_to_id(&token.content) {
            Some(id) => Ok((token.content.clone(), id)),
            None => Err(unusable(path, &format!("it lacks {:?}", token.content))),
        };
        let around = RobertaProcessing::new(id(&self.end)?, id(&self.start)?);
        tokenizer.with_post_processor(Some(around.trim_offsets(false).add_prefix_space(false)));
        Ok(())
    }
}

/// Tokens by their ids, as `added_tokens_decoder` has them.
fn described_tokens(
    path: &Path,
    decoder: &Map<String, Value>,
) -> Result<BTreeMap<u32, AddedToken>> {
    let described = |(id, value): (&String, &Value)| {
        let id = id.parse().map_err(|_| unusable(path, &format!("expected an id, got {id:?}")))?;
        Ok((id, token(path, format!("added_tokens_decoder.{id}"), value)?))
    };
    decoder.iter().map(described).collect()
}

/// A token as the files describe it: its text, or an object with flags.
fn token(path: &Path, name: String, value: &Value) -> Result<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let text = content(value)
        .ok_or_else(|| unusable(path, &format!("expected {name} to be a token, got {value}")))?;
    let special = flag("special").unwrap_or(true);
    Ok(AddedToken::from(text.to_owned(), special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special)))
}

pub(super) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn ids<C: FromIterator<(String, u32)>>(path: &Path, map: &Map<String, Value>) -> Result<C> {
    let pair = |(text, id): (&String, &Value)| match id.as_u64().map(u32::try_from) {
        Some(Ok(id)) => Ok((text.clone(), id)),
        _ => Err(unusable(path, &format!("expected {text:?} to have an id, got {id}"))),
    };
    map.iter().map(pair).collect()
}

/// Pairs of pieces that BPE joins, the first line the most urgent.
fn merges(path: &Path) -> Result<Merges> {
    let bytes = read_file(path, MAX_FILE, ErrorKind::InvalidTokenizer)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable(path, "it is not UTF-8"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
    let pair = |(number, line): (usize, &str)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => {
            let line: String = line.chars().take(80).collect();
            let number = number + 1;
            Err(unusable(path, &format!("expected two pieces in line {number}, got {line:?}")))
        }
    };
    lines.map(pair).collect()
}

/// A file that may be missing, which is as good as empty.
pub(super) fn read_optional(path: PathBuf) -> Result<(PathBuf, Map<String, Value>)> {
    let object = if is_there(&path) { read_object(&path, MAX_CONFIG)? } else { Map::new() };
    Ok((path, object))
}

fn read_object(path: &Path, most: u64) -> Result<Map<String, Value>> {
    let bytes = read_file(path, most, ErrorKind::InvalidTokenizer)?;
    match json::parse(&bytes).map_err(|why| unusable(path, &why))? {
        Value::Object(object) => Ok(object),
        _ => Err(unusable(path, "it is not a JSON object")),
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    let message = format!("{} cannot be used: {why}", path.display());
    Error::new(ErrorKind::InvalidTokenizer, message)
}
