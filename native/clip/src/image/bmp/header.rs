//! What a BMP says of itself before its pixels.

use super::super::bitmap;
use super::super::format::Format;
use super::super::{broken, unsupported};
use crate::error::Result;

/// Length of what precedes the header proper.
const FILE_HEADER: usize = 14;

/// Where the masks stand in the headers that have them, counted from the file's start.
const MASKS: usize = FILE_HEADER + 40;

/// More colours than pixels of 8 bits can name may be listed; more than this is damage.
const MAX_COLORS: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The first row is the top one.
    pub(super) from_top: bool,
    pub(super) compression: Compression,
    pub(super) layout: Layout,
    /// Where the pixels are said to begin.
    offset: usize,
    /// Where header and masks end, and so the palette begins.
    end: usize,
    /// Length of an entry of the palette, and their number.
    entry: usize,
    colors: usize,
    /// Length of the pixels as the file says, or 0.
    size: usize,
    bits: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Rle8,
    Rle4,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    Indexed { bits: u8 },
    Bgr,
    Masks(Masks),
}

/// Which bits of a pixel of 16 or 32 are which channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masks {
    pub(super) bits: u16,
    color: [u32; 3],
    pub(super) alpha: u32,
}

impl Header {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let fields = Fields(bytes);
        let length = fields.u32(FILE_HEADER)? as usize;
        let mut header = match length {
            12 => Self::core(fields)?,
            40 | 52 | 56 | 64 | 108 | 124 => Self::info(fields, length)?,
            other => return Err(unsupported(Format::Bmp, &format!("a header of {other} bytes"))),
        };
        if header.colors == 0 {
            header.colors = 1 << header.bits.min(16);
        }
        if header.colors > MAX_COLORS && matches!(header.layout, Layout::Indexed { .. }) {
            let reason = format!("its palette is said to have {} colours", header.colors);
            return Err(broken(Format::Bmp, &reason));
        }
        Ok(header)
    }

    /// The header of OS/2 1.
    fn core(fields: Fields<'_>) -> Result<Self> {
        let bits = fields.u16(24)?;
        Ok(Self {
            width: fields.u16(18)?.into(),
            height: fields.u16(20)?.into(),
            from_top: false,
            compression: Compression::None,
            layout: Layout::plain(bits)?,
            offset: fields.u32(10)? as usize,
            end: FILE_HEADER + 12,
            entry: 3,
            colors: 0,
            size: 0,
            bits,
        })
    }

    /// The headers of Windows and of OS/2 2.
    fn info(fields: Fields<'_>, length: usize) -> Result<Self> {
        let (height, bits, kind) = (fields.i32(22)?, fields.u16(28)?, fields.u32(30)?);
        let mut end = FILE_HEADER + length;
        let (compression, layout) = match (kind, length) {
            (0, _) => (Compression::None, Layout::plain(bits)?),
            (1, _) => (Compression::Rle8, Layout::plain(bits)?),
            (2, _) => (Compression::Rle4, Layout::plain(bits)?),
            (3, 64) => return Err(unsupported(Format::Bmp, "Huffman coding")),
            (3, _) => {
                if length == 40 {
                    end += 12;
                }
                (Compression::None, Layout::masks(fields, bits, length >= 56)?)
            }
            _ => return Err(unsupported(Format::Bmp, &format!("compression {kind}"))),
        };
        // Whether of four bits or of eight, either coding is read, as by Pillow.
        if compression != Compression::None && !matches!(layout, Layout::Indexed { bits: 4.. }) {
            let reason = format!("{bits}-bit pixels have no run lengths");
            return Err(broken(Format::Bmp, &reason));
        }
        Ok(Self {
            width: fields.u32(18)?,
            height: height.unsigned_abs(),
            from_top: height < 0,
            compression,
            layout,
            offset: fields.u32(10)? as usize,
            end,
            entry: 4,
            colors: fields.u32(46)? as usize,
            size: fields.u32(34)? as usize,
            bits,
        })
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.width as usize, self.height as usize)
    }

    /// From the start of a row to that of the next: whole words.
    pub(super) fn stride(&self) -> usize {
        (self.width as usize * usize::from(self.bits)).div_ceil(32) * 4
    }

    /// Length of the rows in the file, without what fills up the last one.
    pub(super) fn stored_bytes(&self) -> usize {
        let last = (self.width as usize * usize::from(self.bits)).div_ceil(8);
        self.stride() * (self.height as usize).saturating_sub(1) + last
    }

    /// Where the pixels begin. Two wrong offsets are common and mean the end of the palette: 0, and
    /// the end of the header. Any other one within header or palette would make pixels of them.
    pub(super) fn pixels_at(&self, len: usize) -> Result<usize> {
        let palette_end = self.palette_end();
        if self.offset == 0 || self.offset == self.end {
            return Ok(palette_end);
        }
        let stored = match self.compression {
            Compression::None => self.stored_bytes(),
            _ => self.size,
        };
        // A palette may be shorter than it should be: then there is no room for a whole one.
        let short = self.offset > self.end && palette_end.saturating_add(stored) > len;
        if self.offset >= palette_end || short {
            return Ok(self.offset);
        }
        let reason = format!(
            "its pixels are said to begin at byte {}, within its header and palette, which end at \
            byte {palette_end}",
            self.offset
        );
        Err(broken(Format::Bmp, &reason))
    }

    fn palette_end(&self) -> usize {
        match self.layout {
            Layout::Indexed { .. } => {
                self.end.saturating_add(self.entry.saturating_mul(self.colors))
            }
            _ => self.end,
        }
    }

    pub(super) fn palette(&self, bytes: &[u8]) -> [[u8; 3]; 256] {
        let stored = bytes.get(self.end..).unwrap_or_default().chunks_exact(self.entry);
        let stored = stored.take(self.colors).map(|color| [color[2], color[1], color[0]]);
        bitmap::palette(&stored.collect::<Vec<_>>())
    }
}

impl Layout {
    fn plain(bits: u16) -> Result<Self> {
        match bits {
            1 | 2 | 4 | 8 => Ok(Self::Indexed { bits: bits as u8 }),
            16 => Ok(Self::Masks(Masks { bits, color: [0x7c00, 0x3e0, 0x1f], alpha: 0 })),
            24 => Ok(Self::Bgr),
            32 => Ok(Self::Masks(Masks { bits, color: [0xff_0000, 0xff00, 0xff], alpha: 0 })),
            _ => Err(unsupported(Format::Bmp, &format!("a pixel of {bits} bits"))),
        }
    }

    fn masks(fields: Fields<'_>, bits: u16, has_alpha: bool) -> Result<Self> {
        let mask = |at: usize| fields.u32(MASKS + 4 * at);
        let color = [mask(0)?, mask(1)?, mask(2)?];
        let alpha = if has_alpha { mask(3)? } else { 0 };
        match (bits, color) {
            // Pillow has these, and no alpha in the bit that is left.
            (16, [0xf800, 0x7e0, 0x1f] | [0x7c00, 0x3e0, 0x1f]) => {
                Ok(Self::Masks(Masks { bits, color, alpha: 0 }))
            }
            (24, [0xff_0000, 0xff00, 0xff]) => Ok(Self::Bgr),
            (32, [0, 0, 0]) if alpha == 0 => {
                let color = [0xff_0000, 0xff00, 0xff];
                Ok(Self::Masks(Masks { bits, color, alpha: 0xff00_0000 }))
            }
            (16 | 32, _) => Masks { bits, color, alpha }.checked().map(Self::Masks),
            _ => Err(unsupported(Format::Bmp, &format!("a pixel of {bits} bits with masks"))),
        }
    }
}

impl Masks {
    /// Refuses masks that overlap, have gaps or do not fit, and a colour without any bits: it would
    /// be black everywhere.
    fn checked(self) -> Result<Self> {
        let [red, green, blue] = self.color;
        let all = [red, green, blue, self.alpha];
        let solid = |mask: u32| {
            let ones = mask.checked_shr(mask.trailing_zeros()).unwrap_or(0);
            ones & ones.wrapping_add(1) == 0
        };
        let apart = all.iter().map(|mask| mask.count_ones()).sum::<u32>()
            == (red | green | blue | self.alpha).count_ones();
        let fits = self.bits == 32 || all.iter().all(|mask| *mask <= 0xffff);
        let coloured = self.color.iter().all(|mask| *mask != 0);
        if coloured && apart && fits && all.iter().all(|mask| solid(*mask)) {
            return Ok(self);
        }
        Err(broken(Format::Bmp, "its masks make no sense"))
    }

    pub(super) fn rgb(&self, pixel: u32) -> [u8; 3] {
        self.color.map(|mask| level(pixel, mask))
    }

    pub(super) fn rgba(&self, pixel: u32) -> [u8; 4] {
        let [red, green, blue] = self.rgb(pixel);
        [red, green, blue, level(pixel, self.alpha)]
    }
}

/// The bits of a mask, so that the highest value becomes 255.
fn level(pixel: u32, mask: u32) -> u8 {
    let shift = mask.trailing_zeros() % 32;
    let (value, highest) = ((pixel & mask) >> shift, mask >> shift);
    if highest == 255 {
        return value as u8;
    }
    (u64::from(value) * 255).checked_div(highest.into()).unwrap_or(0) as u8
}

/// Numbers at their place in the file, low byte first.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        let found = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or_else(|| broken(Format::Bmp, "its header ends too early"))
    }

    fn u16(self, at: usize) -> Result<u16> {
        self.get(at).map(u16::from_le_bytes)
    }

    fn u32(self, at: usize) -> Result<u32> {
        self.get(at).map(u32::from_le_bytes)
    }

    fn i32(self, at: usize) -> Result<i32> {
        self.get(at).map(i32::from_le_bytes)
    }
}
