//! WebP: what its decoder does not look after.

mod lossless;

use std::borrow::Cow;

use image::codecs::webp::WebPDecoder;

use super::bitmap::Bitmap;
use super::format::Format;
use super::{broken, failed, orientation, read_with};
use crate::budget::Budget;
use crate::error::Result;
use crate::limits::Limits;

/// What the decoder holds beside the pixels, in bytes a pixel: RGBA and its blocks' transforms, or
/// brightness and colour apart, and alpha as RGBA; for an animation that, the frame and the canvas.
const STILL_SCRATCH: u64 = 4 + 1;
const ALPHA_SCRATCH: u64 = 2 + 4 + 1;
const ANIMATED_SCRATCH: u64 = ALPHA_SCRATCH + 4 + 4;

/// Length of what precedes the chunks of a frame inside `ANMF`, in bytes.
const FRAME_HEADER: usize = 16;

/// Length of what precedes the stream of lossless pixels, in bytes: a mark and their size.
const LOSSLESS_HEADER: usize = 5;

/// How alpha may be compressed.
const LOSSLESS: u8 = 1;

/// The bit of a frame's flags that says: replace the canvas instead of blending with it.
const REPLACE: u8 = 0b10;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    // A torn upload may have all pixels and yet lack what follows them, the orientation for one.
    if riff_length(bytes).is_none_or(|length| length > bytes.len() as u64) {
        return Err(broken(Format::Webp, "its end is missing"));
    }
    let mut scan = Scan::default();
    scan.walk(bytes, 12, bytes.len(), budget)?;
    budget.reserve(scan.tables)?;
    let patched = scan.unblended(bytes);
    let decoder = WebPDecoder::new(budget.reader(&patched));
    let decoder = decoder.map_err(|error| failed(Format::Webp, error))?;
    let scratch = match scan {
        Scan { frame_flags: Some(_), .. } => ANIMATED_SCRATCH,
        Scan { alpha: true, .. } => ALPHA_SCRATCH,
        _ => STILL_SCRATCH,
    };
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
    /// The size of the canvas or, inside a frame, of that.
    size: (u32, u32),
    /// Whether lossy pixels have alpha of their own.
    alpha: bool,
    /// What the tables of lossless pixels and alpha take, in bytes.
    tables: u64,
}

impl<'a> Scan<'a> {
    /// Walks the chunks between two offsets.
    ///
    /// The decoder believes the canvas until it has decoded a frame, of whatever size that is, and
    /// allocates an Exif chunk of whatever length it claims: so frames are measured and Exif is
    /// read here.
    fn walk(
        &mut self,
        bytes: &'a [u8],
        start: usize,
        end: usize,
        budget: &Budget<'_>,
    ) -> Result<()> {
        let limits = budget.limits();
        let mut at = start;
        while let Some(header) = bytes.get(at..end).and_then(|rest| rest.first_chunk::<8>()) {
            let [a, b, c, d, length @ ..] = *header;
            let length = u32::from_le_bytes(length) as usize;
            let Some(chunk) = bytes[..end].get(at + 8..(at + 8).saturating_add(length)) else {
                return self.cut_short(&[a, b, c, d]);
            };
            match &[a, b, c, d] {
                b"VP8X" => self.size = canvas(chunk, limits)?,
                b"VP8 " => _ = frame(chunk, limits)?,
                b"VP8L" => {
                    let size = frame(chunk, limits)?;
                    self.tables += lossless::table_bytes(&chunk[LOSSLESS_HEADER..], size, budget)?;
                }
                b"ALPH" => self.read_alpha(chunk, budget)?,
                b"ANMF" if self.frame_flags.is_none() => {
                    self.frame_flags = Some(at + 8 + FRAME_HEADER - 1);
                    self.size = frame_size(chunk, limits)?;
                    self.walk(bytes, at + 8 + FRAME_HEADER, at + 8 + length, budget)?;
                }
                b"EXIF" => self.exif = self.exif.or(Some(chunk)),
                b"XMP " => self.xmp = self.xmp.or(Some(chunk)),
                _ => {}
            }
            at += 8 + length + length % 2;
        }
        Ok(())
    }

    fn read_alpha(&mut self, chunk: &[u8], budget: &Budget<'_>) -> Result<()> {
        self.alpha = true;
        match chunk {
            [kind, stream @ ..] if kind & 0b11 == LOSSLESS => {
                self.tables += lossless::table_bytes(stream, self.size, budget)?;
            }
            _ => {}
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

fn canvas(chunk: &[u8], limits: &Limits) -> Result<(u32, u32)> {
    match *chunk {
        [_, _, _, _, a, b, c, d, e, f, ..] => checked([a, b, c], [d, e, f], limits),
        _ => Err(broken(Format::Webp, "its canvas has no size")),
    }
}

/// The size of a frame of an animation, behind its place.
fn frame_size(chunk: &[u8], limits: &Limits) -> Result<(u32, u32)> {
    match *chunk {
        [_, _, _, _, _, _, a, b, c, d, e, f, ..] => checked([a, b, c], [d, e, f], limits),
        _ => Err(broken(Format::Webp, "its first frame has no size")),
    }
}

/// A width and a height, each less 1.
fn checked(width: [u8; 3], height: [u8; 3], limits: &Limits) -> Result<(u32, u32)> {
    let [width, height] = [width, height].map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]) + 1);
    limits.check_size(width, height)?;
    Ok((width, height))
}

/// The size that a frame's own bit stream begins with.
fn frame(chunk: &[u8], limits: &Limits) -> Result<(u32, u32)> {
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
    limits.check_size(width, height)?;
    Ok((width, height))
}
