//! WebP: the first picture on its canvas, as Pillow shows it.
//!
//! The decoder gets that picture in a file of its own, so nothing else in the container can cost
//! memory or stop it. What it will hold is computed first, tables and all.

mod container;
mod frame;
mod lossless;

use image_webp::{DecodingError, WebPDecoder};

use self::container::Container;
use self::frame::{Coded, Frame};
use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{broken, orientation, unsupported, zeroed};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Length of what precedes the stream of lossless pixels, in bytes: a mark and their size.
const LOSSLESS_HEADER: usize = 5;

/// How alpha may be compressed.
const LOSSLESS: u8 = 1;

/// What the decoder holds beside its output and its tables, in bytes a pixel: all channels where they
/// are not its output, and what the transforms need for each block.
const CHANNELS: u64 = 4;
const BLOCKS: u64 = 1;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let container = Container::parse(bytes, budget.limits())?;
    let channels = channels(&container);
    budget.reserve(memory(&container, channels, budget)?)?;
    let frame = decode(&container, budget)?;
    let data = place(&container, channels, frame)?;
    let (width, height) = container.canvas;
    let orientation = orientation::find(container.exif, container.xmp);
    Ok(Bitmap::new(width, height, channels, data).with_orientation(orientation))
}

/// The colour profile. Of a file that cannot be read, the decoder says why.
pub(super) fn profile<'a>(bytes: &'a [u8], limits: &Limits) -> Option<&'a [u8]> {
    Container::parse(bytes, limits).ok()?.profile
}

/// What the canvas needs: without transparency in the frame or around it, alpha is left out.
fn channels(container: &Container<'_>) -> Channels {
    let transparent = decodes_alpha(container) || !container.is_full();
    if container.alpha && transparent { Channels::Rgba } else { Channels::Rgb }
}

/// Lossy pixels are decoded with their alpha even if it does not count: damaged, it is damage.
fn decodes_alpha(container: &Container<'_>) -> bool {
    match container.frame.coded {
        Coded::Lossy { alpha, .. } => alpha.is_some(),
        Coded::Lossless(_) => container.alpha,
    }
}

/// Bytes of a pixel as decoded.
fn depth(container: &Container<'_>) -> u64 {
    if decodes_alpha(container) { 4 } else { 3 }
}

/// Bytes held at once: by the decoder, by frame and canvas, or by canvas and RGB.
fn memory(container: &Container<'_>, channels: Channels, budget: &Budget<'_>) -> Result<u64> {
    let frame = &container.frame;
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let canvas = u64::from(container.canvas.0) * u64::from(container.canvas.1);
    let decoded = depth(container) * pixels;
    let decoding = decoded
        + match frame.coded {
            Coded::Lossless(data) => lossless_memory(frame, &data[LOSSLESS_HEADER..], budget)?,
            Coded::Lossy { alpha, data } => {
                alpha.map_or(Ok(0), |plane| plane_memory(frame, plane, budget))?
                    + lossy_memory(frame, data)
            }
        };
    let depth = channels.count() as u64;
    let placing = if keeps(container, channels) { 0 } else { decoded + depth * canvas };
    let converting = if channels == Channels::Rgb { depth } else { depth + 3 } * canvas;
    Ok(decoding.max(placing).max(converting))
}

/// All channels of each pixel, blocks and tables, and the file that the decoder gets.
fn lossless_memory(frame: &Frame<'_>, stream: &[u8], budget: &Budget<'_>) -> Result<u64> {
    let size = (frame.width, frame.height);
    let pixels = u64::from(size.0) * u64::from(size.1);
    let tables = lossless::table_bytes(stream, size, budget)?;
    Ok(tables + (CHANNELS + BLOCKS) * pixels + stream.len() as u64)
}

/// The plane itself, and where it is compressed what lossless pixels take.
fn plane_memory(frame: &Frame<'_>, plane: &[u8], budget: &Budget<'_>) -> Result<u64> {
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    match plane {
        // Bits that the decoder does not look at, and libwebp wants to be zero.
        [kind, ..] if kind >> 6 != 0 => Err(damaged("its alpha is of an unknown kind")),
        [kind, stream @ ..] if kind & 0b11 == LOSSLESS => {
            Ok(pixels + lossless_memory(frame, stream, budget)?)
        }
        _ => Ok(pixels + plane.len() as u64),
    }
}

/// Brightness and colour in whole blocks, what is known of each block, and the file three times.
fn lossy_memory(frame: &Frame<'_>, data: &[u8]) -> u64 {
    const BLOCK: u64 = 16 * 16 + 2 * 8 * 8 + 96;
    let blocks = u64::from(frame.width.div_ceil(16)) * u64::from(frame.height.div_ceil(16));
    BLOCK * blocks + 3 * data.len() as u64
}

/// The frame's pixels, RGBA or RGB.
fn decode(container: &Container<'_>, budget: &Budget<'_>) -> Result<Vec<u8>> {
    let file = file(&container.frame, decodes_alpha(container));
    let mut decoder = WebPDecoder::new(budget.reader(&file)).map_err(failed)?;
    let mut data = zeroed(decoder.output_buffer_size().unwrap_or(usize::MAX))?;
    decoder.read_image(&mut data).map_err(failed)?;
    Ok(data)
}

/// A file of this frame alone.
fn file(frame: &Frame<'_>, alpha: bool) -> Vec<u8> {
    let (plane, name, data) = match frame.coded {
        Coded::Lossy { alpha, data } => (alpha, b"VP8 ", data),
        Coded::Lossless(data) => (None, b"VP8L", data),
    };
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let flags = vec![if alpha { container::ALPHA } else { 0 }, 0, 0, 0];
    let canvas = [flags, side(frame.width), side(frame.height)].concat();
    let plane = plane.map_or_else(Vec::new, |plane| chunk(b"ALPH", plane));
    let body = [b"WEBP".to_vec(), chunk(b"VP8X", &canvas), plane, chunk(name, data)].concat();
    chunk(b"RIFF", &body)
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [name, &(data.len() as u32).to_le_bytes()[..], data, &[0][..data.len() % 2]].concat()
}

/// The frame is what the canvas shows, as decoded.
fn keeps(container: &Container<'_>, channels: Channels) -> bool {
    container.is_full() && depth(container) == channels.count() as u64
}

/// Puts the frame on its canvas, which is black around it and, with alpha, transparent.
fn place(container: &Container<'_>, channels: Channels, frame: Vec<u8>) -> Result<Vec<u8>> {
    if keeps(container, channels) {
        return Ok(frame);
    }
    let [from, to] = [depth(container) as usize, channels.count()];
    let (width, height) = (container.canvas.0 as usize, container.canvas.1 as usize);
    let mut canvas = zeroed(width * height * to)?;
    let rows = canvas.chunks_exact_mut(width * to).skip(container.at.1 as usize);
    for (row, decoded) in rows.zip(frame.chunks_exact(container.frame.width as usize * from)) {
        let row = row[container.at.0 as usize * to..].chunks_exact_mut(to);
        for (pixel, decoded) in row.zip(decoded.chunks_exact(from)) {
            pixel[..3].copy_from_slice(&decoded[..3]);
            if let Some(alpha) = pixel.get_mut(3) {
                *alpha = decoded.get(3).copied().unwrap_or(255);
            }
        }
    }
    Ok(canvas)
}

fn failed(error: DecodingError) -> Error {
    match error {
        DecodingError::UnsupportedFeature(what) => unsupported(Format::Webp, &what),
        error => damaged(&error.to_string()).with_source(error),
    }
}

fn damaged(reason: &str) -> Error {
    broken(Format::Webp, reason)
}
