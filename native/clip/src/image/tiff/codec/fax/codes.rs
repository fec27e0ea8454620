//! The codes of fax coding, ITU-T T.4 and T.6.

/// Codes of white runs of 0 to 63 pixels, and of 64 to 2560 in steps of 64.
const WHITE: &str = "\
    00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 \
    110100 110101 101010 101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 \
    0101011 0010011 0100100 0011000 00000010 00000011 00011010 00011011 00010010 00010011 \
    00010100 00010101 00010110 00010111 00101000 00101001 00101010 00101011 00101100 \
    00101101 00000100 00000101 00001010 00001011 01010010 01010011 01010100 01010101 \
    00100100 00100101 01011000 01011001 01011010 01011011 01001010 01001011 00110010 \
    00110011 00110100 11011 10010 010111 0110111 00110110 00110111 01100100 01100101 \
    01101000 01100111 011001100 011001101 011010010 011010011 011010100 011010101 011010110 \
    011010111 011011000 011011001 011011010 011011011 010011000 010011001 010011010 011000 \
    010011011 00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 \
    000000010101 000000010110 000000010111 000000011100 000000011101 000000011110 \
    000000011111";

/// The same of black runs.
const BLACK: &str = "\
    0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 \
    00000111 000011000 0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 \
    00000110111 00000101000 00000010111 00000011000 000011001010 000011001011 000011001100 \
    000011001101 000001101000 000001101001 000001101010 000001101011 000011010010 \
    000011010011 000011010100 000011010101 000011010110 000011010111 000001101100 \
    000001101101 000011011010 000011011011 000001010100 000001010101 000001010110 \
    000001010111 000001100100 000001100101 000001010010 000001010011 000000100100 \
    000000110111 000000111000 000000100111 000000101000 000001011000 000001011001 \
    000000101011 000000101100 000001011010 000001100110 000001100111 0000001111 000011001000 \
    000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100 \
    0000001101101 0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 \
    0000001110011 0000001110100 0000001110101 0000001110110 0000001110111 0000001010010 \
    0000001010011 0000001010100 0000001010101 0000001011010 0000001011011 0000001100100 \
    0000001100101 00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 \
    000000010101 000000010110 000000010111 000000011100 000000011101 000000011110 \
    000000011111";

/// What a row is made of where it refers to the one above: see [`Mode`].
const MODES: &str = "0001 001 1 011 000011 0000011 010 000010 0000010 0000001";

/// How the next pixels depend on the row above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Pass,
    Horizontal,
    /// The colour changes so many pixels right of where it changes above.
    Vertical(i32),
    /// Pixels that are not coded.
    Extension,
}

/// Bits of the longest code of a white run, a black run and a mode.
const WHITE_BITS: u32 = 12;
const BLACK_BITS: u32 = 13;
const MODE_BITS: u32 = 7;

/// Zeros that no code begins with: a mark follows.
const MARK_ZEROS: u32 = 11;

static WHITE_TABLE: [u16; 1 << WHITE_BITS] = table(WHITE, WHITE_BITS);
static BLACK_TABLE: [u16; 1 << BLACK_BITS] = table(BLACK, BLACK_BITS);
static MODE_TABLE: [u16; 1 << MODE_BITS] = table(MODES, MODE_BITS);

/// For every way the next bits may look: the number of the code that they begin with, and above it
/// the length of the code; 0 where they begin with none.
const fn table<const N: usize>(codes: &str, bits: u32) -> [u16; N] {
    let codes = codes.as_bytes();
    let mut table = [0; N];
    let (mut at, mut number) = (0, 0);
    while at < codes.len() {
        let (mut code, mut length) = (0, 0);
        while at < codes.len() && codes[at] != b' ' {
            code = code << 1 | (codes[at] - b'0') as usize;
            length += 1;
            at += 1;
        }
        let free = bits - length;
        let mut rest = 0;
        while rest < 1 << free {
            table[code << free | rest] = (length as u16) << 8 | number;
            rest += 1;
        }
        number += 1;
        at += 1;
    }
    table
}

/// Bits of a chunk, the highest of a byte first. After the last one come zeros without end.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, at most 24.
    fn peek(&self, count: u32) -> u32 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let four = rest
            .first_chunk::<4>()
            .copied()
            .unwrap_or_else(|| std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0)));
        u32::from_be_bytes(four) << (self.at % 8) >> (32 - count)
    }

    /// Takes one bit.
    pub(super) fn bit(&mut self) -> bool {
        let bit = self.peek(1) == 1;
        self.at += 1;
        bit
    }

    pub(super) fn align(&mut self, bits: usize) {
        self.at = self.at.next_multiple_of(bits);
    }

    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    /// Bytes that there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are used up.
    pub(super) fn used(&self) -> usize {
        self.at / 8
    }

    /// Whether more bits were taken than there are.
    pub(super) fn overdrawn(&self) -> bool {
        self.at > 8 * self.bytes.len()
    }

    /// Moves to the next mark; says whether there is one.
    pub(super) fn seek_mark(&mut self) -> bool {
        loop {
            match self.peek(MARK_ZEROS) {
                0 => break,
                // Past the last one, with which no mark begins.
                code => self.at += (MARK_ZEROS - code.trailing_zeros()) as usize,
            }
        }
        self.at + MARK_ZEROS as usize <= 8 * self.bytes.len()
    }

    /// Whether a mark follows at once, without a zero too many.
    pub(super) fn is_mark(&self) -> bool {
        self.peek(MARK_ZEROS + 1) == 1 && self.at + (MARK_ZEROS as usize) < 8 * self.bytes.len()
    }

    /// Takes the mark that follows: zeros and a one. Says whether it was whole.
    pub(super) fn take_mark(&mut self) -> bool {
        while self.peek(24) == 0 && !self.overdrawn() {
            self.at += 24;
        }
        self.at += 1 + self.peek(24).leading_zeros() as usize - 8;
        !self.overdrawn()
    }

    /// Takes the length of a run, or `None` if no code follows.
    pub(super) fn run(&mut self, black: bool) -> Option<u32> {
        let mut sum = 0;
        loop {
            let number = match black {
                false => self.code(&WHITE_TABLE, WHITE_BITS)?,
                true => self.code(&BLACK_TABLE, BLACK_BITS)?,
            };
            match number {
                0..64 => return Some(sum + number),
                _ => sum = (sum + (number - 63) * 64).min(1 << 24),
            }
        }
    }

    /// Takes a mode, or `None` if no code follows.
    pub(super) fn mode(&mut self) -> Option<Mode> {
        Some(match self.code(&MODE_TABLE, MODE_BITS)? {
            0 => Mode::Pass,
            1 => Mode::Horizontal,
            right @ 2..=5 => Mode::Vertical(right as i32 - 2),
            left @ 6..=8 => Mode::Vertical(5 - left as i32),
            _ => Mode::Extension,
        })
    }

    fn code(&mut self, table: &[u16], bits: u32) -> Option<u32> {
        let entry = table[self.peek(bits) as usize];
        self.at += usize::from(entry >> 8);
        (entry != 0).then_some(u32::from(entry & 0xff))
    }
}
