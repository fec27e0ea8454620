//! The coded pixels of a picture in a WebP file, and what their headers say.

use super::damaged;
use crate::error::Result;
use crate::limits::Limits;

/// The coded pixels of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) coded: Coded<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Coded<'a> {
    /// Colour, and a plane of alpha that is coded apart.
    Lossy {
        alpha: Option<&'a [u8]>,
        data: &'a [u8],
    },
    Lossless(&'a [u8]),
}

impl<'a> Frame<'a> {
    fn new(width: u32, height: u32, coded: Coded<'a>, limits: &Limits) -> Result<Self> {
        limits.check_size(width, height)?;
        Ok(Self { width, height, coded })
    }

    pub(super) fn lossy(data: &'a [u8], limits: &Limits) -> Result<Self> {
        let [tag @ .., 0x9d, 0x01, 0x2a, a, b, c, d] = data.get(..10).unwrap_or_default() else {
            return Err(damaged("its pixels do not begin as they should"));
        };
        let tag = tag.iter().rev().fold(0, |tag, byte| tag << 8 | u32::from(*byte));
        let [is_difference, profile, is_shown, modes] =
            [tag & 1, tag >> 1 & 7, tag >> 4 & 1, tag >> 5];
        if is_difference == 1 || profile > 3 || is_shown == 0 || modes as usize >= data.len() {
            return Err(damaged("its pixels do not begin as they should"));
        }
        let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
        Self::new(side([*a, *b]), side([*c, *d]), Coded::Lossy { alpha: None, data }, limits)
    }

    pub(super) fn lossless(data: &'a [u8], limits: &Limits) -> Result<Self> {
        let [0x2f, a, b, c, d, ..] = *data else {
            return Err(damaged("its pixels do not begin as they should"));
        };
        let bits = u32::from_le_bytes([a, b, c, d]);
        if bits >> 29 != 0 {
            return Err(damaged("its lossless pixels are of an unknown version"));
        }
        let side = |shift: u32| (bits >> shift & 0x3fff) + 1;
        Self::new(side(0), side(14), Coded::Lossless(data), limits)
    }

    /// Whether a lossless picture says that its alpha counts.
    pub(super) fn is_transparent(&self) -> bool {
        matches!(self.coded, Coded::Lossless([_, _, _, _, bits, ..]) if bits & 0x10 != 0)
    }
}
