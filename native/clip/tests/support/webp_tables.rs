//! Lossless WebPs whose decoder needs much memory for tables: some 75 KB for each group of codes.

use super::hostile::{Bits, riff};

/// A piece of a description of codes: the length of a symbol's code, or the last one six times more.
#[derive(Clone, Copy)]
enum Piece {
    Length(usize),
    SixMore,
}

impl Bits {
    /// A code of one symbol.
    fn single(&mut self, symbol: u32) {
        self.push(0b101, 3);
        self.push(symbol, 8);
    }

    /// A code described by `pieces`, which themselves have codes of these lengths (16 repeats).
    fn described(&mut self, pieces: &[Piece], lengths: &[(usize, u32)]) {
        const ORDER: [usize; 19] =
            [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let of = |symbol| lengths.iter().find(|(other, _)| *other == symbol).map_or(0, |l| l.1);
        self.push(0, 1);
        self.push(15, 4);
        ORDER.iter().for_each(|symbol| self.push(of(*symbol), 3));
        self.push(1, 1);
        self.push(4, 3);
        self.push(pieces.len() as u32 - 2, 10);
        for piece in pieces {
            let symbol = match piece {
                Piece::Length(length) => *length,
                Piece::SixMore => 16,
            };
            // Codes in the order of their lengths and then of the symbols, the highest bit first.
            let below = |other: &&(usize, u32)| (other.1, other.0) < (of(symbol), symbol);
            let code: u32 = lengths.iter().filter(below).map(|l| 1 << (7 - l.1)).sum();
            self.push(code.reverse_bits() >> (32 - 7), of(symbol));
            if symbol == 16 {
                self.push(3, 2);
            }
        }
    }

    /// Five codes whose tables are as large as they get.
    fn large_group(&mut self) {
        use Piece::{Length, SixMore};
        let green = [vec![Length(11)], vec![SixMore; 341], vec![Length(11)]].concat();
        self.described(&green, &[(11, 1), (16, 1)]);
        let short: Vec<_> = (1..=8).map(Length).collect();
        let color = [short, vec![Length(15)], vec![SixMore; 21], vec![Length(15)]].concat();
        let lengths =
            [(16, 1), (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4), (15, 4), (7, 5), (8, 5)];
        (0..3).for_each(|_| self.described(&color, &lengths));
        let distance: Vec<_> = (1..=10).map(Length).chain([Length(10)]).collect();
        let lengths =
            [(1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (10, 3), (6, 4), (7, 4), (8, 4), (9, 4)];
        self.described(&distance, &lengths);
    }
}

/// A stream of lossless WebP with so many groups of codes and as large as they get.
fn stream(groups: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    // No transforms, a cache of eleven bits, several groups, blocks of four pixels, no cache there.
    bits.push(0, 1);
    bits.push(1 | 11 << 1, 5);
    bits.push(1, 1);
    bits.push(0, 3);
    bits.push(0, 1);
    for byte in [groups - 1, (groups - 1) >> 8, 0, 0, 0] {
        bits.single(byte & 0xff);
    }
    // Groups are alike, and eight of them are whole bytes: there have to be a multiple of that.
    let mut eight = Bits::default();
    (0..8).for_each(|_| eight.large_group());
    for _ in 0..groups.div_ceil(8) {
        eight.bytes.iter().for_each(|byte| bits.push((*byte).into(), 8));
    }
    // Enough for the pixels, whatever they are.
    (0..8192).for_each(|_| bits.push(0, 8));
    bits.bytes
}

/// A lossless WebP of 4 x 4 pixels with so many groups of codes.
pub(crate) fn lossless(groups: u32) -> Vec<u8> {
    let picture = [&[0x2f, 3, 0xc0, 0, 0][..], &stream(groups)].concat();
    riff(b"RIFF", &[b"WEBP".to_vec(), riff(b"VP8L", &picture)].concat())
}

/// The same as the first frame of an animation.
pub(crate) fn animated(groups: u32) -> Vec<u8> {
    let picture = [&[0x2f, 3, 0xc0, 0, 0][..], &stream(groups)].concat();
    let canvas = riff(b"VP8X", &[2, 0, 0, 0, 3, 0, 0, 3, 0, 0]);
    let frame = [&[0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 9, 0, 0, 0][..], &riff(b"VP8L", &picture)];
    let chunks = [canvas, riff(b"ANIM", &[0; 6]), riff(b"ANMF", &frame.concat())].concat();
    riff(b"RIFF", &[b"WEBP".to_vec(), chunks].concat())
}

/// The same as the plane of alpha of a lossy picture, which is the first in this file.
pub(crate) fn of_alpha(groups: u32, lossy: &[u8]) -> Vec<u8> {
    let start = lossy.windows(4).position(|name| name == b"VP8 ").unwrap();
    let pixels = &lossy[start + 8..];
    let [width, height] = [pixels[6], pixels[8]];
    let plane = [&[1][..], &stream(groups)].concat();
    let canvas = riff(b"VP8X", &[0x10, 0, 0, 0, width - 1, 0, 0, height - 1, 0, 0]);
    let chunks = [canvas, riff(b"ALPH", &plane), riff(b"VP8 ", pixels)].concat();
    riff(b"RIFF", &[b"WEBP".to_vec(), chunks].concat())
}
