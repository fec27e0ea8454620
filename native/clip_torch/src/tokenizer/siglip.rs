//! SigLIP's tokenizer, the first one: what transformers' `SiglipTokenizer` does with SentencePiece,
//! out of a `tokenizer.json`. What that file says of steps around its model is not what SigLIP was
//! trained with, and the file is not what transformers reads.

use super::charsmap::Charsmap;
use super::document::{Added, Document};
use super::unigram::{Arithmetic, Unigram};

/// What stands for a space within pieces.
const SPACE: char = '▁';

/// The first SigLIP's way from a text to ids.
#[derive(Debug)]
pub(super) struct Siglip {
    unigram: Unigram,
    charsmap: Charsmap,
    /// Tokens that are found in a text before anything else, the longest first.
    added: Vec<Added>,
    /// What transformers puts before a text, so that SentencePiece does not take it for the
    /// beginning of a sentence, and how many ids that becomes.
    context: (String, usize),
}

impl Siglip {
    /// # Errors
    /// Why the document cannot be used.
    pub(super) fn new(document: Document) -> Result<Self, String> {
        let Document { added_tokens, normalizer, model } = document;
        let charsmap = normalizer.as_ref().and_then(|normalizer| normalizer.charsmap());
        let charsmap = charsmap.map(Charsmap::parse).transpose()?.unwrap_or_default();
        let vocabulary = model.vocab;
        let unknown = model.unk_id.map(|id| id as usize).filter(|id| *id < vocabulary.texts.len());
        let context = unknown.map(|id| vocabulary.texts.get(id).to_owned()).unwrap_or_default();
        let unigram = Unigram::new(
            vocabulary.texts,
            vocabulary.scores,
            model.unk_id,
            Arithmetic::SentencePiece,
        )?;
        let mut added = added_tokens.0;
        added.retain(|added| added.token.special && !added.token.content.is_empty());
        added.sort_by_key(|added| std::cmp::Reverse(added.token.content.len()));
        let mut made = Self { unigram, charsmap, added, context: (context, 0) };
        made.context.1 = made.unigram.ids(&made.normalised(&made.context.0)).len();
        Ok(made)
    }

    pub(super) fn find(&self, piece: &str) -> Option<u32> {
        let added = self.added.iter().find(|added| added.token.content == piece);
        added.map(|added| added.id).or_else(|| self.unigram.find(piece))
    }

    /// The ids of a text, without the end token.
    pub(super) fn ids(&self, text: &str) -> Vec<u32> {
        let text = format!("{SPACE}{}", text.replace(SPACE, " "));
        let (mut rest, mut ids, mut strips) = (&*text, Vec::new(), false);
        loop {
            let found = self.next_added(rest);
            let mut part = found.map_or(rest, |(at, _)| &rest[..at]);
            if strips {
                part = part.trim_start_matches(is_space);
            }
            let Some((at, added)) = found else {
                ids.extend(self.ids_of_part(part));
                return ids;
            };
            if added.token.lstrip {
                part = part.trim_end_matches(is_space);
            }
            ids.extend(self.ids_of_part(part));
            ids.push(added.id);
            strips = added.token.rstrip;
            rest = &rest[at + added.token.content.len()..];
        }
    }

    /// The first added token in a text and where it is; of several at one place the longest.
    fn next_added(&self, text: &str) -> Option<(usize, &Added)> {
        let places =
            self.added.iter().filter_map(|added| Some((text.find(&added.token.content)?, added)));
        places.min_by_key(|(at, _)| *at)
    }

    fn ids_of_part(&self, text: &str) -> Vec<u32> {
        let text = format!("{}{}", self.context.0, canonical(text));
        let mut ids = self.unigram.ids(&self.normalised(&text));
        ids.drain(..self.context.1.min(ids.len()));
        ids
    }

    /// What SentencePiece makes of a text before it cuts it: characters replaced, spaces squeezed
    /// and written as [`SPACE`], one of them at the beginning and none at the end.
    fn normalised(&self, text: &str) -> String {
        let (mut rest, mut normalised) = (text, SPACE.to_string());
        while let Some(c) = rest.chars().next() {
            let character = &rest[..c.len_utf8()];
            let (length, piece) =
                self.charsmap.longest(rest).unwrap_or((character.len(), character));
            rest = &rest[length..];
            let is_behind_space = normalised.ends_with(SPACE);
            let piece = if is_behind_space { piece.trim_start_matches(' ') } else { piece };
            normalised.extend(piece.chars().map(|c| if c == ' ' { SPACE } else { c }));
        }
        normalised.truncate(normalised.trim_end_matches(SPACE).len());
        normalised
    }
}

/// The text that SigLIP was trained with: lower case, without ASCII punctuation, each run of white
/// space as one space, and none around it.
pub(super) fn canonical(text: &str) -> String {
    let mut canonical = String::with_capacity(text.len());
    for c in text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()) {
        if !is_space(c) {
            canonical.push(c);
        } else if !canonical.is_empty() && !canonical.ends_with(' ') {
            canonical.push(' ');
        }
    }
    canonical.truncate(canonical.trim_end_matches(' ').len());
    canonical
}

/// White space as Python has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_are_lower_case_without_punctuation() {
        assert_eq!(canonical("  A\tPhoto:\u{1c}\u{85} of\u{3000}hot_dogs! "), "a photo of hotdogs");
        assert_eq!(canonical("ΑΣ İ «x»"), "ας i\u{307} «x»");
        assert_eq!(canonical(" !?"), "");
    }
}
