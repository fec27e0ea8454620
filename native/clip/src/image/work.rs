//! How much work a picture is, before it is decoded.

use super::format::{self, Format};
use super::{bmp, jpeg, tiff};
use crate::limits::Limits;

/// What even the smallest picture takes.
const LEAST: u64 = 32 * 1024;

/// To resize a byte of pixels takes a thirtieth of the time that it takes to decode a byte of a file.
const RESIZED: u64 = 32;

/// Two pixels take about as long as a byte of the file. Bytes alone do not do: a WebP of 40 bytes can
/// have 49 million pixels.
const PIXELS: u64 = 2;

/// The work of decoding a file, in the unit that a byte of it takes.
///
/// Its pixels are those that the first bytes of the file tell of, at a cost that does not grow with
/// the file. So this is an estimate: a file can lie.
pub fn work(bytes: &[u8], limits: &Limits) -> u64 {
    let pixels =
        stated_size(bytes).map_or(0, |(width, height)| u64::from(width) * u64::from(height));
    // More is refused before it is decoded.
    let pixels = if pixels > limits.max_pixels { 0 } else { pixels };
    LEAST + bytes.len() as u64 + pixels / PIXELS
}

/// The work of pixels that are decoded already, in the same unit.
pub fn work_of_pixels(bytes: usize) -> u64 {
    LEAST + bytes as u64 / RESIZED
}

/// Width and height as the header has them.
fn stated_size(bytes: &[u8]) -> Option<(u32, u32)> {
    match format::detect(bytes).ok()? {
        Format::Jpeg => jpeg::stated_size(bytes),
        Format::Png => Some((big(bytes, 16)?, big(bytes, 20)?)),
        Format::Gif => Some((u16_at(bytes, 6)?, u16_at(bytes, 8)?)),
        Format::Webp => webp(bytes),
        Format::Bmp => bmp::stated_size(bytes),
        Format::Tiff => tiff::stated_size(bytes),
    }
}

/// By the first chunk.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    let data = bytes.get(20..)?;
    match bytes.get(12..16)? {
        b"VP8X" => Some((u24_at(data, 4)? + 1, u24_at(data, 7)? + 1)),
        b"VP8L" => {
            let bits = u32::from_le_bytes(*data.get(1..)?.first_chunk()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => Some((u16_at(data, 6)? & 0x3fff, u16_at(data, 8)? & 0x3fff)),
    }
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_le_bytes(*two).into())
}

fn u24_at(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;
    use crate::image::{DecodeOptions, decode};

    const FOLDERS: [&str; 4] = ["pictures", "jpeg", "tiff", "webp"];

    /// Every fixture that can be decoded.
    fn pictures() -> Vec<(String, Vec<u8>)> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/fixtures/");
        let files =
            FOLDERS.iter().flat_map(|name| std::fs::read_dir(format!("{root}{name}")).unwrap());
        let paths = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
        paths.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
    }

    #[test]
    fn the_size_of_the_header_is_that_of_the_picture() {
        let mut checked = 0;
        for (name, bytes) in pictures() {
            let Ok(rgb) = decode(&bytes, &DecodeOptions::default(), &Budget::default()) else {
                continue;
            };
            let size = stated_size(&bytes).unwrap();
            let upright = [size, (size.1, size.0)].contains(&rgb.whole_size());
            // The only frame of these is larger than their canvas.
            assert!(upright || name.ends_with("large_frame.gif"), "{name}: {size:?} of {rgb:?}");
            checked += 1;
        }
        assert!(checked > 60, "{checked}");
    }

    #[test]
    fn a_few_bytes_with_many_pixels_are_much_work() {
        let webp =
            b"RIFF\x20\0\0\0WEBPVP8L\x13\0\0\0\x2f\x57\xdb\xd5\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(stated_size(webp), Some((7000, 7000)));
        assert!(work(webp, &Limits::default()) > 20_000_000);
    }

    #[test]
    fn a_picture_that_will_be_refused_for_its_size_is_no_work() {
        let gif = b"GIF89a\xff\xff\xff\xff\0\0\0";
        assert_eq!(stated_size(gif), Some((65_535, 65_535)));
        assert_eq!(work(gif, &Limits::default()), LEAST + 13);
        assert!(work(gif, &Limits { max_pixels: u64::MAX, ..Limits::default() }) > 1 << 30);
    }

    #[test]
    fn what_has_no_header_is_as_much_work_as_its_bytes() {
        let limits = Limits::default();
        assert_eq!(work(b"", &limits), LEAST);
        assert_eq!(work(&[7; 1000], &limits), LEAST + 1000);
        for (name, bytes) in pictures() {
            for len in 0..bytes.len().min(64) {
                assert!(work(&bytes[..len], &limits) >= LEAST, "{name}");
            }
        }
    }

    #[test]
    fn a_frame_header_behind_bytes_without_meaning_is_not_looked_for() {
        let frame = b"\xff\xc0\0\x11\x08\0\x64\0\xc8\x03\x01\x22\0\x02\x11\0\x03\x11\0";
        let file = |fill: usize| [b"\xff\xd8", &vec![0xff; fill][..], frame].concat();
        assert_eq!(stated_size(&file(60)), Some((200, 100)));
        // Each of these bytes is a step.
        assert_eq!(stated_size(&file(64)), None);
        assert_eq!(stated_size(&file(1_000_000)), None);
    }

    #[test]
    fn a_frame_header_behind_a_megabyte_is_not_looked_for() {
        let profile = [&b"\xff\xe2\xff\xff"[..], &vec![0; 65_533]].concat();
        let frame = b"\xff\xc0\0\x11\x08\0\x64\0\xc8\x03\x01\x22\0\x02\x11\0\x03\x11\0";
        let file = |parts: usize| [b"\xff\xd8", &profile.repeat(parts)[..], frame].concat();
        assert_eq!(stated_size(&file(15)), Some((200, 100)));
        assert_eq!(stated_size(&file(17)), None);
    }
}
