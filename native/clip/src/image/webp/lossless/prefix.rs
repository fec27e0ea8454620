//! Prefix codes, read bit by bit: little is read by them here.

use super::bits::{Bits, Damaged};

const MAX_LENGTH: usize = 15;

/// Codes of up to so many bits the decoder finds in a table, the others in a tree.
const TABLE_BITS: usize = 10;

/// What the decoder allocates: for an entry of the table, for each symbol in the tree (two nodes),
/// and for the two allocations themselves.
const ENTRY: u64 = 4;
const SYMBOL: u64 = 2 * 16;
const ALLOCATIONS: u64 = 2 * 16;

/// Lengths of codes are coded in their turn, in this order.
const ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// A prefix code: how many symbols have codes of each length, and the symbols by their codes. A code
/// of one symbol takes no bits.
#[derive(Debug, Default)]
pub(super) struct Code {
    counts: [u16; MAX_LENGTH + 1],
    symbols: Vec<u16>,
}

impl Code {
    pub(super) fn read(bits: &mut Bits<'_>, alphabet: usize) -> Result<Self, Damaged> {
        if bits.read(1)? == 1 { Self::simple(bits, alphabet) } else { Self::coded(bits, alphabet) }
    }

    /// One symbol or two, written down.
    fn simple(bits: &mut Bits<'_>, alphabet: usize) -> Result<Self, Damaged> {
        let two = bits.read(1)? == 1;
        let wide = bits.read(1)?;
        let mut symbols = vec![bits.read(1 + 7 * wide)? as u16];
        if two {
            symbols.push(bits.read(8)? as u16);
        }
        if symbols.iter().any(|symbol| usize::from(*symbol) >= alphabet) {
            return Err(Damaged);
        }
        let mut counts = [0; MAX_LENGTH + 1];
        counts[1] = symbols.len() as u16;
        Ok(Self { counts, symbols })
    }

    fn coded(bits: &mut Bits<'_>, alphabet: usize) -> Result<Self, Damaged> {
        let mut lengths = [0; ORDER.len()];
        let count = 4 + bits.read(4)? as usize;
        for symbol in &ORDER[..count] {
            lengths[*symbol] = bits.read(3)? as u8;
        }
        let code = Self::from_lengths(&lengths)?;
        Self::from_lengths(&lengths_by(&code, bits, alphabet)?)
    }

    /// Gives symbols codes in the order of their lengths, and of their own among equals.
    fn from_lengths(lengths: &[u8]) -> Result<Self, Damaged> {
        let mut counts = [0; MAX_LENGTH + 1];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut starts = [0; MAX_LENGTH + 2];
        for length in 1..=MAX_LENGTH {
            starts[length + 1] = starts[length] + usize::from(counts[length]);
        }
        let mut symbols = vec![0; starts[MAX_LENGTH + 1]];
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length != 0) {
            let place = &mut starts[usize::from(*length)];
            symbols[*place] = symbol as u16;
            *place += 1;
        }
        let code = Self { counts, symbols };
        if code.symbols.len() == 1 || code.is_complete() { Ok(code) } else { Err(Damaged) }
    }

    /// Whether every sequence of bits begins with a code, and with one alone.
    fn is_complete(&self) -> bool {
        let shares = self.counts.iter().enumerate().skip(1);
        let sum: u32 = shares.map(|(length, n)| u32::from(*n) << (MAX_LENGTH - length)).sum();
        sum == 1 << MAX_LENGTH
    }

    /// The next symbol.
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Result<usize, Damaged> {
        if let [symbol] = *self.symbols {
            return Ok(symbol.into());
        }
        // Codes of one length are consecutive, after twice those that are shorter.
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in self.counts.iter().skip(1).map(|count| usize::from(*count)) {
            code |= bits.read(1)? as usize;
            if code < first + count {
                return Ok(self.symbols[index + code - first].into());
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(Damaged)
    }

    /// Memory that the decoder takes for this code, in bytes.
    pub(super) fn table_bytes(&self) -> u64 {
        if self.symbols.len() == 1 {
            return 0;
        }
        let longest = self.counts.iter().rposition(|count| *count != 0).unwrap_or(0);
        let beyond = self.counts.iter().skip(TABLE_BITS + 1).map(|count| u64::from(*count));
        (ENTRY << longest.min(TABLE_BITS)) + SYMBOL * beyond.sum::<u64>().max(2) + ALLOCATIONS
    }
}

/// Lengths of the codes of an alphabet, written in a code for lengths.
fn lengths_by(code: &Code, bits: &mut Bits<'_>, alphabet: usize) -> Result<Vec<u8>, Damaged> {
    let mut left = alphabet;
    if bits.read(1)? == 1 {
        let width = 2 + 2 * bits.read(3)?;
        left = 2 + bits.read(width)? as usize;
        if left > alphabet {
            return Err(Damaged);
        }
    }
    let mut lengths = Vec::with_capacity(alphabet);
    let mut before = 8;
    while lengths.len() < alphabet && left > 0 {
        left -= 1;
        let (length, times) = match code.next(bits)? {
            16 => (before, 3 + bits.read(2)?),
            17 => (0, 3 + bits.read(3)?),
            18 => (0, 11 + bits.read(7)?),
            length => (length as u8, 1),
        };
        if length != 0 {
            before = length;
        }
        lengths.extend(std::iter::repeat_n(length, times as usize));
        if lengths.len() > alphabet {
            return Err(Damaged);
        }
    }
    lengths.resize(alphabet, 0);
    Ok(lengths)
}
