//! Samples of a decoded strip or tile, on their way to bytes of the picture.

use super::super::bitmap;
use super::chunks::Place;
use super::color::Palette;
use super::directory::Order;
use super::layout::Layout;
use super::meaning::Color;

/// Adds up samples that were stored as differences to the pixel on the left.
pub(super) fn add_up(layout: &Layout, rows: &mut [u8], row: usize) {
    let apart = layout.together();
    for row in rows.chunks_exact_mut(row) {
        match (layout.bits, apart) {
            (8, 1) => add_bytes::<1>(row),
            (8, 3) => add_bytes::<3>(row),
            (8, 4) => add_bytes::<4>(row),
            (8, _) => {
                (apart..row.len()).for_each(|at| row[at] = row[at].wrapping_add(row[at - apart]))
            }
            _ => add_words(row, apart, layout.order),
        }
    }
}

fn add_bytes<const N: usize>(row: &mut [u8]) {
    let mut sum = [0; N];
    for pixel in row.as_chunks_mut::<N>().0 {
        for (sum, sample) in sum.iter_mut().zip(pixel.iter_mut()) {
            *sum = sample.wrapping_add(*sum);
            *sample = *sum;
        }
    }
}

fn add_words(row: &mut [u8], apart: usize, order: Order) {
    let words = row.as_chunks_mut::<2>().0;
    for at in apart..words.len() {
        words[at] = match order {
            Order::Little => {
                let sum = u16::from_le_bytes(words[at])
                    .wrapping_add(u16::from_le_bytes(words[at - apart]));
                sum.to_le_bytes()
            }
            Order::Big => {
                let sum = u16::from_be_bytes(words[at])
                    .wrapping_add(u16::from_be_bytes(words[at - apart]));
                sum.to_be_bytes()
            }
        };
    }
}

/// Puts rows of decoded samples where they belong in the picture.
pub(super) struct Placer<'a> {
    layout: &'a Layout,
    palette: Option<&'a Palette>,
    channels: usize,
    /// A row of samples, one byte each.
    line: Vec<u8>,
}

impl<'a> Placer<'a> {
    pub(super) fn new(layout: &'a Layout, palette: Option<&'a Palette>) -> Self {
        Self { layout, palette, channels: layout.channels().count(), line: Vec::new() }
    }

    /// `rows` are those of the piece, each `row` bytes long.
    pub(super) fn place(&mut self, rows: &[u8], row: usize, place: Place, picture: &mut [u8]) {
        let width = self.layout.width as usize * self.channels;
        let bytes = place.columns * self.channels;
        let first = place.top * width + place.left * self.channels;
        for at in 0..place.rows {
            let out = &mut picture[first + at * width..][..bytes];
            match self.layout.block() {
                Some(block) => spread(&rows[at / block.1 * row..][..row], block, at % block.1, out),
                None => self.place_row(&rows[at * row..][..row], place, out),
            }
        }
    }

    fn place_row(&mut self, row: &[u8], place: Place, out: &mut [u8]) {
        let together = self.layout.together();
        if self.palette.is_none() && together == self.channels {
            return self.widen(row, out);
        }
        let mut line = std::mem::take(&mut self.line);
        line.resize(place.columns * together, 0);
        self.widen(row, &mut line);
        let pixels = out.chunks_exact_mut(self.channels).zip(line.chunks_exact(together));
        match (self.palette, self.layout.planar) {
            (None, true) => pixels.for_each(|(out, samples)| out[place.plane] = samples[0]),
            (None, false) => {
                pixels.for_each(|(out, samples)| out.copy_from_slice(&samples[..out.len()]))
            }
            (Some(palette), _) => {
                let shift = 8 - self.layout.bits;
                for (out, samples) in pixels {
                    if place.plane == 0 {
                        out[..3].copy_from_slice(&palette[usize::from(samples[0] >> shift)]);
                    }
                    if let (Some(alpha), Some(sample)) =
                        (out.get_mut(3), samples.get(1 - place.plane))
                    {
                        *alpha = *sample;
                    }
                }
            }
        }
        self.line = line;
    }

    /// Makes a byte of each sample, so that the highest is 255.
    fn widen(&self, row: &[u8], out: &mut [u8]) {
        match (self.layout.bits, self.layout.order) {
            (8, _) => out.copy_from_slice(&row[..out.len()]),
            (16, order) => {
                let high = usize::from(order == Order::Little);
                let words = row.as_chunks::<2>().0;
                out.iter_mut().zip(words).for_each(|(out, word)| *out = word[high]);
            }
            (12, _) => {
                for (at, out) in out.iter_mut().enumerate() {
                    let first = at * 3 / 2;
                    *out = match at % 2 {
                        0 => row[first],
                        _ => row[first] << 4 | row[first + 1] >> 4,
                    };
                }
            }
            (bits, _) => bitmap::unpack_row(row, bits, 255 / ((1 << bits) - 1), out),
        }
    }
}

/// Gives each pixel of a row the colour that it shares with its block. A block is stored as its
/// brightnesses, row by row, and its two colours.
fn spread(blocks: &[u8], (across, down): (usize, usize), row: usize, out: &mut [u8]) {
    let light = across * down;
    let pixels = out.as_chunks_mut::<3>().0;
    for (pixels, block) in pixels.chunks_mut(across).zip(blocks.chunks_exact(light + 2)) {
        for (pixel, light) in pixels.iter_mut().zip(&block[row * across..]) {
            *pixel = [*light, block[block.len() - 2], block[block.len() - 1]];
        }
    }
}

/// Whether decoded chunks are rows of the picture as they are.
pub(super) fn are_rows(layout: &Layout) -> bool {
    layout.bits == 8
        && layout.chunk.0 == layout.width
        && layout.together() == layout.channels().count()
        && layout.color != Color::Palette
        && layout.block().is_none()
}
