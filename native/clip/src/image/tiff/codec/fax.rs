//! Fax coding of pictures of two colours: ITU-T T.4 (group 3) and T.6 (group 4).
//!
//! As libtiff does, errors of transmission are passed over where a mark tells where the next row
//! begins. Elsewhere all that follows would be noise, and the picture is refused.

mod codes;

use std::cmp::Ordering;

use self::codes::{Bits, Mode};
use super::super::{cannot, damaged};
use super::{Fax, short};
use crate::budget::Budget;
use crate::error::{Error, Result};

/// Where the colour changes in a row, which begins with white.
#[derive(Debug, Default)]
struct Row {
    changes: Vec<u32>,
}

impl Row {
    fn is_black(&self) -> bool {
        self.changes.len() % 2 == 1
    }

    /// Changes the colour at a pixel not left of the last change.
    fn change(&mut self, at: u32) {
        // Two changes at one pixel are none: so a row holds no more than one for each pixel.
        if self.changes.pop_if(|last| *last == at).is_none() {
            self.changes.push(at);
        }
    }

    fn paint(&self, out: &mut [u8], width: u32) {
        out.fill(0);
        for run in self.changes.chunks(2) {
            let end = run.get(1).copied().unwrap_or(width);
            blacken(out, run[0] as usize, end as usize);
        }
    }
}

/// Sets bits from `start` to `end`.
fn blacken(out: &mut [u8], start: usize, end: usize) {
    let (first, last) = (start / 8, end / 8);
    let (head, tail) = (0xff >> (start % 8), !(0xff >> (end % 8)) as u8);
    if first == last {
        if let Some(byte) = out.get_mut(first) {
            *byte |= head & tail;
        }
        return;
    }
    out[first] |= head;
    out[first + 1..last].fill(0xff);
    if let Some(byte) = out.get_mut(last) {
        *byte |= tail;
    }
}

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// A mark or an error came before the last pixel.
    Early,
    /// So did the mark that ends the picture.
    Picture,
}

pub(in super::super) struct Decoder {
    kind: Fax,
    width: u32,
    row: Row,
    above: Row,
}

impl Decoder {
    pub(super) fn new(kind: Fax, width: usize) -> Self {
        Self { kind, width: width as u32, row: Row::default(), above: Row::default() }
    }

    pub(super) fn decode(
        &mut self,
        chunk: &[u8],
        out: &mut [u8],
        budget: &Budget<'_>,
    ) -> Result<()> {
        let mut bits = Bits::new(chunk);
        // Without a mark anywhere, one row follows another at once.
        let marked = matches!(self.kind, Fax::Group3 { .. }) && bits.seek_mark();
        bits.rewind();
        self.row.changes.clear();
        let row_bytes = (self.width as usize).div_ceil(8);
        let mut done = 0;
        for row in out.chunks_exact_mut(row_bytes) {
            let begun = bits.used();
            done += row_bytes;
            std::mem::swap(&mut self.row, &mut self.above);
            self.row.changes.clear();
            let end = self.next_row(&mut bits, marked)?;
            if bits.overdrawn() {
                return Err(short());
            }
            self.row.paint(row, self.width);
            budget.work(row_bytes + bits.used() - begun)?;
            if end == End::Picture {
                break;
            }
        }
        // Rows after the end are white.
        out[done..].fill(0);
        Ok(())
    }

    fn next_row(&mut self, bits: &mut Bits<'_>, marked: bool) -> Result<End> {
        match self.kind {
            Fax::Rows { align } => {
                let end = self.lone_row(bits);
                bits.align(align);
                if end == End::Early { Err(noise()) } else { Ok(end) }
            }
            Fax::Group3 { two_dimensional } => {
                if marked && !(bits.seek_mark() && bits.take_mark()) {
                    return Err(short());
                }
                let alone = !two_dimensional || bits.bit();
                let end = if alone { self.lone_row(bits) } else { self.dependent_row(bits)? };
                if end == End::Early && !marked { Err(noise()) } else { Ok(end) }
            }
            Fax::Group4 => match self.dependent_row(bits)? {
                End::Early if bits.is_mark() => Ok(End::Picture),
                End::Early if bits.used() >= bits.len() => Err(short()),
                End::Early => Err(noise()),
                end => Ok(end),
            },
        }
    }

    /// Reads a row of runs.
    fn lone_row(&mut self, bits: &mut Bits<'_>) -> End {
        let mut at = 0;
        for _ in 0..self.most_codes() {
            let Some(run) = bits.run(self.row.is_black()) else { break };
            at = self.change(at, at + run);
            if at == self.width {
                return End::Whole;
            }
        }
        self.early(at)
    }

    /// More codes than a row has. Those of no length could go on for as long as the chunk.
    fn most_codes(&self) -> u32 {
        2 * (self.width + 2)
    }

    /// Reads a row that refers to the one above.
    fn dependent_row(&mut self, bits: &mut Bits<'_>) -> Result<End> {
        // The pixel of the last change; before the first one, left of the picture.
        let mut at = -1;
        let mut next = 0;
        for _ in 0..self.most_codes() {
            let from = at.max(0) as u32;
            let black = self.row.is_black();
            // The first change above that is right of here and to the other colour.
            while self.above.changes.get(next).is_some_and(|change| *change as i32 <= at) {
                next += 1;
            }
            let facing = next + usize::from((next % 2 == 1) != black);
            let above = |at| self.above.changes.get(at).map_or(self.width, |change: &u32| *change);
            let to = match bits.mode() {
                Some(Mode::Pass) => Some(above(facing + 1)),
                Some(Mode::Vertical(right)) => {
                    let to = above(facing).checked_add_signed(right).filter(|to| *to >= from);
                    to.map(|to| self.change(from, to))
                }
                Some(Mode::Horizontal) => self.two_runs(bits, from),
                Some(Mode::Extension) => return Err(cannot("fax coding with uncoded pixels")),
                None => None,
            };
            let Some(to) = to else { return Ok(self.early(from)) };
            if to == self.width {
                return Ok(End::Whole);
            }
            at = to as i32;
        }
        Ok(self.early(at.max(0) as u32))
    }

    /// Reads a run of each colour from here on. `None` if a code is wrong.
    fn two_runs(&mut self, bits: &mut Bits<'_>, from: u32) -> Option<u32> {
        let black = self.row.is_black();
        let first = bits.run(black)?;
        let middle = self.change(from, from + first);
        let second = bits.run(!black)?;
        Some(self.change(middle, middle + second))
    }

    /// Ends a run that began at `from`. One that reaches out of the row counts as white, to its end.
    fn change(&mut self, from: u32, to: u32) -> u32 {
        match to.cmp(&self.width) {
            Ordering::Less => self.row.change(to),
            Ordering::Equal => {}
            Ordering::Greater if self.row.is_black() => self.row.change(from),
            Ordering::Greater => {}
        }
        to.min(self.width)
    }

    /// Leaves the rest of a row white.
    fn early(&mut self, from: u32) -> End {
        if self.row.is_black() {
            self.row.change(from.max(self.row.changes.last().copied().unwrap_or(0)));
        }
        End::Early
    }
}

fn noise() -> Error {
    damaged("its fax coding is broken")
}
