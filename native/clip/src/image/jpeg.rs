//! JPEG, as libjpeg-turbo decodes it for Pillow.
//!
//! The library is not interrupted while it decodes, so all that decides how long it takes and how
//! much it holds is read from the markers first, and too much is refused.

mod frame;
mod mended;
mod outline;
mod profile;
mod raw;
mod segments;
mod turbo;

use std::ops::Range;

pub(super) use self::profile::profile;
pub(super) use self::raw::{RawColor, RawInfo, decode_raw, inspect_raw};

use self::frame::Frame;
use self::mended::mended;
use self::outline::{Outline, begins_frame};
use self::segments::Segments;
use self::turbo::{Decoder, Header, Pixel, Target};
use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{Seen, Whole, broken, orientation, unsupported, zeroed};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Limit, Remedy, Result};
use crate::limits::Limits;

/// Every scan costs something, however small the picture. No encoder writes nearly as many.
const MAX_SCANS: u64 = 100;

/// What decoding a picture at the limit of size may take, in nanoseconds a pixel: 2 s in all for
/// 50 million pixels. A progressive photo takes a third of it at most.
const MAX_NANOS: u64 = 40;

/// How many units of interleaved scans beside the wanted columns are decoded too, so that those are as in the
/// whole picture. Interpolating colours reaches one sample far; what is made up for frequencies that a progressive
/// file does not have comes from two blocks to each side.
const MARGIN: u32 = 3;

/// The library begins at whole units of interleaved scans: 8, 16, 24 or 32 pixels.
const UNIT: u32 = 96;

const SCAN: u8 = 0xda;

/// How far [`stated_size`] looks: farther than a profile and a thumbnail reach, and no more than these bytes
/// from one segment to the next. A megabyte of markers without meaning would keep a scheduler for milliseconds.
const HEAD: usize = 1 << 20;
const HEAD_SEGMENTS: usize = 1000;
const HEAD_GAP: usize = 64;

/// Width and height by the frame header, if it is near the start.
pub(super) fn stated_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut segments = Segments::of(&bytes[..bytes.len().min(HEAD)]);
    for _ in 0..HEAD_SEGMENTS {
        let (marker, payload) = segments.next_within(HEAD_GAP)?;
        if begins_frame(marker) {
            let frame = Frame::parse(marker, payload)?;
            return Some((frame.width.into(), frame.height.into()));
        }
    }
    None
}

/// Decodes a file: to fewer pixels if each side keeps `least_side` of them.
/// Columns that are not `seen` may be left out.
pub(super) fn read(
    bytes: &[u8],
    least_side: Option<u32>,
    budget: &Budget<'_>,
    seen: Seen<'_>,
) -> Result<Bitmap> {
    let outline = Outline::of(bytes);
    let memory = check(&outline, budget.limits())?;
    // Pixels may be missing too: Pillow refuses it, and so a torn upload is noticed.
    if !outline.complete {
        return Err(broken(Format::Jpeg, "its end is missing"));
    }
    if outline.is_torn() {
        let (found, due) = (outline.restarts, outline.restarts_due);
        let reason = format!("parts are missing; it has {found} of {due} restart markers");
        return Err(broken(Format::Jpeg, &reason));
    }
    budget.check()?;
    let file = mended(bytes, &outline, budget)?;
    let decoder = open(&file, &outline, memory)?;
    let header = header(&decoder, &outline)?;
    let whole =
        Whole { size: (header.width, header.height), eighths: eighths(&header, least_side) };
    let target = Target { pixel: header.pixel, eighths: whole.eighths };
    let (width, height) = target.size(&header);
    let pixels = u64::from(width) * u64::from(height);
    // All of them, whichever are decoded: what is refused does not depend on the crop.
    budget.reserve(memory + pixels * bytes_per_pixel(header.pixel))?;
    let orientation = orientation::from_app1(app1(bytes));
    let divides = header.pixel == Pixel::Rgb && !header.lossless && header.croppable;
    let seen = if divides { seen(whole, orientation.into(), (width, height)) } else { None };
    let margin = MARGIN * frame(&outline)?.unit_width();
    let columns = seen.map_or(0..width, |seen| around(seen, width, margin, target.eighths));
    let stride = columns.end - columns.start;
    let mut data = decode(&decoder, &header, target, columns, outline.forgiven())?;
    budget.check()?;
    let channels = match header.pixel {
        Pixel::Grey => Channels::Grey,
        Pixel::Rgb if header.grey => Channels::GreyRgb,
        Pixel::Rgb => Channels::Rgb,
        Pixel::Cmyk => {
            // As Pillow takes it, whichever program wrote the file: 255 means no ink.
            data.iter_mut().for_each(|ink| *ink = !*ink);
            Channels::Cmyk
        }
    };
    let bitmap = Bitmap::new(width, height, channels, data).of_whole(whole).with_stride(stride);
    Ok(bitmap.with_orientation(orientation))
}

/// The columns to decode among `width` so that those in `seen` are as in the whole picture.
fn around(seen: Range<u32>, width: u32, margin: u32, eighths: u8) -> Range<u32> {
    let unit = UNIT * u32::from(eighths) / 8;
    let start = seen.start.saturating_sub(margin) / unit * unit;
    start..seen.end.saturating_add(margin).min(width)
}

/// How many pixels of eight are decoded along each side: the library is fast at these.
fn eighths(header: &Header, least_side: Option<u32>) -> u8 {
    let least = match least_side {
        Some(least) if !header.lossless => u64::from(least),
        _ => return 8,
    };
    let shorter = u64::from(header.width.min(header.height));
    let enough = |eighths: &u8| shorter * u64::from(*eighths) >= 8 * least;
    [1, 2, 4].into_iter().find(enough).unwrap_or(8)
}

/// Bytes of a pixel, and of the RGB that is made of it if it is grey.
fn bytes_per_pixel(pixel: Pixel) -> u64 {
    match pixel {
        Pixel::Grey => 1 + 3,
        other => other.channels().into(),
    }
}

/// Refuses a picture over a limit or of a kind that is not read. Says how many bytes the library
/// holds beside the pixels.
fn check(outline: &Outline, limits: &Limits) -> Result<u64> {
    let frame = frame(outline)?;
    if frame.height == 0 && outline.late_height {
        return Err(unsupported(Format::Jpeg, "a height that follows the pixels (DNL)"));
    }
    limits.check_size(frame.width, frame.height)?;
    check_kind(frame)?;
    check_cost(frame, outline, limits)
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
fn check_cost(frame: &Frame, outline: &Outline, limits: &Limits) -> Result<u64> {
    check_scans(frame, outline)?;
    let [width, height] = [frame.width, frame.height];
    let what = format!("JPEG picture of {width} x {height} pixels in {} scans", outline.scans);
    check_nanos(outline.nanos(), &what, limits)?;
    let scratch = frame.scratch(outline.scans);
    limits.check_decode_bytes(scratch)?;
    Ok(scratch)
}

/// Refuses `what` could take long to decode.
pub(super) fn check_nanos(nanos: u64, what: &str, limits: &Limits) -> Result<()> {
    let most = limits.max_pixels.saturating_mul(MAX_NANOS);
    if nanos <= most {
        return Ok(());
    }
    let [nanos, most] = [nanos, most].map(|nanos| nanos / 1_000_000);
    let error = too_large(format!(
        "{what} could take {nanos} ms of processor time to decode, the limit is {most} ms; save it \
        as a baseline JPEG or"
    ));
    Err(error.with_remedy(Remedy::Raise(Limit::Pixels)))
}

fn check_scans(frame: &Frame, outline: &Outline) -> Result<()> {
    if outline.scans <= MAX_SCANS {
        return Ok(());
    }
    Err(too_large(format!(
        "JPEG picture of {} x {} pixels has {} scans, the limit is {MAX_SCANS}; save it as a \
        baseline JPEG",
        frame.width, frame.height, outline.scans
    )))
}

fn frame(outline: &Outline) -> Result<&Frame> {
    if outline.jpeg_ls {
        return Err(unsupported(Format::Jpeg, "JPEG-LS"));
    }
    outline.frame.as_ref().ok_or_else(|| broken(Format::Jpeg, "it has no whole frame header"))
}

fn open<'a>(bytes: &'a [u8], outline: &Outline, memory: u64) -> Result<Decoder<'a>> {
    let pixels = frame(outline)?.pixels();
    Decoder::new(bytes, outline.scans.max(1), pixels, memory).map_err(|reason| failed(&reason))
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

/// Some columns, in rows that begin where they would if all columns were there. `forgiven`: what the library
/// may warn of.
fn decode(
    decoder: &Decoder<'_>,
    header: &Header,
    target: Target,
    columns: Range<u32>,
    forgiven: &[&str],
) -> Result<Vec<u8>> {
    let (width, height) = target.size(header);
    let [width, left, stride] = [width, columns.start, columns.end - columns.start]
        .map(|pixels| pixels as usize * usize::from(target.pixel.channels()));
    let rows = stride.saturating_mul(height as usize);
    let mut data = zeroed(rows.saturating_add(width - stride))?;
    let decoded = decoder.decode(header, target, columns, forgiven, &mut data[left..][..rows]);
    decoded.map_err(|reason| failed(&reason))?;
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

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::ImageTooLarge, message)
}

/// The payloads of the APP1 markers before the first scan.
fn app1(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let header = Segments::of(bytes).take_while(|(marker, _)| *marker != SCAN);
    header.filter(|(marker, _)| *marker == 0xe1).map(|(_, payload)| payload)
}
