//! A JPEG inside another format, which knows better than the JPEG how colours are stored.

use super::segments::Segments;
use super::turbo::{Pixel, Target};
use super::{Outline, SCAN, check, check_scans, decode, frame, header, mended, open};
use crate::budget::Budget;
use crate::error::Result;

/// What a JPEG inside another format says of itself.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct RawInfo {
    pub(in crate::image) width: u32,
    pub(in crate::image) height: u32,
    /// 1, 3 or 4.
    pub(in crate::image) channels: u8,
    /// What decoding holds at once, the samples included, in bytes.
    pub(in crate::image) memory: u64,
    /// The processor time that decoding takes at most, in nanoseconds.
    pub(in crate::image) nanos: u64,
}

/// How a JPEG inside another format stores colour, whatever it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum RawColor {
    /// Three channels that are converted to RGB.
    YCbCr,
    /// Channels that are taken as they are: grey, RGB or CMYK.
    AsIs,
}

/// Decoded samples, 8 bits each.
#[derive(Debug)]
pub(in crate::image) struct Raw {
    pub(in crate::image) width: u32,
    pub(in crate::image) height: u32,
    /// 1, 3 or 4.
    pub(in crate::image) channels: u8,
    /// `height` x `width` x `channels` bytes.
    pub(in crate::image) data: Vec<u8>,
}

/// Looks at a JPEG inside another format without decoding it, for the caller to compare with what
/// the format says and to reserve the memory.
///
/// # Errors
/// `InvalidImage` without a frame header, `ImageTooLarge` for too many scans. [`decode_raw`] checks
/// the rest.
pub(in crate::image) fn inspect_raw(chunk: &[u8]) -> Result<RawInfo> {
    let outline = Outline::of(chunk);
    let frame = frame(&outline)?;
    check_scans(frame, &outline)?;
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let channels = frame.channels() as u8;
    // The chunk is copied behind its tables.
    let samples = u64::from(width) * u64::from(height) * u64::from(channels) + chunk.len() as u64;
    Ok(RawInfo {
        width,
        height,
        channels,
        memory: frame.scratch(outline.scans) + samples,
        nanos: outline.nanos(),
    })
}

/// Decodes a JPEG inside another format: `chunk`, a whole JPEG but for the tables that it shares
/// with others (`tables`, from one start marker to one end marker, or nothing).
///
/// The caller has reserved what [`inspect_raw`] says. `budget` is checked before and after, and gives
/// the memory to mend what has to be mended.
///
/// # Errors
/// As of a JPEG file.
pub(in crate::image) fn decode_raw(
    tables: &[u8],
    chunk: &[u8],
    color: RawColor,
    budget: &Budget<'_>,
) -> Result<Raw> {
    let bytes = whole(tables, chunk, color);
    let outline = Outline::of(&bytes);
    let memory = check(&outline, budget.limits())?;
    budget.check()?;
    let file = mended(&bytes, &outline, budget)?;
    let decoder = open(&file, &outline, memory)?;
    let header = header(&decoder, &outline)?;
    let pixel = match frame(&outline)?.channels() {
        1 => Pixel::Grey,
        3 => Pixel::Rgb,
        _ => Pixel::Cmyk,
    };
    let target = Target { pixel, eighths: 8 };
    let data = decode(&decoder, &header, target, 0..header.width, outline.forgiven())?;
    budget.check()?;
    Ok(Raw { width: header.width, height: header.height, channels: pixel.channels(), data })
}

/// One file of a chunk and its tables, in which Adobe's marker says how colours are stored.
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

#[cfg(test)]
mod tests {
    use super::super::super::Background;
    use super::super::read;
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/fixtures/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    /// Takes the tables out of a file: a stream of them, and the file without.
    fn split_tables(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut tables, mut rest) = (b"\xff\xd8".to_vec(), b"\xff\xd8".to_vec());
        let mut segments = Segments::of(bytes);
        while let Some((marker, payload)) = segments.next() {
            let to = if [0xdb, 0xc4].contains(&marker) { &mut tables } else { &mut rest };
            let length = (payload.len() as u16 + 2).to_be_bytes();
            to.extend([&[0xff, marker], &length[..], payload].concat());
            if marker == SCAN {
                rest.extend(segments.rest());
                break;
            }
        }
        tables.extend(b"\xff\xd9");
        (tables, rest)
    }

    fn raw(tables: &[u8], chunk: &[u8], color: RawColor) -> Raw {
        decode_raw(tables, chunk, color, &Budget::default()).unwrap()
    }

    /// RGB of YCbCr, as JFIF says.
    fn jfif([y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
        let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
        rgb.map(|value| value.round() as u8)
    }

    #[test]
    fn a_chunk_with_its_tables_elsewhere_decodes_as_the_whole() {
        for name in ["pictures/rgb.jpg", "jpeg/progressive_restarts.jpg", "pictures/l.jpg"] {
            let file = fixture(name);
            let whole = read(&file, None, &Budget::default(), &|_, _, _| None)
                .unwrap()
                .into_rgb(Background::Drop)
                .unwrap();
            let (tables, chunk) = split_tables(&file);
            let got = raw(&tables, &chunk, RawColor::YCbCr);
            assert_eq!((got.width, got.height), (whole.stored_width, whole.stored_height));
            let channels = usize::from(got.channels);
            let got: Vec<u8> = if channels == 1 {
                got.data.iter().flat_map(|v| [*v; 3]).collect()
            } else {
                got.data
            };
            assert!(got == whole.stored, "{name}");
            // Its end may be missing, and so may the tables.
            assert!(raw(&tables, &chunk[..chunk.len() - 2], RawColor::YCbCr).channels > 0);
            assert!(decode_raw(b"", &chunk, RawColor::YCbCr, &Budget::default()).is_err());
        }
    }

    #[test]
    fn a_chunk_is_taken_as_its_format_says_and_not_as_it_says_itself() {
        let ycbcr = fixture("pictures/full_chroma.jpg");
        let as_is = raw(b"", &ycbcr, RawColor::AsIs);
        let rgb = raw(b"", &ycbcr, RawColor::YCbCr);
        let converted: Vec<u8> =
            as_is.data.as_chunks::<3>().0.iter().flat_map(|pixel| jfif(*pixel)).collect();
        let largest = converted.iter().zip(&rgb.data).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(largest.unwrap() <= 1, "{largest:?}");
        assert!(as_is.data != rgb.data);
        // Stored as RGB, and says so by Adobe's marker.
        let stored = fixture("pictures/stored_rgb.jpg");
        let whole = read(&stored, None, &Budget::default(), &|_, _, _| None)
            .unwrap()
            .into_rgb(Background::Drop)
            .unwrap();
        assert!(raw(b"", &stored, RawColor::AsIs).data == whole.stored);
        let inks = raw(b"", &fixture("pictures/cmyk.jpg"), RawColor::AsIs);
        assert_eq!(inks.channels, 4);
    }

    #[test]
    fn a_chunk_says_what_it_needs_before_it_is_decoded() {
        let file = fixture("jpeg/arithmetic.jpg");
        let info = inspect_raw(&file).unwrap();
        assert_eq!((info.width, info.height, info.channels), (160, 120, 3));
        assert!(info.memory > 3 * 160 * 120 + file.len() as u64);
        assert!(inspect_raw(b"").is_err());
    }
}
