//! The first page of a TIFF.

use std::borrow::Cow;

use image::metadata::Orientation;
use tiff::ColorType;
use tiff::TiffError;
use tiff::decoder::{ChunkType, Decoder, DecodingResult};
use tiff::tags::Tag;

use super::bitmap::{self, Bitmap, Channels};
use super::format::Format;
use super::{broken, jpeg, unsupported, zeroed};
use crate::budget::{self, Budget};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

type Reader<'a> = Decoder<budget::Reader<'a>>;

const PHOTOMETRIC: u16 = 262;
const GREY: u8 = 1;
const PALETTE: u8 = 3;

/// Value of the compression tag.
const JPEG: u16 = 7;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    // The decoder knows no palettes, but pictures of grey levels that are stored the same way.
    let patched = palette_as_grey(bytes);
    let indexed = matches!(patched, Cow::Owned(_));
    let decoder = Decoder::new(budget.reader(&patched)).map_err(failed)?;
    let mut decoder = decoder.with_limits(buffers(budget.limits()));
    let size = decoder.dimensions().map_err(failed)?;
    let color = decoder.colortype().map_err(failed)?;
    check_samples(&mut decoder, color)?;
    check_cost(&mut decoder, color, budget)?;
    check_chunks(&mut decoder, bytes, budget.limits())?;
    let premultiplied = matches!(color, ColorType::RGBA(_)) && is_premultiplied(&mut decoder);
    let data = read_samples(&mut decoder, color, size, indexed)?;
    let (channels, mut data) = if indexed {
        let palette = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)?;
        (Channels::Rgb, look_up(&data, &palette)?)
    } else {
        interpret(color, data)?
    };
    if premultiplied {
        bitmap::unmultiply(&mut data);
    }
    let orientation = orientation(&mut decoder);
    Ok(Bitmap::new(size.0, size.1, channels, data).with_orientation(orientation))
}

/// Checks size and memory: the samples as read, and beside them either a JPEG with its scratch, or
/// the samples as bytes, or RGB.
fn check_cost(decoder: &mut Reader<'_>, color: ColorType, budget: &Budget<'_>) -> Result<()> {
    let (width, height) = decoder.dimensions().map_err(failed)?;
    budget.limits().check_size(width, height)?;
    let samples = u64::from(color.num_samples());
    let pixel = samples * u64::from(color.bit_depth()).div_ceil(8);
    let jpeg = if is_jpeg(decoder)? { 3 * samples } else { 0 };
    let pixel = pixel + jpeg.max(samples).max(3);
    budget.reserve(u64::from(width) * u64::from(height) * pixel)
}

fn is_jpeg(decoder: &mut Reader<'_>) -> Result<bool> {
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(failed)?;
    Ok(compression == Some(JPEG))
}

fn buffers(limits: &Limits) -> tiff::decoder::Limits {
    let mut budget = tiff::decoder::Limits::default();
    budget.decoding_buffer_size = usize::try_from(limits.max_decode_bytes).unwrap_or(usize::MAX);
    budget
}

/// Refuses what is neither 8 nor 16 bits of unsigned integer a sample, nor fewer bits of grey.
fn check_samples(decoder: &mut Reader<'_>, color: ColorType) -> Result<()> {
    let formats = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(failed)?;
    let unsigned = formats.is_none_or(|formats| formats.iter().all(|format| *format == 1));
    let bits = match color {
        ColorType::Gray(bits) => [1, 2, 4, 8, 16].contains(&bits),
        other => [8, 16].contains(&other.bit_depth()),
    };
    if unsigned && bits {
        return Ok(());
    }
    let kind = if unsigned { "unsigned" } else { "signed or floating-point" };
    Err(unsupported(Format::Tiff, &format!("{color:?} of {kind} samples")))
}

/// Refuses chunks that take more memory or time than the picture: the decoder believes what a strip
/// or tile says of its own size.
fn check_chunks(decoder: &mut Reader<'_>, bytes: &[u8], limits: &Limits) -> Result<()> {
    let (_, rows) = decoder.dimensions().map_err(failed)?;
    let (width, height) = decoder.chunk_dimensions();
    let (height, offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (height.min(rows), Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (height, Tag::TileOffsets, Tag::TileByteCounts),
    };
    limits.check_size(width, height)?;
    if !is_jpeg(decoder)? {
        return Ok(());
    }
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(failed)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(failed)?;
    for (offset, length) in offsets.into_iter().zip(lengths) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let chunk = bytes.get(offset..offset.saturating_add(length)).unwrap_or_default();
        let jpeg = jpeg::inspect_raw(chunk)?;
        if jpeg.width > width || jpeg.height > height {
            return Err(broken(Format::Tiff, "a JPEG in it is larger than its place"));
        }
    }
    Ok(())
}

fn orientation(decoder: &mut Reader<'_>) -> Orientation {
    let tag = decoder.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten();
    tag.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

/// The first extra sample is alpha, and the colours were multiplied by it.
fn is_premultiplied(decoder: &mut Reader<'_>) -> bool {
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
    extra.is_some_and(|extra| extra.first() == Some(&1))
}

/// Reads the page to one byte a sample, samples of a pixel side by side.
fn read_samples(
    decoder: &mut Reader<'_>,
    color: ColorType,
    (width, height): (u32, u32),
    indexed: bool,
) -> Result<Vec<u8>> {
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(failed)?;
    let data = match result {
        DecodingResult::U8(data) => data,
        DecodingResult::U16(wide) => wide.iter().map(|sample| (sample >> 8) as u8).collect(),
        _ => return Err(unsupported(Format::Tiff, &format!("{color:?}"))),
    };
    let bits = color.bit_depth();
    if bits < 8 {
        return unpack(&data, bits, width as usize, height as usize, indexed);
    }
    if layout.planes > 1 { interleave(&data, layout.planes) } else { Ok(data) }
}

/// Spreads samples of 1, 2 or 4 bits, one a pixel, to bytes: as they are, or so that the highest
/// becomes 255.
fn unpack(packed: &[u8], bits: u8, width: usize, height: usize, indexed: bool) -> Result<Vec<u8>> {
    let highest = (1u8 << bits) - 1;
    let scale = if indexed { 1 } else { 255 / highest };
    let per_byte = usize::from(8 / bits);
    let mut out = zeroed(width * height)?;
    for (row, packed) in out.chunks_exact_mut(width).zip(packed.chunks(width.div_ceil(per_byte))) {
        for (x, out) in row.iter_mut().enumerate() {
            let shift = 8 - usize::from(bits) * (x % per_byte + 1);
            *out = packed.get(x / per_byte).map_or(0, |byte| (byte >> shift & highest) * scale);
        }
    }
    Ok(out)
}

fn interleave(planar: &[u8], planes: usize) -> Result<Vec<u8>> {
    let mut out = zeroed(planar.len())?;
    for (at, plane) in planar.chunks_exact((planar.len() / planes).max(1)).enumerate() {
        for (out, sample) in out.iter_mut().skip(at).step_by(planes).zip(plane) {
            *out = *sample;
        }
    }
    Ok(out)
}

fn interpret(color: ColorType, data: Vec<u8>) -> Result<(Channels, Vec<u8>)> {
    match color {
        ColorType::Gray(_) => Ok((Channels::Grey, data)),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => {
            Ok((Channels::GreyAlpha, data))
        }
        ColorType::RGB(_) => Ok((Channels::Rgb, data)),
        ColorType::RGBA(_) => Ok((Channels::Rgba, data)),
        ColorType::CMYK(_) => Ok((Channels::Cmyk, data)),
        ColorType::YCbCr(_) => {
            Ok((Channels::Rgb, bitmap::map_pixels::<3, 3>(&data, bitmap::ycbcr)?))
        }
        other => Err(unsupported(Format::Tiff, &format!("{other:?}"))),
    }
}

/// The palette is all reds, then all greens, then all blues, 16 bits each.
fn look_up(indices: &[u8], palette: &[u16]) -> Result<Vec<u8>> {
    let colors = palette.len() / 3;
    let mut out = zeroed(indices.len() * 3)?;
    for (pixel, index) in out.as_chunks_mut::<3>().0.iter_mut().zip(indices) {
        let index = usize::from(*index);
        if index < colors {
            *pixel = std::array::from_fn(|channel| (palette[channel * colors + index] >> 8) as u8);
        }
    }
    Ok(out)
}

/// The bytes with the first page's photometric interpretation changed from palette to grey, or
/// unchanged.
fn palette_as_grey(bytes: &[u8]) -> Cow<'_, [u8]> {
    match palette_at(bytes) {
        Some(at) => {
            let mut patched = bytes.to_vec();
            patched[at] = GREY;
            Cow::Owned(patched)
        }
        None => Cow::Borrowed(bytes),
    }
}

/// Where the byte stands that says that the first page has a palette.
fn palette_at(bytes: &[u8]) -> Option<usize> {
    let big = match bytes.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let two = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    };
    let offset = *bytes.get(4..)?.first_chunk::<4>()?;
    let directory =
        if big { u32::from_be_bytes(offset) } else { u32::from_le_bytes(offset) } as usize;
    let entries = usize::from(u16_at(directory)?);
    let entry =
        (0..entries).map(|i| directory + 2 + 12 * i).find(|at| u16_at(*at) == Some(PHOTOMETRIC))?;
    (u16_at(entry + 8) == Some(PALETTE.into())).then_some(entry + 8 + usize::from(big))
}

fn failed(error: TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(_) => {
            unsupported(Format::Tiff, &error.to_string()).with_source(error)
        }
        TiffError::LimitsExceeded => Error::new(
            ErrorKind::ImageTooLarge,
            "TIFF picture takes more memory to decode than :max_decode_bytes",
        )
        .with_source(error),
        _ => broken(Format::Tiff, &error.to_string()).with_source(error),
    }
}
