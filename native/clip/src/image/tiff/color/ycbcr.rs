//! YCbCr, with the coefficients and ranges that a file names.

use super::super::damaged;
use super::super::directory::Directory;
use crate::error::Result;

const COEFFICIENTS: u16 = 529;
const RANGES: u16 = 532;

/// Shares of red, green and blue in brightness, and the range of each channel, where a file names
/// none.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
const FULL: [f32; 6] = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];

/// Bits behind the point of [`Tables`] for green.
const POINT: u32 = 16;

/// What each level of a channel adds to a colour.
pub(super) struct Tables {
    light: [i32; 256],
    red: [i32; 256],
    blue: [i32; 256],
    /// Green of Cb and of Cr, with `POINT` bits behind the point.
    green: [[i32; 256]; 2],
}

impl Tables {
    /// Pillow's conversion, of full range.
    pub(super) fn jfif() -> Self {
        // Rounded to a 64th each, towards zero from a half more: so Pillow's tables were made.
        let level = |factor: f64| {
            std::array::from_fn(|at| (factor * 64.0 * (at as f64 - 128.0) + 0.5) as i32)
        };
        let whole = |table: [i32; 256]| table.map(|value| value >> 6);
        let point = |table: [i32; 256]| table.map(|value| value << (POINT - 6));
        Self {
            light: std::array::from_fn(|at| at as i32),
            red: whole(level(1.402)),
            blue: whole(level(1.772)),
            green: [point(level(-0.344_14)), point(level(-0.714_14))],
        }
    }

    /// libtiff's conversion.
    pub(super) fn of(directory: &Directory<'_>) -> Result<Self> {
        let luma = floats(directory, COEFFICIENTS, LUMA)?;
        let [black, white, cb_black, cb_white, cr_black, cr_white] =
            floats(directory, RANGES, FULL)?;
        if luma.iter().any(|share| share.is_nan()) || luma[1] == 0.0 {
            return Err(damaged("its YCbCrCoefficients make no colours"));
        }
        let [red, green, blue] = luma;
        let (to_red, to_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let factors = [to_red, to_blue, red * to_red / green, blue * to_blue / green];
        let [to_red, to_blue, cr_green, cb_green] =
            factors.map(|factor| (f64::from(factor.clamp(0.0, 2.0)) * 65_536.0 + 0.5) as i32);
        let level = |black: f32, white: f32, range: f32, zero: i32| -> [i32; 256] {
            std::array::from_fn(|at| {
                let above = (at as i32 - zero).saturating_sub(black as i32) as f32 * range;
                let span = white - black;
                (above / if span == 0.0 { 1.0 } else { span }).clamp(-4096.0, 4096.0) as i32
            })
        };
        let cb = level(cb_black - 128.0, cb_white - 128.0, 127.0, 128);
        let cr = level(cr_black - 128.0, cr_white - 128.0, 127.0, 128);
        let half = 1 << (POINT - 1);
        Ok(Self {
            light: level(black, white, 255.0, 0),
            red: cr.map(|level| (to_red * level + half) >> POINT),
            blue: cb.map(|level| (to_blue * level + half) >> POINT),
            green: [cb.map(|level| half - cb_green * level), cr.map(|level| -cr_green * level)],
        })
    }

    pub(super) fn convert(&self, pixels: &mut [u8]) {
        for [red, green, blue] in pixels.as_chunks_mut::<3>().0 {
            let [light, cb, cr] = [*red, *green, *blue].map(usize::from);
            let light = self.light[light];
            let clip = |level: i32| level.clamp(0, 255) as u8;
            *red = clip(light + self.red[cr]);
            *green = clip(light + ((self.green[0][cb] + self.green[1][cr]) >> POINT));
            *blue = clip(light + self.blue[cb]);
        }
    }
}

/// The values of a tag, or the usual ones where it is missing.
fn floats<const N: usize>(
    directory: &Directory<'_>,
    tag: u16,
    usual: [f32; N],
) -> Result<[f32; N]> {
    let Some(values) = directory.find(tag)? else { return Ok(usual) };
    if values.len() < N {
        return Err(damaged(&format!("tag {tag} has too few values")));
    }
    Ok(std::array::from_fn(|at| values.float(at).unwrap_or(0.0)))
}
