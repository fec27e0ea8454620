//! JPEG, as libjpeg-turbo decodes it for Pillow.
//!
//! The library is not interrupted while it decodes, so all that decides how long it takes and how
//! much it holds is read from the markers first, and too much is refused.

mod outline;
mod turbo;

use self::outline::{Frame, Outline, Segments};
use self::turbo::{Decoder, Header, Pixel};
use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{broken, orientation, unsupported, zeroed};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A scan of no bytes still costs a pass over all pixels. No encoder writes nearly as many as 100,
/// and a picture at the limit of size may have 20.
const MAX_SCANS: u64 = 100;
const MAX_PASSES: u64 = 20;

const SCAN: u8 = 0xda;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let outline = Outline::of(bytes);
    let memory = check(&outline, budget.limits())?;
    // Pixels may be missing with it; Pillow refuses too, and so a torn upload is noticed.
    if !outline.complete {
        return Err(broken(Format::Jpeg, "its end is missing"));
    }
    budget.check()?;
    let decoder = open(bytes, &outline, memory)?;
    let header = header(&decoder, &outline)?;
    budget.reserve(memory + pixel_bytes(&header))?;
    let mut data = decode(&decoder, header, header.pixel)?;
    budget.check()?;
    let channels = match header.pixel {
        Pixel::Grey => Channels::Grey,
        Pixel::Rgb => Channels::Rgb,
        Pixel::Cmyk => {
            // As Pillow takes it, whoever wrote the file: 255 is no ink.
            data.iter_mut().for_each(|ink| *ink = !*ink);
            Channels::Cmyk
        }
    };
    let bitmap = Bitmap::new(header.width, header.height, channels, data);
    Ok(bitmap.with_orientation(orientation::from_app1(app1(bytes))))
}

/// What a JPEG inside another format says of itself.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code)]
pub(super) struct RawInfo {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1, 3 or 4.
    pub(super) channels: u8,
    /// What decoding holds at once, the samples included, in bytes.
    pub(super) memory: u64,
}

/// How a JPEG inside another format stores colour, whatever it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)]
pub(super) enum RawColor {
    /// Three channels that are converted to RGB.
    YCbCr,
    /// Channels that are taken as they are: grey, RGB or CMYK.
    AsIs,
}

/// Decoded samples, 8 bits each.
#[derive(Debug)]
#[allow(dead_code)]
pub(super) struct Raw {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1, 3 or 4.
    pub(super) channels: u8,
    /// `height` x `width` x `channels` bytes.
    pub(super) data: Vec<u8>,
}

/// Looks at a JPEG inside another format without decoding it, for the caller to compare with what
/// the format says and to reserve the memory.
///
/// # Errors
/// `InvalidImage` without a frame header, `ImageTooLarge` for too many scans or too much memory; the
/// size is the caller's to compare.
pub(super) fn inspect_raw(chunk: &[u8], limits: &Limits) -> Result<RawInfo> {
    let outline = Outline::of(chunk);
    let frame = frame(&outline)?;
    let scratch = check_cost(frame, outline.scans, limits)?;
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let channels = frame.channels() as u8;
    // The chunk is copied behind its tables.
    let samples = u64::from(width) * u64::from(height) * u64::from(channels) + chunk.len() as u64;
    Ok(RawInfo { width, height, channels, memory: scratch + samples })
}

/// Decodes a JPEG inside another format: `chunk`, a whole JPEG but for the tables that it shares
/// with others (`tables`, from one start marker to one end marker, or nothing).
///
/// The caller has reserved what [`inspect_raw`] says. `budget` is checked before and after.
///
/// # Errors
/// As of a JPEG file.
#[allow(dead_code)]
pub(super) fn decode_raw(
    tables: &[u8],
    chunk: &[u8],
    color: RawColor,
    budget: &Budget<'_>,
) -> Result<Raw> {
    let bytes = whole(tables, chunk, color);
    let outline = Outline::of(&bytes);
    let memory = check(&outline, budget.limits())?;
    budget.check()?;
    let decoder = open(&bytes, &outline, memory)?;
    let header = header(&decoder, &outline)?;
    let pixel = match frame(&outline)?.channels() {
        1 => Pixel::Grey,
        3 => Pixel::Rgb,
        _ => Pixel::Cmyk,
    };
    let data = decode(&decoder, header, pixel)?;
    budget.check()?;
    Ok(Raw { width: header.width, height: header.height, channels: pixel.channels(), data })
}

/// One file of a chunk and its tables, in which Adobe's marker says how colours are stored.
#[allow(dead_code)]
fn whole(tables: &[u8], chunk: &[u8], color: RawColor) -> Vec<u8> {
    let mut file = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0".to_vec();
    file.push(u8::from(color == RawColor::YCbCr));
    let mut add = |marker: u8, payload: &[u8]| {
        let length = (payload.len() as u16 + 2).to_be_bytes();
        file.extend([&[0xff, marker], &length[..], payload].concat());
    };
    // Tables of quantisation, of both codings, and the restart interval.
    let shared =
        Segments::of(tables).filter(|(marker, _)| [0xdb, 0xc4, 0xcc, 0xdd].contains(marker));
    shared.for_each(|(marker, payload)| add(marker, payload));
    let mut segments = Segments::of(chunk);
    while let Some((marker, payload)) = segments.next() {
        match marker {
            SCAN => {
                add(marker, payload);
                file.extend(segments.rest());
                break;
            }
            // Markers of applications may contradict.
            0xe0..=0xef => {}
            _ => add(marker, payload),
        }
    }
    // Some writers leave it out, and what is really missing is noticed without it.
    file.extend(b"\xff\xd9");
    file
}

/// Refuses a picture over a limit or of a kind that is not read. Says how many bytes the library
/// holds beside the pixels.
fn check(outline: &Outline, limits: &Limits) -> Result<u64> {
    let frame = frame(outline)?;
    if frame.height == 0 && outline.height_follows {
        return Err(unsupported(Format::Jpeg, "a height that follows the pixels (DNL)"));
    }
    limits.check_size(frame.width.into(), frame.height.into())?;
    check_kind(frame)?;
    check_cost(frame, outline.scans, limits)
}

/// Refuses what Pillow refuses.
fn check_kind(frame: &Frame) -> Result<()> {
    let [bits, channels] = [usize::from(frame.bits), frame.channels()];
    if bits != 8 {
        return Err(unsupported(Format::Jpeg, &format!("a sample of {bits} bits")));
    }
    if ![1, 3, 4].contains(&channels) {
        return Err(unsupported(Format::Jpeg, &format!("a pixel of {channels} channels")));
    }
    Ok(())
}

/// Refuses what would keep the library busy for long or would hold too much. Says how many bytes it
/// holds beside the pixels.
fn check_cost(frame: &Frame, scans: u64, limits: &Limits) -> Result<u64> {
    check_work(frame, scans, limits)?;
    let scratch = frame.scratch(scans);
    limits.check_decode_bytes(scratch)?;
    Ok(scratch)
}

fn frame(outline: &Outline) -> Result<&Frame> {
    outline.frame.as_ref().ok_or_else(|| broken(Format::Jpeg, "it has no frame header"))
}

/// Refuses a picture whose scans would keep the decoder busy for long.
fn check_work(frame: &Frame, scans: u64, limits: &Limits) -> Result<()> {
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let most = limits.max_pixels.saturating_mul(MAX_PASSES);
    if scans <= MAX_SCANS && pixels * scans <= most {
        return Ok(());
    }
    let message = format!(
        "JPEG picture of {} x {} pixels has {scans} scans, the limits are {MAX_SCANS} scans and \
        {most} pixels in all of them; save it as a baseline JPEG",
        frame.width, frame.height
    );
    Err(Error::new(ErrorKind::ImageTooLarge, message))
}

fn open<'a>(bytes: &'a [u8], outline: &Outline, memory: u64) -> Result<Decoder<'a>> {
    Decoder::new(bytes, outline.scans.max(1), memory).map_err(|reason| failed(&reason))
}

/// The library's header, which has to be the one that was checked.
fn header(decoder: &Decoder<'_>, outline: &Outline) -> Result<Header> {
    let header = decoder.header().map_err(|reason| failed(&reason))?;
    let checked = frame(outline)?;
    if (header.width, header.height) == (checked.width.into(), checked.height.into()) {
        return Ok(header);
    }
    Err(broken(Format::Jpeg, "its frame header is not where it should be"))
}

fn pixel_bytes(header: &Header) -> u64 {
    let pixel = match header.pixel {
        Pixel::Rgb => 3,
        other => u64::from(other.channels()) + 3,
    };
    u64::from(header.width) * u64::from(header.height) * pixel
}

fn decode(decoder: &Decoder<'_>, header: Header, pixel: Pixel) -> Result<Vec<u8>> {
    let pixels = header.width as usize * header.height as usize;
    let mut data = zeroed(pixels.saturating_mul(pixel.channels().into()))?;
    decoder.decode(header, pixel, &mut data).map_err(|reason| failed(&reason))?;
    Ok(data)
}

/// Tells what the library says apart: it has one kind of error.
fn failed(reason: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["nsupported", "not implemented", "not supported", "Could not determine colorspace"]) {
        return unsupported(Format::Jpeg, &format!("this variant ({reason})"));
    }
    if has(&["Insufficient memory", "Memory limit"]) {
        let message =
            "no memory to decode the JPEG picture; send smaller pictures or fewer at once";
        return Error::new(ErrorKind::ImageTooLarge, message);
    }
    broken(Format::Jpeg, reason)
}

/// The payloads of the APP1 markers before the first scan.
fn app1(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let header = Segments::of(bytes).take_while(|(marker, _)| *marker != SCAN);
    header.filter(|(marker, _)| *marker == 0xe1).map(|(_, payload)| payload)
}
