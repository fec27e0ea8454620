//! Runs of equal pixels in a BMP, by the rules of Pillow's decoder.
//!
//! Two of them are not those of the format: a row that ended where the last one was filled is not a row
//! of its own, and a run stops at the end of its row.

use super::super::format::Format;
use super::super::{broken, zeroed};
use super::Compression;
use crate::error::Result;

/// Decodes to one byte a pixel, in the order of the file. What is skipped is 0.
pub(super) fn decode(
    bytes: &[u8],
    start: usize,
    compression: Compression,
    (width, height): (usize, usize),
) -> Result<Vec<u8>> {
    let mut runs = Runs {
        bytes,
        at: start,
        nibbles: compression == Compression::Rle4,
        pixels: zeroed(width * height)?,
        done: 0,
        x: 0,
        width,
    };
    while runs.done < runs.pixels.len() && runs.step().is_some() {}
    if runs.done < runs.pixels.len() {
        return Err(broken(Format::Bmp, "its pixels end too early"));
    }
    Ok(runs.pixels)
}

struct Runs<'a> {
    bytes: &'a [u8],
    at: usize,
    nibbles: bool,
    pixels: Vec<u8>,
    /// How many pixels are decoded.
    done: usize,
    x: usize,
    width: usize,
}

impl Runs<'_> {
    fn two(&mut self) -> Option<[u8; 2]> {
        let two = *self.bytes.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(two)
    }

    /// Decodes one piece, `None` at the end.
    fn step(&mut self) -> Option<()> {
        match self.two()? {
            [0, 0] => self.end_row(),
            [0, 1] => return None,
            [0, 2] => {
                let [right, up] = self.two()?.map(usize::from);
                self.skip(right + up * self.width);
                self.x = self.done % self.width;
            }
            [0, count] => return self.literal(count.into()),
            [count, value] => self.run(count.into(), value),
        }
        Some(())
    }

    fn skip(&mut self, count: usize) {
        self.done = (self.done + count).min(self.pixels.len());
    }

    fn end_row(&mut self) {
        self.skip(self.done.next_multiple_of(self.width) - self.done);
        self.x = 0;
    }

    fn run(&mut self, count: usize, value: u8) {
        let count = count.min(self.width.saturating_sub(self.x));
        let pair = if self.nibbles { [value >> 4, value & 15] } else { [value; 2] };
        let start = self.done;
        self.skip(count);
        for (pixel, value) in self.pixels[start..self.done].iter_mut().zip(pair.iter().cycle()) {
            *pixel = *value;
        }
        self.x += count;
    }

    /// `count` pixels as they are, filled up to an even byte of the file.
    fn literal(&mut self, count: usize) -> Option<()> {
        let start = self.done;
        let wanted = count.min(self.pixels.len() - start);
        let length = if self.nibbles { wanted.div_ceil(2) } else { wanted };
        let stored = self.bytes.get(self.at..self.at + length)?;
        self.skip(wanted);
        let pixels = self.pixels[start..self.done].iter_mut();
        if self.nibbles {
            let nibbles = stored.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            pixels.zip(nibbles).for_each(|(pixel, value)| *pixel = value);
        } else {
            pixels.zip(stored).for_each(|(pixel, value)| *pixel = *value);
        }
        self.x += count;
        self.at = (self.at + length).next_multiple_of(2);
        Some(())
    }
}
