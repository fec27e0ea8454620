//! SentencePiece's unigram model: of all ways to cut a text into pieces, the one whose scores have
//! the largest sum.

use super::pieces::{self, Pieces, Texts};

/// How much less than the worst piece an unknown character counts.
const UNKNOWN: f64 = 10.0;

/// Whose arithmetic is followed. The two differ where sums are nearly equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// SentencePiece's own: sums of 32 bits, and control pieces are not found in a text.
    SentencePiece,
    /// The `tokenizers` crate's: sums of 64 bits, over all pieces.
    Tokenizers,
}

/// A unigram model.
#[derive(Debug)]
pub(super) struct Unigram {
    pieces: Pieces,
    scores: Vec<f64>,
    unknown: u32,
    unknown_score: f64,
    /// What an unknown character becomes, byte by byte.
    bytes: Option<Box<[u32; 256]>>,
    arithmetic: Arithmetic,
}

/// The best way to a place in a text: where its last piece starts, and which one that is.
#[derive(Clone, Copy)]
struct Way {
    score: f64,
    start: u32,
    piece: u32,
}

/// A place to which no way is known.
const NOWHERE: u32 = u32::MAX;

impl Unigram {
    /// # Errors
    /// When the vocabulary has no piece for what is unknown.
    pub(super) fn new(
        texts: Texts,
        scores: Vec<f64>,
        unknown: Option<u32>,
        arithmetic: Arithmetic,
    ) -> Result<Self, String> {
        let unknown = unknown.filter(|unknown| (*unknown as usize) < texts.len());
        let unknown = unknown.ok_or("its model has no unk_id within the vocabulary")?;
        // What has no probability was not learnt: control pieces, and those of bytes.
        let is_found = |index: usize| arithmetic == Arithmetic::Tokenizers || scores[index] != 0.0;
        let found = (0..texts.len()).filter(|index| is_found(*index));
        let worst = found.map(|index| scores[index]).fold(f64::INFINITY, f64::min);
        let bytes = match arithmetic {
            Arithmetic::SentencePiece => pieces::bytes(texts.iter()),
            Arithmetic::Tokenizers => None,
        };
        let pieces = Pieces::new(texts, |index, _| is_found(index));
        let unknown_score = arithmetic.kept(worst - UNKNOWN);
        Ok(Self { pieces, scores, unknown, unknown_score, bytes, arithmetic })
    }

    pub(super) fn find(&self, piece: &str) -> Option<u32> {
        Some(self.pieces.find(piece)? as u32)
    }

    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    /// The ids of a text that is normalised.
    pub(super) fn ids(&self, text: &str) -> Vec<u32> {
        let ways = self.ways(text);
        let mut ids = Vec::new();
        let (mut end, mut in_unknown) = (text.len(), false);
        while end > 0 {
            let way = ways[end];
            let start = way.start as usize;
            let is_unknown = way.piece == self.unknown;
            match &self.bytes {
                Some(bytes) if is_unknown => {
                    let surface = text.as_bytes()[start..end].iter().rev();
                    ids.extend(surface.map(|byte| bytes[usize::from(*byte)]));
                }
                // A run of unknown characters is one piece.
                _ if is_unknown && in_unknown => {}
                _ => ids.push(way.piece),
            }
            (end, in_unknown) = (start, is_unknown);
        }
        ids.reverse();
        ids
    }

    fn ways(&self, text: &str) -> Vec<Way> {
        let mut ways = vec![Way { score: 0.0, start: NOWHERE, piece: 0 }; text.len() + 1];
        for (start, c) in text.char_indices() {
            let before = ways[start].score;
            let mut reach = |end: usize, piece: u32, score: f64| {
                let (score, way) = (self.arithmetic.kept(score + before), &mut ways[end]);
                if way.start == NOWHERE || score > way.score {
                    *way = Way { score, start: start as u32, piece };
                }
            };
            let mut is_known = false;
            for (piece, length) in self.pieces.beginnings(&text[start..]) {
                reach(start + length, piece as u32, self.scores[piece]);
                is_known |= length == c.len_utf8();
            }
            if !is_known {
                reach(start + c.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        ways
    }
}

impl Arithmetic {
    /// A sum as it is kept.
    fn kept(self, sum: f64) -> f64 {
        match self {
            Self::SentencePiece => f64::from(sum as f32),
            Self::Tokenizers => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn model(pieces: &[(&str, f64)], arithmetic: Arithmetic) -> Unigram {
        let mut texts = Texts::default();
        pieces.iter().for_each(|(text, _)| texts.push(text).unwrap());
        let scores = pieces.iter().map(|(_, score)| *score).collect();
        Unigram::new(texts, scores, Some(0), arithmetic).unwrap()
    }

    #[test]
    fn the_best_sum_of_scores_wins() {
        let pieces =
            [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -1.5), ("abc", -9.0), ("c", -1.0)];
        let model = model(&pieces, Arithmetic::Tokenizers);
        assert_eq!(model.ids("abc"), [3, 5]);
        assert_eq!(model.ids("cab"), [5, 3]);
        assert_eq!(model.ids(""), [0; 0]);
    }

    #[test]
    fn a_run_of_unknown_characters_is_one_piece() {
        let model = model(&[("<unk>", 0.0), ("a", -1.0)], Arithmetic::Tokenizers);
        assert_eq!(model.ids("日本a語"), [0, 1, 0]);
    }

    #[test]
    fn control_pieces_are_text_only_to_tokenizers() {
        let pieces =
            [("<unk>", 0.0), ("a", -1.0), ("<s>", 0.0), ("<", -1.0), ("s", -1.0), (">", -1.0)];
        assert_eq!(model(&pieces, Arithmetic::Tokenizers).ids("a<s>"), [1, 2]);
        assert_eq!(model(&pieces, Arithmetic::SentencePiece).ids("a<s>"), [1, 3, 4, 5]);
    }

    #[test]
    fn an_unknown_character_becomes_its_bytes() {
        let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut pieces = vec![("<unk>", 0.0), ("a", -1.0)];
        pieces.extend(bytes.iter().map(|piece| (&**piece, 0.0)));
        let model = model(&pieces, Arithmetic::SentencePiece);
        assert_eq!(model.ids("éa"), [2 + 0xc3, 2 + 0xa9, 1]);
    }

    #[test]
    fn a_model_without_an_unknown_piece_is_an_error() {
        for unknown in [None, Some(0)] {
            let why = Unigram::new(Texts::default(), vec![], unknown, Arithmetic::Tokenizers);
            assert_eq!(why.unwrap_err(), "its model has no unk_id within the vocabulary");
        }
    }
}
