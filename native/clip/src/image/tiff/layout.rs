//! What the tags of a TIFF say about its pixels.

use super::super::bitmap::Channels;
use super::codec::Compression;
use super::directory::{Directory, Order};
use super::meaning::{Alpha, Color};
use super::{cannot, damaged};
use crate::error::{Error, ErrorKind, Limit, Remedy, Result};
use crate::limits::Limits;

const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const FILL_ORDER: u16 = 266;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const PLANAR: u16 = 284;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const SAMPLE_FORMAT: u16 = 339;

/// More than any picture of colours has.
const MAX_SAMPLES: u64 = 64;

/// Where pixels lie in the file, and what they mean.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) compression: Compression,
    pub(super) color: Color,
    pub(super) alpha: Alpha,
    /// Samples of a pixel, and bits of each.
    pub(super) samples: u16,
    pub(super) bits: u8,
    /// Each sample has chunks of its own.
    pub(super) planar: bool,
    /// Samples are stored as differences to the pixel on the left.
    pub(super) differences: bool,
    /// The first pixel of a byte is in its lowest bits.
    pub(super) reversed: bool,
    pub(super) order: Order,
    pub(super) tiled: bool,
    /// Size of a strip or tile in pixels.
    pub(super) chunk: (u32, u32),
}

/// Width and height.
pub(super) fn size(directory: &Directory<'_>) -> Result<(u32, u32)> {
    let side = |tag| Ok(clipped(directory.number_of(tag)?.unwrap_or(0)));
    Ok((side(WIDTH)?, side(HEIGHT)?))
}

impl Layout {
    pub(super) fn of(directory: &Directory<'_>, limits: &Limits) -> Result<Self> {
        let (width, height) = size(directory)?;
        limits.check_size(width, height)?;
        let compression = Compression::of(directory)?;
        let samples = samples(directory)?;
        let planar = samples > 1 && directory.number_of(PLANAR)? == Some(2);
        let color = Color::of(directory, compression, samples, planar)?;
        let layout = Self {
            width,
            height,
            compression,
            color,
            alpha: Alpha::of(directory, color, samples)?,
            samples,
            bits: bits(directory, color, samples)?,
            planar,
            differences: compression.predicts() && differences(directory)?,
            reversed: directory.number_of(FILL_ORDER)? == Some(2),
            order: directory.order(),
            tiled: directory.find(TILE_WIDTH)?.is_some(),
            chunk: chunk(directory, (width, height))?,
        };
        layout.check_coding()?;
        layout.check_chunks(limits)?;
        Ok(layout)
    }

    pub(super) fn channels(&self) -> Channels {
        match (self.color, self.alpha) {
            (Color::Grey { .. }, Alpha::Missing) => Channels::Grey,
            (Color::Grey { .. }, _) => Channels::GreyAlpha,
            (Color::Cmyk, _) => Channels::Cmyk,
            (Color::Rgb | Color::Palette, Alpha::Plain | Alpha::Premultiplied) => Channels::Rgba,
            _ => Channels::Rgb,
        }
    }

    /// Samples that matter: the first ones of a pixel.
    pub(super) fn used(&self) -> u16 {
        let alpha = u16::from(self.alpha != Alpha::Missing && self.color != Color::Cmyk);
        self.color.samples() + alpha
    }

    /// Samples of a pixel in one chunk.
    pub(super) fn together(&self) -> usize {
        if self.planar { 1 } else { self.samples.into() }
    }

    /// Pixels that share their colour, where that is stored so.
    pub(super) fn block(&self) -> Option<(usize, usize)> {
        match self.color {
            Color::YCbCr { block } if block != (1, 1) => Some((block.0.into(), block.1.into())),
            _ => None,
        }
    }

    /// Rows of a chunk that are decoded: those inside the picture.
    pub(super) fn chunk_rows(&self) -> u32 {
        self.chunk.1.min(self.height)
    }

    /// Columns and rows of chunks.
    pub(super) fn grid(&self) -> (u32, u32) {
        (self.width.div_ceil(self.chunk.0), self.height.div_ceil(self.chunk.1))
    }

    /// Length of so many rows of a chunk that is not coded, and of one of them. Rows of blocks
    /// count as one.
    pub(super) fn lengths(&self, rows: u32) -> (usize, usize) {
        let (width, rows) = (self.chunk.0 as usize, rows as usize);
        let (row, count) = match self.block() {
            Some((across, down)) => {
                (width.div_ceil(across) * (across * down + 2), rows.div_ceil(down))
            }
            None => ((width * self.together() * usize::from(self.bits)).div_ceil(8), rows),
        };
        (row * count, row)
    }

    /// Refuses what the compression cannot hold.
    fn check_coding(&self) -> Result<()> {
        let (bits, compression) = (self.bits, self.compression);
        if compression.is_fax() && (bits != 1 || self.together() != 1) {
            return Err(cannot("fax coding of anything but one bit a pixel"));
        }
        if compression == Compression::Jpeg && bits != 8 {
            return Err(cannot(&format!("JPEG of {bits}-bit samples")));
        }
        let together = self.together();
        if compression == Compression::Jpeg && ![1, 3, 4].contains(&together) {
            return Err(cannot(&format!("JPEG of {together} samples a pixel")));
        }
        let ycbcr = matches!(self.color, Color::YCbCr { .. });
        if compression == Compression::Jpeg && ycbcr && together == 4 {
            return Err(cannot("JPEG of YCbCr with more samples"));
        }
        if self.differences && (![8, 16].contains(&bits) || self.block().is_some()) {
            let blocks = if self.block().is_some() { " that share colours" } else { "" };
            return Err(cannot(&format!("a predictor with {bits}-bit samples{blocks}")));
        }
        Ok(())
    }

    /// Refuses chunks that would cost more than the picture: a file may claim any size of them.
    fn check_chunks(&self, limits: &Limits) -> Result<()> {
        let (width, height) = self.chunk;
        let (across, down) = self.grid();
        let cut = format!("{across} x {down} pieces of {width} x {height}");
        let pixels = u64::from(self.width) * u64::from(self.height);
        // Tiles of 16 x 16 pixels, the smallest that the format knows, or rows.
        let most = pixels / 256 + u64::from(limits.max_side);
        if u64::from(across) * u64::from(down) > most {
            let reason = format!("its {} x {} pixels are cut into {cut}", self.width, self.height);
            return Err(damaged(&reason));
        }
        // Rows below the picture are not decoded.
        let decoded = u64::from(across) * u64::from(width) * u64::from(self.height);
        let most = limits.max_pixels.saturating_mul(2);
        let (what, limit) = match () {
            () if width > limits.max_side => (format!("{} a side", limits.max_side), Limit::Side),
            () if decoded > most => (format!("{most} to decode"), Limit::Pixels),
            () => return Ok(()),
        };
        let message = format!(
            "TIFF picture of {} x {} pixels is stored in {cut} pixels, the limit is {what}; save it \
            in smaller ones or",
            self.width, self.height
        );
        Err(Error::new(ErrorKind::ImageTooLarge, message).with_remedy(Remedy::Raise(limit)))
    }
}

fn clipped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn samples(directory: &Directory<'_>) -> Result<u16> {
    match directory.number_of(SAMPLES)?.unwrap_or(1) {
        0 => Err(damaged("its pixels have no samples")),
        many if many > MAX_SAMPLES => Err(cannot(&format!("a pixel of {many} samples"))),
        samples => Ok(samples as u16),
    }
}

fn bits(directory: &Directory<'_>, color: Color, samples: u16) -> Result<u8> {
    if let Some(formats) = directory.find(SAMPLE_FORMAT)? {
        // 4 is "undefined": to be read like 1, unsigned.
        if let Some(other) = formats.iter().find(|format| ![1, 4].contains(format)) {
            let kind = match other {
                2 => "signed",
                3 => "floating-point",
                5 | 6 => "complex",
                other => return Err(cannot(&format!("sample format {other}"))),
            };
            return Err(cannot(&format!(
                "a picture of {kind} samples, which have no agreed range,"
            )));
        }
    }
    let all = directory.find(BITS)?;
    let bits = all.and_then(|all| all.get(0)).unwrap_or(1);
    if all.is_some_and(|all| all.iter().take(samples.into()).any(|other| other != bits)) {
        return Err(cannot("a pixel whose samples differ in their number of bits"));
    }
    let read = match color {
        Color::Grey { .. } | Color::Rgb | Color::Cmyk => &[1, 2, 4, 8, 12, 16][..],
        Color::Palette => &[1, 2, 4, 8],
        Color::YCbCr { .. } | Color::Lab => &[8],
    };
    if !read.contains(&bits) {
        return Err(cannot(&format!("a {bits}-bit sample in this colour space")));
    }
    Ok(bits as u8)
}

fn differences(directory: &Directory<'_>) -> Result<bool> {
    match directory.number_of(PREDICTOR)?.unwrap_or(1) {
        1 => Ok(false),
        2 => Ok(true),
        other => Err(cannot(&format!("predictor {other}"))),
    }
}

fn chunk(directory: &Directory<'_>, (width, height): (u32, u32)) -> Result<(u32, u32)> {
    let side = |tag| Ok(directory.number_of(tag)?.map(clipped));
    let (name, chunk) = match side(TILE_WIDTH)? {
        Some(wide) => ("tiles", (wide, side(TILE_HEIGHT)?.unwrap_or(0))),
        None => {
            let rows = side(ROWS_PER_STRIP)?.unwrap_or(u32::MAX);
            ("strips", (width, rows.min(height)))
        }
    };
    if chunk.0 == 0 || chunk.1 == 0 {
        return Err(damaged(&format!("its {name} are {} x {} pixels", chunk.0, chunk.1)));
    }
    Ok(chunk)
}
