//! BMP, as Pillow reads it, and a few layouts of pixels more.
//!
//! Of 16 bits a pixel the alpha bit of A1R5G5B5 is not alpha, and the fourth byte of a pixel is alpha
//! only where a mask says so.

mod header;
mod rle;

use self::header::{Compression, Header, Layout, Masks};
use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{broken, zeroed};
use crate::budget::Budget;
use crate::error::Result;

/// Width and height by the header.
pub(super) fn stated_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = Header::read(bytes).ok()?;
    Some((header.width, header.height))
}

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    budget.limits().check_size(width, height)?;
    budget.reserve(u64::from(width) * u64::from(height) * bytes_per_pixel(&header))?;
    let start = header.pixels_at(bytes.len())?;
    budget.check()?;
    let indices = match header.compression {
        Compression::None => None,
        compression => Some(rle::decode(bytes, start, compression, header.size())?),
    };
    let rows = match &indices {
        Some(indices) => Rows { data: indices, stride: header.size().0, header: &header },
        None => Rows::of_file(bytes, start, &header)?,
    };
    let (channels, data) = rows.convert(bytes)?;
    budget.check()?;
    Ok(Bitmap::new(width, height, channels, data))
}

/// Bytes that decoding holds at once for each pixel.
fn bytes_per_pixel(header: &Header) -> u64 {
    let indices = u64::from(header.compression != Compression::None);
    match header.layout {
        Layout::Masks(masks) if masks.alpha != 0 => 4 + 3,
        _ => indices + 3,
    }
}

/// Pixels as they are stored.
struct Rows<'a> {
    data: &'a [u8],
    /// From the start of a row to that of the next.
    stride: usize,
    header: &'a Header,
}

impl<'a> Rows<'a> {
    /// Rows of whole words; what fills up the last one may be missing.
    fn of_file(bytes: &'a [u8], start: usize, header: &'a Header) -> Result<Self> {
        let data = bytes.get(start..).unwrap_or_default();
        if data.len() < header.stored_bytes() {
            return Err(broken(Format::Bmp, "its pixels end too early"));
        }
        Ok(Self { data, stride: header.stride(), header })
    }

    fn convert(&self, bytes: &[u8]) -> Result<(Channels, Vec<u8>)> {
        match self.header.layout {
            Layout::Indexed { bits } => {
                let bits = if self.header.compression == Compression::None { bits } else { 8 };
                let palette = self.header.palette(bytes);
                self.indexed(bits, &palette).map(|data| (Channels::Rgb, data))
            }
            Layout::Bgr => {
                let data = self.pixels(|[b, g, r]: [u8; 3]| [r, g, b])?;
                Ok((Channels::Rgb, data))
            }
            Layout::Masks(masks) => self.masked(masks),
        }
    }

    fn masked(&self, masks: Masks) -> Result<(Channels, Vec<u8>)> {
        let narrow = |pixel| u32::from(u16::from_le_bytes(pixel));
        let wide = u32::from_le_bytes;
        match (masks.bits, masks.alpha) {
            (16, 0) => Ok((Channels::Rgb, self.pixels(|pixel| masks.rgb(narrow(pixel)))?)),
            (16, _) => Ok((Channels::Rgba, self.pixels(|pixel| masks.rgba(narrow(pixel)))?)),
            (_, 0) => Ok((Channels::Rgb, self.pixels(|pixel| masks.rgb(wide(pixel)))?)),
            (_, _) => Ok((Channels::Rgba, self.pixels(|pixel| masks.rgba(wide(pixel)))?)),
        }
    }

    fn indexed(&self, bits: u8, palette: &[[u8; 3]; 256]) -> Result<Vec<u8>> {
        let per_byte = usize::from(8 / bits);
        let mask = u8::MAX >> (8 - bits);
        self.fill(|row, out: &mut [[u8; 3]]| {
            for (x, out) in out.iter_mut().enumerate() {
                let shift = 8 - usize::from(bits) * (x % per_byte + 1);
                *out = palette[usize::from(row[x / per_byte] >> shift & mask)];
            }
        })
    }

    /// Turns pixels of `N` bytes into pixels of `M`.
    fn pixels<const N: usize, const M: usize>(
        &self,
        convert: impl Fn([u8; N]) -> [u8; M],
    ) -> Result<Vec<u8>> {
        self.fill(|row, out: &mut [[u8; M]]| {
            for (out, pixel) in out.iter_mut().zip(row.as_chunks::<N>().0) {
                *out = convert(*pixel);
            }
        })
    }

    /// Fills a picture row by row, the top one first.
    fn fill<const M: usize>(&self, row: impl Fn(&[u8], &mut [[u8; M]])) -> Result<Vec<u8>> {
        let (width, height) = self.header.size();
        let mut data = zeroed(width * height * M)?;
        for (y, out) in data.as_chunks_mut::<M>().0.chunks_exact_mut(width).enumerate() {
            let y = if self.header.from_top { y } else { height - 1 - y };
            row(&self.data[y * self.stride..], out);
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const PALETTE: usize = 256 * 4;

    /// 8 x 4 pixels of 8 bits, `colors` of 256 in the palette.
    fn bmp(offset: u32, colors: u32, stored: usize) -> Vec<u8> {
        let mut file = b"BM\0\0\0\0\0\0\0\0".to_vec();
        for field in [offset, 40, 8, 4, 1 | 8 << 16, 0, 32, 0, 0, colors, 0] {
            file.extend(field.to_le_bytes());
        }
        [file, vec![9; stored], vec![7; 32]].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>> {
        read(bytes, &Budget::default())?
            .into_rgb(super::super::Background::default())
            .map(|rgb| rgb.pixels())
    }

    #[test]
    fn a_missing_offset_means_the_end_of_the_palette() {
        let right = decode(&bmp(54 + PALETTE as u32, 0, PALETTE)).unwrap();
        assert_eq!(right, [9; 8 * 4 * 3]);
        for offset in [0, 54] {
            assert_eq!(decode(&bmp(offset, 0, PALETTE)).unwrap(), right, "{offset}");
        }
    }

    #[test]
    fn a_palette_may_be_shorter_than_it_says() {
        assert_eq!(decode(&bmp(54 + 64, 0, 64)).unwrap(), [9; 8 * 4 * 3]);
    }

    #[test]
    fn an_offset_into_header_or_palette_is_refused() {
        for offset in [1, 14, 53, 55, 58, 62, 1077] {
            let error = decode(&bmp(offset, 0, PALETTE)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidImage);
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot decode the BMP picture (damaged or cut short?): its pixels are said to \
                    begin at byte {offset}, within its header and palette, which end at byte 1078"
                )
            );
        }
    }

    #[test]
    fn a_colour_without_bits_is_refused() {
        let masked = |bits: u32, masks: [u32; 3]| {
            let mut file = b"BM\0\0\0\0\0\0\0\0".to_vec();
            for field in [66, 40, 2, 2, 1 | bits << 16, 3, 16, 0, 0, 0, 0] {
                file.extend(field.to_le_bytes());
            }
            file.extend(masks.map(u32::to_le_bytes).concat());
            decode(&[file, vec![0xff; 16]].concat())
        };
        assert_eq!(masked(16, [0xf000, 0xf00, 0xf0]).unwrap(), [255; 12]);
        // Pillow takes these for none at all.
        assert_eq!(masked(32, [0; 3]).unwrap(), [255; 12]);
        for (bits, masks) in
            [(16, [0; 3]), (16, [0xf000, 0, 0xf0]), (32, [0xff, 0xff00, 0]), (32, [0, 0xff, 0])]
        {
            let error = masked(bits, masks).unwrap_err();
            assert!(error.to_string().ends_with("its masks make no sense"), "{error}");
        }
    }

    #[test]
    fn a_palette_without_end_is_refused() {
        let error = decode(&bmp(54, 1 << 20, PALETTE)).unwrap_err();
        assert!(error.to_string().ends_with("its palette is said to have 1048576 colours"));
    }

    #[test]
    fn pixels_that_are_missing_are_noticed() {
        let whole = bmp(54 + PALETTE as u32, 0, PALETTE);
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(&bmp(5_000, 0, PALETTE)).is_err());
    }
}
