//! LZW, also as it was before TIFF 6.0: with the first bit of a code in the lowest of a byte, and
//! codes that grow one step later.
//!
//! What a code stands for has always been written just before, so codes are places in the output.

use super::super::damaged;
use super::short;
use crate::budget::Budget;
use crate::error::Result;

/// Codes that have a meaning of their own, after those of the 256 bytes.
const CLEAR: usize = 256;
const END: usize = 257;
const FIRST: usize = 258;

/// Bits of the shortest and the longest code.
const MIN_BITS: u32 = 9;
const MAX_BITS: u32 = 12;

/// Codes that are decoded before the budget is asked again.
const PIECE: u32 = 1 << 14;

/// Bytes that are copied at once.
const WORD: usize = 8;

pub(super) fn decode(chunk: &[u8], out: &mut [u8], budget: &Budget<'_>) -> Result<()> {
    // The first code is always to clear.
    match chunk {
        [0, second, ..] if second & 1 == 1 => Decoder::<true>::new(chunk).decode(out, budget),
        _ => Decoder::<false>::new(chunk).decode(out, budget),
    }
}

/// Part of the output.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: usize,
    length: usize,
}

struct Decoder<'a, const OLD: bool> {
    rest: &'a [u8],
    /// Bits that were read, and how many of them were not used.
    bits: u64,
    count: u32,
    /// Length of the next code, and what the codes after [`FIRST`] stand for.
    width: u32,
    codes: Vec<Span>,
}

impl<'a, const OLD: bool> Decoder<'a, OLD> {
    fn new(chunk: &'a [u8]) -> Self {
        let codes = Vec::with_capacity(1 << MAX_BITS);
        Self { rest: chunk, bits: 0, count: 0, width: MIN_BITS, codes }
    }

    fn decode(&mut self, out: &mut [u8], budget: &Budget<'_>) -> Result<()> {
        let mut at = 0;
        let mut last = None;
        let mut check = 0;
        while at < out.len() {
            check += 1;
            if check % PIECE == 0 {
                budget.check()?;
            }
            let code = self.next().ok_or_else(short)?;
            let start = at;
            match code {
                CLEAR => {
                    self.codes.clear();
                    (self.width, last) = (MIN_BITS, None);
                    continue;
                }
                END => return Err(short()),
                0..CLEAR => {
                    self.add(last);
                    out[at] = code as u8;
                    at += 1;
                }
                _ => {
                    // It may be the one that is added now.
                    self.add(last);
                    let span = self.codes.get(code - FIRST).copied();
                    let span = span.ok_or_else(|| damaged("its LZW coding is broken"))?;
                    at += copy(out, span, at);
                }
            }
            last = Some(Span { start, length: at - start });
        }
        Ok(())
    }

    /// The next code; the bits that a last one may lack are zeros.
    fn next(&mut self) -> Option<usize> {
        while self.count < self.width {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            self.bits = match OLD {
                true => self.bits | u64::from(*byte) << self.count,
                false => self.bits << 8 | u64::from(*byte),
            };
            self.count += 8;
        }
        self.count -= self.width;
        let mask = (1 << self.width) - 1;
        let code = match OLD {
            true => self.bits & mask,
            false => self.bits >> self.count & mask,
        };
        if OLD {
            self.bits >>= self.width;
        }
        Some(code as usize)
    }

    /// Adds a code for what was written last and the byte that will follow it.
    fn add(&mut self, last: Option<Span>) {
        let Some(Span { start, length }) = last else { return };
        let next = FIRST + self.codes.len();
        if next < 1 << MAX_BITS {
            self.codes.push(Span { start, length: length + 1 });
        }
        let early = usize::from(!OLD);
        if next + 1 + early >= 1 << self.width && self.width < MAX_BITS {
            self.width += 1;
        }
    }
}

/// Copies a part of the output behind it, as far as it goes. Says how many bytes that are.
fn copy(out: &mut [u8], span: Span, at: usize) -> usize {
    let length = span.length.min(out.len() - at);
    let apart = at - span.start;
    if length <= WORD && apart >= WORD && at + WORD <= out.len() {
        // What is too much will be written over.
        out.copy_within(span.start..span.start + WORD, at);
    } else if length <= apart {
        out.copy_within(span.start..span.start + length, at);
    } else {
        (at..at + length).for_each(|at| out[at] = out[at - apart]);
    }
    length
}
