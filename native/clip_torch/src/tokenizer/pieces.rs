//! The pieces of a vocabulary: some 10 bytes for each beside its text. A vocabulary of a million
//! takes 30 MB here, and several hundred as a map of strings.

use ahash::RandomState;

/// Longest piece that is looked for, in bytes. SentencePiece makes them of 16 characters; Gemma has
/// runs of 31 spaces.
pub(super) const MAX_PIECE: usize = 256;
/// Most pieces of a vocabulary, and halves of merges. MetaCLIP 2 has 901,629, SigLIP 2 1,161,208.
pub(super) const MAX_PIECES: usize = 4_000_000;

/// A slot without a piece.
const EMPTY: u32 = u32::MAX;

/// Texts one behind the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    joined: String,
    ends: Vec<u32>,
}

impl Texts {
    /// # Errors
    /// When there are too many.
    pub(super) fn push(&mut self, text: &str) -> Result<(), String> {
        if self.ends.len() >= MAX_PIECES {
            return Err(format!("it has more than {MAX_PIECES} pieces"));
        }
        self.joined.push_str(text);
        let end = u32::try_from(self.joined.len());
        self.ends.push(end.map_err(|_| "its pieces are longer than 4 GiB".to_owned())?);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.joined[start as usize..self.ends[index] as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Texts with the way from each to its place.
pub(super) struct Pieces {
    texts: Texts,
    /// An open hash table of places, half full at most.
    slots: Vec<u32>,
    hasher: RandomState,
    longest: usize,
}

impl Pieces {
    /// Those that `is_found` says can be found. Of equal ones the last counts.
    pub(super) fn new(mut texts: Texts, is_found: impl Fn(usize, &str) -> bool) -> Self {
        texts.joined.shrink_to_fit();
        texts.ends.shrink_to_fit();
        let slots = vec![EMPTY; (2 * texts.len()).next_power_of_two().max(2)];
        let mut pieces = Self { texts, slots, hasher: RandomState::new(), longest: 0 };
        for index in 0..pieces.texts.len() {
            let text = pieces.texts.get(index);
            if is_found(index, text) && text.len() <= MAX_PIECE {
                pieces.longest = pieces.longest.max(text.len());
                let slot = pieces.slot(text);
                pieces.slots[slot] = index as u32;
            }
        }
        pieces
    }

    /// The place of a text among all.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        if text.len() > self.longest {
            return None;
        }
        let found = self.slots[self.slot(text)];
        (found != EMPTY).then_some(found as usize)
    }

    /// All pieces that a text begins with: places and lengths.
    pub(super) fn beginnings(&self, text: &str) -> impl Iterator<Item = (usize, usize)> {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let ends = ends.take_while(|end| *end <= self.longest);
        ends.filter_map(|end| Some((self.find(&text[..end])?, end)))
    }

    /// Where a text is in the table, or else the empty slot in which it would be.
    fn slot(&self, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(text) as usize & mask;
        while self.slots[slot] != EMPTY && self.texts.get(self.slots[slot] as usize) != text {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pieces", self.texts.len())
    }
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(super) fn byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_digit = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    let is_written_so = digits.len() == 2 && digits.bytes().all(is_digit);
    is_written_so.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The pieces of all 256 bytes, if a vocabulary has them.
pub(super) fn bytes<'a>(pieces: impl Iterator<Item = &'a str>) -> Option<Box<[u32; 256]>> {
    let mut found = Box::new([EMPTY; 256]);
    for (index, piece) in pieces.enumerate() {
        if let Some(byte) = byte(piece) {
            found[usize::from(byte)] = index as u32;
        }
    }
    (!found.contains(&EMPTY)).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pieces(all: &[&str]) -> Pieces {
        let mut texts = Texts::default();
        all.iter().for_each(|text| texts.push(text).unwrap());
        Pieces::new(texts, |_, text| text != "hidden")
    }

    #[test]
    fn every_piece_is_found_and_nothing_else() {
        let names: Vec<String> = (0..10_000).map(|n| format!("é{n}")).collect();
        let all = pieces(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (index, name) in names.iter().enumerate() {
            assert_eq!((all.find(name), all.texts.get(index)), (Some(index), &**name));
        }
        assert_eq!((all.find("é10000"), all.find("é"), all.find("")), (None, None, None));
        assert_eq!(pieces(&[]).find(""), None);
    }

    #[test]
    fn the_last_of_equal_pieces_counts_and_hidden_ones_are_not_found() {
        let all = pieces(&["a", "hidden", "", "a", &"x".repeat(MAX_PIECE + 1)]);
        assert_eq!((all.find("a"), all.find("hidden"), all.find("")), (Some(3), None, Some(2)));
        assert_eq!(all.find(&"x".repeat(MAX_PIECE + 1)), None);
    }

    #[test]
    fn beginnings_of_a_text_end_between_characters() {
        let all = pieces(&["日", "日本", "本", "日本語"]);
        let found: Vec<_> = all.beginnings("日本x").collect();
        assert_eq!(found, [(0, 3), (1, 6)]);
    }

    #[test]
    fn pieces_of_bytes_are_written_in_capitals() {
        assert_eq!((byte("<0x0A>"), byte("<0xff>"), byte("<0x+1>")), (Some(10), None, None));
        let all: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
        assert_eq!(bytes(all.iter().map(String::as_str)).unwrap()[65], 65);
        assert!(bytes(all[1..].iter().map(String::as_str)).is_none());
    }
}
