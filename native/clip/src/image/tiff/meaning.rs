//! What the samples of a pixel mean.

use super::codec::Compression;
use super::directory::Directory;
use super::{cannot, damaged};
use crate::error::Result;

pub(super) const PHOTOMETRIC: u16 = 262;
const EXTRA_SAMPLES: u16 = 338;
const SUBSAMPLING: u16 = 530;

/// The number of CIE Lab among the meanings.
pub(super) const LAB: u64 = 8;

/// What the first samples of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Grey {
        /// 0 is white.
        inverted: bool,
    },
    Palette,
    Rgb,
    Cmyk,
    YCbCr {
        /// Pixels that share their colour: side by side, and one above the other.
        block: (u8, u8),
    },
    Lab,
}

impl Color {
    pub(super) fn of(
        directory: &Directory<'_>,
        compression: Compression,
        samples: u16,
        planar: bool,
    ) -> Result<Self> {
        // Readers take it for 0 where it is missing.
        let color = match directory.number_of(PHOTOMETRIC)?.unwrap_or(0) {
            0 => Self::Grey { inverted: true },
            1 => Self::Grey { inverted: false },
            2 => Self::Rgb,
            3 => Self::Palette,
            4 => return Err(cannot("a transparency mask without a picture")),
            5 => Self::Cmyk,
            6 if samples == 1 => Self::Grey { inverted: false },
            6 => Self::YCbCr { block: block(directory, compression, planar)? },
            LAB => Self::Lab,
            9 | 10 => return Err(cannot("CIE L*a*b* of the kinds of ICC and ITU")),
            32_803 | 34_892 => return Err(cannot("raw data of a camera's sensor")),
            32_844 | 32_845 => return Err(cannot("LogLuv, a colour space of high dynamic range,")),
            other => return Err(cannot(&format!("colour space {other}"))),
        };
        if samples < color.samples() {
            let needed = color.samples();
            return Err(damaged(&format!("its pixels have {samples} of {needed} samples")));
        }
        Ok(color)
    }

    /// Samples that the colours of a pixel take.
    pub(super) fn samples(self) -> u16 {
        match self {
            Self::Grey { .. } | Self::Palette => 1,
            Self::Rgb | Self::YCbCr { .. } | Self::Lab => 3,
            Self::Cmyk => 4,
        }
    }
}

/// What the sample after the colours means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpha {
    Missing,
    Plain,
    /// Colours were multiplied by it.
    Premultiplied,
}

impl Alpha {
    pub(super) fn of(directory: &Directory<'_>, color: Color, samples: u16) -> Result<Self> {
        let extra = samples - color.samples();
        let named = directory.find(EXTRA_SAMPLES)?;
        if extra > 1 && named.is_none_or(|named| named.len() < extra.into()) {
            let what = format!("a pixel of {samples} samples, {extra} of them without a meaning,");
            return Err(cannot(&what));
        }
        // Some writers do not name the one that RGB or grey is followed by: readers take it for alpha.
        let unnamed = if color == Color::Palette { 0 } else { 2 };
        let first = named.and_then(|named| named.get(0)).unwrap_or(unnamed);
        Ok(match first {
            _ if extra == 0 => Self::Missing,
            1 => Self::Premultiplied,
            // CorelDRAW 10 writes 999.
            2 | 999 => Self::Plain,
            _ => Self::Missing,
        })
    }
}

fn block(directory: &Directory<'_>, compression: Compression, planar: bool) -> Result<(u8, u8)> {
    // The JPEG itself says it.
    if compression == Compression::Jpeg {
        return Ok((1, 1));
    }
    let sides = directory.find(SUBSAMPLING)?;
    let side = |at| sides.and_then(|sides| sides.get(at)).unwrap_or(2);
    match (side(0), side(1)) {
        (1, 1) => Ok((1, 1)),
        (1 | 2 | 4, 1 | 2 | 4) if planar => Err(cannot("YCbCr in planes of different sizes")),
        (across @ (1 | 2 | 4), down @ (1 | 2 | 4)) => Ok((across as u8, down as u8)),
        (across, down) => Err(damaged(&format!("its pixels share colours by {across} x {down}"))),
    }
}
