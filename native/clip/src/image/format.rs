//! Which format the bytes are in, by content alone.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    Webp,
    Bmp,
    Tiff,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Webp => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        })
    }
}

const READ: &str = "JPEG, PNG, GIF, WebP, BMP or TIFF";

/// Formats that are read: where their mark stands, and the mark.
const FORMATS: [(Format, usize, &[u8]); 12] = [
    (Format::Jpeg, 0, b"\xff\xd8\xff"),
    (Format::Png, 0, b"\x89PNG\r\n\x1a\n"),
    (Format::Gif, 0, b"GIF87a"),
    (Format::Gif, 0, b"GIF89a"),
    (Format::Webp, 8, b"WEBP"),
    (Format::Bmp, 0, b"BM"),
    (Format::Tiff, 0, b"II*\0"),
    (Format::Tiff, 0, b"MM\0*"),
    (Format::Tiff, 0, b"II+\0"),
    (Format::Tiff, 0, b"MM\0+"),
    // The wrong way round, as some writers have it.
    (Format::Tiff, 0, b"II\0*"),
    (Format::Tiff, 0, b"MM*\0"),
];

/// Formats that people send and that are not read: named in the error, so that they know what to
/// convert.
const OTHERS: [(&str, usize, &[u8]); 50] = [
    ("AVIF", 4, b"ftypavif"),
    ("AVIF", 4, b"ftypavis"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftypmif1"),
    ("HEIC", 4, b"ftypmsf1"),
    ("HEIC", 4, b"ftyphev"),
    ("Canon raw", 4, b"ftypcrx "),
    ("MP4 video", 4, b"ftyp"),
    ("QuickTime video", 4, b"moov"),
    ("AVI video", 8, b"AVI "),
    ("JPEG XR", 0, b"II\xbc"),
    ("Fujifilm raw", 0, b"FUJIFILMCCD-RAW"),
    ("Panasonic raw", 0, b"IIU\0"),
    ("Olympus raw", 0, b"IIRO"),
    ("MNG", 0, b"\x8aMNG"),
    ("JNG", 0, b"\x8bJNG"),
    ("ICNS", 0, b"icns"),
    ("GIMP", 0, b"gimp xcf"),
    ("PCX", 0, b"\x0a\x05\x01"),
    ("Sun raster", 0, b"\x59\xa6\x6a\x95"),
    ("SGI", 0, b"\x01\xda"),
    ("XPM", 0, b"/* XPM"),
    ("XBM", 0, b"#define "),
    ("FITS", 0, b"SIMPLE  ="),
    ("DPX", 0, b"SDPX"),
    ("DPX", 0, b"XPDS"),
    ("DjVu", 0, b"AT&TFORM"),
    ("DICOM", 128, b"DICM"),
    ("WMF", 0, b"\xd7\xcd\xc6\x9a"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 0, b"\0\0\0\x0cJXL "),
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("OpenEXR", 0, b"\x76\x2f\x31\x01"),
    ("Radiance HDR", 0, b"#?"),
    ("ICO", 0, b"\0\0\x01\0"),
    ("CUR", 0, b"\0\0\x02\0"),
    ("Photoshop", 0, b"8BPS"),
    ("QOI", 0, b"qoif"),
    ("farbfeld", 0, b"farbfeld"),
    ("DDS", 0, b"DDS "),
    ("PDF", 0, b"%PDF"),
    ("PostScript", 0, b"%!PS"),
    ("gzip", 0, b"\x1f\x8b"),
    ("ZIP", 0, b"PK\x03\x04"),
    ("Matroska video", 0, b"\x1a\x45\xdf\xa3"),
    ("HTML", 0, b"<!doctype html"),
    ("HTML", 0, b"<html"),
    ("SVG", 0, b"<svg"),
    ("XML (SVG?)", 0, b"<?xml"),
];

/// Finds the format.
///
/// # Errors
/// `UnsupportedImage` for a known format that is not read, `InvalidImage` for everything else.
pub(super) fn detect(bytes: &[u8]) -> Result<Format> {
    for (format, at, mark) in FORMATS {
        if has_mark(bytes, at, mark) && (format != Format::Webp || bytes.starts_with(b"RIFF")) {
            return Ok(format);
        }
    }
    Err(unknown(bytes))
}

fn unknown(bytes: &[u8]) -> Error {
    if bytes.is_empty() {
        let message = "picture is empty, expected the bytes of an image file";
        return Error::new(ErrorKind::InvalidImage, message);
    }
    if let Some(name) = other(bytes) {
        let message =
            format!("picture looks like {name}, which is not supported; convert it to {READ}");
        return Error::new(ErrorKind::UnsupportedImage, message);
    }
    let start = &bytes[..bytes.len().min(8)];
    let message = format!(
        "picture is not an image that can be recognised: it begins with {start:02x?}; expected \
        the bytes of a {READ} file"
    );
    Error::new(ErrorKind::InvalidImage, message)
}

fn has_mark(bytes: &[u8], at: usize, mark: &[u8]) -> bool {
    bytes.get(at..at + mark.len()) == Some(mark)
}

fn other(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let start = text[..text.len().min(16)].to_ascii_lowercase();
    let is = |&&(_, at, mark): &&(&str, usize, &[u8])| {
        has_mark(bytes, at, mark) || (mark.starts_with(b"<") && start.starts_with(mark))
    };
    // Before the others: cursors begin with the same bytes.
    if is_tga(bytes) {
        return Some("TGA");
    }
    if let Some((name, ..)) = OTHERS.iter().find(is) {
        return Some(name);
    }
    match bytes {
        [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'#', ..] => Some("PNM"),
        _ => None,
    }
}

/// TGA has no mark at its start, and only its second version has one at its end: a header in which
/// all fields fit each other is taken for one.
fn is_tga(bytes: &[u8]) -> bool {
    if bytes.ends_with(b"TRUEVISION-XFILE.\0") {
        return true;
    }
    let Some(header) = bytes.first_chunk::<18>() else { return false };
    let [id, mapped, kind, _, _, c, d, entry, .., w, x, y, z, depth, flags] = *header;
    let colors = u64::from(u16::from_le_bytes([c, d]));
    let pixels = u64::from(u16::from_le_bytes([w, x])) * u64::from(u16::from_le_bytes([y, z]));
    let map = match mapped {
        0 => header[3..8] == [0; 5],
        1 => colors > 0 && [15, 16, 24, 32].contains(&entry),
        _ => false,
    };
    let depths: &[u8] = match (kind, mapped) {
        (1 | 9, 1) | (3 | 11, _) => &[8, 16],
        (2 | 10, _) => &[15, 16, 24, 32],
        _ => &[],
    };
    let bytes_of = |bits: u8| u64::from(bits).div_ceil(8);
    let stored = if kind < 8 { pixels * bytes_of(depth) } else { 1 };
    let length = 18 + u64::from(id) + colors * bytes_of(entry) + stored;
    // Of the flags, two bits are always off and four count bits of alpha.
    let sane = flags & 0xc0 == 0 && flags & 0xf <= 8 && depths.contains(&depth) && map;
    sane && pixels > 0 && length <= bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tga(head: [u8; 8], depth: u8, data: usize) -> Vec<u8> {
        let size = [0, 0, 0, 0, 5, 0, 4, 0, depth, 0x20];
        [&head[..], &size, &vec![7; data]].concat()
    }

    #[test]
    fn tga_is_told_from_a_cursor() {
        assert_eq!(other(&tga([0, 0, 2, 0, 0, 0, 0, 0], 24, 60)), Some("TGA"));
        assert_eq!(other(&tga([3, 0, 10, 0, 0, 0, 0, 0], 32, 9)), Some("TGA"));
        assert_eq!(other(&tga([0, 0, 3, 0, 0, 0, 0, 0], 8, 20)), Some("TGA"));
        assert_eq!(other(&tga([0, 1, 1, 0, 0, 2, 0, 24], 8, 26)), Some("TGA"));
        assert_eq!(other(b"anything TRUEVISION-XFILE.\0"), Some("TGA"));
        let cursor = b"\0\0\x02\0\x01\0\x20\x20\0\0\0\0\0\0\x30\x01\0\0\x16\0\0\0";
        assert_eq!(other(&[&cursor[..], &[0; 400]].concat()), Some("CUR"));
    }

    #[test]
    fn bytes_that_do_not_fit_each_other_are_no_tga() {
        assert_ne!(other(&tga([0, 0, 2, 0, 0, 0, 0, 0], 24, 59)), Some("TGA"));
        assert_ne!(other(&tga([0, 0, 2, 0, 0, 0, 0, 0], 8, 60)), Some("TGA"));
        assert_ne!(other(&tga([0, 0, 1, 0, 0, 0, 0, 0], 8, 60)), Some("TGA"));
        assert_ne!(other(&tga([0, 1, 1, 0, 0, 0, 0, 24], 8, 60)), Some("TGA"));
        assert_ne!(other(&[0; 400]), Some("TGA"));
    }
}
