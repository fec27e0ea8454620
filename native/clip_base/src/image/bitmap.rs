//! Decoded pixels on their way to RGB.

use image::metadata::Orientation;

use super::{Rgb, zeroed};
use crate::error::Result;

/// What the bytes of a pixel mean, one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
    /// 0 is no ink.
    Cmyk,
}

impl Channels {
    pub(super) fn from_count(count: u32) -> Option<Self> {
        match count {
            1 => Some(Self::Grey),
            2 => Some(Self::GreyAlpha),
            3 => Some(Self::Rgb),
            4 => Some(Self::Rgba),
            _ => None,
        }
    }
}

/// Pixels as decoded, 8 bits a channel, not yet upright.
#[derive(Debug)]
pub(super) struct Bitmap {
    width: u32,
    height: u32,
    channels: Channels,
    data: Vec<u8>,
    orientation: Orientation,
}

impl Bitmap {
    /// `data` is `height` x `width` x `channels` bytes.
    pub(super) fn new(width: u32, height: u32, channels: Channels, data: Vec<u8>) -> Self {
        Self { width, height, channels, data, orientation: Orientation::NoTransforms }
    }

    pub(super) fn with_orientation(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    pub(super) fn into_rgb(self, background: Option<[u8; 3]>) -> Result<Rgb> {
        let Self { width, height, channels, data, orientation } = self;
        let data = match (channels, background) {
            (Channels::Grey, _) => map_pixels::<1, 3>(&data, |[v]| [v, v, v])?,
            (Channels::GreyAlpha, None) => map_pixels::<2, 3>(&data, |[v, _]| [v, v, v])?,
            (Channels::GreyAlpha, Some(under)) => {
                map_pixels::<2, 3>(&data, |[v, a]| over([v, v, v], a, under))?
            }
            (Channels::Rgb, _) => data,
            (Channels::Rgba, None) => map_pixels::<4, 3>(&data, |[r, g, b, _]| [r, g, b])?,
            (Channels::Rgba, Some(under)) => {
                map_pixels::<4, 3>(&data, |[r, g, b, a]| over([r, g, b], a, under))?
            }
            (Channels::Cmyk, _) => map_pixels::<4, 3>(&data, cmyk)?,
        };
        Ok(Rgb {
            stored_width: width,
            stored_height: height,
            stored: data,
            turn: orientation.into(),
        })
    }
}

/// Turns pixels of `N` bytes into pixels of `M`.
pub(super) fn map_pixels<const N: usize, const M: usize>(
    data: &[u8],
    convert: impl Fn([u8; N]) -> [u8; M],
) -> Result<Vec<u8>> {
    let (pixels, _) = data.as_chunks::<N>();
    let mut out = zeroed(pixels.len() * M)?;
    for (out, pixel) in out.as_chunks_mut::<M>().0.iter_mut().zip(pixels) {
        *out = convert(*pixel);
    }
    Ok(out)
}

/// Spreads samples of 1, 2 or 4 bits, one a pixel, in rows of whole bytes, to bytes, times `scale`.
pub(super) fn unpack(
    packed: &[u8],
    bits: u8,
    (width, height): (usize, usize),
    scale: u8,
) -> Result<Vec<u8>> {
    let highest = (1u8 << bits) - 1;
    let per_byte = usize::from(8 / bits);
    let mut out = zeroed(width * height)?;
    for (row, packed) in out.chunks_exact_mut(width).zip(packed.chunks(width.div_ceil(per_byte))) {
        for (x, out) in row.iter_mut().enumerate() {
            let shift = 8 - usize::from(bits) * (x % per_byte + 1);
            *out = packed.get(x / per_byte).map_or(0, |byte| (byte >> shift & highest) * scale);
        }
    }
    Ok(out)
}

/// `color` with coverage `alpha`, laid over `under`.
pub(super) fn over(color: [u8; 3], alpha: u8, under: [u8; 3]) -> [u8; 3] {
    std::array::from_fn(|i| {
        let sum =
            u32::from(color[i]) * u32::from(alpha) + u32::from(under[i]) * u32::from(255 - alpha);
        div_255(sum)
    })
}

/// Pillow's conversion: no colour management, black shades what the inks leave.
pub(super) fn cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let light = 255 - k;
        light - div_255(u32::from(ink) * u32::from(light))
    })
}

/// The conversion of JFIF, full range.
pub(super) fn ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
    rgb.map(|value| value.round() as u8)
}

/// `sum / 255`, rounded, for sums up to 255 * 255.
fn div_255(sum: u32) -> u8 {
    ((sum + 127) / 255) as u8
}

/// Divides RGBA colours by their alpha, as Pillow does.
pub(super) fn unmultiply(data: &mut [u8]) {
    for [color @ .., alpha] in data.as_chunks_mut::<4>().0 {
        for channel in color {
            let whole = (u16::from(*channel) * 255).checked_div(u16::from(*alpha));
            *channel = whole.unwrap_or(0).min(255) as u8;
        }
    }
}

/// Turns native-endian 16-bit samples into 8-bit ones, in place.
pub(super) fn keep_high_bytes(data: &mut Vec<u8>) {
    let samples = data.len() / 2;
    for i in 0..samples {
        let sample = u16::from_ne_bytes([data[2 * i], data[2 * i + 1]]);
        data[i] = (sample >> 8) as u8;
    }
    data.truncate(samples);
}
