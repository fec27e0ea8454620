//! A large `tokenizer.json`, read from the file piece by piece: SigLIP 2's has 34 MB, MetaCLIP 2's
//! 62 MB, and as a tree of JSON they would take ten times that.

use std::fmt;
use std::fs::File;
use std::io::BufReader;

use clip::checkpoint::json::DepthLimit;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tokenizers::AddedToken;

use super::pieces::Texts;

/// Most tokens beside the vocabulary, and most steps of a normaliser.
const MAX_ADDED: usize = 10_000;
const MAX_STEPS: usize = 8;

/// What is used of a `tokenizer.json`.
#[derive(serde::Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) added_tokens: AtMost<Added, MAX_ADDED>,
    pub(super) normalizer: Option<Normalizer>,
    pub(super) model: Model,
}

/// A token beside the vocabulary.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) token: AddedToken,
}

/// A step of the normaliser, or several.
#[derive(serde::Deserialize)]
pub(super) struct Normalizer {
    #[serde(default)]
    normalizers: AtMost<Normalizer, MAX_STEPS>,
    precompiled_charsmap: Option<String>,
}

impl Normalizer {
    /// SentencePiece's table of characters, in base64. The first one counts.
    pub(super) fn charsmap(&self) -> Option<&str> {
        let inner = || self.normalizers.0.iter().find_map(Self::charsmap);
        self.precompiled_charsmap.as_deref().or_else(inner)
    }
}

/// The model: a vocabulary, and how a text is cut into its pieces.
#[derive(serde::Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) unk_id: Option<u32>,
    pub(super) unk_token: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) vocab: Vocabulary,
    #[serde(default)]
    pub(super) merges: Merges,
}

/// Pieces with scores, whose ids are their places, or with ids.
#[derive(Default)]
pub(super) struct Vocabulary {
    pub(super) texts: Texts,
    pub(super) scores: Vec<f64>,
    pub(super) ids: Vec<u32>,
}

/// The left and right halves of merges, one behind the other.
#[derive(Default)]
pub(super) struct Merges(pub(super) Texts);

/// A list with a limit.
pub(super) struct AtMost<T, const MOST: usize>(pub(super) Vec<T>);

impl Document {
    /// # Errors
    /// Why the file cannot be used.
    pub(super) fn read(file: File) -> Result<Self, String> {
        let file = DepthLimit::new(BufReader::with_capacity(1 << 16, file));
        serde_json::from_reader(BufReader::with_capacity(1 << 16, file))
            // serde shows a wrong value whole, however long it is.
            .map_err(|e| format!("it is not a tokenizer: {e:.300}", e = e.to_string()))
    }
}

impl<T, const MOST: usize> Default for AtMost<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = AtMost<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST {
                        return Err(de::Error::invalid_length(MOST + 1, &self));
                    }
                    items.push(item);
                }
                Ok(AtMost(items))
            }
        }
        deserializer.deserialize_seq(List(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pieces with ids, or a list of pieces with scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut vocabulary = Vocabulary::default();
                while let Some((piece, id)) = map.next_entry::<String, u32>()? {
                    vocabulary.texts.push(&piece).map_err(de::Error::custom)?;
                    vocabulary.ids.push(id);
                }
                Ok(vocabulary)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut vocabulary = Vocabulary::default();
                while let Some((piece, score)) = list.next_element::<(String, f64)>()? {
                    vocabulary.texts.push(&piece).map_err(de::Error::custom)?;
                    vocabulary.scores.push(score);
                }
                Ok(vocabulary)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut halves = Texts::default();
                while let Some(Halves(left, right)) = list.next_element()? {
                    halves
                        .push(&left)
                        .and_then(|()| halves.push(&right))
                        .map_err(de::Error::custom)?;
                }
                Ok(Merges(halves))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// A merge: two halves, or a text with a space between them, as older files have it.
struct Halves(String, String);

impl<'de> Deserialize<'de> for Halves {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Halves;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two halves of a merge")
            }

            fn visit_str<E: de::Error>(self, merge: &str) -> Result<Self::Value, E> {
                match merge.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => {
                        Ok(Halves(left.to_owned(), right.to_owned()))
                    }
                    _ => Err(de::Error::invalid_value(de::Unexpected::Str("a text"), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
                let mut half = |at| {
                    let half = pair.next_element::<String>();
                    half?.ok_or_else(|| de::Error::invalid_length(at, &self))
                };
                let halves = Halves(half(0)?, half(1)?);
                match pair.next_element::<de::IgnoredAny>()? {
                    None => Ok(halves),
                    Some(_) => Err(de::Error::invalid_length(3, &self)),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
