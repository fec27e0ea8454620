//! Byte pair encoding over a large vocabulary, as Gemma's tokenizer does it: characters, those that
//! the vocabulary lacks as bytes, joined two by two in the order of the merges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pieces::{self, Pieces, Texts};

/// A BPE model.
#[derive(Debug)]
pub(super) struct Bpe {
    pieces: Pieces,
    /// The id of each piece.
    ids: Vec<u32>,
    merges: Vec<Merge>,
    /// What an unknown character becomes, byte by byte.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
}

/// Two ids that are joined, in the order of both; the lower rank first.
#[derive(Debug)]
struct Merge {
    pair: (u32, u32),
    rank: u32,
    joined: u32,
}

/// A symbol of a text that is being joined. One that was joined to its left has no id.
#[derive(Clone, Copy)]
struct Symbol {
    id: Option<u32>,
    before: u32,
    behind: u32,
}

/// No symbol.
const NONE: u32 = u32::MAX;

impl Bpe {
    /// `merges` are the left and right halves, one behind the other.
    ///
    /// # Errors
    /// When a merge has a part that is not in the vocabulary, or makes one.
    pub(super) fn new(
        texts: Texts,
        ids: Vec<u32>,
        merges: &Texts,
        unknown: Option<&str>,
    ) -> Result<Self, String> {
        let bytes = pieces::bytes(texts.iter()).map(|mut bytes| {
            bytes.iter_mut().for_each(|byte| *byte = ids[*byte as usize]);
            bytes
        });
        let pieces = Pieces::new(texts, |_, _| true);
        let mut model = Self { pieces, ids, merges: Vec::new(), bytes, unknown: None };
        model.unknown = unknown.and_then(|piece| model.find(piece));
        model.merges = model.merges_of(merges)?;
        Ok(model)
    }

    fn merges_of(&self, halves: &Texts) -> Result<Vec<Merge>, String> {
        let mut merges = Vec::with_capacity(halves.len() / 2);
        let mut joined = String::new();
        for rank in 0..halves.len() / 2 {
            let [left, right] = [2 * rank, 2 * rank + 1].map(|half| halves.get(half));
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let id = |piece: &str| {
                let shown: String = piece.chars().take(80).collect();
                self.find(piece)
                    .ok_or(format!("merge {rank} needs {shown:?}, which is not a piece"))
            };
            let pair = (id(left)?, id(right)?);
            merges.push(Merge { pair, rank: rank as u32, joined: id(&joined)? });
        }
        merges.sort_unstable_by_key(|merge| (merge.pair, Reverse(merge.rank)));
        merges.dedup_by_key(|merge| merge.pair);
        merges.shrink_to_fit();
        Ok(merges)
    }

    pub(super) fn find(&self, piece: &str) -> Option<u32> {
        Some(self.ids[self.pieces.find(piece)?])
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids of a text that is normalised.
    pub(super) fn ids(&self, text: &str) -> Vec<u32> {
        self.joined(&self.characters(text))
    }

    /// The ids of single characters. What is unknown even as bytes is one piece for a run, or
    /// nothing where the vocabulary has no such piece.
    fn characters(&self, text: &str) -> Vec<u32> {
        let (mut ids, mut in_unknown) = (Vec::new(), false);
        for (at, c) in text.char_indices() {
            let character = &text[at..at + c.len_utf8()];
            let known = self.find(character);
            match (known, &self.bytes, self.unknown) {
                (Some(id), ..) => ids.push(id),
                (None, Some(bytes), _) => {
                    ids.extend(character.bytes().map(|byte| bytes[usize::from(byte)]));
                }
                (None, None, Some(unknown)) if !in_unknown => ids.push(unknown),
                (None, None, _) => {}
            }
            in_unknown = known.is_none();
        }
        ids
    }

    fn merge(&self, pair: (u32, u32)) -> Option<&Merge> {
        let found = self.merges.binary_search_by_key(&pair, |merge| merge.pair);
        Some(&self.merges[found.ok()?])
    }

    /// Joins pairs, the lowest rank first, of equal ones the leftmost.
    fn joined(&self, ids: &[u32]) -> Vec<u32> {
        let mut symbols: Vec<Symbol> = (0u32..)
            .zip(ids)
            .map(|(at, id)| Symbol { id: Some(*id), before: at.wrapping_sub(1), behind: at + 1 })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.behind = NONE;
        }
        let mut queue = BinaryHeap::new();
        for at in 0..symbols.len() as u32 {
            self.propose(&symbols, at, &mut queue);
        }
        while let Some(Reverse((_, at, joined))) = queue.pop() {
            let is_so = self.pair(&symbols, at).is_some_and(|merge| merge.joined == joined);
            if !is_so {
                continue;
            }
            let right = symbols[at as usize].behind;
            let behind = symbols[right as usize].behind;
            symbols[right as usize].id = None;
            let left = &mut symbols[at as usize];
            (left.id, left.behind) = (Some(joined), behind);
            let before = left.before;
            if behind != NONE {
                symbols[behind as usize].before = at;
            }
            self.propose(&symbols, before, &mut queue);
            self.propose(&symbols, at, &mut queue);
        }
        symbols.iter().filter_map(|symbol| symbol.id).collect()
    }

    /// Queues what the symbol at a place and the one behind it become.
    fn propose(
        &self,
        symbols: &[Symbol],
        at: u32,
        queue: &mut BinaryHeap<Reverse<(u32, u32, u32)>>,
    ) {
        if let Some(merge) = self.pair(symbols, at) {
            queue.push(Reverse((merge.rank, at, merge.joined)));
        }
    }

    fn pair(&self, symbols: &[Symbol], at: u32) -> Option<&Merge> {
        let left = symbols.get(at as usize)?;
        let right = symbols.get(left.behind as usize)?;
        self.merge((left.id?, right.id?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn texts(all: &[&str]) -> Texts {
        let mut texts = Texts::default();
        all.iter().for_each(|text| texts.push(text).unwrap());
        texts
    }

    fn model(pieces: &[&str], merges: &[&str], unknown: Option<&str>) -> Result<Bpe, String> {
        let ids = (100..).take(pieces.len()).collect();
        Bpe::new(texts(pieces), ids, &texts(merges), unknown)
    }

    #[test]
    fn the_earliest_merge_goes_first_and_of_equal_ones_the_leftmost() {
        let merges = ["b", "c", "a", "b", "a", "a", "aa", "a"];
        let model = model(&["a", "b", "c", "ab", "bc", "aa", "aaa"], &merges, None).unwrap();
        assert_eq!(model.ids("abc"), [100, 104]);
        assert_eq!(model.ids("aaaaa"), [105, 106]);
        assert_eq!(model.ids("aab"), [100, 103]);
        assert_eq!(model.ids(""), [0; 0]);
    }

    #[test]
    fn what_is_unknown_is_bytes_or_one_piece_or_nothing() {
        let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut pieces: Vec<&str> = bytes.iter().map(String::as_str).collect();
        pieces.push("a");
        assert_eq!(model(&pieces, &[], None).unwrap().ids("éa"), [100 + 0xc3, 100 + 0xa9, 356]);
        let rest = ["a", "<unk>"];
        assert_eq!(model(&rest, &[], Some("<unk>")).unwrap().ids("日本a語"), [101, 100, 101]);
        assert_eq!(model(&rest, &[], None).unwrap().ids("日本a語"), [100]);
    }

    #[test]
    fn a_merge_of_what_is_no_piece_is_an_error() {
        let why = model(&["a", "b"], &["a", "b"], None).unwrap_err();
        assert_eq!(why, "merge 0 needs \"ab\", which is not a piece");
    }
}
