//! SentencePiece's table of characters and what becomes of them, `precompiled_charsmap`: the length
//! of a trie, the trie as a double array of 32-bit units, and the replacements, each with a NUL
//! behind it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest replacement, in bytes. NFKC makes 33 of one character. A text grows no more than so.
const MAX_REPLACEMENT: usize = 64;

/// Bits of a unit: that it is a value, that it has one, that its children are far away, and the byte
/// that leads to it.
const VALUE: u32 = 1 << 31;
const LEAF: u32 = 1 << 8;
const FAR: u32 = 1 << 9;
const LABEL: u32 = VALUE | 0xff;

/// A table of characters.
#[derive(Debug, Default)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    replacements: String,
}

impl Charsmap {
    /// Reads a table, written in base64.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).ok().ok_or("its precompiled_charsmap is not base64")?;
        let broken = || "its precompiled_charsmap is cut short".to_owned();
        let (size, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, replacements) = rest.split_at_checked(size).ok_or_else(broken)?;
        let trie = trie.chunks_exact(4).map(|unit| unit.try_into().map(u32::from_le_bytes));
        let trie = trie.collect::<Result<_, _>>().map_err(|_| broken())?;
        let replacements = String::from_utf8(replacements.to_vec());
        let replacements =
            replacements.map_err(|_| "its precompiled_charsmap has text that is not UTF-8")?;
        match replacements.split('\0').find(|text| text.len() > MAX_REPLACEMENT) {
            Some(long) => Err(format!(
                "its precompiled_charsmap replaces a character with {} bytes, the limit is \
                 {MAX_REPLACEMENT}",
                long.len()
            )),
            None => Ok(Self { trie, replacements }),
        }
    }

    /// The longest beginning of a text that is replaced, in bytes, and what with.
    pub(super) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let (length, start) = self.matches(text).last()?;
        let replacement = self.replacements.get(start..)?;
        let end = replacement.find('\0').unwrap_or(replacement.len());
        Some((length, &replacement[..end]))
    }

    /// Every beginning of a text that is in the trie: its length, and where its replacement starts.
    fn matches(&self, text: &str) -> impl Iterator<Item = (usize, usize)> {
        let mut node = self.trie.first().map(|root| offset(*root));
        let steps = text.bytes().enumerate().map_while(move |(at, byte)| {
            let place = node? ^ usize::from(byte);
            let unit = *self.trie.get(place)?;
            if unit & LABEL != u32::from(byte) {
                return None;
            }
            let behind = place ^ offset(unit);
            node = Some(behind);
            let has_leaf = unit & LEAF != 0;
            let leaf = has_leaf.then(|| self.trie.get(behind)).flatten();
            Some(leaf.map(|leaf| (at + 1, (leaf & !VALUE) as usize)))
        });
        steps.flatten()
    }
}

/// How far the children of a unit are.
fn offset(unit: u32) -> usize {
    ((unit >> 10) as usize) << ((unit & FAR) >> 6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn encoded(trie: &[u32], replacements: &[u8]) -> String {
        let size = 4 * trie.len() as u32;
        let trie = trie.iter().flat_map(|unit| unit.to_le_bytes());
        let bytes: Vec<u8> = size
            .to_le_bytes()
            .into_iter()
            .chain(trie)
            .chain(replacements.iter().copied())
            .collect();
        STANDARD.encode(bytes)
    }

    #[test]
    fn a_character_is_replaced() {
        // The root's children are at 0 ^ byte, "a" has a leaf at its own place ^ 128.
        let mut trie = vec![0; 256];
        trie[usize::from(b'a')] = u32::from(b'a') | LEAF | (128 << 10);
        trie[usize::from(b'a') ^ 128] = VALUE | 2;
        let map = Charsmap::parse(&encoded(&trie, b"x\0yz\0")).unwrap();
        assert_eq!(
            (map.longest("ab"), map.longest("b"), map.longest("")),
            (Some((1, "yz")), None, None)
        );
    }

    #[test]
    fn a_broken_table_is_an_error_or_replaces_nothing() {
        for broken in ["?", "", "AAA=", "////////"] {
            assert!(Charsmap::parse(broken).is_err(), "{broken}");
        }
        let long = "x".repeat(MAX_REPLACEMENT + 1);
        let why = Charsmap::parse(&encoded(&[], long.as_bytes())).unwrap_err();
        assert!(why.ends_with("with 65 bytes, the limit is 64"), "{why}");
        for unit in [u32::MAX, FAR | (u32::MAX << 10), u32::from(b'a') | LEAF | (u32::MAX << 10)] {
            let map = Charsmap::parse(&encoded(&[unit; 128], b"")).unwrap();
            assert_eq!(map.longest("aaaa"), None);
        }
        assert_eq!(Charsmap::default().longest("a"), None);
    }
}
