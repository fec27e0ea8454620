//! Which way up a picture is: where Pillow's `ImageOps.exif_transpose` looks for it, and what it
//! takes for an orientation.
//!
//! The tag of the first Exif block decides, whatever integer type it has. In JPEG further blocks continue
//! the first one. Without that tag, XMP does. A block that cannot be read leaves the picture as it is stored.

use std::borrow::Cow;

use image::metadata::Orientation;

/// The tag's number.
const ORIENTATION: u16 = 0x0112;

/// What precedes the TIFF structure in JPEG, and often elsewhere.
const EXIF: &[u8] = b"Exif\0\0";

/// No further block is added to Exif of this length, in bytes. The longest possible directory fits.
const MOST: usize = 1 << 20;

/// What precedes XMP in JPEG.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The orientation that Exif gives, or else XMP.
pub(super) fn find(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let exif = exif.and_then(from_exif);
    exif.or_else(|| xmp.and_then(from_xmp)).unwrap_or(Orientation::NoTransforms)
}

/// The orientation that the payloads of a JPEG's APP1 markers give, in the order of the file. Further
/// blocks of Exif continue the first one, which may be longer than a marker holds.
pub(super) fn from_app1<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Orientation {
    let (mut exif, mut xmp): (Option<Cow<'a, [u8]>>, _) = (None, None);
    for payload in payloads {
        if let Some(block) = payload.strip_prefix(EXIF) {
            match &mut exif {
                Some(exif) if exif.len() < MOST => exif.to_mut().extend_from_slice(block),
                Some(_) => {}
                None => exif = Some(Cow::Borrowed(payload)),
            }
        } else if let Some(packet) = payload.strip_prefix(XMP) {
            xmp = Some(packet);
        }
    }
    find(exif.as_deref(), xmp)
}

/// The orientation in an Exif block, a TIFF structure with or without `Exif\0\0` before it. `None`
/// if it has no such tag; a tag of another value counts as upright.
pub(super) fn from_exif(bytes: &[u8]) -> Option<Orientation> {
    let once = bytes.strip_prefix(EXIF).unwrap_or(bytes);
    let tiff = once.strip_prefix(EXIF).unwrap_or(once);
    if tiff.is_empty() {
        return None;
    }
    let Some(exif) = Exif::new(tiff) else { return Some(Orientation::NoTransforms) };
    let value = exif.orientation()?;
    let code = (1..=8).find(|code| f64::from(*code) == value);
    Some(code.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms))
}

/// The orientation in an XMP packet: the first `tiff:Orientation`, an attribute or an element.
pub(super) fn from_xmp(packet: &[u8]) -> Option<Orientation> {
    const NAME: &[u8] = b"tiff:Orientation";
    let digit = packet.windows(NAME.len()).enumerate().find_map(|(at, window)| {
        let rest = (window == NAME).then(|| &packet[at + NAME.len()..])?;
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        value.first().copied().filter(u8::is_ascii_digit)
    })?;
    Some(Orientation::from_exif(digit - b'0').unwrap_or(Orientation::NoTransforms))
}

/// The first directory of an Exif block.
struct Exif<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl<'a> Exif<'a> {
    /// `None` for a header of something else.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        // Two of them are wrong, and written all the same.
        let big = match bytes.get(..4)? {
            b"MM\0*" | b"MM*\0" => true,
            b"II*\0" | b"II\0*" => false,
            _ => return None,
        };
        (bytes.len() >= 8).then_some(Self { bytes, big })
    }

    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut value = *self.bytes.get(at..)?.first_chunk::<N>()?;
        if self.big {
            value.reverse();
        }
        Some(value)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.get(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.get(at).map(u32::from_le_bytes)
    }

    /// The tag's value, not a number if it is none. `None` if there is no such tag, or if the
    /// directory cannot be read as far as to it: Pillow stops where a value lies outside the block.
    fn orientation(&self) -> Option<f64> {
        let directory = self.u32(4)? as usize;
        let mut outside = 0;
        for entry in 0..usize::from(self.u16(directory)?) {
            let at = directory + 2 + 12 * entry;
            let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
            let value = self.get::<4>(at + 8).map(|_| at + 8)?;
            let Some(size) = size_of(kind) else { continue };
            let size = size * u64::from(count);
            let value = if size <= 4 {
                value
            } else {
                outside += size;
                if outside > self.bytes.len() as u64 {
                    continue;
                }
                let value = self.u32(value)? as usize;
                self.bytes.get(value..)?.get(..size as usize)?;
                value
            };
            if tag == ORIENTATION && size > 0 {
                return Some(self.number(kind, value).unwrap_or(f64::NAN));
            }
        }
        None
    }

    /// A value of one of the numeric types.
    fn number(&self, kind: u16, at: usize) -> Option<f64> {
        Some(match kind {
            3 => self.u16(at)?.into(),
            4 | 13 => self.u32(at)?.into(),
            5 => f64::from(self.u32(at)?) / f64::from(self.u32(at + 4)?),
            6 => i8::from_le_bytes(self.get(at)?).into(),
            8 => i16::from_le_bytes(self.get(at)?).into(),
            9 => i32::from_le_bytes(self.get(at)?).into(),
            10 => {
                let part = |at| self.get(at).map(i32::from_le_bytes).map(f64::from);
                part(at)? / part(at + 4)?
            }
            11 => f32::from_le_bytes(self.get(at)?).into(),
            12 => f64::from_le_bytes(self.get(at)?),
            16 => u64::from_le_bytes(self.get(at)?) as f64,
            _ => return None,
        })
    }
}

/// Length of one value of a type, in bytes; `None` for a type that is not known.
fn size_of(kind: u16) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 => 8,
        _ => return None,
    })
}

/// How upright pixels are found among stored ones: mirrored first, then with the axes swapped.
///
/// The upright pixel (x, y) of a picture of `width` x `height` upright pixels is stored at column
/// u, row v, where u is x, or `width - 1 - x` with `mirror_x`, and v likewise; with `swap` at
/// column v, row u.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) mirror_x: bool,
    pub(crate) mirror_y: bool,
    pub(crate) swap: bool,
}

impl From<Orientation> for Turn {
    fn from(orientation: Orientation) -> Self {
        let (mirror_x, mirror_y, swap) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (true, false, false),
            Orientation::Rotate180 => (true, true, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (false, false, true),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (false, true, true),
        };
        Self { mirror_x, mirror_y, swap }
    }
}

impl Turn {
    /// Upright width and height of a picture that is stored in this width and height, or the other
    /// way round.
    pub(crate) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.swap { (height, width) } else { (width, height) }
    }

    /// Where the upright pixels of a picture of this upright size are stored: row by row, as
    /// indices of pixels.
    pub(crate) fn indices(
        self,
        (width, height): (u32, u32),
    ) -> impl Iterator<Item = usize> + Clone {
        let (width, height) = (width as usize, height as usize);
        (0..height).flat_map(move |y| {
            let v = if self.mirror_y { height - 1 - y } else { y };
            (0..width).map(move |x| {
                let u = if self.mirror_x { width - 1 - x } else { x };
                if self.swap { u * height + v } else { v * width + u }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: Orientation = Orientation::Rotate90;
    const NONE: Orientation = Orientation::NoTransforms;

    struct Entry {
        tag: u16,
        kind: u16,
        count: u32,
        value: Vec<u8>,
    }

    /// A tag of this type whose value is these bytes, lowest first in each of `width`.
    fn entry(kind: u16, width: usize, value: &[u8]) -> Entry {
        let count = (value.len() / width) as u32;
        Entry { tag: ORIENTATION, kind, count, value: value.to_vec() }
    }

    fn short(value: u16) -> Entry {
        entry(3, 2, &value.to_le_bytes())
    }

    /// A little-endian block; values of more than four bytes follow the directory.
    fn exif(entries: &[Entry]) -> Vec<u8> {
        let mut out = [&b"II*\0\x08\0\0\0"[..], &(entries.len() as u16).to_le_bytes()].concat();
        let mut values = Vec::new();
        for Entry { tag, kind, count, value } in entries {
            out.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            out.extend(count.to_le_bytes());
            if value.len() <= 4 {
                out.extend([&value[..], &[0; 4][value.len()..]].concat());
            } else {
                let at = 8 + 2 + 12 * entries.len() + 4 + values.len();
                out.extend((at as u32).to_le_bytes());
                values.extend(value);
            }
        }
        [out, vec![0; 4], values].concat()
    }

    fn one(kind: u16, width: usize, value: &[u8]) -> Option<Orientation> {
        from_exif(&exif(&[entry(kind, width, value)]))
    }

    #[test]
    fn every_numeric_type_counts() {
        let ratio = [6u32, 1].map(u32::to_le_bytes).concat();
        let negative = [-6i32, -1].map(i32::to_le_bytes).concat();
        for (kind, width, value) in [
            (3, 2, 6u16.to_le_bytes().to_vec()),
            (4, 4, 6u32.to_le_bytes().to_vec()),
            (5, 8, ratio),
            (6, 1, vec![6]),
            (8, 2, 6i16.to_le_bytes().to_vec()),
            (9, 4, 6i32.to_le_bytes().to_vec()),
            (10, 8, negative),
            (11, 4, 6f32.to_le_bytes().to_vec()),
            (12, 8, 6f64.to_le_bytes().to_vec()),
            (13, 4, 6u32.to_le_bytes().to_vec()),
            (16, 8, 6u64.to_le_bytes().to_vec()),
        ] {
            assert_eq!(one(kind, width, &value), Some(SIX), "type {kind}");
        }
    }

    #[test]
    fn both_byte_orders_count() {
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(from_exif(big), Some(SIX));
        assert_eq!(from_exif(&[EXIF, big].concat()), Some(SIX));
        assert_eq!(from_exif(&[EXIF, EXIF, big].concat()), Some(SIX));
        let long = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0";
        assert_eq!(from_exif(long), Some(SIX));
    }

    #[test]
    fn of_several_values_the_first_counts() {
        let shorts =
            |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(one(3, 2, &shorts(&[6, 1])), Some(SIX));
        assert_eq!(one(3, 2, &shorts(&[6, 1, 3])), Some(SIX));
        assert_eq!(from_exif(&exif(&[short(6), short(3)])), Some(SIX));
        assert_eq!(one(3, 2, &[]), None);
    }

    #[test]
    fn text_bytes_and_other_numbers_are_upright() {
        for (kind, value) in [(1, 6), (2, b'6'), (7, 6)] {
            assert_eq!(one(kind, 1, &[value]), Some(NONE), "type {kind}");
        }
        for value in [0, 9, 0x0106, 0xffff] {
            assert_eq!(from_exif(&exif(&[short(value)])), Some(NONE), "{value}");
        }
        assert_eq!(one(5, 8, &[6, 0, 0, 0, 0, 0, 0, 0]), Some(NONE));
        assert_eq!(one(14, 4, &[6, 0, 0, 0]), None);
    }

    #[test]
    fn a_directory_is_read_until_a_value_outside_the_block() {
        let mut make = Entry { tag: 0x010f, kind: 2, count: 0, value: vec![0; 40] };
        make.count = 40;
        let bytes = exif(&[make, short(6)]);
        assert_eq!(from_exif(&bytes), Some(SIX));
        assert_eq!(from_exif(&bytes[..bytes.len() - 1]), None);
        let claims = Entry { tag: 0x010f, kind: 2, count: u32::MAX, value: vec![1; 4] };
        let mut bytes = exif(&[claims, short(6)]);
        assert_eq!(from_exif(&bytes), Some(SIX));
        bytes.truncate(8 + 2 + 12);
        assert_eq!(from_exif(&bytes), None);
    }

    #[test]
    fn no_block_has_no_orientation_and_a_broken_one_is_upright() {
        assert_eq!(from_exif(b""), None);
        assert_eq!(from_exif(EXIF), None);
        for broken in [&b"garbage!"[..], b"II+\0\x08\0\0\0", b"II*\0"] {
            assert_eq!(from_exif(broken), Some(NONE));
        }
        assert_eq!(from_exif(b"II*\0\xff\xff\xff\xff"), None);
    }

    #[test]
    fn xmp_counts_as_attribute_and_as_element() {
        assert_eq!(from_xmp(b"<rdf:Description tiff:Orientation=\"6\"/>"), Some(SIX));
        assert_eq!(from_xmp(b"<tiff:Orientation>6</tiff:Orientation>"), Some(SIX));
        let second = b"tiff:Orientation=\"x\" <tiff:Orientation>6</tiff:Orientation>";
        assert_eq!(from_xmp(second), Some(SIX));
        assert_eq!(from_xmp(b"tiff:Orientation=\"9\" tiff:Orientation=\"6\""), Some(NONE));
        assert_eq!(from_xmp(b"tiff:Orientation=\""), None);
        assert_eq!(from_xmp(b"exif:Orientation=\"6\""), None);
    }

    #[test]
    fn the_first_exif_block_of_a_jpeg_counts_and_xmp_only_without_it() {
        let block = |value| [EXIF, &exif(&[short(value)])].concat();
        let xmp = |value: &str| [XMP, format!("tiff:Orientation=\"{value}\"").as_bytes()].concat();
        let found = |payloads: &[Vec<u8>]| from_app1(payloads.iter().map(Vec::as_slice));
        assert_eq!(found(&[block(6), block(3)]), SIX);
        assert_eq!(found(&[xmp("3"), block(6)]), SIX);
        assert_eq!(found(&[xmp("3"), block(9)]), NONE);
        assert_eq!(found(&[xmp("3"), xmp("6"), EXIF.to_vec()]), SIX);
        assert_eq!(found(&[b"other".to_vec()]), NONE);
    }

    #[test]
    fn further_exif_blocks_of_a_jpeg_continue_the_first() {
        let whole = exif(&[short(6)]);
        let found = |at: usize, mark: &[u8]| {
            let blocks = [[EXIF, &whole[..at]].concat(), [mark, &whole[at..]].concat()];
            from_app1(blocks.iter().map(Vec::as_slice))
        };
        for at in 8..20 {
            assert_eq!(found(at, EXIF), SIX, "{at}");
            assert_eq!(found(at, XMP), NONE, "{at}");
        }
    }
}
