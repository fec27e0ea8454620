//! The first frame of a GIF on its canvas, as Pillow shows it.
//!
//! What comments and applications wrote into the file is passed over, however long it is.

use weezl::decode::Configuration;
use weezl::{BitOrder, LzwError, LzwStatus};

use super::bitmap::{self, Bitmap, Channels};
use super::format::Format;
use super::{broken, zeroed};
use crate::budget::Budget;
use crate::error::{Error, Result};

/// Length of what precedes the global palette.
const SCREEN: usize = 13;

/// In flags of the screen and of a frame: a palette follows. The lowest three bits are its size.
const PALETTE: u8 = 0x80;

/// What an extension with the transparent colour begins with.
const CONTROL: u8 = 0xf9;

/// In flags of a frame: rows come in four passes.
const INTERLACED: u8 = 0x40;

/// The widest codes that make sense, in bits.
const MAX_CODE: u8 = 11;

/// Length of a frame's position, size and flags.
const DESCRIPTOR: usize = 9;

/// Bytes a pixel of the canvas (RGBA), and of what becomes of it.
const CANVAS: u64 = 4;
const RGB: u64 = 3;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let frame = First::find(bytes)?;
    if frame.width == 0 || frame.height == 0 {
        let size = format!("{} x {}", frame.width, frame.height);
        return Err(broken(Format::Gif, &format!("its first frame is {size} pixels")));
    }
    let (width, height) = frame.canvas();
    budget.limits().check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    let indices = u64::from(frame.width) * u64::from(frame.height);
    budget.reserve(pixels * CANVAS + indices.max(pixels * RGB))?;
    let indices = frame.indices(budget)?;
    let data = frame.compose(&indices, width as usize, height as usize)?;
    Ok(Bitmap::new(width, height, Channels::Rgba, data))
}

/// The first frame, as slices of the file.
struct First<'a> {
    screen: &'a [u8; SCREEN],
    /// The frame's palette or else the global one.
    palette: &'a [u8],
    transparent: Option<u8>,
    left: u16,
    top: u16,
    width: u16,
    height: u16,
    interlaced: bool,
    /// The width of the codes, and the blocks of the data with what follows them.
    data: &'a [u8],
}

impl<'a> First<'a> {
    fn find(bytes: &'a [u8]) -> Result<Self> {
        Self::walk(bytes).ok_or_else(|| broken(Format::Gif, "it holds no frame"))
    }

    /// Goes from block to block up to a frame, and past bytes that begin none.
    fn walk(bytes: &'a [u8]) -> Option<Self> {
        let screen = bytes.first_chunk::<SCREEN>()?;
        let global = palette(bytes, SCREEN, screen[10])?;
        let mut transparent = None;
        let mut at = SCREEN + global.len();
        while *bytes.get(at)? != b',' {
            match bytes[at] {
                b'!' => {
                    if let [CONTROL, _, flags, _, _, index, ..] = bytes[at + 1..] {
                        transparent = if flags & 1 == 1 { Some(index) } else { transparent };
                    }
                    at += 2;
                    while let Some(block) = block(bytes, at) {
                        at += 1 + block.len();
                    }
                    at += 1;
                }
                b';' => return None,
                _ => at += 1,
            }
        }
        let [a, b, c, d, e, f, g, h, flags] = *bytes.get(at + 1..)?.first_chunk::<DESCRIPTOR>()?;
        let local = palette(bytes, at + 1 + DESCRIPTOR, flags)?;
        let data = bytes.get(at + 1 + DESCRIPTOR + local.len()..)?;
        Some(Self {
            screen,
            palette: if local.is_empty() { global } else { local },
            transparent,
            left: u16::from_le_bytes([a, b]),
            top: u16::from_le_bytes([c, d]),
            width: u16::from_le_bytes([e, f]),
            height: u16::from_le_bytes([g, h]),
            interlaced: flags & INTERLACED != 0,
            data,
        })
    }

    /// Size of the canvas. A frame that sticks out enlarges it.
    fn canvas(&self) -> (u32, u32) {
        let [.., a, b, c, d, _, _, _] = *self.screen;
        let side = |canvas, start: u16, frame: u16| {
            u32::from(u16::from_le_bytes(canvas)).max(u32::from(start) + u32::from(frame))
        };
        (side([a, b], self.left, self.width), side([c, d], self.top, self.height))
    }

    /// The frame's pixels, as indices of colours, in the order of the file.
    fn indices(&self, budget: &Budget<'_>) -> Result<Vec<u8>> {
        let mut indices = zeroed(usize::from(self.width) * usize::from(self.height))?;
        let [width @ 0..=MAX_CODE, blocks @ ..] = self.data else {
            return Err(broken(Format::Gif, "its codes are too wide"));
        };
        let order = Configuration::new(BitOrder::Lsb, *width).with_yield_on_full_buffer(true);
        let mut decoder = order.build();
        let (mut done, mut at) = (0, 0);
        while let Some(block) = block(blocks, at).filter(|_| done < indices.len()) {
            let begun = done;
            let mut rest = block;
            while done < indices.len() {
                let result = decoder.decode_bytes(rest, &mut indices[done..]);
                rest = &rest[result.consumed_in..];
                done += result.consumed_out;
                // Codes that were read may wait to be decoded when all bytes are read.
                match result.status.map_err(failed)? {
                    LzwStatus::Ok if result.consumed_in + result.consumed_out > 0 => {}
                    _ => break,
                }
            }
            at += 1 + block.len();
            budget.work(1 + block.len() + done - begun)?;
        }
        if done < indices.len() {
            return Err(broken(Format::Gif, "its pixels end too early"));
        }
        Ok(indices)
    }

    /// Where the rows of the file belong.
    fn rows(&self) -> Vec<usize> {
        let height = usize::from(self.height);
        let passes: &[(usize, usize)] =
            if self.interlaced { &[(0, 8), (4, 8), (2, 4), (1, 2)] } else { &[(0, 1)] };
        passes.iter().flat_map(|(start, step)| (*start..height).step_by(*step)).collect()
    }

    fn compose(&self, indices: &[u8], width: usize, height: usize) -> Result<Vec<u8>> {
        let stored = bitmap::palette(self.palette.as_chunks::<3>().0);
        let mut colors = stored.map(|[red, green, blue]| [red, green, blue, 255]);
        if let Some(index) = self.transparent {
            colors[usize::from(index)][3] = 0;
        }
        let mut canvas = zeroed(width * height * 4)?;
        let pixels = canvas.as_chunks_mut::<4>().0;
        pixels.fill(colors[usize::from(self.transparent.unwrap_or(0))]);
        let rows = indices.chunks_exact(self.width.into());
        for (y, indices) in self.rows().into_iter().zip(rows) {
            let start = (usize::from(self.top) + y) * width + usize::from(self.left);
            for (pixel, index) in pixels[start..].iter_mut().zip(indices) {
                *pixel = colors[usize::from(*index)];
            }
        }
        Ok(canvas)
    }
}

/// The palette that begins here if flags announce one. `None` if the file ends within it.
fn palette(bytes: &[u8], at: usize, flags: u8) -> Option<&[u8]> {
    let length = if flags & PALETTE == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    bytes.get(at..at + length)
}

/// The block that begins here, behind its length. `None` at the end: an empty block, or one that is
/// not all there.
fn block(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.get(at..)?.split_first()?;
    rest.get(..usize::from(*length)).filter(|block| !block.is_empty())
}

fn failed(error: LzwError) -> Error {
    broken(Format::Gif, &error.to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A frame of two colours on a canvas of 5 x 5 pixels, and its data in blocks.
    fn gif(width: u16, height: u16, blocks: &[u8]) -> Vec<u8> {
        let [[a, b], [c, d]] = [width, height].map(u16::to_le_bytes);
        let screen = b"GIF89a\x05\0\x05\0\x80\0\0\xff\0\0\0\xff\0";
        [&screen[..], b",\0\0\0\0", &[a, b, c, d, 0, 2], blocks, b"\0;"].concat()
    }

    #[test]
    fn a_first_frame_without_pixels_is_refused() {
        // Codes of 3 bits: clear, 0, end.
        let blocks = b"\x02\x44\x01";
        assert!(read(&gif(1, 1, blocks), &Budget::default()).is_ok());
        for (width, height) in [(0, 0), (0, 1), (1, 0)] {
            let error = read(&gif(width, height, blocks), &Budget::default()).unwrap_err();
            let size = format!("its first frame is {width} x {height} pixels");
            assert!(error.to_string().ends_with(&size), "{error}");
        }
    }

    #[test]
    fn blocks_of_a_byte_share_a_look_at_the_clock() {
        let looks = Cell::new(0);
        let wanted = || {
            looks.set(looks.get() + 1);
            true
        };
        let budget = Budget::default().while_wanted(&wanted);
        // Codes of 3 bits: clear, 0, clear, 0 and so on.
        let blocks = b"\x01\x04\x01\x41\x01\x10".repeat(50_000);
        assert!(read(&gif(1000, 1000, &blocks), &budget).is_err());
        assert!((1..20).contains(&looks.get()), "{}", looks.get());
    }
}
