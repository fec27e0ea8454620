//! Sound inputs made unsound: the same for the same seed, on every machine.

/// Largest input that is made. Larger ones take time and find nothing else.
const MAX_LEN: usize = 1 << 16;

/// What fields are given: the edges of what a number can be.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];

/// What is written into texts.
const WORDS: [&[u8]; 16] = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"1e-999",
    b"NaN",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"\"",
    b"\\u0000",
    b"\xff",
    b"18446744073709551616",
    b"9223372036854775807",
];

/// A source of inputs.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// The words are taken from the seeds: names of chunks, keys of JSON.
    pub fn new(seed: u64, seeds: &[Vec<u8>]) -> Self {
        let mut words: Vec<Vec<u8>> = seeds.iter().flat_map(|seed| names_in(seed)).collect();
        words.extend(WORDS.map(<[u8]>::to_vec));
        words.sort();
        words.dedup();
        Self { state: seed, words }
    }

    /// A number below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of the inputs with a few changes; in half of all cases one of the first `sound` of them.
    pub fn input(&mut self, pool: &[Vec<u8>], sound: usize) -> Vec<u8> {
        let end = if self.below(2) == 0 { sound } else { pool.len() };
        let mut bytes = pool[self.below(end)].clone();
        loop {
            self.change(&mut bytes, pool);
            bytes.truncate(MAX_LEN);
            if self.below(2) == 0 {
                return bytes;
            }
        }
    }

    fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.at(bytes);
        match self.below(11) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = self.next() as u8,
            3 | 4 => self.write_number(bytes, at),
            5 | 6 => self.write_word(bytes, at),
            7 => drop(bytes.drain(self.range(bytes, at))),
            8 => {
                let copied = bytes[self.range(bytes, at)].to_vec();
                let to = self.at(bytes);
                bytes.splice(to..to, copied);
            }
            9 => {
                let other = &pool[self.below(pool.len())];
                let from = self.at(other);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            10 if self.below(4) == 0 => bytes.truncate(at),
            _ => {}
        }
    }

    /// A place, in half of all cases near the beginning: headers are there.
    fn at(&mut self, bytes: &[u8]) -> usize {
        let end = if self.below(2) == 0 { bytes.len().min(128) } else { bytes.len() };
        self.below(end + 1)
    }

    fn range(&mut self, bytes: &[u8], at: usize) -> std::ops::Range<usize> {
        let most = if self.below(2) == 0 { 16 } else { bytes.len() - at };
        at..at + self.below(most.min(bytes.len() - at) + 1)
    }

    /// A number of 1 to 8 bytes: an edge, or the length of the file, and some beside those.
    fn write_number(&mut self, bytes: &mut [u8], at: usize) {
        let edge = self.below(EDGES.len() + 1);
        let number = EDGES.get(edge).copied().unwrap_or(bytes.len() as u64);
        let number = number.wrapping_add(self.below(3) as u64).wrapping_sub(1);
        let size = 1 << self.below(4);
        let mut field = number.to_le_bytes()[..size].to_vec();
        if self.below(2) == 0 {
            field.reverse();
        }
        for (byte, value) in bytes[at..].iter_mut().zip(field) {
            *byte = value;
        }
    }

    /// A word in front of what is there, over it, or for the next name or number: a text that has a
    /// grammar stays within it then.
    fn write_word(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let word = self.word();
        let (start, length) = match self.below(4) {
            0 => (at, 0),
            1 => (at, word.len()),
            _ => {
                let start = at + bytes[at..].iter().take_while(|byte| !is_of_name(byte)).count();
                (start, bytes[start..].iter().take_while(|byte| is_of_name(byte)).count())
            }
        };
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, word);
    }

    fn word(&mut self) -> Vec<u8> {
        if self.below(2) == 0 {
            let word = self.below(self.words.len());
            return self.words[word].clone();
        }
        let edge = EDGES[self.below(EDGES.len())].wrapping_add(self.below(3) as u64);
        let sign = if self.below(4) == 0 { "-" } else { "" };
        format!("{sign}{edge}").into_bytes()
    }
}

fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// Names of chunks, keys of JSON and the like.
fn names_in(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = seed.split(|byte| !is_of_name(byte));
    names.filter(|name| (3..=24).contains(&name.len())).take(2_000).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_for_the_same_seed_and_others_for_another() {
        let pool = vec![br#"{"size": 224, "name": "x"}"#.to_vec(), vec![0; 100]];
        let inputs = |seed| -> Vec<_> {
            let mut mutator = Mutator::new(seed, &pool);
            (0..1_000).map(|_| mutator.input(&pool, pool.len())).collect()
        };
        let made = inputs(1);
        assert_eq!(made, inputs(1));
        assert_ne!(made, inputs(2));
        let changed = made.iter().filter(|bytes| !pool.contains(bytes)).count();
        assert!(changed > 800, "{changed}");
    }

    #[test]
    fn inputs_stay_small() {
        let pool = vec![vec![0; MAX_LEN]];
        let mut mutator = Mutator::new(1, &pool);
        assert!((0..200).all(|_| mutator.input(&pool, pool.len()).len() <= MAX_LEN));
    }

    #[test]
    fn nothing_can_be_changed_too() {
        let pool = vec![Vec::new()];
        let mut mutator = Mutator::new(1, &pool);
        assert!((0..200).any(|_| !mutator.input(&pool, pool.len()).is_empty()));
    }
}
