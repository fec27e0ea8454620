//! Which tokens of a word are certain when only its beginning is known.
//!
//! BPE joins the two neighbours whose pair comes first in the list of merges, over and over, and of
//! equal pairs the leftmost one. What follows from that:
//!
//! - Where two tokens of a word meet, nothing was ever joined across. So the tokens before that place
//!   are those of the word's part before it, by itself.
//! - A row of tokens is what BPE makes of their text if each two neighbours are what it makes of
//!   theirs: the first join across a place would be one for those two alone as well.
//!
//! By the second, the last token of every part `word[..n]` is found from those of shorter parts,
//! since exactly one token fits. And no token is longer than [`Merges::longest`] characters, so that
//! one of so many places near the end of what is known is where two tokens meet, whatever follows:
//! what the tokens up to all these places have in common is certain.

use std::collections::BTreeSet;

use ahash::AHashMap;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::ModelWrapper;

/// Longest token that is reckoned with, in characters. CLIP's have 32 at most.
const MAX_TOKEN: usize = 64;
/// The rank of a pair that is not joined.
const NEVER: u32 = u32::MAX;

/// The merges of a BPE, for looking up.
#[derive(Debug)]
pub(super) struct Merges {
    /// How early a pair is joined.
    pairs: AHashMap<(u32, u32), u32>,
    /// The parts of a token that is made by a merge.
    parts: AHashMap<u32, (u32, u32)>,
    /// Tokens spelt backwards: nodes by the node before and a character.
    nodes: AHashMap<(u32, char), u32>,
    /// The token that ends at a node, and is what BPE makes of its own text.
    tokens: Vec<Option<u32>>,
    /// Most characters of a token.
    longest: usize,
}

/// What a BPE writes of itself.
#[derive(Deserialize)]
struct Document {
    vocab: AHashMap<String, u32>,
    merges: Vec<(String, String)>,
    end_of_word_suffix: Option<String>,
}

impl Merges {
    /// None where a token can come about in two ways, or out of later ones: then the above is not
    /// true.
    pub(super) fn of(model: &ModelWrapper) -> Option<Self> {
        let document: Value = serde_json::to_value(model).ok()?;
        let Document { vocab, merges, end_of_word_suffix } =
            Document::deserialize(document).ok()?;
        let mut made = Self {
            pairs: AHashMap::with_capacity(merges.len()),
            parts: AHashMap::with_capacity(merges.len()),
            nodes: AHashMap::new(),
            tokens: vec![None],
            longest: vocab.keys().map(|text| text.chars().count()).max()?,
        };
        if made.longest > MAX_TOKEN {
            return None;
        }
        for (rank, (left, right)) in merges.iter().enumerate() {
            let token = *vocab.get(&format!("{left}{right}"))?;
            made.add(rank as u32, [*vocab.get(left)?, *vocab.get(right)?], token)?;
        }
        if !made.is_in_order() {
            return None;
        }
        // What ends a word is not part of its beginning.
        let suffix = end_of_word_suffix.filter(|suffix| !suffix.is_empty());
        let ends = |text: &str| suffix.as_ref().is_some_and(|suffix| text.ends_with(suffix));
        for (text, id) in vocab.iter().filter(|(text, _)| !ends(text)) {
            if made.is_what_its_text_becomes(*id, text) {
                made.spell(text, *id);
            }
        }
        Some(made)
    }

    fn add(&mut self, rank: u32, [left, right]: [u32; 2], token: u32) -> Option<()> {
        let is_new = self.pairs.insert((left, right), rank).is_none()
            && self.parts.insert(token, (left, right)).is_none();
        is_new.then_some(())
    }

    /// Whether every token is made out of earlier ones.
    fn is_in_order(&self) -> bool {
        self.parts.values().all(|(left, right)| {
            let rank = self.rank(*left, *right);
            [left, right].into_iter().all(|part| {
                self.parts.get(part).is_none_or(|(left, right)| self.rank(*left, *right) < rank)
            })
        })
    }

    /// How early a pair is joined; last of all if never.
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.pairs.get(&(left, right)).copied().unwrap_or(NEVER)
    }

    fn spell(&mut self, text: &str, token: u32) {
        let mut node = 0;
        for character in text.chars().rev() {
            let next = self.tokens.len() as u32;
            node = *self.nodes.entry((node, character)).or_insert(next);
            if node == next {
                self.tokens.push(None);
            }
        }
        self.tokens[node as usize] = Some(token);
    }

    /// Whether BPE makes this token of its text, and not others.
    fn is_what_its_text_becomes(&self, token: u32, text: &str) -> bool {
        match self.parts.get(&token) {
            Some((left, right)) => self.first_join(*left, *right) == Some((*left, *right)),
            None => text.chars().count() == 1,
        }
    }

    /// The ids that a word begins with if it begins like this, whatever follows.
    pub(super) fn certain_ids(&self, start: &str) -> Vec<u32> {
        let characters: Vec<char> = start.chars().collect();
        // The last character may be the last of the word, which makes it another token.
        let Some(end) = characters.len().checked_sub(1) else { return Vec::new() };
        let Some(first) = (end + 1).checked_sub(self.longest) else { return Vec::new() };
        let Some(last) = self.last_tokens(&characters[..end]) else { return Vec::new() };

        let mut places: BTreeSet<usize> = (first..=end).collect();
        while places.len() > 1 {
            if let Some(place) = places.pop_last() {
                places.insert(place - last[place].1);
            }
        }
        let mut ids = Vec::new();
        let mut place = places.pop_last().unwrap_or_default();
        while place > 0 {
            let (token, length) = last[place];
            ids.push(token);
            place -= length;
        }
        ids.reverse();
        ids
    }

    /// For every part `word[..n]` the last of its tokens, and its length in characters. None where a
    /// character is not a token.
    fn last_tokens(&self, word: &[char]) -> Option<Vec<(u32, usize)>> {
        let mut last = vec![(0, 0); word.len() + 1];
        for end in 1..=word.len() {
            last[end] = self.last_token(&word[..end], &last)?;
        }
        Some(last)
    }

    fn last_token(&self, word: &[char], last: &[(u32, usize)]) -> Option<(u32, usize)> {
        let mut node = 0;
        for (place, character) in word.iter().enumerate().rev() {
            node = *self.nodes.get(&(node, *character))?;
            if let Some(token) = self.tokens[node as usize]
                && (place == 0 || self.first_join(last[place].0, token).is_none())
            {
                return Some((token, word.len() - place));
            }
        }
        None
    }

    /// The first pair that is joined across the place where two tokens meet, while both come about.
    ///
    /// The left one ends with each of the tokens on the right edge of the tree that it is made of,
    /// for a while, and the right one begins with each of those on its left edge.
    fn first_join(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let lefts = self.edge(left, |(_, right)| right);
        let rights = self.edge(right, |(left, _)| left);
        let (mut l, mut r) = (lefts.len() - 1, rights.len() - 1);
        loop {
            let pair = (lefts[l].0, rights[r].0);
            // Ranks of what would be next: within the left one, across, within the right one. Of
            // equal ones the leftmost comes first.
            let (within_left, within_right) = (lefts[l].1, rights[r].1);
            let across = self.rank(pair.0, pair.1);
            if across < within_left && across <= within_right {
                return Some(pair);
            }
            match within_left <= within_right {
                _ if within_left == NEVER && within_right == NEVER => return None,
                true => l -= 1,
                false => r -= 1,
            }
        }
    }

    /// The tokens on an edge of a token's tree, itself first, and the rank of the merge that each is
    /// a part of.
    fn edge(&self, token: u32, part: impl Fn((u32, u32)) -> u32) -> Vec<(u32, u32)> {
        let mut edge = vec![(token, NEVER)];
        let mut token = token;
        while let Some(parts) = self.parts.get(&token) {
            token = part(*parts);
            edge.push((token, self.rank(parts.0, parts.1)));
        }
        edge
    }
}
