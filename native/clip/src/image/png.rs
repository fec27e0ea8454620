//! PNG, as Pillow reads it.
//!
//! The decoder gets the header and the first run of `IDAT` chunks and nothing else, so what other
//! chunks hold cannot stop it. A file that ends after its pixels, without its `IEND`, is read, as
//! Pillow reads it. Of an animated PNG the default picture counts, which is stored in `IDAT`.

mod chunks;
mod text;

use std::borrow::Cow;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use self::chunks::Chunks;
use super::bitmap::{self, Bitmap, Channels};
use super::format::Format;
use super::{broken, orientation, zeroed};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::limits::MAX_PROFILE;

pub(super) const MARK: &[u8] = b"\x89PNG\r\n\x1a\n";
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let chunks = Chunks::walk(bytes)?;
    let header = Header::read(&chunks)?;
    budget.limits().check_size(header.width, header.height)?;
    budget.reserve(header.memory() + bytes.len() as u64)?;
    let samples = samples(&chunks, &header, budget)?;
    let (channels, data) = header.interpret(samples, &chunks)?;
    let exif = chunks.exif();
    let orientation = orientation::find(exif.as_deref(), chunks.xmp().as_deref());
    Ok(Bitmap::new(header.width, header.height, channels, data).with_orientation(orientation))
}

/// The colour profile, or what is wrong with it. `sRGB`, `gAMA`, `cHRM` and `cICP` do not count, as
/// in libvips.
pub(super) fn profile(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, String> {
    // The decoder says why.
    let Ok(chunks) = Chunks::walk(bytes) else { return Ok(None) };
    Ok(chunks.profile(MAX_PROFILE)?.map(Cow::Owned))
}

/// The samples as they are stored, but of 16 bits only the high 8, unless the low ones are needed.
fn samples(chunks: &Chunks<'_>, header: &Header<'_>, budget: &Budget<'_>) -> Result<Vec<u8>> {
    let file = file(chunks);
    let mut decoder = Decoder::new(budget.reader(&file));
    decoder.ignore_checksums(chunks.cut.is_some());
    if !header.is_keyed_grey16() {
        decoder.set_transformations(Transformations::STRIP_16);
    }
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().unwrap_or(usize::MAX);
    let mut data = zeroed(size)?;
    reader.next_frame(&mut data).map_err(failed)?;
    Ok(data)
}

/// A file of only header and pixels. A last chunk that was cut off gets another length.
fn file(chunks: &Chunks<'_>) -> Vec<u8> {
    let start = MARK.len() + chunks.header.len();
    let Some(last) = chunks.cut else {
        return [MARK, chunks.header, chunks.pixels, END].concat();
    };
    let mut file = [MARK, chunks.header, chunks.pixels, &[0; 4], END].concat();
    let length = (chunks.pixels.len() - last - 8) as u32;
    file[start + last..start + last + 4].copy_from_slice(&length.to_be_bytes());
    file
}

/// What the header says, and how the pixels are to be understood.
struct Header<'a> {
    width: u32,
    height: u32,
    depth: u8,
    color: ColorType,
    /// The `tRNS` chunk, where it has a meaning.
    transparency: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    fn read(chunks: &Chunks<'a>) -> Result<Self> {
        let [_, _, _, _, b'I', b'H', b'D', b'R', a, b, c, d, e, f, g, h, depth, color, ..] =
            *chunks.header
        else {
            return Err(broken(Format::Png, "its header is not the first chunk"));
        };
        let color = ColorType::from_u8(color).filter(|_| BitDepth::from_u8(depth).is_some());
        let color =
            color.ok_or_else(|| broken(Format::Png, "its kind of pixels does not exist"))?;
        let needed = match color {
            ColorType::Grayscale => 2,
            ColorType::Rgb => 6,
            ColorType::Indexed => 0,
            ColorType::GrayscaleAlpha | ColorType::Rgba => usize::MAX,
        };
        Ok(Self {
            width: u32::from_be_bytes([a, b, c, d]),
            height: u32::from_be_bytes([e, f, g, h]),
            depth,
            color,
            transparency: chunks.transparency.filter(|value| value.len() >= needed),
        })
    }

    fn is_keyed_grey16(&self) -> bool {
        self.color == ColorType::Grayscale && self.depth == 16 && self.transparency.is_some()
    }

    /// Bytes that decoding holds at once: the samples and what becomes of them, or that and RGB.
    fn memory(&self) -> u64 {
        let wide = if self.is_keyed_grey16() { 2 } else { 1 };
        let stored = wide * self.color.samples() as u64;
        let converted = match (self.color, self.transparency) {
            (ColorType::Grayscale, Some(_)) => 2,
            (ColorType::Grayscale, None) if self.depth < 8 => 1,
            (ColorType::Rgb | ColorType::Indexed, Some(_)) => 4,
            (ColorType::Indexed, None) => 3,
            _ => 0,
        };
        let pixel = (stored + converted).max(stored.min(converted) + 3).max(converted + 3);
        u64::from(self.width) * u64::from(self.height) * pixel.max(stored + 3)
    }

    fn interpret(&self, samples: Vec<u8>, chunks: &Chunks<'_>) -> Result<(Channels, Vec<u8>)> {
        match (self.color, self.transparency) {
            (ColorType::GrayscaleAlpha, _) => Ok((Channels::GreyAlpha, samples)),
            (ColorType::Rgba, _) => Ok((Channels::Rgba, samples)),
            (ColorType::Rgb, None) => Ok((Channels::Rgb, samples)),
            (ColorType::Rgb, Some(key)) => rgb_key(&samples, key),
            (ColorType::Indexed, alphas) => {
                // Pillow makes grey of the indices. They are not, and libpng refuses them.
                let palette = chunks.palette.ok_or_else(|| {
                    broken(Format::Png, "there is no palette before its pixels, which need one")
                })?;
                let indices = self.unpacked(samples, 1)?;
                look_up(&indices, palette, alphas)
            }
            (ColorType::Grayscale, None) => Ok((Channels::Grey, self.grey(samples)?)),
            (ColorType::Grayscale, Some(key)) if self.depth == 16 => grey16_key(&samples, key),
            (ColorType::Grayscale, Some(key)) => {
                grey_key(&self.grey(samples)?, self.key_level(key))
            }
        }
    }

    /// Grey of fewer than 8 bits, so that the highest value is white.
    fn grey(&self, samples: Vec<u8>) -> Result<Vec<u8>> {
        self.unpacked(samples, if self.depth < 8 { 255 / ((1 << self.depth) - 1) } else { 1 })
    }

    fn unpacked(&self, samples: Vec<u8>, scale: u8) -> Result<Vec<u8>> {
        if self.depth >= 8 {
            return Ok(samples);
        }
        bitmap::unpack(&samples, self.depth, (self.width as usize, self.height as usize), scale)
    }

    /// The level that is transparent. Pillow compares the stored one with the spread one, unless
    /// there are but two.
    fn key_level(&self, key: &[u8]) -> u8 {
        match self.depth {
            1 if key[..2] != [0, 0] => 255,
            _ => key[1],
        }
    }
}

fn grey_key(grey: &[u8], key: u8) -> Result<(Channels, Vec<u8>)> {
    let data = bitmap::map_pixels(grey, |[v]: [u8; 1]| [v, if v == key { 0 } else { 255 }])?;
    Ok((Channels::GreyAlpha, data))
}

fn grey16_key(samples: &[u8], key: &[u8]) -> Result<(Channels, Vec<u8>)> {
    let data =
        bitmap::map_pixels(samples, |v: [u8; 2]| [v[0], if v == key[..2] { 0 } else { 255 }])?;
    Ok((Channels::GreyAlpha, data))
}

/// The low byte of each number counts, also where the high one of the samples was kept.
fn rgb_key(samples: &[u8], key: &[u8]) -> Result<(Channels, Vec<u8>)> {
    let key = [key[1], key[3], key[5]];
    let data = bitmap::map_pixels(samples, |rgb: [u8; 3]| {
        [rgb[0], rgb[1], rgb[2], if rgb == key { 0 } else { 255 }]
    })?;
    Ok((Channels::Rgba, data))
}

/// What the palette leaves out is black.
fn look_up(indices: &[u8], palette: &[u8], alphas: Option<&[u8]>) -> Result<(Channels, Vec<u8>)> {
    let mut colors = [[0; 3]; 256];
    for (color, stored) in colors.iter_mut().zip(palette.as_chunks::<3>().0) {
        *color = *stored;
    }
    let Some(alphas) = alphas else {
        let data = bitmap::map_pixels(indices, |[i]: [u8; 1]| colors[usize::from(i)])?;
        return Ok((Channels::Rgb, data));
    };
    let data = bitmap::map_pixels(indices, |[i]: [u8; 1]| {
        let [r, g, b] = colors[usize::from(i)];
        [r, g, b, alphas.get(usize::from(i)).copied().unwrap_or(255)]
    })?;
    Ok((Channels::Rgba, data))
}

fn failed(error: DecodingError) -> Error {
    let text = error.to_string();
    // What follows is a Rust structure.
    let reason = text.split(" while decoding ChunkType").next().unwrap_or_default();
    broken(Format::Png, reason).with_source(error)
}
