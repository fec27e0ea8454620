//! The first frame of a GIF on its canvas.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, Frame, MemoryLimit};

use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{broken, zeroed};
use crate::budget::{Budget, Reader};
use crate::error::Result;

/// The canvas (RGBA) and, after the indices have gone, RGB.
const BYTES_PER_PIXEL: u64 = 4 + 3;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(
        NonZeroU64::new(budget.limits().max_decode_bytes)
            .map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes),
    );
    let mut decoder = options.read_info(budget.reader(bytes)).map_err(failed)?;
    let frame = decoder.next_frame_info().map_err(failed)?.cloned();
    let frame = frame.ok_or_else(|| broken(Format::Gif, "it holds no frame"))?;
    // A frame that sticks out of its canvas enlarges it.
    let width = decoder.width().max(frame.left.saturating_add(frame.width)).into();
    let height = decoder.height().max(frame.top.saturating_add(frame.height)).into();
    budget.limits().check_size(width, height)?;
    budget.reserve(u64::from(width) * u64::from(height) * BYTES_PER_PIXEL)?;
    let mut indices = zeroed(decoder.buffer_size())?;
    decoder.read_into_buffer(&mut indices).map_err(failed)?;
    let palette = Palette::new(&decoder, &frame);
    let data = compose(&frame, &indices, &palette, width as usize, height as usize)?;
    Ok(Bitmap::new(width, height, Channels::Rgba, data))
}

struct Palette {
    colors: [[u8; 4]; 256],
    /// What the canvas shows where the frame leaves it bare.
    bare: [u8; 4],
}

impl Palette {
    fn new(decoder: &Decoder<Reader<'_>>, frame: &Frame<'_>) -> Self {
        let stored = frame.palette.as_deref().or(decoder.global_palette()).unwrap_or_default();
        let mut colors = [[0, 0, 0, 255]; 256];
        for (color, stored) in colors.iter_mut().zip(stored.as_chunks::<3>().0) {
            color[..3].copy_from_slice(stored);
        }
        if let Some(index) = frame.transparent {
            colors[usize::from(index)][3] = 0;
        }
        // The colour that Pillow's canvas starts with; alpha 0, because nothing was painted there.
        let [r, g, b, _] = colors[usize::from(frame.transparent.unwrap_or(0))];
        Self { colors, bare: [r, g, b, 0] }
    }
}

fn compose(
    frame: &Frame<'_>,
    indices: &[u8],
    palette: &Palette,
    width: usize,
    height: usize,
) -> Result<Vec<u8>> {
    let mut canvas = zeroed(width * height * 4)?;
    let pixels = canvas.as_chunks_mut::<4>().0;
    pixels.fill(palette.bare);
    let rows = pixels.chunks_exact_mut(width).skip(frame.top.into());
    let columns = usize::from(frame.left)..usize::from(frame.left) + usize::from(frame.width);
    for (row, indices) in rows.zip(indices.chunks_exact(usize::from(frame.width).max(1))) {
        for (pixel, index) in row[columns.clone()].iter_mut().zip(indices) {
            *pixel = palette.colors[usize::from(*index)];
        }
    }
    Ok(canvas)
}

fn failed(error: DecodingError) -> crate::error::Error {
    broken(Format::Gif, &error.to_string()).with_source(error)
}
