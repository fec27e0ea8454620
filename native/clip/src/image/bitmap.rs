//! Decoded pixels on their way to RGB.

use image::metadata::Orientation;

use super::{Background, Rgb, Whole, zeroed};
use crate::error::Result;

/// What the bytes of a pixel mean, one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    GreyAlpha,
    Rgb,
    /// Grey that is repeated three times already.
    GreyRgb,
    Rgba,
    /// 0 means no ink.
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

    /// Bytes of a pixel.
    pub(super) fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb | Self::GreyRgb => 3,
            Self::Rgba | Self::Cmyk => 4,
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
    whole: Whole,
    /// As of [`Rgb`].
    stride: u32,
}

impl Bitmap {
    /// `data` is `height` x `width` x `channels` bytes.
    pub(super) fn new(width: u32, height: u32, channels: Channels, data: Vec<u8>) -> Self {
        Self {
            width,
            height,
            channels,
            data,
            orientation: Orientation::NoTransforms,
            whole: Whole::all(width, height),
            stride: width,
        }
    }

    pub(super) fn with_orientation(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// The pixels stand for a larger picture.
    pub(super) fn of_whole(self, whole: Whole) -> Self {
        Self { whole, ..self }
    }

    /// Only some columns of RGB are there.
    pub(super) fn with_stride(self, stride: u32) -> Self {
        Self { stride, ..self }
    }

    pub(super) fn channels(&self) -> Channels {
        self.channels
    }

    /// Replaces each level of a grey picture, and leaves alpha as it is.
    pub(super) fn with_levels(mut self, levels: &[u8; 256]) -> Self {
        let step = if self.channels == Channels::GreyAlpha { 2 } else { 1 };
        let greys = self.data.iter_mut().step_by(step);
        greys.for_each(|level| *level = levels[usize::from(*level)]);
        self
    }

    /// Turns pixels into others of as many channels or fewer, in place.
    pub(super) fn shrink(
        mut self,
        channels: Channels,
        convert: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<Self> {
        convert(&mut self.data)?;
        Ok(Self { channels, ..self })
    }

    pub(super) fn into_rgb(self, background: Background) -> Result<Rgb> {
        let Self { width, height, channels, data, orientation, whole, stride } = self;
        let data = match (channels, background) {
            (Channels::Grey, _) => map_pixels::<1, 3>(&data, |[v]| [v, v, v])?,
            (Channels::GreyAlpha, Background::Drop) => {
                map_pixels::<2, 3>(&data, |[v, _]| [v, v, v])?
            }
            (Channels::GreyAlpha, Background::Color(under)) => {
                map_pixels::<2, 3>(&data, |[v, a]| over([v, v, v], a, under))?
            }
            (Channels::Rgb | Channels::GreyRgb, _) => data,
            (Channels::Rgba, Background::Drop) => {
                map_pixels::<4, 3>(&data, |[r, g, b, _]| [r, g, b])?
            }
            (Channels::Rgba, Background::Color(under)) => {
                map_pixels::<4, 3>(&data, |[r, g, b, a]| over([r, g, b], a, under))?
            }
            (Channels::Cmyk, _) => cmyk_to_rgb(data),
        };
        Ok(Rgb {
            stored_width: width,
            stored_height: height,
            stored: data,
            stride,
            turn: orientation.into(),
            whole,
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

/// A palette as Pillow reads that of a GIF or BMP. Colours that are not stored are black, or the
/// grey of their number if all that are stored are that too.
pub(super) fn palette(stored: &[[u8; 3]]) -> [[u8; 3]; 256] {
    let greys: [_; 256] = std::array::from_fn(|i| [i as u8; 3]);
    if stored.iter().zip(&greys).all(|(stored, grey)| stored == grey) {
        return greys;
    }
    let mut colors = [[0; 3]; 256];
    colors.iter_mut().zip(stored).for_each(|(color, stored)| *color = *stored);
    colors
}

/// Spreads samples of 1, 2 or 4 bits, one a pixel, in rows of whole bytes, to bytes, times `scale`.
pub(super) fn unpack(
    packed: &[u8],
    bits: u8,
    (width, height): (usize, usize),
    scale: u8,
) -> Result<Vec<u8>> {
    let mut out = zeroed(width * height)?;
    let packed = packed.chunks((width * usize::from(bits)).div_ceil(8));
    out.chunks_exact_mut(width)
        .zip(packed)
        .for_each(|(out, row)| unpack_row(row, bits, scale, out));
    Ok(out)
}

/// The same for the samples of one row.
pub(super) fn unpack_row(packed: &[u8], bits: u8, scale: u8, out: &mut [u8]) {
    let highest = (1u8 << bits) - 1;
    for (out, byte) in out.chunks_mut(usize::from(8 / bits)).zip(packed) {
        let mut shift = 8;
        for out in out {
            shift -= bits;
            *out = (byte >> shift & highest) * scale;
        }
    }
}

/// `color` with coverage `alpha`, laid over `under` as Pillow's `alpha_composite` does.
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

/// In place: the largest picture of all has no room for both.
fn cmyk_to_rgb(mut data: Vec<u8>) -> Vec<u8> {
    let pixels = data.len() / 4;
    for at in 0..pixels {
        let rgb = cmyk([data[4 * at], data[4 * at + 1], data[4 * at + 2], data[4 * at + 3]]);
        data[3 * at..][..3].copy_from_slice(&rgb);
    }
    data.truncate(3 * pixels);
    data
}

/// `sum / 255`, rounded, for sums up to 255 * 255.
fn div_255(sum: u32) -> u8 {
    ((sum + 127) / 255) as u8
}

/// Divides the colours of pixels of `N` channels by their alpha, the last one, as Pillow does.
pub(super) fn unmultiply<const N: usize>(data: &mut [u8]) {
    for pixel in data.as_chunks_mut::<N>().0 {
        let alpha = u16::from(pixel[N - 1]);
        for channel in &mut pixel[..N - 1] {
            let whole = (u16::from(*channel) * 255).checked_div(alpha);
            *channel = whole.unwrap_or(0).min(255) as u8;
        }
    }
}
