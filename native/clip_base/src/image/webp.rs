//! WebP: what its decoder does not look after.

use std::borrow::Cow;

use image::codecs::webp::WebPDecoder;

use super::bitmap::Bitmap;
use super::format::Format;
use super::{broken, failed, orientation, read_with};
use crate::budget::Budget;
use crate::error::Result;
use crate::limits::Limits;

/// What the decoder holds beside the pixels, in bytes a pixel: brightness, colour and alpha apart,
/// or RGBA; for an animation that, the frame and the canvas.
const STILL_SCRATCH: u64 = 4;
const ANIMATED_SCRATCH: u64 = 3 + 4 + 4;

/// Length of what precedes the chunks of a frame inside `ANMF`, in bytes.
const FRAME_HEADER: usize = 16;

/// The bit of a frame's flags that says: replace the canvas instead of blending with it.
const REPLACE: u8 = 0b10;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    // A torn upload may have all pixels and yet lack what follows them, the orientation for one.
    if riff_length(bytes).is_none_or(|length| length > bytes.len() as u64) {
        return Err(broken(Format::Webp, "its end is missing"));
    }
    let mut scan = Scan::default();
    scan.walk(bytes, 12, bytes.len(), budget.limits())?;
    let patched = scan.unblended(bytes);
    let decoder = WebPDecoder::new(budget.reader(&patched));
    let decoder = decoder.map_err(|error| failed(Format::Webp, error))?;
    let scratch = if scan.frame_flags.is_some() { ANIMATED_SCRATCH } else { STILL_SCRATCH };
    let orientation = orientation::find(scan.exif, scan.xmp);
    read_with(Format::Webp, decoder, orientation, scratch, budget)
}

/// Length of the file, as its first header says.
fn riff_length(bytes: &[u8]) -> Option<u64> {
    let length = bytes.get(4..)?.first_chunk::<4>()?;
    Some(u64::from(u32::from_le_bytes(*length)) + 8)
}

#[derive(Default)]
struct Scan<'a> {
    /// The first chunk of each kind counts.
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
    /// Where the flags of the first frame of an animation stand.
    frame_flags: Option<usize>,
}

impl<'a> Scan<'a> {
    /// Walks the chunks between two offsets.
    ///
    /// The decoder believes the canvas until it has decoded a frame, of whatever size that is, and
    /// allocates an Exif chunk of whatever length it claims: so frames are measured and Exif is
    /// read here.
    fn walk(&mut self, bytes: &'a [u8], start: usize, end: usize, limits: &Limits) -> Result<()> {
        let mut at = start;
        while let Some(header) = bytes.get(at..end).and_then(|rest| rest.first_chunk::<8>()) {
            let [a, b, c, d, length @ ..] = *header;
            let length = u32::from_le_bytes(length) as usize;
            let Some(chunk) = bytes[..end].get(at + 8..(at + 8).saturating_add(length)) else {
                return self.cut_short(&[a, b, c, d]);
            };
            match &[a, b, c, d] {
                b"VP8X" => check_canvas(chunk, limits)?,
                b"VP8 " | b"VP8L" => check_frame(chunk, limits)?,
                b"ANMF" if self.frame_flags.is_none() => {
                    self.frame_flags = Some(at + 8 + FRAME_HEADER - 1);
                    self.walk(bytes, at + 8 + FRAME_HEADER, at + 8 + length, limits)?;
                }
                b"EXIF" => self.exif = self.exif.or(Some(chunk)),
                b"XMP " => self.xmp = self.xmp.or(Some(chunk)),
                _ => {}
            }
            at += 8 + length + length % 2;
        }
        Ok(())
    }

    /// A chunk reaches past the end: of no matter in rubbish behind the picture, damage where
    /// pixels are.
    fn cut_short(&self, name: &[u8; 4]) -> Result<()> {
        match name {
            b"VP8 " | b"VP8L" | b"ALPH" => Err(broken(Format::Webp, "its pixels end too early")),
            b"ANMF" if self.frame_flags.is_none() => {
                Err(broken(Format::Webp, "its first frame ends too early"))
            }
            _ => Ok(()),
        }
    }

    /// The bytes, with the first frame of an animation told to replace the canvas. Blending over an
    /// empty canvas loses the colours under transparent pixels, which Pillow keeps.
    fn unblended(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(at) = self.frame_flags else { return Cow::Borrowed(bytes) };
        let mut patched = bytes.to_vec();
        if let Some(flags) = patched.get_mut(at) {
            *flags |= REPLACE;
        }
        Cow::Owned(patched)
    }
}

fn check_canvas(chunk: &[u8], limits: &Limits) -> Result<()> {
    match *chunk {
        [_, _, _, _, a, b, c, d, e, f, ..] => limits
            .check_size(u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1),
        _ => Err(broken(Format::Webp, "its canvas has no size")),
    }
}

/// Checks the size that a frame's own bit stream begins with.
fn check_frame(chunk: &[u8], limits: &Limits) -> Result<()> {
    let (width, height) = match *chunk {
        [0x2f, a, b, c, d, ..] => {
            let bits = u32::from_le_bytes([a, b, c, d]);
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
        }
        [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..] => (
            u32::from(u16::from_le_bytes([a, b]) & 0x3fff),
            u32::from(u16::from_le_bytes([c, d]) & 0x3fff),
        ),
        _ => return Err(broken(Format::Webp, "its pixels do not begin as they should")),
    };
    limits.check_size(width, height)
}
