//! Colours of an embedded ICC profile to sRGB, before anything else is made of the pixels.
//!
//! As libvips' `icc_transform` does it: relative colorimetric, without compensation of the black
//! point, alpha left as it is. A profile for pixels of another kind does not count, such as one for
//! CMYK in an RGB picture; libvips then takes its fallback, sRGB.

mod icc;

use std::borrow::Cow;

use moxcms::{
    ColorProfile, DataColorSpace, Layout, RenderingIntent, TransformExecutor, TransformOptions,
};

use self::icc::Space;
use super::bitmap::{Bitmap, Channels};
use super::format::Format;
use super::{jpeg, png, tiff, webp};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Remedy, Result, caught};
use crate::limits::{Limits, MAX_PROFILE};

/// What converting holds at most: copies of the profile and its tables as numbers of four bytes; and
/// the tables that the crate computes, which depend on the kind of profile only.
const COPIES: u64 = 10;
const TABLES: u64 = 4 << 20;

/// Pixels that are converted before the budget is asked again.
const PIECE: usize = 1 << 14;

/// The colour profile of one picture.
pub(super) struct Profile {
    format: Format,
    space: Space,
    colors: ColorProfile,
}

impl Profile {
    /// Reads the profile that a file embeds, if there is one.
    ///
    /// # Errors
    /// `InvalidImage` for one that is broken or too large.
    pub(super) fn read(format: Format, bytes: &[u8], budget: &Budget<'_>) -> Result<Option<Self>> {
        let Some(found) =
            find(format, bytes, budget.limits()).map_err(|why| broken(format, why))?
        else {
            return Ok(None);
        };
        if found.len() > MAX_PROFILE {
            return Err(broken(format, format!("it is larger than {MAX_PROFILE} bytes")));
        }
        budget.reserve(found.len() as u64 * COPIES + TABLES)?;
        let profile = icc::needed(&found).map_err(|why| broken(format, why))?;
        let Some((space, needed)) = profile else { return Ok(None) };
        let colors =
            guarded(|| ColorProfile::new_from_slice(&needed)).map_err(|why| broken(format, why))?;
        Ok(Some(Self { format, space, colors }))
    }

    /// Converts the colours of a picture, unless the profile is for another kind of pixels.
    ///
    /// # Errors
    /// `UnsupportedImage` for a profile that cannot be applied.
    pub(super) fn convert(&self, bitmap: Bitmap, budget: &Budget<'_>) -> Result<Bitmap> {
        match (self.space, bitmap.channels()) {
            (Space::Grey, Channels::Grey | Channels::GreyAlpha | Channels::GreyRgb) => {
                let levels = self.levels()?;
                Ok(bitmap.with_levels(&levels))
            }
            (Space::Rgb, Channels::Rgb) => self.map::<3, 3>(bitmap, Channels::Rgb, budget),
            (Space::Rgb, Channels::Rgba) => self.map::<4, 4>(bitmap, Channels::Rgba, budget),
            (Space::Cmyk, Channels::Cmyk) => self.map::<4, 3>(bitmap, Channels::Rgb, budget),
            _ => Ok(bitmap),
        }
    }

    /// The level in sRGB of each grey: its curve gives brightness, linear or as CIE Lab has it. The
    /// crate knows the first kind only.
    fn levels(&self) -> Result<[u8; 256]> {
        let lab = self.colors.pcs == DataColorSpace::Lab;
        let curve = self.colors.gray_trc.as_ref();
        let curve = curve.ok_or_else(|| broken(self.format, "it has no curve"))?;
        let light = guarded(|| {
            let curve = curve.make_linear_evaluator()?;
            Ok(std::array::from_fn(|level| curve.evaluate_value(level as f32 / 255.0)))
        });
        let light: [f32; 256] = light.map_err(|why| unsupported(self.format, &why))?;
        Ok(light.map(|light| srgb_level(if lab { of_lightness(light) } else { light })))
    }

    fn map<const N: usize, const M: usize>(
        &self,
        bitmap: Bitmap,
        channels: Channels,
        budget: &Budget<'_>,
    ) -> Result<Bitmap> {
        let layout = |count| if count == 3 { Layout::Rgb } else { Layout::Rgba };
        let transform = self.prepare(layout(N), layout(M))?;
        bitmap.shrink(channels, |data| {
            let pixels = data.len() / N;
            let mut piece = [0; 4 * PIECE];
            for start in (0..pixels).step_by(PIECE) {
                budget.check()?;
                let count = PIECE.min(pixels - start);
                let piece = &mut piece[..N * count];
                piece.copy_from_slice(&data[N * start..][..N * count]);
                self.run(&*transform, piece, &mut data[M * start..][..M * count])?;
            }
            data.truncate(M * pixels);
            Ok(())
        })
    }

    fn prepare(&self, from: Layout, to: Layout) -> Result<std::sync::Arc<Transform>> {
        let options = TransformOptions {
            rendering_intent: RenderingIntent::RelativeColorimetric,
            allow_use_cicp_transfer: false,
            // Hostile matrices overflow fixed point, and wide gamuts lose precision in it.
            prefer_fixed_point: false,
            ..TransformOptions::default()
        };
        let srgb = ColorProfile::new_srgb();
        guarded(|| self.colors.create_transform_8bit(from, &srgb, to, options))
            .map_err(|why| unsupported(self.format, &why))
    }

    fn run(&self, transform: &Transform, data: &[u8], out: &mut [u8]) -> Result<()> {
        guarded(|| transform.transform(data, out)).map_err(|why| broken(self.format, why))
    }
}

type Transform = dyn TransformExecutor<u8> + Send + Sync;

/// Linear brightness of a lightness of CIE Lab, both from 0 to 1.
fn of_lightness(lightness: f32) -> f32 {
    let root = (lightness * 100.0 + 16.0) / 116.0;
    if root > 6.0 / 29.0 {
        root.powi(3)
    } else {
        3.0 * (6.0f32 / 29.0).powi(2) * (root - 4.0 / 29.0)
    }
}

fn srgb_level(light: f32) -> u8 {
    let level = if light <= 0.003_130_8 {
        12.92 * light
    } else {
        1.055 * light.min(1.0).powf(1.0 / 2.4) - 0.055
    };
    // The cast keeps to 0..=255.
    (255.0 * level + 0.5) as u8
}

/// What the crate returns, its errors and panics as text.
fn guarded<T>(job: impl FnOnce() -> Result<T, moxcms::CmsError>) -> Result<T, String> {
    caught(job)?.map_err(|error| error.to_string())
}

/// The bytes of the profile that a file embeds, or what is wrong with them.
fn find<'a>(
    format: Format,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<Cow<'a, [u8]>>, String> {
    match format {
        Format::Jpeg => jpeg::profile(bytes),
        Format::Png => png::profile(bytes),
        Format::Webp => Ok(webp::profile(bytes, limits).map(Cow::Borrowed)),
        Format::Tiff => tiff::profile(bytes).map(|profile| profile.map(Cow::Borrowed)),
        Format::Bmp | Format::Gif => Ok(None),
    }
}

fn broken(format: Format, why: impl std::fmt::Display) -> Error {
    let message = format!("cannot read the colour profile of the {format} picture: {why};");
    Error::new(ErrorKind::InvalidImage, message).with_remedy(Remedy::IgnoreProfile)
}

fn unsupported(format: Format, why: &str) -> Error {
    let message = format!(
        "cannot convert the colours of the {format} picture to sRGB by a profile of this kind \
        ({why}); convert the picture first, or"
    );
    Error::new(ErrorKind::UnsupportedImage, message).with_remedy(Remedy::IgnoreProfile)
}
